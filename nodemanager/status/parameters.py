"""What an operator's call carries: parameters of the query string and of a small body, form or JSON.

Whatever is sent, the result is texts, or an `HTTPException` whose words say what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_BODY_BYTES = 16 * 1024
BODY_SECONDS = 10.0
"""How long a body may take to come."""
MAX_REASON = 200
"""Characters."""

_MAX_FIELDS = 100
_MAX_DIGITS = 10
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"


async def read_parameters(request: Request) -> Mapping[str, str]:
    """Every parameter; of several with one name the body's counts, and the first, as in Go."""
    query = _form(request.scope["query_string"])
    return {**query, **await read_body(request)}


async def read_body(request: Request) -> Mapping[str, str]:
    """Those of the body alone: what is a secret has no business in an address."""
    return _parse(await _body(request), request.headers.get("content-type", ""))


def query_parameter(request: Request, name: str) -> str:
    """One parameter of a GET; 400 when it is missing."""
    return _needed(_form(request.scope["query_string"]), name)


def number_parameter(request: Request, name: str, default: int) -> int:
    """A whole number of a GET that is not negative; 400 when it is anything else."""
    text = _form(request.scope["query_string"]).get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS):
        raise HTTPException(400, f"{name}: a whole number is expected")
    return int(text)


def instance_id_of(given: Mapping[str, str]) -> str:
    """Which node is meant; 400 when that is missing."""
    return _needed(given, "instance_id")


def reason_of(given: Mapping[str, str]) -> str:
    """Why, for the log, where it must not look like lines of its own; empty when nothing was said."""
    reason = given.get("reason", "").strip()
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise HTTPException(400, f"reason: one line of at most {MAX_REASON} characters is expected")
    return reason


def _needed(given: Mapping[str, str], name: str) -> str:
    value = given.get(name, "")
    if not value:
        raise HTTPException(400, f"{name} parameter not provided")
    return value


async def _body(request: Request) -> bytes:
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                content += piece
                if len(content) > MAX_BODY_BYTES:
                    words = f"request body: larger than {MAX_BODY_BYTES} bytes"
                    raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
    except TimeoutError:
        words = f"request body: it did not come within {BODY_SECONDS:.0f} s"
        # The rest may come for ever.
        raise HTTPException(408, words, {"Connection": "close"}) from None
    return bytes(content)


def _parse(content: bytes, content_type: str) -> dict[str, str]:
    if not content:
        return {}
    match content_type.partition(";")[0].strip().lower():
        case "application/x-www-form-urlencoded":
            return _form(content)
        case "application/json":
            return dict(_json(content))
    raise HTTPException(415, f"Content-Type: a body is {_FORM} or {_JSON}")


def _form(content: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            content.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS
        )
    except UnicodeDecodeError:
        raise HTTPException(400, "parameters: not UTF-8") from None
    except ValueError:
        raise HTTPException(400, f"parameters: more than {_MAX_FIELDS}") from None
    return dict(reversed(pairs))


def _json(content: bytes) -> Iterator[tuple[str, str]]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"request body: not JSON: {error.msg}") from None
    if not isinstance(document, dict):
        raise HTTPException(400, "request body: a JSON object is expected")
    for name, value in document.items():
        if not isinstance(value, str):
            raise HTTPException(400, f"{ascii(name)[1:-1][:60]}: a text is expected")
        yield name, value
