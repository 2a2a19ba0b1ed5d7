"""The clusters that other tests stand on stand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.crash import REPOSITORY, leftovers_after_kill
from tests.clusters.hosts import NamespacesMissing
from tests.clusters.slurm import NodeKind, SlurmCluster, SlurmMissing, SlurmNode, SlurmSettings

pytestmark = pytest.mark.processes

ONE_NODE = SlurmSettings(nodes=(SlurmNode("n1"),))


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[SlurmCluster]:
    """A cluster that the test may break."""
    settings = getattr(request, "param", ONE_NODE)
    try:
        cluster = SlurmCluster(settings).__enter__()
    except (SlurmMissing, NamespacesMissing) as error:
        pytest.skip(str(error))
    yield cluster
    cluster.__exit__()


def submit(cluster: SlurmCluster, script: str, *more: str) -> str:
    return cluster.run(
        "sbatch",
        "--parsable",
        "--mem=10",
        "--output=/dev/null",
        *more,
        stdin=f"#!/bin/sh\n{script}\n",
    )


def state(cluster: SlurmCluster, job: str) -> str:
    return cluster.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")


def wait_for(cluster: SlurmCluster, job: str, word: str, seconds: float = 20) -> None:
    cluster.wait_until(lambda: state(cluster, job) == word, seconds, f"job {job} is {word}")


def pid_in(cluster: SlurmCluster, file: Path) -> int:
    cluster.wait_until(lambda: file.exists() and file.read_text().endswith("\n"), 20, "a pid")
    return int(file.read_text())


def test_a_job_runs(slurm: SlurmCluster, tmp_path: Path) -> None:
    job = submit(slurm, f"echo $SLURMD_NODENAME > {tmp_path}/node; exit 7", "-p", "large")
    wait_for(slurm, job, "FAILED")
    assert (tmp_path / "node").read_text() == "n3\n"
    assert "ExitCode=7:0" in slurm.run("scontrol", "-o", "show", "job", job)
    logged = slurm.run("sacct", "-c", "-P", "-n", "-j", job, "-o", "state,exitcode")
    assert logged == "FAILED|7:0"


def test_a_controller_that_was_stopped_knows_its_jobs(own: SlurmCluster) -> None:
    job = submit(own, "sleep 3000")
    wait_for(own, job, "RUNNING")
    own.stop_controller()
    assert subprocess.run(["scontrol", "ping"], env=own.env, check=False).returncode != 0
    own.start_controller()
    assert state(own, job) == "RUNNING"


def test_a_controller_that_crashed_starts_again(own: SlurmCluster) -> None:
    own.kill_controller()
    own.start_controller()
    assert list(own.node_states()) == ["n1"]


def test_a_machine_dies_with_its_jobs_and_comes_back(own: SlurmCluster, tmp_path: Path) -> None:
    job = submit(own, f"echo $$ > {tmp_path}/pid; sleep 3000", "--no-requeue")
    pid = pid_in(own, tmp_path / "pid")
    own.kill_node("n1")
    assert not Path(f"/proc/{pid}").exists()
    own.run("scontrol", "update", "nodename=n1", "state=down", "reason=dead")
    wait_for(own, job, "NODE_FAIL")
    own.start_node("n1")
    own.wait_for_nodes("idle", 1)


def test_jobs_outlive_a_slurmd_alone(own: SlurmCluster, tmp_path: Path) -> None:
    job = submit(own, f"echo $$ > {tmp_path}/pid; sleep 3000")
    pid = pid_in(own, tmp_path / "pid")
    own.kill_node("n1", jobs=False)
    assert Path(f"/proc/{pid}").exists()
    assert state(own, job) == "RUNNING"


def test_two_clusters_side_by_side(slurm: SlurmCluster, own: SlurmCluster) -> None:
    job = submit(own, "exit 0")
    wait_for(own, job, "COMPLETED")
    assert list(own.node_states()) == ["n1"]
    assert list(slurm.node_states()) == ["n1", "n2", "n3", "n4"]
    assert own.directory != slurm.directory


KINDS = SlurmSettings(
    nodes=(
        SlurmNode(
            "n1", cpus=8, memory_mb=9000, features=("fast", "ib"), weight=5, tmp_mb=70, gpus=2
        ),
        SlurmNode("f1", kind=NodeKind.FUTURE),
        SlurmNode("c1", kind=NodeKind.CLOUD),
    ),
    extra=("MinJobAge=17",),
    munge=True,
    restd=True,
)


@pytest.mark.parametrize("own", [KINDS], indirect=True)
class TestKinds:
    def test_nodes_are_what_was_asked_for(self, own: SlurmCluster) -> None:
        row = own.run("sinfo", "-h", "-N", "-n", "n1", "-o", "%c %m %f %w %d %G")
        assert row == "8 9000 fast,ib 5 70 gpu:2"
        assert own.node_states() == {"n1": "idle", "c1": "idle~"}
        assert "MinJobAge               = 17 sec" in own.run("scontrol", "show", "config")

    def test_nodes_of_the_future_come(self, own: SlurmCluster) -> None:
        own.start_node("f1")
        own.wait_for_nodes("idle", 2)
        wait_for(own, submit(own, "exit 0", "-w", "f1"), "COMPLETED")

    def test_nodes_of_a_cloud_come(self, own: SlurmCluster) -> None:
        own.run("scontrol", "update", "nodename=c1", "state=power_up")
        own.start_node("c1")
        own.wait_until(lambda: own.node_states()["c1"] == "idle", 20, "it is there")

    def test_a_job_sees_its_gpus(self, own: SlurmCluster, tmp_path: Path) -> None:
        script = f"echo $CUDA_VISIBLE_DEVICES > {tmp_path}/gpus"
        wait_for(own, submit(own, script, "--gres=gpu:2"), "COMPLETED")
        assert (tmp_path / "gpus").read_text() == "0,1\n"

    def test_the_rest_server_answers(self, own: SlurmCluster) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(own.restd_socket))
            client.sendall(b"GET /openapi/v3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("own", [SlurmSettings(nodes=(), namespaces=True)], indirect=True)
def test_machines_of_a_cloud_come_and_go(own: SlurmCluster, tmp_path: Path) -> None:
    assert own.node_states() == {}
    for name in ("h1", "h2"):
        own.add_host(SlurmNode(name, cpus=2, features=("x",)))
    own.wait_for_nodes("idle", 2)
    job = submit(
        own, f"hostname > {tmp_path}/host; echo $$ > {tmp_path}/pid; sleep 3000", "-w", "h2"
    )
    pid = pid_in(own, tmp_path / "pid")
    assert (tmp_path / "host").read_text() == "h2\n"
    own.drop_host("h2")
    assert not Path(f"/proc/{pid}").exists()
    own.run("scontrol", "update", "nodename=h2", "state=down", "reason=gone")
    own.run("scancel", job)
    own.run("scontrol", "delete", "nodename=h2")
    assert own.node_states() == {"h1": "idle"}
    own.add_host(SlurmNode("h2", cpus=4))
    own.wait_for_nodes("idle", 2)


@pytest.mark.usefixtures("slurm")  # it is installed
def test_nothing_is_left_when_the_tests_are_killed() -> None:
    namespaces = os.geteuid() == 0
    more = 'cluster.add_host(SlurmNode("h1"))' if namespaces else ""
    script = f"""\
cluster = SlurmCluster(SlurmSettings(munge=True, restd=True, namespaces={namespaces})).__enter__()
{more}
for _ in range(12):
    cluster.run("sbatch", "--mem=10", "-o", "/dev/null", stdin="#!/bin/sh\\nsetsid env -i sleep 3000\\n")
running = lambda: cluster.run("squeue", "-h", "-t", "R", "-o", "%i").count("\\n") == 11
cluster.wait_until(running, 20, "all jobs run")
print(cluster.directory, flush=True)"""
    expected = {"slurmctld", "slurmd", "slurmstepd", "munged", "slurmrestd", "sleep"}
    assert leftovers_after_kill("tests.clusters.slurm", script, expected) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="it is an ordinary user who runs all these tests")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs /usr/bin/python3")
def test_an_ordinary_user_can_have_one(slurm: SlurmCluster) -> None:
    script = """\
import json
from tests.clusters.slurm import *
with SlurmCluster() as cluster:
    job = cluster.run("sbatch", "--parsable", "--mem=10", "-o", "/dev/null", stdin="#!/bin/sh\\nexit 7\\n")
    show = lambda: cluster.run("scontrol", "-o", "show", "job", job)
    cluster.wait_until(lambda: "JobState=FAILED" in show(), 20, "it fails")
    print(json.dumps([show(), str(cluster.directory)]))
"""
    # The virtual environment's own may be where an ordinary user cannot go.
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script],
        cwd=REPOSITORY,
        user="nobody",
        group="nogroup",
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "No module named 'tests" in done.stderr:
        pytest.skip("an ordinary user cannot read these files")
    assert done.returncode == 0, done.stderr
    job, directory = json.loads(done.stdout)
    assert "UserId=nobody" in job
    assert "ExitCode=7:0" in job
    assert not Path(directory).exists()
