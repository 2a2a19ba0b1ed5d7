"""The one job of a probe, on a scheduler that does what schedulers do."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodemanager.clock import ManualClock
from nodemanager.model import JobState, Resources, new_uuid
from nodemanager.outcome import End, EndKind
from nodemanager.probe.job import ProbeJob
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.fake import FakeCluster, FakeScheduler, Fault, Script

SECONDS = 30.0


class Bench:
    """A scheduler, a probe's job and what is said of it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.cluster = FakeCluster(self.clock)
        self.cluster.script = lambda _spec: Script(seconds=SECONDS, end=End(EndKind.EXITED, 86))
        self.scheduler = FakeScheduler(SchedulerContext("zzzzz", folder), self.cluster)
        self.said: list[str] = []
        spec = JobSpec(
            name=new_uuid("zzzzz", "container"),
            argv=("runner",),
            resources=Resources(1, 2**28),
        )
        self.job = ProbeJob(self.scheduler, spec, self.clock, self.said.append)

    def turn(self, seconds: float = 1.0) -> None:
        self.job.turn()
        self.clock.advance(seconds)

    @property
    def submissions(self) -> int:
        return len(self.scheduler.calls("submit"))

    @property
    def known(self) -> list[str]:
        return [job.spec.name for job in self.cluster.jobs()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_is_submitted_once_and_followed_to_its_end(bench: Bench) -> None:
    for _ in range(int(SECONDS) + 2):
        bench.turn()
    assert bench.job.is_over
    assert bench.job.end == End(EndKind.EXITED, 86)
    assert bench.job.node
    assert bench.submissions == 1
    assert bench.said[0].startswith("accepted by fake as job ")
    assert bench.said[1:] == [f"it runs on {bench.job.node}", f"it has ended on {bench.job.node}"]
    bench.job.forget()
    assert bench.known == []


def test_an_answer_that_was_lost_submits_nothing_twice(bench: Bench) -> None:
    bench.scheduler.faults.upcoming[Fault.SUBMIT_AFTER] = 1
    bench.turn()
    assert "does not answer" in bench.said[-1]
    for _ in range(5):
        bench.turn()
    assert bench.submissions == 1
    assert bench.said[-1].startswith("it runs on")


def test_a_submission_that_failed_is_made_again(bench: Bench) -> None:
    bench.scheduler.faults.upcoming[Fault.SUBMIT] = 1
    for _ in range(4):
        bench.turn()
    assert bench.submissions == 2
    assert bench.said[-1].startswith("it runs on")


def test_silence_is_no_end(bench: Bench) -> None:
    bench.turn()
    bench.scheduler.faults.upcoming[Fault.POLL] = 3
    for _ in range(3):
        bench.turn()
    assert not bench.job.is_over
    assert bench.said[-1] == f"the scheduler does not answer: fake: {Fault.POLL.value}"


def test_a_limit_of_the_site_is_told_and_waited_for(bench: Bench) -> None:
    bench.scheduler.faults.max_jobs = 0
    bench.turn()
    assert "at most 0 jobs at a time" in bench.job.standing
    bench.scheduler.faults.max_jobs = None
    bench.turn()
    bench.turn()
    assert bench.job.standing.startswith("it runs on")


def test_a_refusal_is_its_end(bench: Bench) -> None:
    bench.scheduler.faults.refused = {bench.job.name: "no such queue"}
    bench.turn()
    assert bench.job.is_over
    assert bench.job.end is not None
    assert "no such queue" in bench.job.end.detail


def test_a_job_that_is_gone_without_a_trace(bench: Bench) -> None:
    bench.scheduler.faults.upcoming[Fault.LOSS] = 1
    for _ in range(3):
        bench.turn()
    assert bench.job.end == End(EndKind.VANISHED)


def test_cancelled_before_it_was_submitted(bench: Bench) -> None:
    bench.job.cancel()
    assert bench.job.is_over
    bench.turn()
    assert bench.submissions == 0


def test_cancelled_while_it_runs(bench: Bench) -> None:
    bench.turn()
    bench.turn()
    bench.job.cancel()
    assert not bench.job.is_over
    for _ in range(int(SECONDS)):
        bench.turn()
    assert bench.job.end is not None
    assert bench.job.end.kind is EndKind.CANCELLED


def test_cancelled_in_doubt_it_is_looked_for_first(bench: Bench) -> None:
    bench.scheduler.faults.upcoming[Fault.SUBMIT_AFTER] = 1
    bench.turn()
    bench.job.cancel()
    for _ in range(int(SECONDS)):
        bench.turn()
    assert bench.submissions == 1
    assert bench.job.is_over
    job = bench.cluster.job(bench.job.name)
    assert job is not None
    assert job.as_job().state is JobState.ENDED
