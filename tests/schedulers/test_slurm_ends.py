"""Ends that the suite of all schedulers does not ask for, on a real Slurm."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nodemanager.model import JobState, Resources, new_uuid
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job, JobSpec, SchedulerContext
from nodemanager.schedulers.slurm.scheduler import SlurmScheduler
from tests.clusters.slurm import SlurmCluster

Connect = Callable[..., SlurmScheduler]


@pytest.fixture
def connect(slurm: SlurmCluster, tmp_path: Path) -> Connect:
    def connect(**options: str) -> SlurmScheduler:
        given = {"conf": str(slurm.conf), **options}
        return SlurmScheduler(SchedulerContext("zzzzz", tmp_path / "state", given, 30))

    return connect


def spec(*argv: str, max_run_seconds: int = 0) -> JobSpec:
    name = new_uuid("zzzzz", "container")
    return JobSpec(name, argv, Resources(1, 10 << 20), max_run_seconds=max_run_seconds)


def find(scheduler: SlurmScheduler, name: str) -> Job | None:
    return next((job for job in scheduler.poll().jobs if job.name == name), None)


def reached(cluster: SlurmCluster, scheduler: SlurmScheduler, name: str, state: JobState) -> Job:
    def there() -> bool:
        job = find(scheduler, name)
        return job is not None and job.state is state

    cluster.wait_until(there, 60, f"{name} is {state}")
    job = find(scheduler, name)
    assert job is not None
    return job


def test_a_job_that_runs_out_of_time_says_how_much_it_had(
    slurm: SlurmCluster, connect: Connect
) -> None:
    """In whole minutes: it asked for one and a half."""
    scheduler, job = connect(), spec("sleep", "1000", max_run_seconds=90)
    scheduler.submit([job])
    running = reached(slurm, scheduler, job.name, JobState.RUNNING)
    # The limit stays what it is; Slurm looks at ends every 30 s.
    soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 1))
    slurm.run("scontrol", "update", f"JobId={running.job_id}", f"EndTime={soon}")
    ended = reached(slurm, scheduler, job.name, JobState.ENDED)
    assert ended.end is not None
    assert ended.end.kind is EndKind.TIME_LIMIT
    assert ended.end.asked == ended.end.limit
    assert ended.end.limit in (60, 120), "moving the end rounds the limit anew"


def test_a_job_that_slurm_could_not_start_has_not_failed_by_itself(
    slurm: SlurmCluster, connect: Connect, tmp_path: Path
) -> None:
    """A directory for its output that its node does not have."""
    scheduler, job = connect(log_dir=str(tmp_path / "missing")), spec("true")
    scheduler.submit([job])
    ended = reached(slurm, scheduler, job.name, JobState.ENDED)
    assert ended.end is not None
    assert ended.end.kind is EndKind.SCHEDULER_ERROR
    assert "JobLaunchFailure" in ended.end.detail


def test_a_job_that_somebody_kills_on_its_node_died_of_the_signal(
    slurm: SlurmCluster, connect: Connect
) -> None:
    """Slurm's own word for that is the same as for a failure to launch."""
    scheduler, job = connect(), spec("sh", "-c", "kill -KILL $$")
    scheduler.submit([job])
    ended = reached(slurm, scheduler, job.name, JobState.ENDED)
    assert ended.end == End(EndKind.SIGNALLED, 9)
