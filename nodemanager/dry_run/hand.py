"""The containers that were claimed before, each with what its actor would do now. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nodemanager.dispatch.claiming import Load
from nodemanager.dispatch.steps import (
    JobPhase,
    Situation,
    Step,
    job_waits,
    next_step,
    wants_node,
)
from nodemanager.dry_run.sight import QueueSight, Sight
from nodemanager.model import Container, JobState

_PHASES = {
    JobState.WAITING: JobPhase.WAITING,
    JobState.RUNNING: JobPhase.RUNNING,
    JobState.ENDED: JobPhase.ENDED,
    JobState.UNKNOWN: JobPhase.UNKNOWN,
}
_OVER = frozenset({Step.READ, Step.WRITE, Step.COLLECT, Step.LET_GO})


@dataclass(frozen=True, slots=True)
class Held:
    """A container that was claimed before, with what its actor would do."""

    container: Container
    phase: JobPhase
    step: Step
    scheduler: str
    """The name of the one that has its job; empty where there is one, or none has it."""
    waits: bool
    """Its job has not started."""
    wants_node: bool
    """A node may be booted for it."""

    @property
    def is_running(self) -> bool:
        """Its job has started, and nothing has to be done but perhaps to say so at the API."""
        return not self.waits and self.step in (Step.WAIT, Step.CONFIRM)

    @property
    def is_over(self) -> bool:
        """There is no job, and will be none: its end is written down."""
        return self.step in _OVER


def in_hand(sight: Sight, queue: QueueSight) -> Iterator[Held]:
    """Each container that was claimed before."""
    jobs = {job.name: (job, each.name) for each in sight.schedulers for job in each.jobs}
    # A job that somebody who does not answer may have is not missing.
    sure = all(each.complete and not each.error for each in sight.schedulers)
    for container in queue.held:
        job, scheduler = jobs.get(container.uuid, (None, ""))
        phase = JobPhase.NONE if sure else JobPhase.UNKNOWN
        situation = Situation(
            container,
            phase if job is None else _PHASES[job.state],
            end=None if job is None else job.end,
            has_token=True,
            runner_id="" if job is None else job.runner_id,
            hopeless="" if job is None else job.hopeless,
        )
        yield Held(
            container,
            situation.phase,
            next_step(situation),
            scheduler,
            job_waits(situation),
            wants_node(situation),
        )


def load_of(hand: Sequence[Held]) -> Load:
    """What that is for a claim."""
    return Load(len(hand), sum(each.waits for each in hand))
