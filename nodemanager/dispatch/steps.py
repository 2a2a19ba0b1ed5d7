"""What to do next for one claimed container: a pure decision.

A `ContainerActor` keeps a `Situation` up to date from the messages it receives and, after each one, does
what `next_step` says. Nothing depends on the order in which messages arrive: the same situation always
calls for the same step, so a message that is lost, late or doubled cannot lead anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum

from nodemanager.model import Container, ContainerState, Reason, ReasonToken
from nodemanager.outcome import End, EndKind, Outcome, judge, judge_job


class JobPhase(Enum):
    """What we know of the container's job."""

    UNKNOWN = "unknown"
    """Not looked for yet: the container was adopted from a former process or actor."""
    NONE = "none"
    """Certain not to exist: never submitted, or refused."""
    SUBMITTING = "submitting"
    """Handed to the scheduler actor; accepted or not, we cannot tell yet."""
    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class Step(StrEnum):
    """What a ContainerActor can do."""

    WAIT = "wait"
    """Nothing; somebody else moves next."""
    LOOK = "look"
    """Ask the scheduler actor whether the job exists."""
    GET_TOKEN = "get-token"  # noqa: S105 (a step's name)
    """Ask the API for the runner's token."""
    SUBMIT = "submit"
    CANCEL_JOB = "cancel-job"
    READ = "read"
    """Read the container's record: the job is over, and the runner may have reported meanwhile."""
    WRITE = "write"
    """Write the final state that `outcome` gives."""
    LET_GO = "let-go"
    """Nothing is left to do: forget the job and stop."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that `next_step` looks at."""

    container: Container
    phase: JobPhase = JobPhase.UNKNOWN
    end: End | None = None
    """How the job ended, when `phase` is ENDED."""
    read_after_end: bool = False
    """`container` was read after it was known that there is no job any more."""
    has_token: bool = False
    abandoned: bool = False
    """The dispatcher was lost: our writes count for nothing, only the job has to go."""
    linger_over: bool = False
    """The container has been final for a while and its job is still there."""

    @property
    def has_job(self) -> bool:
        """Whether there may be a job in the scheduler that has not ended."""
        return self.phase not in (JobPhase.NONE, JobPhase.ENDED)


def next_step(situation: Situation) -> Step:
    """The one thing to do now."""
    state, phase = situation.container.state, situation.phase
    if phase is JobPhase.UNKNOWN:
        return Step.LOOK
    has_job = situation.has_job
    if situation.abandoned:
        return Step.CANCEL_JOB if has_job else Step.LET_GO
    if state.is_final:
        if not has_job:
            return Step.LET_GO
        # The runner reports first and exits a moment later; cancelling at once would kill it at its
        # last line. A container that nobody wants any more gets no such grace.
        wanted = state in (
            ContainerState.COMPLETE,
            ContainerState.PERMFAIL,
            ContainerState.TEMPFAIL,
        )
        return Step.CANCEL_JOB if situation.linger_over or not wanted else Step.WAIT
    if has_job:
        return Step.CANCEL_JOB if situation.container.priority <= 0 else Step.WAIT
    if phase is JobPhase.ENDED or state is ContainerState.RUNNING:
        return Step.WRITE if situation.read_after_end else Step.READ
    if situation.container.priority <= 0:
        return Step.WRITE
    return Step.SUBMIT if situation.has_token else Step.GET_TOKEN


def outcome(situation: Situation) -> Outcome:
    """The final state to write when `next_step` says WRITE.

    A job that ended by itself keeps its meaning only where the scheduler vouches for it (see
    `judge_job`); priority 0 makes any end a cancellation, since nobody wants another attempt.
    """
    if situation.container.priority <= 0:
        return judge(End(EndKind.CANCELLED))
    return judge_job(situation.end or End(EndKind.VANISHED))


def wait_reason(
    situation: Situation, words: str, trouble: Reason | None, now: float
) -> Reason | None:
    """Why the claimed container is not running, or None when it is or is over.

    `words` are the scheduler's own for a waiting job; `trouble` is what the scheduler actor says about
    a submission it could not make (a limit, no answer), and stands for as long as it lasts.
    """
    container = situation.container
    if container.state.is_final or container.state is ContainerState.RUNNING:
        return None
    if container.priority <= 0 or situation.abandoned:
        return Reason(ReasonToken.CANCELLING, "its job is being cancelled", since=now)
    match situation.phase:
        case JobPhase.WAITING:
            sentence = (
                f"its job waits in the queue: {words}" if words else "its job waits in the queue"
            )
            return Reason(ReasonToken.SCHEDULER_WAIT, sentence, since=now)
        case JobPhase.RUNNING:
            return Reason(
                ReasonToken.STARTING,
                "its job has started; the runner has not confirmed yet",
                since=now,
            )
        case JobPhase.ENDED:
            return Reason(
                ReasonToken.STARTING, "its job ended; its end is being recorded", since=now
            )
        case _ if trouble is not None:
            return replace(trouble, since=now)
        case _:
            return Reason(
                ReasonToken.SUBMITTING, "its job is being submitted to the scheduler", since=now
            )
