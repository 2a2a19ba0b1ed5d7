"""A real HTTP server on this machine that answers as a cloud would, from fixtures, and keeps what it was asked."""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from libcloud.common.azure_arm import AzureResourceManagementConnection
from libcloud.common.base import Connection
from libcloud.http import LibcloudConnection

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(path: str) -> Any:
    """The parsed JSON of a file below `fixtures`."""
    return json.loads((FIXTURES / path).read_text())


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    """Parsed, if it was JSON; else text."""


@dataclass(frozen=True)
class Answer:
    """One answer to give; `body` is sent as JSON."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Answerer = Callable[[Asked], Answer]


@dataclass
class Route:
    """What to answer to requests of one kind: the answers in turn, and the last one for ever."""

    method: str
    pattern: str
    answers: list[Answer | Answerer]

    def next(self, asked: Asked) -> Answer:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(asked) if callable(answer) else answer


class Wire:
    """The routes of one server; the newest that matches a request answers it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[Asked] = []
        self._routes: list[Route] = []
        self._lock = threading.Lock()

    def on(self, method: str, pattern: str, *answers: Answer | Answerer) -> None:
        """Answer requests whose whole path `pattern` matches."""
        self._routes.insert(0, Route(method, pattern, list(answers)))

    def answer(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            for route in self._routes:
                if route.method == asked.method and re.fullmatch(route.pattern, asked.path):
                    return route.next(asked)
        return Answer({"error": f"no route for {asked.method} {asked.path}"}, status=501)

    def requests(self, method: str, pattern: str = ".*") -> list[Asked]:
        """What was asked by that method of paths that `pattern` matches."""
        return [a for a in self.asked if a.method == method and re.fullmatch(pattern, a.path)]


def redirect(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Let libcloud dial this port here, without TLS, whatever host it means to reach.

    `conn_class` is where libcloud's own tests put their mock; here everything below it, down to the socket, is real.
    """

    there = port

    class Here(LibcloudConnection):
        def __init__(self, host: str, port: int, secure: object = None, **more: Any) -> None:
            del host, port, secure
            super().__init__("127.0.0.1", there, secure=False, **more)  # type: ignore[no-untyped-call]

    for cls in (Connection, AzureResourceManagementConnection):
        monkeypatch.setattr(cls, "conn_class", Here)


@contextmanager
def serving() -> Iterator[Wire]:
    """A server on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            try:
                body = json.loads(raw)
            except ValueError:
                body = raw
            answer = wire.answer(
                Asked(
                    method=self.command,
                    path=urllib.parse.unquote(parts.path),
                    query=dict(urllib.parse.parse_qsl(parts.query)),
                    headers=dict(self.headers),
                    body=body,
                )
            )
            data = b"" if answer.status == 204 else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(data)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Tests look at `Wire.asked`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    wire = Wire(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
