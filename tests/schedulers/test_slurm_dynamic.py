"""Machines that join a real Slurm as nodes of their own: no line of slurm.conf names them.

They are network namespaces, since Slurm 22.05 wants each such node at an address of its own. Slurm's controller cannot resolve their
names, as it cannot those of most clouds' machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodemanager.model import JobState, Node, NodeSize, NodeState, Resources
from nodemanager.outcome import EndKind
from nodemanager.schedulers.base import Job, JobSpec, Newcomer, SchedulerContext
from nodemanager.schedulers.slurm.scheduler import SlurmScheduler
from tests.clusters.hosts import NamespacesMissing
from tests.clusters.slurm import SlurmCluster, SlurmMissing, SlurmNode, SlurmSettings

MIB = 1 << 20
SMALL = NodeSize("small", Resources(2, 1000 * MIB, 50 * MIB), 0.1)
MACHINE = SlurmNode("h1", cpus=2, memory_mb=900, features=("ssd",), tmp_mb=50)
"""Its system takes a part of what the size promises."""
JOB = JobSpec("zzzzz-dz642-000000000000001", ("sleep", "1000"), Resources(1, MIB))

Connect = Callable[[], SlurmScheduler]


@pytest.fixture
def cluster() -> Iterator[SlurmCluster]:
    try:
        with SlurmCluster(SlurmSettings(nodes=(), namespaces=True)) as cluster:
            yield cluster
    except (SlurmMissing, NamespacesMissing) as error:
        pytest.skip(str(error))


@pytest.fixture
def connect(cluster: SlurmCluster, tmp_path: Path) -> Connect:
    """A fresh instance of the module each time, on the same state directory."""

    def connect() -> SlurmScheduler:
        options = {"conf": str(cluster.conf), "nodes": "dynamic"}
        return SlurmScheduler(SchedulerContext("zzzzz", tmp_path / "state", options, 30))

    return connect


@pytest.fixture
def slurm(connect: Connect) -> SlurmScheduler:
    return connect()


def node(slurm: SlurmScheduler) -> Node | None:
    found = slurm.nodes()
    assert len(found) <= 1
    return found[0] if found else None


def job(slurm: SlurmScheduler) -> Job | None:
    return next(iter(slurm.poll().jobs), None)


def reached(cluster: SlurmCluster, slurm: SlurmScheduler, state: JobState) -> Job:
    def there() -> bool:
        found = job(slurm)
        return found is not None and found.state is state

    cluster.wait_until(there, 30, f"the job is {state}")
    found = job(slurm)
    assert found is not None
    return found


def joined(cluster: SlurmCluster, slurm: SlurmScheduler, machine: SlurmNode = MACHINE) -> None:
    assert slurm.admit(Newcomer("h1", SMALL)) == "h1"
    cluster.add_host(machine)
    cluster.wait_until(lambda: node(slurm) is not None, 20, "the machine joins")


def shown(cluster: SlurmCluster, fields: str) -> str:
    return cluster.run("sinfo", "-h", "-N", "-o", fields)


def test_a_machine_joins_with_what_it_has_and_is_given_weight_and_feature(
    cluster: SlurmCluster, slurm: SlurmScheduler
) -> None:
    assert slurm.admits
    for _ in range(2):
        assert slurm.admit(Newcomer("h1", SMALL)) == "h1"
    assert node(slurm) is None, "it is only expected"
    assert slurm.submit([JOB])[0].unplaced
    joined(cluster, slurm)
    found = node(slurm)
    assert found is not None
    assert (found.name, found.state, found.admitted) == ("h1", NodeState.IDLE, True)
    assert found.total == Resources(2, 900 * MIB, 50 * MIB)
    assert shown(cluster, "%w %f") == "100 ssd,instancetype=small"
    assert slurm.submit([JOB])[0].job_id


@pytest.mark.parametrize(("tmp_mb", "warnings"), [(50, 0), (49, 1)])
def test_scratch_space_that_its_slurmd_does_not_tell_of_is_missed(
    cluster: SlurmCluster,
    slurm: SlurmScheduler,
    caplog: pytest.LogCaptureFixture,
    tmp_mb: int,
    warnings: int,
) -> None:
    joined(cluster, slurm, replace(MACHINE, tmp_mb=tmp_mb))
    slurm.nodes()
    assert caplog.text.count("start its slurmd with --conf TmpDisk=50") == warnings


def test_a_job_there_can_be_ended(cluster: SlurmCluster, slurm: SlurmScheduler) -> None:
    """Though nobody knows an address for the machine's name: Slurm starts jobs on such, and cannot end them."""
    joined(cluster, slurm)
    slurm.submit([JOB])
    reached(cluster, slurm, JobState.RUNNING)
    slurm.cancel([JOB.name])
    end = reached(cluster, slurm, JobState.ENDED).end
    assert end is not None
    assert end.kind is EndKind.CANCELLED


def test_it_stays_through_a_restart_of_slurm(
    cluster: SlurmCluster, slurm: SlurmScheduler, connect: Connect
) -> None:
    joined(cluster, slurm)
    slurm.submit([JOB])
    reached(cluster, slurm, JobState.RUNNING)
    cluster.stop_controller()
    cluster.start_controller()
    slurm = connect()

    def is_back() -> bool:
        found = node(slurm)
        return found is not None and found.state is NodeState.BUSY and found.admitted

    cluster.wait_until(is_back, 30, "the node is back")
    assert shown(cluster, "%w %f") == "100 ssd,instancetype=small"
    reached(cluster, slurm, JobState.RUNNING)


def test_of_a_machine_that_has_gone_nothing_is_left(
    cluster: SlurmCluster, slurm: SlurmScheduler, tmp_path: Path
) -> None:
    joined(cluster, slurm)
    slurm.submit([JOB])
    reached(cluster, slurm, JobState.RUNNING)
    cluster.drop_host("h1")
    slurm.remove("h1")
    end = reached(cluster, slurm, JobState.ENDED).end
    assert end is not None
    assert end.kind is EndKind.NODE_LOST
    for _ in range(2):
        slurm.remove("h1")
    assert node(slurm) is None
    assert shown(cluster, "%N") == ""
    assert list((tmp_path / "state" / "places").iterdir()) == []
    # And another may come by the same name.
    joined(cluster, slurm)


def test_one_that_never_came_leaves_nothing_either(slurm: SlurmScheduler, tmp_path: Path) -> None:
    slurm.admit(Newcomer("h1", SMALL))
    slurm.remove("h1")
    assert list((tmp_path / "state" / "places").iterdir()) == []


def test_a_machine_that_nobody_admitted_is_not_called_ours(
    cluster: SlurmCluster, slurm: SlurmScheduler
) -> None:
    cluster.add_host(MACHINE)
    cluster.wait_until(lambda: node(slurm) is not None, 20, "the machine joins")
    found = node(slurm)
    assert found is not None
    assert not found.admitted
    assert shown(cluster, "%w %f") == "1 ssd"
