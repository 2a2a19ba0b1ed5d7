"""The page itself: its files, which hold nothing about anybody, and the login.

The files are plain HTML, CSS and ES modules in the package, made for browsers of 2024 and later; nothing is
built and nothing comes from elsewhere.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nodemanager.status.access import address_of
from nodemanager.status.answers import json_response
from nodemanager.status.parameters import read_body
from nodemanager.status.parts import Parts

log = logging.getLogger(__name__)

FOLDER = "page"
"""In this package, and in the paths."""
SHELL = "index.html"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS = {
    # Looked for anew each time, and sent only if it is another: after an upgrade all parts are of one version.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str


def page_routes(parts: Parts) -> list[Route]:
    """The page, its files, login and logout."""
    answers = _Answers(parts)
    return [
        Route("/", answers.shell),
        Route(f"/{FOLDER}/{{name}}", answers.file),
        Route("/session.json", answers.session),
        Route("/login", answers.log_in, methods=["POST"]),
        Route("/logout", answers.log_out, methods=["POST"]),
    ]


class _Answers:
    """One method for each route; runs in the event loop's thread."""

    def __init__(self, parts: Parts) -> None:
        self._access = parts.access
        self._files = _read_files()

    async def shell(self, request: Request) -> Response:
        """What a browser opens."""
        return self._send(request, SHELL)

    async def file(self, request: Request) -> Response:
        """What the shell asks for."""
        return self._send(request, request.path_params["name"])

    async def session(self, request: Request) -> Response:
        """What whoever asks may do: the page's first question."""
        has_token, may_read = self._access.has_token, self._access.may_read(request)
        return json_response(
            {
                "has_token": has_token,
                "may_read": may_read,
                "may_change": has_token and may_read,
            }
        )

    async def log_in(self, request: Request) -> Response:
        """The token is shown, once, for a session."""
        given = await read_body(request)
        response = json_response({"told": "welcome"})
        try:
            self._access.log_in(request, given.get("token", ""), response)
        except HTTPException as error:
            _note(request, f"was not let in: {error.detail}")
            raise
        _note(request, "logged in")
        return response

    async def log_out(self, request: Request) -> Response:
        """The session ends."""
        response = json_response({"told": "goodbye"})
        self._access.log_out(request, response)
        return response

    def _send(self, request: Request, name: str) -> Response:
        found = self._files.get(name)
        if found is None:
            raise HTTPException(404)
        headers = {**HEADERS, "ETag": found.tag}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        return Response(found.content, headers=headers, media_type=found.media_type)


def _note(request: Request, words: str) -> None:
    address = address_of(request)
    log.info(
        "somebody at %s %s", address, words, extra={"action": "operator_login", "address": address}
    )


def _read_files() -> dict[str, _File]:
    """All of the page's files by name: there is no path that could lead elsewhere."""
    folder: Any = files(__package__) / FOLDER
    found = {}
    for entry in folder.iterdir():
        media_type = _TYPES.get(f".{entry.name.rpartition('.')[2]}")
        if media_type is not None:
            content = entry.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            found[entry.name] = _File(content, media_type, tag)
    return found
