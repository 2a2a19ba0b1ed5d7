"""The cells that other tests stand on stand."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.crash import REPOSITORY, leftovers_after_kill
from tests.clusters.gridengine import (
    GridEngineCell,
    GridEngineMissing,
    GridEngineSettings,
    GridQueue,
)
from tests.clusters.hosts import NamespacesMissing

pytestmark = pytest.mark.processes


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[GridEngineCell]:
    """A cell that the test may break."""
    settings = getattr(request, "param", None)
    try:
        cell = GridEngineCell(settings).__enter__()
    except (GridEngineMissing, NamespacesMissing) as error:
        pytest.skip(str(error))
    yield cell
    cell.__exit__()


def submit(cell: GridEngineCell, script: str, *more: str) -> str:
    return cell.run(
        "qsub", "-terse", "-N", "test", "-o", "/dev/null", "-j", "y", *more, stdin=f"{script}\n"
    )


def wait_for(cell: GridEngineCell, job: str, letters: str | None, seconds: float = 20) -> None:
    """Until its state is that, None: until it is gone."""
    cell.wait_until(
        lambda: cell.job_states().get(job) == letters, seconds, f"job {job} is {letters}"
    )


def ended(cell: GridEngineCell, job: str) -> dict[str, str]:
    """What the accounting says."""
    rows = (line.split(None, 1) for line in cell.run("qacct", "-j", job).splitlines()[1:])
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def pid_in(cell: GridEngineCell, file: Path) -> int:
    cell.wait_until(lambda: file.exists() and file.read_text().endswith("\n"), 20, "a pid")
    return int(file.read_text())


def test_a_job_runs(gridengine: GridEngineCell, tmp_path: Path) -> None:
    script = f"echo $QUEUE $NSLOTS > {tmp_path}/place; exit 7"
    job = submit(gridengine, script, "-q", "large.q", "-pe", "smp", "2", "-l", "ram=10M,scratch=1M")
    wait_for(gridengine, job, None)
    assert (tmp_path / "place").read_text() == "large.q 2\n"
    assert ended(gridengine, job)["exit_status"] == "7"


def test_the_session_cell_has_two_queues_and_memory(gridengine: GridEngineCell) -> None:
    host = gridengine.host
    assert gridengine.queue_states() == {f"all.q@{host}": "", f"large.q@{host}": ""}
    said = gridengine.run("qhost", "-F", "ram,h_vmem,scratch")
    assert "hc:ram=4.000G" in said
    assert "hc:h_vmem=16.000G" in said


def test_a_master_that_was_stopped_knows_its_jobs(own: GridEngineCell) -> None:
    job = submit(own, "sleep 3000")
    wait_for(own, job, "r")
    own.stop_master()
    assert subprocess.run(["qstat"], env=own.env, check=False, capture_output=True).returncode != 0
    own.start_master()
    assert own.job_states() == {job: "r"}


def test_a_master_that_crashed_knows_its_jobs(own: GridEngineCell) -> None:
    job = submit(own, "sleep 3000")
    wait_for(own, job, "r")
    own.kill_master()
    own.start_master()
    assert own.job_states() == {job: "r"}


def test_a_machine_dies_with_its_jobs_and_comes_back(own: GridEngineCell, tmp_path: Path) -> None:
    job = submit(own, f"echo $$ > {tmp_path}/pid; sleep 3000")
    pid = pid_in(own, tmp_path / "pid")
    wait_for(own, job, "r")
    own.kill_execd()
    assert not Path(f"/proc/{pid}").exists()
    assert own.job_states() == {job: "r"}
    own.start_execd()
    wait_for(own, job, None)
    assert ended(own, job)["failed"] != "0"


def test_jobs_outlive_an_execd_alone(own: GridEngineCell, tmp_path: Path) -> None:
    job = submit(
        own, f"echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/end ]; do sleep 0.01; done"
    )
    pid = pid_in(own, tmp_path / "pid")
    own.kill_execd(jobs=False)
    assert Path(f"/proc/{pid}").exists()
    own.start_execd()
    (tmp_path / "end").touch()
    wait_for(own, job, None)
    assert ended(own, job)["exit_status"] == "0"


SPECIAL = GridEngineSettings(
    queues=(GridQueue(slots=1, options=(("terminate_method", "SIGTERM"),)),),
    complexes=("maya maya INT <= YES YES 0 0",),
    host_values=("maya=1",),
    managers=("daemon",),
    configuration=(("finished_jobs", "17"),),
    scheduler=(("weight_priority", "3.000000"),),
)


@pytest.mark.parametrize("own", [SPECIAL], indirect=True)
def test_a_cell_is_what_was_asked_for(own: GridEngineCell) -> None:
    assert "daemon" in own.run("qconf", "-sm").split()
    queue = own.run("qconf", "-sq", "all.q").split()
    assert queue[queue.index("terminate_method") + 1] == "SIGTERM"
    assert own.run("qconf", "-sconf").split().count("17") == 1
    assert "3.000000" in own.run("qconf", "-ssconf").split()
    first, second = (submit(own, "sleep 3000", "-l", "maya=1") for _ in range(2))
    wait_for(own, first, "r")
    assert own.job_states() == {first: "r", second: "qw"}


def test_two_cells_side_by_side(gridengine: GridEngineCell, own: GridEngineCell) -> None:
    job = submit(own, "exit 0")
    wait_for(own, job, None)
    assert ended(own, job)["exit_status"] == "0"
    assert own.directory != gridengine.directory
    assert own.env["SGE_QMASTER_PORT"] != gridengine.env["SGE_QMASTER_PORT"]


@pytest.mark.parametrize("own", [GridEngineSettings(hosts=("h1",))], indirect=True)
def test_machines_of_a_cloud_come_and_go(own: GridEngineCell, tmp_path: Path) -> None:
    own.add_host("h2")
    own.wait_until(lambda: own.queue_states().get("all.q@h2") == "", 20, "it has joined")
    job = submit(
        own, f"hostname > {tmp_path}/host; echo $$ > {tmp_path}/pid; sleep 3000", "-l", "h=h2"
    )
    pid = pid_in(own, tmp_path / "pid")
    assert (tmp_path / "host").read_text() == "h2\n"
    wait_for(own, job, "r")
    own.drop_host("h2")
    assert not Path(f"/proc/{pid}").exists()
    assert own.job_states() == {job: "r"}
    own.add_host("h2", admit=False)
    wait_for(own, job, None)


@pytest.mark.parametrize("own", [GridEngineSettings(hosts=())], indirect=True)
def test_a_command_can_be_the_life_of_a_machine(own: GridEngineCell, tmp_path: Path) -> None:
    command = own.prepare_host("h1")
    own.admit_host("h1")
    with subprocess.Popen([command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as boot:
        own.wait_for_queues(1)
        job = submit(own, f"hostname > {tmp_path}/host")
        wait_for(own, job, None)
        assert (tmp_path / "host").read_text() == "h1\n"
        boot.kill()


@pytest.mark.usefixtures("gridengine")  # it is installed
def test_nothing_is_left_when_the_tests_are_killed() -> None:
    hosts = ("h1", "h2") if os.geteuid() == 0 else None
    script = f"""\
cell = GridEngineCell(GridEngineSettings(hosts={hosts})).__enter__()
for _ in range(4):
    cell.run("qsub", "-N", "t", "-o", "/dev/null", "-j", "y", stdin="setsid env -i sleep 3000\\n")
running = lambda: list(cell.job_states().values()) == ["r"] * 4
cell.wait_until(running, 20, "all jobs run")
print(cell.directory, flush=True)"""
    expected = {"sge_qmaster", "sge_execd", "sge_shepherd", "sleep"}
    assert leftovers_after_kill("tests.clusters.gridengine", script, expected) == []


@pytest.mark.usefixtures("gridengine")  # it is installed
@pytest.mark.skipif(os.geteuid() != 0, reason="it is an ordinary user who runs all these tests")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs /usr/bin/python3")
def test_an_ordinary_user_can_have_one() -> None:
    script = """\
import json
from tests.clusters.gridengine import *
with GridEngineCell() as cell:
    job = cell.run("qsub", "-terse", "-N", "t", "-wd", "/tmp", "-o", "/dev/null", stdin="exit 7\\n")
    cell.wait_until(lambda: not cell.job_states(), 20, "it ends")
    print(json.dumps([cell.run("qacct", "-j", job), str(cell.directory)]))
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
    words = job.split()
    assert words[words.index("owner") + 1] == "nobody"
    assert words[words.index("exit_status") + 1] == "7"
    assert not Path(directory).exists()
