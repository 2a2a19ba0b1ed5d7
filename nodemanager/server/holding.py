"""Calls that are held open until there is something to answer: who waits for what, and who wakes them.

Belongs to the event loop's thread, except `Bells.announce`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Bell:
    """One waiting call."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Something happened, or will not any more: look again."""
        self._event.set()

    async def heard(self, within: float) -> None:
        """Return when it was rung since the last time, or after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


class Bells:
    """All waiting calls of this process, by the topics of `Service.subscribe`."""

    def __init__(self) -> None:
        self.closing = False
        """The server is going to end: nobody may wait any more."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: defaultdict[str, set[Bell]] = defaultdict(set)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop the calls wait in."""
        self._loop = loop

    def announce(self, topic: str) -> None:
        """Wake who waits for `topic`; any thread may call it."""
        loop = self._loop
        if loop is not None and topic in self._listening:
            try:
                loop.call_soon_threadsafe(self._ring, topic)
            except RuntimeError:  # the loop has ended, and with it all who waited
                return

    def close(self) -> None:
        """Wake all, for the last time."""
        self.closing = True
        for topic in list(self._listening):
            self._ring(topic)

    @contextmanager
    def listening(self, topic: str) -> Iterator[Bell]:
        """A bell that rings for `topic`."""
        bell = Bell()
        self._listening[topic].add(bell)
        try:
            yield bell
        finally:
            self._listening[topic].discard(bell)
            if not self._listening[topic]:
                del self._listening[topic]

    def _ring(self, topic: str) -> None:
        for bell in self._listening.get(topic, ()):
            bell.ring()
