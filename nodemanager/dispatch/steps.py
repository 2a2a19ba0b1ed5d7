"""What to do next for one claimed container: a pure decision.

A `ContainerActor` keeps a `Situation` up to date from the messages it receives and, after each one, does
what `next_step` says. Nothing depends on the order in which messages arrive: the same situation always
calls for the same step, so a message that is lost, late or doubled cannot lead anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum

from nodemanager.model import Container, ContainerState
from nodemanager.outcome import End, EndKind, Outcome, judge, judge_job
from nodemanager.reason import Reason, ReasonToken
from nodemanager.schedulers.jobs import JobReport


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


class Stage(StrEnum):
    """How far a claimed container has come, for those who time it; the words of the metric."""

    SUBMIT = "submit"
    """The scheduler has not accepted its job."""
    START = "start"
    """It has, and the container is not Running."""
    RUN = "run"
    OVER = "over"


class Step(StrEnum):
    """What a ContainerActor can do."""

    WAIT = "wait"
    """Nothing; somebody else moves next."""
    LOOK = "look"
    """Ask the scheduler actor whether the job exists."""
    GET_TOKEN = "get-token"  # noqa: S105 (a step's name)
    """Ask the API for the runner's token."""
    GET_WORK = "get-work"
    """Ask the API what the command is, for a scheduler whose jobs are commands."""
    SUBMIT = "submit"
    CANCEL_JOB = "cancel-job"
    CONFIRM = "confirm"
    """Write Running: the job is the command itself, and has started."""
    COLLECT = "collect"
    """Bring the log and the output of a job that was the command itself to where they are kept."""
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
    needs_work: bool = False
    """A scheduler may run the command itself."""
    has_work: bool = False
    fault: str = ""
    """Why the container can never be run as it was asked for."""
    runner_id: str = ""
    """Set when the job is the command itself, and has started; see `Job.runner_id`."""
    hopeless: str = ""
    """Why the job will never start; it is cancelled for that, and no priority changed."""
    collected: bool = False
    """What the job left is where it is kept."""
    abandoned: bool = False
    """The dispatcher was lost: our writes count for nothing, only the job has to go."""
    linger_over: bool = False
    """The container has been final for a while and its job is still there."""

    @property
    def has_job(self) -> bool:
        """Whether there may be a job in the scheduler that has not ended."""
        return self.phase not in (JobPhase.NONE, JobPhase.ENDED)

    @property
    def is_unconfirmed(self) -> bool:
        """The command has started, and its container is not Running yet."""
        return bool(self.runner_id) and self.container.state is ContainerState.LOCKED


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
        if situation.container.priority <= 0 or situation.hopeless:
            return Step.CANCEL_JOB
        return Step.CONFIRM if situation.is_unconfirmed else Step.WAIT
    if phase is JobPhase.ENDED or state is ContainerState.RUNNING:
        return _after_the_job(situation)
    if situation.container.priority <= 0 or situation.fault:
        return Step.WRITE
    if not situation.has_token:
        return Step.GET_TOKEN
    return Step.GET_WORK if situation.needs_work and not situation.has_work else Step.SUBMIT


def job_waits(situation: Situation) -> bool:
    """Whether the container is claimed and its job has not started."""
    started = (JobPhase.RUNNING, JobPhase.ENDED)
    return not situation.container.state.is_final and situation.phase not in started


def wants_node(situation: Situation) -> bool:
    """Whether it is certain that the job has not started, and that it is wanted: a node may be booted for it, where
    its scheduler is the one that nodes join."""
    return (
        job_waits(situation)
        and situation.phase is not JobPhase.UNKNOWN
        and situation.container.priority > 0
        and not situation.abandoned
    )


def stage_of(situation: Situation) -> Stage:
    """How far it has come."""
    state = situation.container.state
    if state.is_final:
        return Stage.OVER
    if state is ContainerState.RUNNING:
        return Stage.RUN
    accepted = situation.phase in (JobPhase.WAITING, JobPhase.RUNNING, JobPhase.ENDED)
    return Stage.START if accepted else Stage.SUBMIT


def _after_the_job(situation: Situation) -> Step:
    if situation.is_unconfirmed and situation.container.priority > 0:
        # Locked cannot become Complete; and whoever looks should find a command that ran as Running.
        return Step.CONFIRM
    if situation.runner_id and not situation.collected:
        return Step.COLLECT
    return Step.WRITE if situation.read_after_end else Step.READ


def outcome(situation: Situation, tempfail_exits: frozenset[int]) -> Outcome:
    """The final state to write when `next_step` says WRITE. `tempfail_exits` is `[Runner] tempfail_exits`.

    The end of a job that was the command itself is the container's. That of a runner keeps its meaning only where the
    scheduler vouches for it (see `judge_job`). Priority 0 makes any end a cancellation, since nobody wants another
    attempt.
    """
    if situation.container.priority <= 0:
        return judge(End(EndKind.CANCELLED))
    if situation.fault and situation.end is None:
        return Outcome(ContainerState.PERMFAIL, f"the request is at fault: {situation.fault}")
    end = situation.end or End(EndKind.VANISHED)
    if situation.hopeless and end.kind is EndKind.CANCELLED:
        end = End(EndKind.SCHEDULER_ERROR, detail=situation.hopeless)
    return judge(end, tempfail_exits) if situation.runner_id else judge_job(end)


def wait_reason(situation: Situation, job: JobReport | None, now: float) -> Reason | None:
    """Why the claimed container is not running, or None when it is or is over.

    `job` is what the scheduler actor said last: the scheduler's words for a job that waits, and for one that could not
    be submitted yet (a limit, no answer) its trouble, which stands for as long as it lasts.
    """
    container = situation.container
    if container.state.is_final or container.state is ContainerState.RUNNING:
        return None
    if container.priority <= 0 or situation.abandoned:
        return Reason(ReasonToken.CANCELLING, "its job is being cancelled", since=now)
    match situation.phase:
        case JobPhase.WAITING:
            return replace(_in_the_queue(job), since=now)
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
        case _ if job is not None and job.trouble is not None:
            return replace(job.trouble, since=now)
        case JobPhase.UNKNOWN:
            return Reason(
                ReasonToken.SUBMITTING, "its job is being looked for in the scheduler", since=now
            )
        case _:
            words = _ON_ITS_WAY.get(
                next_step(situation), "its job is being submitted to the scheduler"
            )
            return Reason(ReasonToken.SUBMITTING, words, since=now)


def _in_the_queue(job: JobReport | None) -> Reason:
    if job is not None and job.waits_for is not None:
        return job.waits_for
    words = "" if job is None else job.words
    sentence = "its job waits in the queue"
    return Reason(ReasonToken.SCHEDULER_WAIT, f"{sentence}: {words}" if words else sentence)


_ON_ITS_WAY = {
    Step.GET_TOKEN: "the API is asked for a token for its runner",
    Step.GET_WORK: "the API is asked what its command is",
    Step.WRITE: "its end is being recorded",
}
