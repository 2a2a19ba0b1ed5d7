"""The management server's answers over HTTP: one Starlette application, put together from its routes.

`/status.json` and `/_health/ping` are those of the old node manager, paths below `/arvados/v1/dispatch` those
of Arvados' own cloud dispatcher. Each further group of routes is a module of its own, and a line here.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nodemanager.status.answers import HANDLERS, json_response
from nodemanager.status.details import detail_routes
from nodemanager.status.health_routes import health_routes
from nodemanager.status.operators import operator_routes
from nodemanager.status.page import page_routes
from nodemanager.status.parts import Parts
from nodemanager.status.scrape import Scrape


def create_app(parts: Parts) -> Starlette:
    """The ASGI application."""
    answers = _Answers(parts)
    app = Starlette(
        routes=[
            Route("/status.json", answers.status),
            Route("/metrics", Scrape(parts).answer),
            Route("/_health/ping", answers.ping),
            *health_routes(parts),
            *page_routes(parts),
            *detail_routes(parts),
            *operator_routes(parts),
        ],
        exception_handlers=HANDLERS,
    )
    # A path that is not ours is not found, whatever its last character is.
    app.router.redirect_slashes = False
    return app


class _Answers:
    """One method for each route; runs in the event loop's thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def status(self, request: Request) -> Response:
        """What the daemon is doing; made once for each look, however many read it."""
        self._parts.access.admit_reader(request)
        return await self._parts.board.status(await self._parts.asker.look())

    async def ping(self, request: Request) -> Response:
        """Whether this server answers; nobody else is asked."""
        if not self._parts.access.has_token:
            raise HTTPException(404, "disabled")
        self._parts.access.admit(request)
        return json_response({"health": "OK"})
