"""Loopback machines that are the nodes of a real Slurm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodemanager.clouds.base import CLUSTER_TAG, HOST_TAG, CloudContext, NodeOrder
from nodemanager.clouds.loopback import Loopback
from nodemanager.model import NodeSize, Resources
from tests.clusters.slurm import NodeKind, SlurmCluster, SlurmMissing, SlurmNode, SlurmSettings

pytestmark = pytest.mark.processes

SIZE = NodeSize("small", Resources(2, 1 << 30), 0.1)


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """A Slurm that has no nodes until somebody boots them."""
    nodes = tuple(SlurmNode(f"cloud{n}", 2, 1024, kind=NodeKind.FUTURE) for n in (1, 2))
    try:
        with SlurmCluster(SlurmSettings(nodes)) as cluster:
            yield cluster
    except SlurmMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def cloud(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Loopback]:
    monkeypatch.setenv("SLURM_CONF", str(slurm.conf))
    options = {"cores": "100", "ram": "100 GiB", "boot_time": "200 ms"}
    options["start"] = "slurmd -D -b -N %h"
    cloud = Loopback(CloudContext("zzzzz", tmp_path, create_options=options))
    yield cloud
    for node in cloud.list():
        cloud.destroy(node)


def order(name: str, host: str) -> NodeOrder:
    return NodeOrder(name, SIZE, {CLUSTER_TAG: "zzzzz", HOST_TAG: host})


def processes(slurm: SlurmCluster) -> list[str]:
    """Command lines of everything that runs for the nodes of this Slurm, jobs too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            ours = str(slurm.conf).encode() in environment or b"holds-a-node" in environment
            if ours and re.match(r"slurmd|slurmstepd|sleep", words.rpartition("/")[2]):
                found.append(words)
    return found


def submit(slurm: SlurmCluster, script: str, *more: str) -> str:
    return slurm.run("sbatch", "--parsable", "--no-requeue", *more, stdin=f"#!/bin/sh\n{script}\n")


def state_of(slurm: SlurmCluster, job: str) -> str:
    return slurm.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")


def test_a_machine_joins_runs_jobs_and_goes_with_all_of_them(
    slurm: SlurmCluster, cloud: Loopback, tmp_path: Path
) -> None:
    assert slurm.node_states() == {}
    made = [cloud.create(order(f"m{n}", f"cloud{n}")) for n in (1, 2)]
    slurm.wait_for_nodes("idle", 2)
    out = f"--output={tmp_path}/out-%j"
    done = submit(slurm, "hostname; echo $SLURMD_NODENAME", out, "--nodelist=cloud2")
    slurm.wait_until(lambda: state_of(slurm, done) == "COMPLETED", 30, "the job has run")
    assert (tmp_path / f"out-{done}").read_text().splitlines()[1] == "cloud2"
    # A job whose processes have left their session, and one that forgets its parent.
    script = "export X=holds-a-node; setsid sleep 3001 & (setsid sleep 3002 &); sleep 3003"
    held = submit(slurm, script, out, "--nodelist=cloud1")
    slurm.wait_until(lambda: len(processes(slurm)) >= 6, 30, "the job runs")
    cloud.destroy(made[0])
    left = [words for words in processes(slurm) if "cloud2" not in words]
    assert left == []
    slurm.run("scontrol", "update", "nodename=cloud1", "state=down", "reason=gone")
    slurm.run("scontrol", "update", "nodename=cloud1", "state=future")
    slurm.wait_until(lambda: state_of(slurm, held) == "NODE_FAIL", 30, "its job has failed")
    assert slurm.node_states() == {"cloud2": "idle"}
    cloud.destroy(made[1])
    assert processes(slurm) == []


def test_its_place_can_be_taken_again(slurm: SlurmCluster, cloud: Loopback) -> None:
    for n in range(2):
        node = cloud.create(order(f"again{n}", "cloud1"))
        slurm.wait_until(
            lambda: slurm.node_states().get("cloud1", "").startswith("idle"), 30, "it has joined"
        )
        cloud.destroy(node)
        slurm.run("scontrol", "update", "nodename=cloud1", "state=down", "reason=gone")
        slurm.run("scontrol", "update", "nodename=cloud1", "state=future")
        assert "cloud1" not in slurm.node_states()


def test_one_that_slurm_does_not_know_says_so(
    slurm: SlurmCluster, cloud: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.create(order("m1", "stranger"))

    def told() -> bool:
        cloud.list()
        return any("the command of m1 has ended" in record.message for record in caplog.records)

    slurm.wait_until(told, 30, "slurmd has ended")
    assert "stranger" not in slurm.node_states()
