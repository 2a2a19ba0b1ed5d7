"""How long a client may take, and how many may be served at once: what keeps one client from costing all.

A body that does not come is 408 and more calls than can be served is 503: the Arvados client repeats both
later, which is right, since nothing was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from nodemanager.server.errors import ServerError

QUEUED_PER_SERVED = 2
"""So many calls wait for each that is served; as 64 and 128 in stock Arvados."""


async def pieces_of(
    request: Request, seconds: float, *, slowest: float = 0.0
) -> AsyncIterator[bytes]:
    """The body of `request` as it comes; `ServerError` 408 when nothing came for so many `seconds`.

    With `slowest` (bytes per second) the whole of it must come in `seconds`, and as much longer as
    what has come would have taken at that pace. Raises `ClientDisconnect`.
    """
    stream = request.stream()
    loop = asyncio.get_running_loop()
    began = loop.time()
    size = 0
    while True:
        left = began + seconds + size / slowest - loop.time() if slowest else seconds
        try:
            async with asyncio.timeout(left):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            words = f"request body: {size} bytes came in time, not all (request_timeout)"
            raise ServerError(408, [words]) from None
        size += len(piece)
        yield piece


class Turns:
    """Lets `most` calls be served at once; others wait their turn, and too many of them are refused.

    Belongs to the event loop's thread.
    """

    def __init__(self, most: int) -> None:
        self._turns = asyncio.Semaphore(most)
        self._waiting = 0
        self._most_waiting = most * QUEUED_PER_SERVED

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for one's turn and have it; `ServerError` 503 when too many wait already."""
        if self._turns.locked():
            if self._waiting >= self._most_waiting:
                raise ServerError(503, ["too many requests at once (max_concurrent_requests)"])
            self._waiting += 1
            try:
                await self._turns.acquire()
            finally:
                self._waiting -= 1
        else:
            await self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()
