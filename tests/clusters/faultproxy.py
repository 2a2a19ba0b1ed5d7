"""A reverse proxy on the loopback interface that passes on everything except what it was told to spoil."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes


@dataclass(frozen=True)
class Answer:
    """One response as it goes out."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of its being answered."""

    answer: Answer | None = None
    """This goes back; without `passed_on` the server behind never hears of the request."""
    passed_on: bool = False
    """The server behind gets it and does it."""
    dropped: bool = False
    """The connection is closed without an answer."""
    pause_seconds: float = 0.0
    """Before the answer."""


LOST_BEFORE = Fault(dropped=True)
LOST_AFTER = Fault(passed_on=True, dropped=True)
"""It is done, and nobody is told."""


Forward = Callable[[Call], Answer]


class FaultProxy:
    """Listens on `port` and passes on to `backend`, a port on this machine.

    `around` sees every call that is passed on, and what passes it on; it answers.
    """

    def __init__(
        self, backend: int, around: Callable[[Call, Forward], Answer] | None = None
    ) -> None:
        self.calls: list[Call] = []
        """Everything that came in, spoilt or not."""
        self._backend = backend
        self._around = around or (lambda call, forward: forward(call))
        self._faults: list[tuple[str, Fault]] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def spoil(self, fault: Fault, *, where: str, times: int = 1) -> None:
        """The next `times` requests whose path or body has `where` in it meet this."""
        with self._lock:
            self._faults += [(where, fault)] * times

    def count(self, where: str) -> int:
        """How many requests came in whose path or body has `where` in it."""
        return sum(_has(call, where) for call in self.calls)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def respond(self, call: Call) -> Answer | None:
        """From a handler's thread: what goes back; None for a dropped connection."""
        with self._lock:
            self.calls.append(call)
            fault = self._next_fault(call)
        if fault is None:
            return self._around(call, self._forward)
        answer = self._around(call, self._forward) if fault.passed_on else None
        if fault.pause_seconds:
            self._closing.wait(fault.pause_seconds)
        return None if fault.dropped else (fault.answer or answer)

    def _next_fault(self, call: Call) -> Fault | None:
        for index, (where, _) in enumerate(self._faults):
            if _has(call, where):
                return self._faults.pop(index)[1]
        return None

    def _forward(self, call: Call) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._backend, timeout=30)
        try:
            connection.request(call.method, call.path, call.body, call.headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()


@contextmanager
def fault_proxy(
    backend: int, around: Callable[[Call, Forward], Answer] | None = None
) -> Iterator[FaultProxy]:
    """A proxy that is closed afterwards."""
    proxy = FaultProxy(backend, around)
    try:
        yield proxy
    finally:
        proxy.close()


def _has(call: Call, where: str) -> bool:
    return where in call.path or where in call.body.decode("latin-1")


class _Handler(http.server.BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 5  # an idle connection must not hold up `close`

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        call = Call(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
        answer = self.proxy.respond(call)
        if answer is None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        with suppress(ConnectionError):  # the client may have given up
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _OURS:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 (the library's names)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


_OURS = {"content-length", "transfer-encoding", "connection", "date", "server"}
