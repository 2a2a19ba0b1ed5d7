"""HTTP on one connection: uvicorn's protocol, with limits on what comes before and after a call.

By itself uvicorn waits for ever for the head of a request, lets it be of any length, answers what is no
HTTP with plain text, and waits for ever for a client to read its answer. How long a body may take is the
application's affair (`limits.pieces_of`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from nodemanager.server.answers import error_response

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers. Clients send long queries as a body."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection; `request_timeout` is in seconds."""

    def __init__(self, *arguments: Any, request_timeout: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._request_timeout = request_timeout
        self._head_timer: asyncio.TimerHandle | None = None
        self._reading_timer: asyncio.TimerHandle | None = None
        self._is_in_head = False
        self._is_in_body = False
        self._head_bytes = 0
        self._refusal = 400, "Invalid HTTP request received."

    # --- the connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """From now on a request is waited for, but not for ever."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of a head, or of a body."""
        was_in_head = self._is_in_head
        if not self._is_in_body and self._head_timer is None:
            self._await_head()
        super().data_received(data)
        if was_in_head and self._is_in_head:
            # One header without an end: the parser keeps it to itself.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(431, "request head too large")

    def pause_writing(self) -> None:
        """The client does not read what it asked for; it has some time to begin."""
        super().pause_writing()
        if self._reading_timer is None:
            self._reading_timer = self.loop.call_later(self._request_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads."""
        super().resume_writing()
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None

    # --- what the parser finds --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """All of the target, or a part."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """The head is there, and the application has the request.

        Not one that asks for another protocol: the parser would take what follows for that protocol,
        and the body for the next request.
        """
        if self.parser.should_upgrade():
            raise self._refused(400, "no protocol but HTTP/1.1 is spoken here")
        self._is_in_head = False
        self._is_in_body = True
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """And so is the body."""
        self._is_in_body = False
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered, though perhaps not all of the body is here: that, too, has to end."""
        super().on_response_complete()
        if self._is_in_body and not self.transport.is_closing():
            self._await_head()

    # --- refusals ---------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's words are ours)
        """The stock error body instead of plain text."""
        self._refuse(*self._refusal)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise self._refused(431, "request head too large")

    def _refused(self, status: int, message: str) -> Exception:
        """For the parser to hand on as an error of its own, which ends in `send_400_response`."""
        self._refusal = status, message
        return ValueError(message)

    def _await_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(self._request_timeout, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _give_up(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._is_busy():
            # The next request may have begun while this one is held.
            self._await_head()
        elif self._is_in_head:
            self._refuse(408, "request head: did not come in time (request_timeout)")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answer what the application never sees, and end the connection."""
        if self._is_busy():
            if self.pipeline or self.cycle.response_started or not self._is_in_body:
                # The answers before come first, and with the last of them the end.
                self.cycle.keep_alive = False
                return
            # Its body is broken, so that it will never be answered otherwise.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        response = error_response(status, [message], f"req-{secrets.token_hex(10)}")
        headers = [*response.raw_headers, (b"connection", b"close")]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + bytes(response.body))
        self.transport.close()


def limited(request_timeout: float) -> Callable[..., LimitedProtocol]:
    """Makes the protocol of each connection, as uvicorn's `http` wants it; `request_timeout` in seconds."""
    return partial(LimitedProtocol, request_timeout=request_timeout)
