"""Submissions through a real slurmrestd, and what it cannot be told."""

from __future__ import annotations

import getpass
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodemanager.errors import SchedulerError
from nodemanager.schedulers.slurm.rest import NotTranslatable, RestAnswer, RestJob, SlurmRest
from tests.clusters.slurm import SlurmCluster, SlurmMissing, SlurmNode, SlurmSettings

ARGUMENTS = (
    "--job-name=zzzzz-dz642-000000000000001",
    "--comment=zzzzz caf\u00e9",
    "--ntasks=1",
    "--cpus-per-task=2",
    "--mem=10M",
    "--tmp=3",
    "--partition=main",
    "--constraint=big",
    "--time=5",
    "--nice=70",
    "--no-requeue",
    "--output=/dev/null",
    "--chdir=/",
    "--export=NIL",
)
HOLD = b"#!/bin/sh\nsleep 1000\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    node = SlurmNode("n1", features=("big",), tmp_mb=100)
    try:
        with SlurmCluster(SlurmSettings(nodes=(node,), restd=True)) as cluster:
            yield cluster
    except SlurmMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def rest(cluster: SlurmCluster) -> Iterator[SlurmRest]:
    yield SlurmRest(cluster.restd_socket, 30)
    cluster.run("scancel", "--user", getpass.getuser())


def accepted(answer: RestAnswer | SchedulerError) -> str:
    assert isinstance(answer, RestAnswer)
    assert answer.job_id, answer.words
    return answer.job_id


def fields(cluster: SlurmCluster, job_id: str) -> dict[str, str]:
    words = cluster.run("scontrol", "-o", "show", "job", job_id).split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def test_a_job_is_what_sbatch_would_have_made_of_it(cluster: SlurmCluster, rest: SlurmRest) -> None:
    there = accepted(rest.submit_all([RestJob(ARGUMENTS, HOLD)], 1)[0])
    here = cluster.run("sbatch", "--parsable", *ARGUMENTS, stdin=HOLD.decode())
    same = [
        "JobName",
        "Comment",
        "Partition",
        "Requeue",
        "Nice",
        "TimeLimit",
        "NumTasks",
        "CPUs/Task",
        "MinCPUsNode",
        "TRES",
        "MinMemoryNode",
        "MinTmpDiskNode",
        "Features",
        "StdOut",
        "WorkDir",
        "BatchFlag",
    ]
    mine, theirs = fields(cluster, there), fields(cluster, here)
    assert {name: mine[name] for name in same} == {name: theirs[name] for name in same}
    assert mine["Requeue"] == "0"


def test_a_script_arrives_unchanged(cluster: SlurmCluster, rest: SlurmRest) -> None:
    script = "#!/bin/sh\n# caf\u00e9 'quoted' \"twice\" $(x) `y` \\n \t\nsleep 100\n"
    job = accepted(rest.submit_all([RestJob(ARGUMENTS, script.encode())], 1)[0])
    assert cluster.run("scontrol", "write", "batch_script", job, "-") == script.strip()


def test_many_are_answered_in_order_and_refusals_in_slurms_words(
    cluster: SlurmCluster, rest: SlurmRest
) -> None:
    jobs = [
        RestJob((f"--job-name=zzzzz-{number}", "--mem=1M", "--chdir=/"), HOLD)
        for number in range(20)
    ]
    jobs[7] = RestJob(("--job-name=zzzzz-7", "--mem=1M", "--chdir=/", "--partition=no"), HOLD)
    answers = rest.submit_all(jobs, 3)
    refused = answers.pop(7)
    assert refused == RestAnswer(words="Invalid partition name specified")
    names = [fields(cluster, accepted(answer))["JobName"] for answer in answers]
    assert names == [f"zzzzz-{number}" for number in range(20) if number != 7]


@pytest.mark.parametrize("argument", ["--wckey=x", "-n1", "--mem=1G", "--exclusive", "--time=1-0"])
def test_what_it_cannot_be_told_is_left_to_sbatch(rest: SlurmRest, argument: str) -> None:
    with pytest.raises(NotTranslatable, match=argument):
        rest.submit_all([RestJob(ARGUMENTS, HOLD), RestJob((argument,), HOLD)], 2)


def test_a_script_that_is_not_utf8_is_left_to_sbatch(rest: SlurmRest) -> None:
    with pytest.raises(NotTranslatable, match="UTF-8"):
        rest.submit_all([RestJob(ARGUMENTS, b"#!/bin/sh\n: \xff\n")], 1)


def test_nobody_at_the_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SchedulerError, match="does not answer"):
        SlurmRest(tmp_path / "none", 5).version()


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno!"]
)
def test_an_answer_that_makes_no_sense_is_an_error(tmp_path: Path, answer: bytes) -> None:
    with Answering(tmp_path / "socket", answer), pytest.raises(SchedulerError):
        SlurmRest(tmp_path / "socket", 5).version()


def test_a_version_nobody_knows_is_named(tmp_path: Path) -> None:
    body = json.dumps({}).encode()
    answer = b"HTTP/1.1 404 x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with (
        Answering(tmp_path / "socket", answer),
        pytest.raises(SchedulerError, match=r"speaks none of v0\.0\.38"),
    ):
        SlurmRest(tmp_path / "socket", 5).version()


class Answering:
    """Somebody at the socket who gives the same answer to everybody."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(self._answer)
