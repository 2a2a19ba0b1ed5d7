"""Time for tests: let some seconds pass, and everything that they bring about happen."""

from __future__ import annotations

from typing import Any

import pykka

from nodemanager.actors.inline import InlinePool
from nodemanager.actors.timer import Deliver, NextDue
from nodemanager.clock import ManualClock
from nodemanager.errors import NodeManagerError

MOST_ROUNDS_AT_ONCE = 10_000


class TimeStandsStill(NodeManagerError):
    """Timers are set again and again for a time that has come already."""


def settle(pool: InlinePool) -> None:
    """Let all actors of `pool` handle what they have and what comes of it."""
    pool.run_until_idle()


def advance(
    clock: ManualClock, timer: pykka.ActorRef[Any], pool: InlinePool, seconds: float
) -> None:
    """Let `seconds` pass: from one due timer to the next, settling everything in between."""
    end = clock.elapsed() + seconds
    settle(pool)
    rounds = 0
    while (due := _next_due(timer)) is not None and due <= end:
        if due > clock.elapsed():
            rounds = 0
            _move(clock, due)
        rounds += 1
        if rounds > MOST_ROUNDS_AT_ONCE:
            raise TimeStandsStill(
                f"more than {MOST_ROUNDS_AT_ONCE} rounds of timers at {clock.elapsed()} s of the clock"
            )
        timer.tell(Deliver(clock.elapsed()))
        settle(pool)
    _move(clock, end)


def _next_due(timer: pykka.ActorRef[Any]) -> float | None:
    due: float | None = timer.ask(NextDue(), block=True)
    return due


def _move(clock: ManualClock, to: float) -> None:
    # Rounding may leave it an instant short, and then a receiver would find its time not come yet.
    while clock.elapsed() < to:
        clock.advance(to - clock.elapsed())
