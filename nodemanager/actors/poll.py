"""Ask the same question again and again: evenly while it is answered, more and more slowly while it is not.

The schedule is that of the old node manager's RemotePollLoopActor: after an answer the next question is due
`wait_seconds` after the last was *due* (so the beat does not drift with the length of the answers), after an
error the pause doubles up to a maximum.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pykka

from nodemanager.actors.actor import Actor
from nodemanager.actors.timer import Schedule
from nodemanager.clock import Clock
from nodemanager.errors import NodeManagerError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PollPace:
    """How often, in seconds: between answers, and at most between two tries that fail."""

    wait_seconds: float
    max_wait_seconds: float


@dataclass(frozen=True, slots=True)
class PollPlan:
    """When the next question is due (elapsed seconds), and the pause that an error would double."""

    due: float
    pause_seconds: float


def after_answer(plan: PollPlan, pace: PollPace, now: float) -> PollPlan:
    """The question that was due at `plan.due` was answered at `now`.

    One that was asked before it was due, because there was news, takes the place of the one that was.
    """
    if now < plan.due:
        return PollPlan(now + pace.wait_seconds, pace.wait_seconds)
    due = plan.due + pace.wait_seconds
    # Beats that were missed (a slow answer, a suspended machine) are not made up for.
    return PollPlan(due if due > now else now + pace.wait_seconds, pace.wait_seconds)


def after_error(plan: PollPlan, pace: PollPace, now: float) -> PollPlan:
    """The question failed at `now`."""
    longest = max(pace.wait_seconds, pace.max_wait_seconds)
    pause = min(2 * plan.pause_seconds, longest)
    return PollPlan(now + pause, pause)


def sooner(plan: PollPlan, pace: PollPace, now: float) -> PollPlan:
    """The plan at another pace from `now` on: nobody waits for the end of a pause that is longer than that."""
    return PollPlan(min(plan.due, now + pace.wait_seconds), pace.wait_seconds)


@dataclass(frozen=True, slots=True)
class PollNow:
    """To a `PollActor`: do not wait for the next beat. Several of them make one poll."""


@dataclass(frozen=True, slots=True)
class GetStaleness:
    """Asked of a `PollActor`: seconds since the last answered poll began (float), None before the first."""


@dataclass(frozen=True, slots=True)
class Polled:
    """To the subscriber: what the operation returned, and when (elapsed seconds) it was asked."""

    answer: Any
    asked_at: float


@dataclass(frozen=True, slots=True)
class PollFailed:
    """To the subscriber: no answer; `last_success` is when the last good question was asked, or None."""

    error: Exception
    last_success: float | None


@dataclass(frozen=True, slots=True)
class _Beat:
    """To itself: poll."""


class PollActor(Actor):
    """Calls `operation`, never twice at a time, and tells `subscriber` what came of it.

    The operation may block: the actor has a thread of its own. An error of this package is one line in the
    log, any other a traceback, and both only mean a longer pause.
    """

    kind = "io"

    def __init__(
        self,
        operation: Callable[[], Any],
        pace: PollPace,
        subscriber: pykka.ActorRef[Any],
        timer: pykka.ActorRef[Any],
        clock: Clock,
        *,
        longest_answer_seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self._operation = operation
        self._pace = pace
        self._subscriber = subscriber
        self._timer = timer
        self._clock = clock
        self._longest_answer_seconds = longest_answer_seconds
        self._plan = PollPlan(clock.elapsed(), pace.wait_seconds)
        self._last_success: float | None = None
        self._beat_told = False

    @property
    def answers_within(self) -> float:
        """See `PooledActor.answers_within`."""
        return self._longest_answer_seconds

    def on_start(self) -> None:
        """Poll at once."""
        self._beat()

    def on_receive(self, message: Any) -> float | None:
        """Poll, now or soon."""
        match message:
            case _Beat():
                self._beat_told = False
                self._poll()
            case PollNow():
                self._beat()
            case GetStaleness():
                last = self._last_success
                return None if last is None else self._clock.elapsed() - last
            case _:
                super().on_receive(message)
        return None

    def _beat(self) -> None:
        """One poll for all that ask for one before it begins."""
        if not self._beat_told:
            self._beat_told = True
            self._plan = PollPlan(self._clock.elapsed(), self._plan.pause_seconds)
            self.actor_ref.tell(_Beat())

    def _poll(self) -> None:
        asked_at = self._clock.elapsed()
        news: Polled | PollFailed
        try:
            answer = self._operation()
        except Exception as error:
            self._plan = after_error(self._plan, self._pace, self._clock.elapsed())
            self._log(error)
            news = PollFailed(error, self._last_success)
        else:
            self._plan = after_answer(self._plan, self._pace, self._clock.elapsed())
            self._last_success = asked_at
            news = Polled(answer, asked_at)
        self._timer.tell(
            Schedule(self._plan.due, self.actor_ref, _Beat(), key=(self.actor_urn, "beat"))
        )
        if self._subscriber.is_alive():
            self._subscriber.tell(news)

    def _log(self, error: Exception) -> None:
        log.warning(
            "the poll failed: %s; tried again in %.0f s",
            error,
            self._plan.pause_seconds,
            exc_info=None if isinstance(error, NodeManagerError) else error,
            extra={"action": "poll_failed"},
        )
