"""The forms in which the management server answers: JSON, and an error's words."""

from __future__ import annotations

from typing import Any, TypeAlias

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from nodemanager.errors import ApiRefused
from nodemanager.status.asking import NoAnswer

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Of everything that is not the page itself."""

Handlers: TypeAlias = dict[Any, Any]
"""As Starlette wants it: by the class of the error."""


def json_response(value: Any, status: int = 200) -> Response:
    """Any value of ours; what JSON does not know becomes a text."""
    content = orjson.dumps(
        value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    )
    return Response(content, status, HEADERS, media_type="application/json")


async def _refuse(_request: Request, error: HTTPException) -> Response:
    response = json_response({"errors": [error.detail]}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _pass_on(_request: Request, error: ApiRefused) -> Response:
    """What the API does not know is not found; what it does not let us see is our trouble, not the caller's."""
    return json_response({"errors": [str(error)]}, 404 if error.status == 404 else 503)


async def _excuse(_request: Request, error: NoAnswer) -> Response:
    return json_response({"errors": [str(error)]}, 503)


async def _break(_request: Request, _error: Exception) -> Response:
    """Starlette raises the error again, and uvicorn logs it."""
    return json_response({"errors": ["internal error; see the log"]}, 500)


HANDLERS: Handlers = {
    HTTPException: _refuse,
    ApiRefused: _pass_on,
    NoAnswer: _excuse,
    Exception: _break,
}
"""What becomes of each error that a route raises."""
