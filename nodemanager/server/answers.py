"""The answers' outer form: JSON, error bodies as in stock Arvados, request ids."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id_of(request: Request) -> str:
    """The client's own id when it sent a sane one, otherwise a new one: ``req-`` and 20 characters."""
    given = request.headers.get("x-request-id", "")
    if _REQUEST_ID.fullmatch(given):
        return given
    return f"req-{secrets.token_hex(10)}"


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def error_response(status: int, messages: Sequence[str], request_id: str) -> Response:
    """The stock error body: each message with the request's id, and a token to quote to operators."""
    body = {
        "errors": [f"{message} ({request_id})" for message in messages],
        "error_token": f"{int(time.time())}+{secrets.token_hex(4)}",
    }
    return json_response(body, status)
