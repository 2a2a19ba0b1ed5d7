"""Server-sent events: one word to all pages that are open whenever there is something new to fetch.

Events carry no data of their own, so that a page that reads slowly costs nothing: it is told once that there
is something new, however much changed meanwhile, and fetches it when it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nodemanager.dispatch.messages import Status
from nodemanager.status.answers import HEADERS
from nodemanager.status.asking import SHARED_SECONDS, Asker, NoAnswer
from nodemanager.status.look import DaemonLook, shown_time

MAX_STREAMS = 40
"""At a time: each is a connection, of which others need some."""
STEADY_SECONDS = 10.0
"""An event comes at least so often, though nothing has changed: who hears none for longer is cut off."""
HEARTBEAT_SECONDS = 5.0
"""So often something is sent in any case, so that nobody in between takes the connection for dead."""
CONTAINERS_PER_SECOND = 10_000
"""So many are looked at: with more there are fewer events, so that the actors keep the processor."""
RETRY_MILLISECONDS = 2000
"""After so long a browser connects anew."""


@dataclass(frozen=True, slots=True)
class _News:
    number: int
    event: str
    data: bytes


class Events:
    """Looks as long as somebody listens, once for all of them. Belongs to the event loop's thread."""

    def __init__(self, asker: Asker, every_seconds: float = SHARED_SECONDS) -> None:
        self._asker = asker
        self._every_seconds = every_seconds
        self._streams = 0
        self._closed = False
        self._look: DaemonLook | None = None
        self._news = _News(0, "", b"")
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Look, and tell, until cancelled."""
        since = 0.0
        while True:
            if self._streams == 0:
                since = STEADY_SECONDS
                async with self._changed:
                    await self._changed.wait_for(lambda: self._streams > 0)
            news = await self._look_again(steady=since >= STEADY_SECONDS)
            if news is not None:
                since = 0.0
                await self._tell(news)
            pause = self._every_seconds * effort(self._look)
            await asyncio.sleep(pause)
            since += pause

    def stream(self, is_admitted: Callable[[], bool]) -> EventStream:
        """What one page is sent, for as long as `is_admitted`; raises 503 when too many listen."""
        if self._streams >= MAX_STREAMS or self._closed:
            raise HTTPException(503, f"{MAX_STREAMS} pages are open already; close one")
        return EventStream(self._pieces(is_admitted))

    async def close(self) -> None:
        """End all streams: their pages connect to whoever comes next."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    async def _pieces(self, is_admitted: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
        self._streams += 1
        seen = 0
        try:
            yield b"retry: %d\n\n" % RETRY_MILLISECONDS
            async with self._changed:
                self._changed.notify_all()
            while is_admitted() and not self._closed:
                if await self._wait_for_more_than(seen):
                    seen = self._news.number
                    yield b"event: %b\ndata: %b\n\n" % (self._news.event.encode(), self._news.data)
                elif not self._closed:
                    yield b": still here\n\n"
        finally:
            self._streams -= 1

    async def _wait_for_more_than(self, seen: int) -> bool:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._closed or self._news.number != seen)
        except TimeoutError:
            return False
        return self._news.number != seen

    async def _look_again(self, *, steady: bool) -> _News | None:
        number = self._news.number + 1
        try:
            look = await self._asker.look()
        except NoAnswer as error:
            self._look = None
            if self._news.event == "trouble" and not steady:
                return None
            return _News(number, "trouble", orjson.dumps({"error": str(error)}))
        before, self._look = self._look, look
        if before is not None and not steady and not has_changed(before, look):
            return None
        return _News(number, "look", orjson.dumps({"taken_at": shown_time(look.taken_at)}))

    async def _tell(self, news: _News) -> None:
        self._news = news
        async with self._changed:
            self._changed.notify_all()


class EventStream(StreamingResponse):
    """The answer to one page: it lasts until one of both ends it."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        super().__init__(pieces, headers=HEADERS, media_type="text/event-stream")
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whatever ends it, the stream is not counted any more."""
        async with aclosing(self._pieces):
            await super().__call__(scope, receive, send)


def effort(look: DaemonLook | None) -> float:
    """How many times longer than usual to wait until the next look, for what this one cost."""
    if look is None or look.dispatcher is None:
        return 1.0
    return max(1.0, len(look.dispatcher.containers) / CONTAINERS_PER_SECOND)


def has_changed(before: DaemonLook, after: DaemonLook) -> bool:
    """Whether a page has anything new to show, apart from time that has passed."""
    if before is after:
        return False
    return (
        _lasting(before.dispatcher) != _lasting(after.dispatcher)
        or _lasting_nodes(before) != _lasting_nodes(after)
        or before.failures != after.failures
        or before.version != after.version
    )


def _lasting(status: Status | None) -> object:
    if status is None:
        return None
    return status.me, status.lease_seconds > 0, status.nodes, status.containers, status.queued


def _lasting_nodes(look: DaemonLook) -> object:
    nodes = look.nodes
    if nodes is None:
        return None
    return (
        nodes.nodes,
        nodes.wishlist,
        nodes.waiting,
        nodes.unplaced,
        nodes.price,
        nodes.quota,
        nodes.unavailable.keys(),
        nodes.brake,
        nodes.stale,
        nodes.history,
    )
