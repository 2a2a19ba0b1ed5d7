"""Nodes that come to a real Slurm and leave it: admitted, joined, forgotten by a restart, removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState, Node, NodeSize, NodeState, Resources
from nodemanager.outcome import EndKind
from nodemanager.schedulers.base import Job, JobSpec, Newcomer, SchedulerContext, Submission
from nodemanager.schedulers.slurm.elastic import FEATURE
from nodemanager.schedulers.slurm.scheduler import SlurmScheduler
from tests.clusters.slurm import NodeKind, SlurmCluster, SlurmMissing, SlurmNode, SlurmSettings

MIB = 1 << 20
SMALL = NodeSize("small", Resources(2, 1000 * MIB), 0.1)
BIG = NodeSize("big", Resources(4, 4000 * MIB), 0.5, instance_type="m5.big")
TINY = NodeSize("tiny", Resources(1, 500 * MIB), 0.01)
NAME = "zzzzz-dz642-000000000000001"

NODES = (
    SlurmNode("c10", 2, 1000, kind=NodeKind.FUTURE),
    SlurmNode("c2", 2, 1000, features=("fast",), weight=7, kind=NodeKind.FUTURE),
    SlurmNode("x1", 8, 16000, features=("instancetype=m5.big",), kind=NodeKind.FUTURE),
    SlurmNode("k1", 1, 500, kind=NodeKind.CLOUD),
)


@pytest.fixture
def cluster() -> Iterator[SlurmCluster]:
    try:
        with SlurmCluster(SlurmSettings(NODES)) as cluster:
            yield cluster
    except SlurmMissing as error:
        pytest.skip(str(error))


Connect = Callable[[], SlurmScheduler]


@pytest.fixture
def connect(cluster: SlurmCluster, tmp_path: Path) -> Connect:
    """A fresh instance of the module each time, on the same state directory."""

    def connect() -> SlurmScheduler:
        options = {"conf": str(cluster.conf), "nodes": "predefined"}
        return SlurmScheduler(SchedulerContext("zzzzz", tmp_path / "state", options, 30))

    return connect


@pytest.fixture
def slurm(connect: Connect) -> SlurmScheduler:
    return connect()


def nodes(slurm: SlurmScheduler) -> dict[str, Node]:
    return {node.name: node for node in slurm.nodes()}


def job(slurm: SlurmScheduler) -> Job | None:
    return next((job for job in slurm.poll().jobs if job.name == NAME), None)


def sleeper() -> JobSpec:
    return JobSpec(NAME, ("sleep", "1000"), Resources(1, MIB))


def joined(cluster: SlurmCluster, slurm: SlurmScheduler, host: str) -> None:
    cluster.start_node(host)
    cluster.wait_until(lambda: host in nodes(slurm), 20, f"{host} joins")


def runs(cluster: SlurmCluster, slurm: SlurmScheduler) -> None:
    def running() -> bool:
        found = job(slurm)
        return found is not None and found.state is JobState.RUNNING

    cluster.wait_until(running, 30, "the job runs")


def test_a_machine_gets_the_name_of_a_node_that_suits_it(slurm: SlurmScheduler) -> None:
    """By a feature that names the size, else by cores and RAM; the first by number that is free."""
    assert slurm.admits
    assert slurm.admit(Newcomer("compute-a", SMALL)) == "c2"
    assert slurm.admit(Newcomer("compute-b", SMALL, frozenset({"c2"}))) == "c10"
    assert slurm.admit(Newcomer("compute-c", BIG)) == "x1"
    with pytest.raises(SchedulerError, match=r"no free node for size small.*Feature=instancetype="):
        slurm.admit(Newcomer("compute-d", SMALL, frozenset({"c2", "c10"})))


def test_asked_again_it_answers_the_same(connect: Connect) -> None:
    assert connect().admit(Newcomer("compute-a", SMALL)) == "c2"
    assert connect().admit(Newcomer("compute-a", SMALL)) == "c2"


@pytest.mark.parametrize("fails", ["Comment=", "POWER_UP"])
def test_what_broke_off_half_way_is_finished_when_it_is_asked_again(
    cluster: SlurmCluster, tmp_path: Path, fails: str
) -> None:
    wrapper = tmp_path / "commands" / "scontrol"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f"""#!/bin/sh\ncase "$*" in *{fails}*) exit 1;; esac\nexec /usr/bin/scontrol "$@"\n"""
    )
    wrapper.chmod(0o755)
    options = {"conf": str(cluster.conf), "nodes": "predefined", "commands": str(wrapper.parent)}
    slurm = SlurmScheduler(SchedulerContext("zzzzz", tmp_path / "state", options, 30))
    with pytest.raises(SchedulerError):
        slurm.admit(Newcomer("compute-a", TINY))
    wrapper.unlink()
    assert slurm.admit(Newcomer("compute-a", TINY)) == "k1"
    shown = cluster.run("sinfo", "-h", "-N", "-n", "k1", "-o", "%w %f")
    assert shown == "10 instancetype=tiny"
    cluster.wait_until(lambda: cluster.node_states()["k1"] == "idle#", 20, "it is powering up")
    joined(cluster, slurm, "k1")


def test_a_place_keeps_the_features_it_has_in_slurm_conf(
    cluster: SlurmCluster, slurm: SlurmScheduler
) -> None:
    """Also when it is given away anew, and nobody had said that the machine before had gone."""
    for host in ("compute-a", "compute-b"):
        assert slurm.admit(Newcomer(host, BIG)) == "x1"
    joined(cluster, slurm, "x1")
    shown = cluster.run("sinfo", "-h", "-N", "-n", "x1", "-o", "%f")
    assert shown == "instancetype=m5.big,instancetype=big"


def test_a_job_waits_outside_until_a_node_could_hold_it(
    cluster: SlurmCluster, slurm: SlurmScheduler
) -> None:
    assert slurm.nodes() == ()
    before = slurm.commands_run
    [answer] = slurm.submit([sleeper()])
    assert answer.unplaced
    assert answer == Submission(NAME, unplaced=answer.unplaced)
    host = slurm.admit(Newcomer("compute-a", SMALL))
    assert slurm.nodes() == (), "it is only expected"
    assert slurm.submit([sleeper()])[0].unplaced
    joined(cluster, slurm, host)
    assert slurm.commands_run > before
    assert slurm.submit([sleeper()])[0].job_id
    runs(cluster, slurm)
    node = nodes(slurm)[host]
    assert (node.state, node.admitted) == (NodeState.BUSY, True)


def test_weight_goes_by_price_and_a_feature_by_size(
    cluster: SlurmCluster, slurm: SlurmScheduler
) -> None:
    host = slurm.admit(Newcomer("compute-a", SMALL))
    joined(cluster, slurm, host)
    shown = cluster.run("sinfo", "-h", "-N", "-n", host, "-o", "%w %f")
    assert shown == "100 fast,instancetype=small"


def test_what_a_restart_of_slurm_makes_it_forget_is_set_again(
    cluster: SlurmCluster, slurm: SlurmScheduler, connect: Connect
) -> None:
    host = slurm.admit(Newcomer("compute-a", SMALL))
    joined(cluster, slurm, host)
    slurm.submit([sleeper()])
    runs(cluster, slurm)
    slurm.nodes()
    cluster.stop_controller()
    cluster.start_controller()
    slurm = connect()
    cluster.wait_until(
        lambda: host in nodes(slurm) and nodes(slurm)[host].state is NodeState.BUSY,
        30,
        "it is back",
    )
    runs(cluster, slurm)
    shown = cluster.run("sinfo", "-h", "-N", "-n", host, "-o", "%w %f")
    assert shown == "100 fast,instancetype=small"


def test_of_a_machine_that_has_gone_nothing_is_left(
    cluster: SlurmCluster, slurm: SlurmScheduler
) -> None:
    host = slurm.admit(Newcomer("compute-a", SMALL))
    joined(cluster, slurm, host)
    slurm.submit([sleeper()])
    runs(cluster, slurm)
    slurm.drain(host, "node manager: nobody wants it")
    assert nodes(slurm)[host].reason == "node manager: nobody wants it"
    cluster.kill_node(host)
    for _ in range(2):
        slurm.remove(host)
    slurm.remove("nobody")
    found = job(slurm)
    assert found is not None
    assert found.end is not None
    assert found.end.kind is EndKind.NODE_LOST
    assert "NODE_FAIL" in found.end.detail
    assert nodes(slurm) == {}
    defined = cluster.run("scontrol", "-F", "show", "node", "-o", host)
    assert "State=FUTURE " in defined
    assert "Weight=7 " in defined
    assert "AvailableFeatures=fast " in defined
    # And its place can be taken again.
    assert slurm.admit(Newcomer("compute-b", SMALL)) == host
    joined(cluster, slurm, host)


def test_a_place_that_no_machine_took_is_given_back(slurm: SlurmScheduler) -> None:
    host = slurm.admit(Newcomer("compute-a", SMALL))
    slurm.remove(host)
    assert slurm.admit(Newcomer("compute-b", SMALL)) == host


def test_a_node_of_state_cloud_is_powered_up_and_down(
    cluster: SlurmCluster, slurm: SlurmScheduler
) -> None:
    host = slurm.admit(Newcomer("compute-a", TINY))
    assert host == "k1"
    assert slurm.nodes() == ()
    joined(cluster, slurm, host)
    cluster.kill_node(host)
    slurm.remove(host)
    cluster.wait_until(lambda: nodes(slurm) == {}, 30, "it is powered down")


def test_somebody_elses_drain_is_left_alone(cluster: SlurmCluster, slurm: SlurmScheduler) -> None:
    host = slurm.admit(Newcomer("compute-a", SMALL))
    joined(cluster, slurm, host)
    cluster.run("scontrol", "update", f"nodename={host}", "state=drain", "reason=a disk is dying")
    slurm.resume(host)
    node = nodes(slurm)[host]
    assert (node.state, node.reason) == (NodeState.DRAINED, "a disk is dying")
    cluster.run("scontrol", "update", f"nodename={host}", "state=resume")
    slurm.drain(host, "ours")
    slurm.resume(host)
    # Until slurmctld has heard of it again it counts as not responding.
    cluster.wait_until(lambda: nodes(slurm)[host].state is NodeState.IDLE, 30, "it takes jobs")


def test_jobs_that_slurm_holds_for_want_of_a_node_are_released_when_one_comes(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    """The only node with their feature had gone. Slurm by itself would take up to 30 s to look at them again."""
    options = {"conf": str(cluster.conf), "nodes": "predefined", "constraint": f"{FEATURE}small"}
    slurm = SlurmScheduler(SchedulerContext("zzzzz", tmp_path / "state", options, 30))
    first = slurm.admit(Newcomer("compute-a", SMALL))
    joined(cluster, slurm, first)
    blocker = replace(sleeper(), name="zzzzz-dz642-000000000000002", resources=Resources(2, MIB))
    waits = sleeper()
    for spec in (blocker, waits):
        assert slurm.submit([spec])[0].job_id
    cluster.wait_until(lambda: nodes(slurm)[first].state is NodeState.BUSY, 20, "the node is busy")
    cluster.kill_node(first)
    slurm.remove(first)

    def is_held() -> bool:
        found = job(slurm)
        return found is not None and found.reason.startswith("BadConstraints")

    cluster.wait_until(is_held, 30, "the job is held")
    assert slurm.nodes() == ()
    second = slurm.admit(Newcomer("compute-b", SMALL))
    joined(cluster, slurm, second)
    assert not is_held()
    runs(cluster, slurm)
