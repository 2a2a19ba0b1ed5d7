"""A real Slurm that fails in the ways it does: silent, slow, wrong, dying, meddled with."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job, JobSpec, SchedulerContext
from nodemanager.schedulers.slurm.scheduler import SlurmScheduler
from tests.clusters.slurm import SlurmCluster, SlurmMissing, SlurmNode, SlurmSettings

MIB = 1 << 20
FORGET_SECONDS = 2
NODE = SlurmNode("n1", cpus=4, memory_mb=4000)


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """One node; who breaks something mends it."""
    try:
        with SlurmCluster(SlurmSettings((NODE,), min_job_age_seconds=FORGET_SECONDS)) as cluster:
            yield cluster
    except SlurmMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def wrappers(tmp_path: Path) -> Path:
    """A directory of programs that are found before Slurm's own."""
    directory = tmp_path / "wrappers"
    directory.mkdir()
    return directory


Connect = Callable[..., SlurmScheduler]


@pytest.fixture
def connect(cluster: SlurmCluster, tmp_path: Path, wrappers: Path) -> Iterator[Connect]:
    """Instances of the module, by default on one state directory, as a restarted daemon has."""

    def connect(
        seconds: float = 30, state: str = "state", on: SlurmCluster | None = None
    ) -> SlurmScheduler:
        options = {"conf": str((on or cluster).conf), "commands": str(wrappers)}
        options["spool"] = str(tmp_path / "jobs")
        return SlurmScheduler(SchedulerContext("zzzzz", tmp_path / state, options, seconds))

    yield connect
    for path in wrappers.iterdir():
        path.unlink()
    slurm = connect()
    slurm.cancel([job.name for job in slurm.poll().jobs])
    cluster.wait_until(lambda: not cluster.run("squeue", "-h"), 60, "no job is left")


@pytest.fixture
def slurm(connect: Connect) -> SlurmScheduler:
    return connect()


def wrap(wrappers: Path, name: str, script: str) -> None:
    """Put a program of that name before Slurm's; in `script` ``$real`` is the real one."""
    path = wrappers / name
    path.write_text(f"#!/bin/sh\nreal=/usr/bin/{name}\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


_serial = iter(range(10**6))


def spec(*argv: str, cores: int = 1, ram: int = 10) -> JobSpec:
    name = f"zzzzz-dz642-{time.time_ns() % 10**9:09d}{next(_serial):06d}"
    return JobSpec(name, argv or ("sleep", "1000"), Resources(cores, ram * MIB))


def find(slurm: SlurmScheduler, job: JobSpec) -> Job | None:
    poll = slurm.poll()
    assert poll.complete
    found = [each for each in poll.jobs if each.name == job.name]
    assert len(found) <= 1
    return found[0] if found else None


def until(cluster: SlurmCluster, slurm: SlurmScheduler, job: JobSpec, state: JobState) -> Job:
    def there() -> bool:
        found = find(slurm, job)
        return found is not None and found.state is state

    cluster.wait_until(there, 60, f"{job.name} is {state}")
    found = find(slurm, job)
    assert found is not None
    return found


def end(cluster: SlurmCluster, slurm: SlurmScheduler, job: JobSpec) -> End:
    """From the listing, or from whatever remembers it."""
    ends: list[End] = []

    def over() -> bool:
        found = find(slurm, job)
        if found is not None and found.end is not None:
            ends.append(found.end)
        elif found is None:
            ends.extend(slurm.look_up([job.name]).values())
        return bool(ends)

    cluster.wait_until(over, 60, f"{job.name} has ended")
    return ends[0]


class TestSilence:
    def test_a_controller_that_is_gone_for_a_while_loses_nothing(
        self, cluster: SlurmCluster, connect: Connect
    ) -> None:
        slurm = connect(seconds=2)
        runs, waits = spec("sleep", "1000", cores=4), spec("sh", "-c", "exit 3", cores=4)
        slurm.submit([runs])
        until(cluster, slurm, runs, JobState.RUNNING)
        slurm.submit([waits])
        cluster.stop_controller()
        try:
            with pytest.raises(SchedulerError):
                slurm.poll()
            with pytest.raises(SchedulerError):
                slurm.submit([spec(cores=2)])
            with pytest.raises(SchedulerError):
                slurm.cancel([runs.name])
        finally:
            cluster.start_controller()
        until(cluster, slurm, runs, JobState.RUNNING)
        until(cluster, slurm, waits, JobState.WAITING)
        slurm.cancel([runs.name])
        assert end(cluster, slurm, runs).kind is EndKind.CANCELLED
        assert end(cluster, slurm, waits) == End(EndKind.EXITED, 3)

    def test_a_submission_whose_answer_is_lost_is_found_by_name(
        self, cluster: SlurmCluster, connect: Connect, wrappers: Path
    ) -> None:
        """A single job and an array, also by a daemon that remembers nothing."""
        wrap(wrappers, "sbatch", '"$real" "$@"; sleep 60')
        slurm = connect(seconds=1)
        single, one, other = spec(cores=2), spec(), spec()
        for batch in ([single], [one, other]):
            with pytest.raises(SchedulerError, match="did not end within"):
                slurm.submit(batch)
        (wrappers / "sbatch").unlink()
        for again in (connect(), connect(state="another")):
            for job in (single, one, other):
                found = find(again, job)
                assert found is not None
                answer = again.submit([job])[0]
                assert answer.job_id == found.job_id, "it is not submitted again"
        assert len(cluster.run("squeue", "-h", "-r", "-o", "%i").splitlines()) == 3

    def test_nothing_is_concluded_while_an_array_cannot_be_read(
        self, connect: Connect, wrappers: Path
    ) -> None:
        jobs = [spec(), spec()]
        connect().submit(jobs)
        wrap(wrappers, "scontrol", 'case "$1" in write) exit 1;; esac; exec "$real" "$@"')
        blind = connect(state="another")
        poll = blind.poll()
        assert not poll.complete
        names = {job.name for job in jobs}
        assert names.isdisjoint(job.name for job in poll.jobs)
        with pytest.raises(SchedulerError):
            blind.submit(jobs)
        (wrappers / "scontrol").unlink()
        assert names <= {job.name for job in blind.poll().jobs}

    @pytest.mark.parametrize(
        "script",
        [
            "sleep 60",
            "echo rubbish",
            "echo 'slurm_load_jobs error: x' >&2",
            "exit 1",
            "yes x | head -100",
        ],
        ids=["hangs", "rubbish", "an error and status 0", "fails", "much rubbish"],
    )
    def test_an_answer_that_is_none_is_no_empty_list(
        self, connect: Connect, wrappers: Path, script: str
    ) -> None:
        wrap(wrappers, "squeue", script)
        with pytest.raises(SchedulerError):
            connect(seconds=1).poll()

    @pytest.mark.parametrize(
        "script", ["exec sleep 60", "echo rubbish", "exit 0", "echo 'scontrol: error: no' >&2"]
    )
    def test_an_answer_that_is_none_takes_no_node_away(
        self, connect: Connect, wrappers: Path, script: str
    ) -> None:
        wrap(wrappers, "scontrol", script)
        with pytest.raises(SchedulerError):
            connect(seconds=1).nodes()

    def test_what_a_submission_would_cost_is_told_in_any_case(
        self, connect: Connect, wrappers: Path
    ) -> None:
        """Whoever asks has taken the jobs out of the line, and would lose them by an error."""
        wrap(wrappers, "scontrol", "exit 1")
        assert connect().cost([spec("true"), spec("false")]) == 2

    @pytest.mark.parametrize("script", ["echo rubbish", "exit 0", "echo 'sbatch: error: no' >&2"])
    def test_an_answer_that_makes_no_sense_leaves_a_submission_doubtful(
        self, connect: Connect, wrappers: Path, script: str
    ) -> None:
        wrap(wrappers, "sbatch", script)
        with pytest.raises(SchedulerError):
            connect().submit([spec()])

    @pytest.mark.parametrize(
        "script", ["sleep 60", "echo 'scancel: error: no' >&2; exit 1"], ids=["hangs", "fails"]
    )
    def test_a_cancellation_that_fails_is_told_and_can_be_repeated(
        self, cluster: SlurmCluster, connect: Connect, wrappers: Path, script: str
    ) -> None:
        slurm, job = connect(seconds=1), spec()
        slurm.submit([job])
        until(cluster, slurm, job, JobState.RUNNING)
        wrap(wrappers, "scancel", script)
        with pytest.raises(SchedulerError, match="scancel"):
            slurm.cancel([job.name])
        (wrappers / "scancel").unlink()
        until(cluster, slurm, job, JobState.RUNNING)
        slurm.cancel([job.name])
        assert end(cluster, slurm, job).kind is EndKind.CANCELLED


class TestMeddling:
    def test_a_node_that_dies_takes_its_job_with_it(
        self, cluster: SlurmCluster, slurm: SlurmScheduler
    ) -> None:
        job = spec()
        slurm.submit([job])
        until(cluster, slurm, job, JobState.RUNNING)
        cluster.kill_node("n1")
        cluster.run("scontrol", "update", "nodename=n1", "state=down", "reason=it died")
        told = end(cluster, slurm, job)
        cluster.start_node("n1")
        cluster.run("scontrol", "update", "nodename=n1", "state=resume")
        cluster.wait_for_nodes("idle", 1, seconds=60)
        assert told.kind is EndKind.NODE_LOST
        assert "NODE_FAIL" in told.detail
        assert "n1" in told.detail

    @pytest.mark.parametrize("alike", [1, 3])
    def test_a_job_that_somebody_else_deletes_is_not_taken_for_ours(
        self, cluster: SlurmCluster, connect: Connect, slurm: SlurmScheduler, alike: int
    ) -> None:
        """Running, and waiting: alone, and as a task of an array, which leaves no trace."""
        running = spec(cores=4)
        waiting = [spec(cores=3) for _ in range(alike)]
        slurm.submit([running])
        until(cluster, slurm, running, JobState.RUNNING)
        slurm.submit(waiting)
        first = until(cluster, slurm, waiting[0], JobState.WAITING)
        slurm.poll()
        cluster.run("scancel", first.job_id)
        assert end(cluster, slurm, waiting[0]).kind is EndKind.OPERATOR_DELETED
        found = find(slurm, running)
        assert found is not None
        cluster.run("scancel", found.job_id)
        assert end(cluster, slurm, running).kind is EndKind.OPERATOR_DELETED

    @pytest.mark.parametrize("alike", [1, 3])
    def test_what_we_cancelled_is_known_after_a_restart(
        self, cluster: SlurmCluster, connect: Connect, slurm: SlurmScheduler, alike: int
    ) -> None:
        running, waiting = spec(cores=4), [spec(cores=3) for _ in range(alike)]
        slurm.submit([running])
        until(cluster, slurm, running, JobState.RUNNING)
        slurm.submit(waiting)
        slurm.cancel([running.name, waiting[0].name])
        again = connect()
        for job in (running, waiting[0]):
            assert end(cluster, again, job).kind is EndKind.CANCELLED

    def test_ten_thousand_jobs_of_others_are_in_nobodys_way(
        self, cluster: SlurmCluster, slurm: SlurmScheduler
    ) -> None:
        theirs = (
            "sbatch",
            "--parsable",
            "--hold",
            "--mem=1",
            "--array=0-9999",
            "--output=/dev/null",
        )
        number = cluster.run(*theirs, "--job-name=zzzz-theirs", stdin="#!/bin/sh\nsleep 9\n")
        job = spec("sh", "-c", "exit 4")
        slurm.submit([job])
        assert end(cluster, slurm, job) == End(EndKind.EXITED, 4)
        assert not any(each.job_id.startswith(number) for each in slurm.poll().jobs)
        slurm.cancel([each.name for each in slurm.poll().jobs])
        assert len(cluster.run("squeue", "-h", "-r", "-o", "%i").splitlines()) == 10_000
        cluster.run("scancel", number)

    def test_a_job_that_is_requeued_waits_again(
        self, cluster: SlurmCluster, slurm: SlurmScheduler
    ) -> None:
        job = spec()
        slurm.submit([job])
        found = until(cluster, slurm, job, JobState.RUNNING)
        cluster.run("scontrol", "update", f"jobid={found.job_id}", "requeue=1")
        cluster.run("scontrol", "requeuehold", found.job_id)
        waiting = until(cluster, slurm, job, JobState.WAITING)
        assert "held" in waiting.reason


class TestForgetting:
    def test_ends_are_found_when_the_controller_has_forgotten(
        self, cluster: SlurmCluster, slurm: SlurmScheduler, connect: Connect
    ) -> None:
        """In the completion log, for single jobs and for tasks of an array."""
        single = spec("sh", "-c", "exit 5", cores=2)
        tasks = [spec("sh", "-c", "exit 6") for _ in range(2)]
        slurm.submit([single])
        slurm.submit(tasks)
        jobs = [single, *tasks]
        cluster.wait_until(
            lambda: slurm.poll().jobs == (), 90, "the controller has forgotten all jobs"
        )
        again = connect()
        assert again.look_up([job.name for job in jobs]) == {
            single.name: End(EndKind.EXITED, 5),
            **{task.name: End(EndKind.EXITED, 6) for task in tasks},
        }
        slurm.forget([job.name for job in jobs])


def test_a_job_that_a_crash_of_the_controller_lost_left_no_trace(connect: Connect) -> None:
    """It writes its state down up to a second late: now and then a job is quick enough to be saved."""
    with SlurmCluster(SlurmSettings((NODE,))) as own:
        slurm = connect(on=own, state="own")
        slurm.poll()
        for _ in range(10):
            lost = spec()
            slurm.submit([lost])
            own.kill_controller()
            own.start_controller()
            if find(slurm, lost) is None:
                break
            slurm.cancel([lost.name])
        assert find(slurm, lost) is None
        assert slurm.look_up([lost.name]) == {}


def test_a_limit_of_the_site_is_a_reason_to_wait(connect: Connect) -> None:
    """Where sbatch itself would wait for minutes."""
    with SlurmCluster(SlurmSettings((NODE,), extra=("MaxJobCount=4",))) as full:
        slurm = connect(on=full, state="full")
        full.run("scontrol", "update", "nodename=n1", "state=drain", "reason=a test")
        answers = slurm.submit([spec(ram=10 + number) for number in range(6)])
        assert 1 <= sum(bool(answer.job_id) for answer in answers) < 6
        assert all(answer.busy for answer in answers if not answer.job_id)
        # An array is one record of Slurm's for as long as it waits, and each of its tasks counts.
        alike = slurm.submit([spec(ram=99) for _ in range(6)])
        assert all(answer.busy for answer in alike)
