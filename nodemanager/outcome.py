"""What a failure is: the one table, for every scheduler and the runner (design page, section 5).

The runner judges how the *command* ended, a dispatcher judges how the *job* ended when the container
did not say so itself. Both ask `judge`, so that the same end is the same state everywhere.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from nodemanager.model import ContainerState, format_bytes, format_seconds

DEFAULT_TEMPFAIL_EXITS = frozenset({75, 111})
"""75 is EX_TEMPFAIL of sysexits.h, 111 the same in qmail's convention."""

_OWN_SIGNALS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS}
)


class EndKind(StrEnum):
    """How a command or job came to its end."""

    EXITED = "exited"
    """By itself; `End.code` is the exit status."""
    SIGNALLED = "signalled"
    """By the signal `End.code`."""
    OUT_OF_MEMORY = "out-of-memory"
    """Killed for using more RAM than it asked for; `asked` and `limit` in bytes."""
    TIME_LIMIT = "time-limit"
    """Stopped at its `max_run_time`; `asked` and `limit` in seconds."""
    NODE_LOST = "node-lost"
    """Its node failed, was preempted or taken away."""
    SCHEDULER_ERROR = "scheduler-error"
    """The scheduler or the runner could not run it."""
    OPERATOR_DELETED = "operator-deleted"
    """Somebody deleted the job in the scheduler behind our back."""
    CANCELLED = "cancelled"
    """We cancelled it because its priority is 0."""
    GIVEN_BACK = "given-back"
    """Handed back before it ran, for our own reasons: quota, no capacity, scheduler down."""
    VANISHED = "vanished"
    """Gone from a complete poll, and nobody knows how it ended."""


@dataclass(frozen=True, slots=True)
class End:
    """How a command or a job ended."""

    kind: EndKind
    code: int = 0
    """Exit status or signal number, for EXITED and SIGNALLED."""
    asked: int = 0
    limit: int = 0
    detail: str = ""
    """The scheduler's own words."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final state of a container, and the words and numbers that belong to it."""

    state: ContainerState
    error: str = ""
    exit_code: int | None = None
    hold: bool = False
    """The next attempt waits until an operator releases it."""
    given_back: bool = False
    """Does not grow the backoff; see `EndKind.GIVEN_BACK`."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_attributes(self) -> dict[str, Any]:
        """The attributes to write to the container with its final state."""
        attributes: dict[str, Any] = {"state": self.state.value}
        if self.exit_code is not None:
            attributes["exit_code"] = self.exit_code
        status: dict[str, Any] = {}
        if self.error:
            status["error"] = self.error
        if self.facts:
            status["facts"] = dict(self.facts)
        if status:
            attributes["runtime_status"] = status
        if self.hold:
            attributes["hold"] = True
        if self.given_back:
            attributes["given_back"] = True
        return attributes


def judge(end: End, tempfail_exits: frozenset[int] = DEFAULT_TEMPFAIL_EXITS) -> Outcome:
    """The final state that `end` means. `tempfail_exits` is `[Runner] tempfail_exits`."""
    words = f" ({end.detail})" if end.detail else ""
    match end.kind:
        case EndKind.EXITED:
            return _judge_exit(end.code, tempfail_exits)
        case EndKind.SIGNALLED:
            return _judge_signal(end.code, words)
        case EndKind.OUT_OF_MEMORY:
            return Outcome(
                ContainerState.PERMFAIL,
                f"used more RAM than it asked for: asked {format_bytes(end.asked)}, "
                f"limit {format_bytes(end.limit)}{words}",
                facts={"ram_bytes": {"asked": end.asked, "limit": end.limit}},
            )
        case EndKind.TIME_LIMIT:
            return Outcome(
                ContainerState.PERMFAIL,
                f"ran longer than it may: asked {format_seconds(end.asked)}, "
                f"limit {format_seconds(end.limit)}{words}",
                facts={"run_seconds": {"asked": end.asked, "limit": end.limit}},
            )
        case EndKind.NODE_LOST:
            return Outcome(ContainerState.TEMPFAIL, f"its node was lost{words}")
        case EndKind.SCHEDULER_ERROR:
            return Outcome(ContainerState.TEMPFAIL, f"the job could not be run{words}")
        case EndKind.OPERATOR_DELETED:
            return Outcome(
                ContainerState.TEMPFAIL,
                f"its job was deleted in the scheduler{words}; on hold until released",
                hold=True,
            )
        case EndKind.CANCELLED:
            return Outcome(ContainerState.CANCELLED, "cancelled: its priority became 0")
        case EndKind.GIVEN_BACK:
            return Outcome(
                ContainerState.TEMPFAIL, f"given back before it ran{words}", given_back=True
            )
        case EndKind.VANISHED:
            return Outcome(
                ContainerState.TEMPFAIL,
                f"its job is gone from the scheduler and left no exit status{words}",
            )


def judge_job(end: End) -> Outcome:
    """The final state of a container whose job ended as `end` says without reporting for itself.

    The job is our runner: however it exited, that says nothing about the program, so only the ends that
    the scheduler itself vouches for (a limit, a lost node, a deletion) keep their meaning.
    """
    if end.kind is EndKind.EXITED:
        return Outcome(
            ContainerState.TEMPFAIL, f"the runner exited with {end.code} without reporting an end"
        )
    if end.kind is EndKind.SIGNALLED:
        return Outcome(ContainerState.TEMPFAIL, f"the runner was killed by {signal_name(end.code)}")
    return judge(end)


def spoilt(outcome: Outcome, instead: Outcome) -> Outcome:
    """Complete becomes `instead`; any other outcome keeps its state and gains the words."""
    if outcome.state is ContainerState.COMPLETE:
        return instead
    return replace(outcome, error=f"{outcome.error}; {instead.error}")


def _judge_exit(code: int, tempfail_exits: frozenset[int]) -> Outcome:
    if code == 0:
        return Outcome(ContainerState.COMPLETE, exit_code=0)
    if code in tempfail_exits:
        return Outcome(
            ContainerState.TEMPFAIL,
            f"exited with {code}, which asks for another try",
            exit_code=code,
        )
    return Outcome(ContainerState.PERMFAIL, f"exited with {code}", exit_code=code)


def _judge_signal(number: int, words: str) -> Outcome:
    name = signal_name(number)
    # A shell reports the death of its child by signal N as exit status 128 + N.
    code = 128 + number
    if number in _OWN_SIGNALS:
        return Outcome(ContainerState.PERMFAIL, f"crashed with {name}{words}", exit_code=code)
    return Outcome(ContainerState.TEMPFAIL, f"killed from outside by {name}{words}", exit_code=code)


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; ``signal 99`` for a number the system has no name for."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
