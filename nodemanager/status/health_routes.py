"""`/_health/live` and `/_health/ready`: for Kubernetes' probes, load balancers and monitors, without a token."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nodemanager.status.answers import json_response
from nodemanager.status.asking import NoAnswer
from nodemanager.status.health import why_not_alive, why_not_ready
from nodemanager.status.parts import Parts


def health_routes(parts: Parts) -> list[Route]:
    """The routes. To be alive nothing is asked: who is stuck does not answer."""
    asker = parts.asker

    async def live(_request: Request) -> Response:
        return _answer(why_not_alive(asker.pulse(), asker.wall()))

    async def ready(_request: Request) -> Response:
        try:
            look = await asker.look()
        except NoAnswer as error:
            return _answer((*why_not_alive(asker.pulse(), asker.wall()), str(error)))
        return _answer(why_not_ready(look, asker.pulse(), parts.settings.now.limits))

    return [Route("/_health/live", live), Route("/_health/ready", ready)]


def _answer(problems: Sequence[str]) -> Response:
    """As Arvados' services answer: 200 or 503, and what is wrong."""
    body = {"health": "ERROR", "error": "; ".join(problems)} if problems else {"health": "OK"}
    return json_response(body, 503 if problems else 200)
