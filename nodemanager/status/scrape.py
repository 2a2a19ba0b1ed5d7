"""`GET /metrics`: the daemon, for a Prometheus server."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from nodemanager.actors.census import take_census
from nodemanager.status.answers import HEADERS
from nodemanager.status.asking import NoAnswer
from nodemanager.status.metrics import CONTENT_TYPE, reading_of, text_of
from nodemanager.status.parts import Parts


class Scrape:
    """Answers with all metrics, those of actors that do not answer left out.

    A scrape shares its look with all other readers.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def answer(self, request: Request) -> Response:
        """One scrape."""
        self._parts.access.admit_reader(request)
        try:
            look = await self._parts.asker.look()
        except NoAnswer:
            # That, too, is something to tell, and what can be seen from outside says why.
            look = None

        def text() -> bytes:
            return text_of(reading_of(self._parts.settings.now, take_census(), look))

        # 100,000 containers take a moment, in which others are served.
        content = await asyncio.to_thread(text)
        return Response(content, headers=HEADERS, media_type=CONTENT_TYPE)
