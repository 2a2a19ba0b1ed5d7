"""Answers that are asked for once for all who want the same within some seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nodemanager.clock import Clock

MAX_KEPT = 100
"""One more, and the oldest is forgotten."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Asked(Generic[_Answer]):
    task: asyncio.Task[_Answer]
    at: float
    """Elapsed: when it was asked."""


class Shared(Generic[_Answer]):
    """Answers by what was asked. Belongs to the event loop's thread. A failure is told to those who wait for it,
    and not kept."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """An answer is good for `seconds` after it was asked for."""
        self._clock = clock
        self._seconds = seconds
        self._asked: dict[Hashable, _Asked[_Answer]] = {}

    async def get(self, key: Hashable, ask: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
        """The answer to `key`, as `ask` finds it out unless that is known, or being found out."""
        now = self._clock.elapsed()
        asked = self._asked.pop(key, None)
        if asked is None or not self._is_good(asked, now):
            while len(self._asked) >= MAX_KEPT:
                del self._asked[next(iter(self._asked))]
            task = asyncio.create_task(ask())
            task.add_done_callback(_look_at)
            asked = _Asked(task, now)
        self._asked[key] = asked
        # Whoever goes away leaves the others their answer.
        return await asyncio.shield(asked.task)

    def _is_good(self, asked: _Asked[_Answer], now: float) -> bool:
        if not asked.task.done():
            return True
        failed = asked.task.cancelled() or asked.task.exception() is not None
        return not failed and now - asked.at < self._seconds


def _look_at(task: asyncio.Task[Any]) -> None:
    """All who waited for a failure may have gone away."""
    if not task.cancelled():
        task.exception()
