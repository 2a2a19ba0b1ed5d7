"""What a request carries: parameters, body and tokens, from query string, JSON or form.

Whatever is sent, the result is JSON values that any database can store and any answer can repeat, or a
`ServerError`: 408 for what does not come, 413 for too much, 422 for what cannot be read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from nodemanager.server.errors import ServerError, invalid
from nodemanager.server.limits import pieces_of
from nodemanager.server.methods import Method

MAX_DEPTH = 100
"""Arrays and objects within each other; what a record may hold is checked more strictly later."""

_MAX_FORM_FIELDS = 1000
_SLOWEST_BYTES_PER_SECOND = 16 * 1024
_TOKEN_PARAMETERS = ("api_token", "oauth_token")
_NOT_FOR_METHODS = ("alt", "_method", *_TOKEN_PARAMETERS)


@dataclass
class Payload:
    """A request, read: `query` and `form` hold texts, `document` the JSON object of the body."""

    query: dict[str, str]
    form: dict[str, str] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)

    def http_method(self, request: Request) -> str:
        """The method that is meant: a POST may say that it is another (for long queries)."""
        sent = request.method
        if sent == "POST":
            sent = (
                request.headers.get("x-http-method-override")
                or self.form.get("_method")
                or self.query.get("_method")
                or sent
            ).upper()
        # A record is never replaced as a whole, so both mean the same; as in stock Arvados.
        return {"PATCH": "PUT", "HEAD": "GET"}.get(sent, sent)

    def tokens(self, request: Request) -> list[str]:
        """Every token the request shows, in the order in which stock Arvados tries them."""
        found = [
            source[name]
            for name in _TOKEN_PARAMETERS
            for source in (self.query, self.form, self.document)
            if isinstance(source.get(name), str)
        ]
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() in ("bearer", "oauth2"):
            found.append(token.strip())
        return found

    def arguments(self, method: Method, singular: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The method's parameters and body, as `Service.call` takes them."""
        structured = {p.name for p in method.parameters if p.type in ("array", "object")}
        declared = {p.name for p in method.parameters}
        parameters: dict[str, Any] = dict(self.query)
        body = dict(self.document)
        for name, text in self.form.items():
            if name in declared or not method.writes:
                parameters[name] = text
            else:
                body[name] = _from_text(text)
        if singular in body:
            # Beside the record, arrays and objects can only be parameters.
            for name in structured & body.keys():
                parameters.setdefault(name, body.pop(name))
        for name in _NOT_FOR_METHODS:
            parameters.pop(name, None)
            body.pop(name, None)
        for name in structured & parameters.keys():
            if isinstance(parameters[name], str):
                parameters[name] = _from_text(parameters[name])
        return parameters, body


async def read_payload(request: Request, max_bytes: int, seconds: float) -> Payload:
    """Read all of the request, which may take so many `seconds`, and longer when it is large.

    Raises `ServerError` 408, 413 or 422, and `ClientDisconnect`.
    """
    query = _read_form(request.scope["query_string"].decode("latin-1"))
    content = await _read_body(request, max_bytes, seconds)
    if not content.strip():
        return Payload(query)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid(f"request body: not UTF-8 at byte {error.start}") from None
    is_form = request.headers.get("content-type", "").startswith(
        "application/x-www-form-urlencoded"
    )
    # curl says "form" of whatever it is told to send; no form begins with a brace.
    if is_form and not text.lstrip().startswith("{"):
        return Payload(query, form=_read_form(text.strip()))
    document = read_json(text)
    if not isinstance(document, dict):
        raise invalid("request body: must be a JSON object")
    return Payload(query, document=document)


def read_json(text: str) -> Any:
    """The JSON value, standard JSON only; `ServerError` 422 says what is wrong and where."""
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise invalid(
            f"request body: not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        words = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise invalid(f"request body: {words}") from None
    if "\\u" in text or "\0" in text:
        _check_text(value)
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def check_path(text: str) -> None:
    """Refuse a path that no database could look for."""
    if "\0" in text:
        raise invalid("path: contains a NUL character")


async def _read_body(request: Request, max_bytes: int, seconds: float) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    chunks = []
    size = 0
    async for chunk in pieces_of(request, seconds, slowest=_SLOWEST_BYTES_PER_SECOND):
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> ServerError:
    return ServerError(413, [f"request body: larger than {max_bytes} bytes (max_request_size)"])


def _read_form(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FORM_FIELDS)
    except ValueError:
        raise invalid(f"more than {_MAX_FORM_FIELDS} parameters") from None
    found = dict(pairs)
    for name, value in found.items():
        if "\0" in name or "\0" in value:
            raise invalid(f"{ascii(name)[1:-1][:100]}: contains a NUL character")
    return found


def _from_text(text: str) -> Any:
    """A form field's value: JSON when it is JSON, otherwise the text itself."""
    try:
        return read_json(text)
    except ServerError as error:
        if any("not JSON" in message for message in error.messages):
            return text
        raise


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number too large: {text[:40]}")
    return number


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _check_text(value: Any) -> None:
    """Refuse NUL and half surrogates, which JSON can spell and databases cannot store."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise invalid("request body: contains half of a surrogate pair") from None
    if "\\u0000" in text and _has_nul(value):
        raise invalid("request body: contains a NUL character")


def _has_nul(value: Any) -> bool:
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            if "\0" in each:
                return True
        elif isinstance(each, Mapping):
            pending.extend(each)
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)
    return False


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise invalid(f"request body: nested deeper than {MAX_DEPTH} levels")
