"""The management server: HTTP in a thread of its own, beside the actors and never in their way.

It can be asked whatever the actors are doing, and they do not notice whatever strangers do to it: what one
client costs is bounded, in bytes, connections and time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Coroutine
from functools import partial
from typing import Any

import uvicorn

from nodemanager.clock import Clock, SystemClock
from nodemanager.config.sections import OFF
from nodemanager.errors import ConfigError
from nodemanager.server.protocol import LimitedProtocol
from nodemanager.status.app import create_app
from nodemanager.status.history import FINE_SECONDS
from nodemanager.status.look import Source
from nodemanager.status.parts import Parts
from nodemanager.status.settings import ManageSettings

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 100
"""At a time. Each is a file descriptor, of which the daemon needs some for its work."""
REQUEST_SECONDS = 10
"""How long a client may take to send a request's head, and to begin to read the answer."""
PATIENCE_SECONDS = 5.0
"""How long a client waits for what the actors answer."""
GRACE_SECONDS = 1
"""What answers under way are given at the end."""


class ManagementServer:
    """One per daemon. `start` and `stop` belong to the thread that makes it."""

    def __init__(
        self,
        settings: ManageSettings,
        source: Source,
        clock: Clock | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        sample_seconds: float = FINE_SECONDS,
    ) -> None:
        """`sample_seconds` are between two samples for the plots; with 0 there are none."""
        self._parts = Parts.around(source, settings, clock or SystemClock(), patience_seconds)
        self._sample_seconds = sample_seconds
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""
        """Where it is, once it has started; empty when it is switched off."""

    @property
    def is_in_order(self) -> bool:
        """It serves, or is switched off; not when it has not started, has ended or broke."""
        if self._parts.settings.now.port == OFF:
            return True
        if self._server is None or self._thread is None:
            return False
        return self._thread.is_alive() and not self._server.should_exit

    def start(self) -> None:
        """Listen, and serve from now on; does nothing when the port is `OFF`.

        Raises `ConfigError` when the port cannot be listened on.
        """
        if self._parts.settings.now.port == OFF:
            return
        listening = _listen(self._parts.settings.now)
        self.url = _url(listening)
        # uvicorn leaves signals alone in any thread but the main one.
        self._server = _Server(self._parts, self._sample_seconds)
        self._thread = threading.Thread(
            target=_serve, args=(self._server, listening), name="management", daemon=True
        )
        self._thread.start()
        log.info(
            "the management server is at %s",
            self.url,
            extra={"action": "manage_serving", "url": self.url},
        )

    def follow(self, settings: ManageSettings) -> None:
        """Go over to `settings`, which must be served alike; whoever is connected does not notice."""
        self._parts.settings.now = settings

    def go_on_from(self, other: ManagementServer) -> None:
        """Show the plots that `other` has, in whose place it comes; before `start`."""
        self._parts.recorder.go_on_from(other._parts.recorder)

    def stop(self, timeout_seconds: float = 3.0) -> bool:
        """Answer what is under way and end; True if that was done in time.

        A thread that is left over ends with the process.
        """
        if self._server is None or self._thread is None:
            return True
        self._server.should_exit = True
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            log.warning("the management server does not end", extra={"action": "manage_stuck"})
            return False
        return True


class _FewConnections(LimitedProtocol):
    """One connection of not too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One too many is closed at once."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()


class _Server(uvicorn.Server):
    """Uvicorn's, with what goes on beside the answers."""

    def __init__(self, parts: Parts, sample_seconds: float) -> None:
        super().__init__(_configuration(parts))
        self._parts = parts
        self._sample_seconds = sample_seconds

    async def serve_until_stopped(self, listening: socket.socket) -> None:
        """Serve, take samples and tell open pages what is new."""
        works = [self._parts.events.run()]
        if self._sample_seconds:
            works.append(self._parts.recorder.run(self._sample_seconds))
        beside = [asyncio.create_task(_beside(work)) for work in works]
        try:
            await self.serve(sockets=[listening])
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams of events would never end by themselves."""
        await self._parts.events.close()
        await super().shutdown(sockets)


async def _beside(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        # What is asked for is answered all the same.
        log.exception("a part of the management server broke", extra={"action": "manage_broke"})


def _configuration(parts: Parts) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(parts),
        http=partial(_FewConnections, request_timeout=REQUEST_SECONDS),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        # Its lines about starting and ending would pass for the daemon's.
        log_level=logging.getLogger("uvicorn.error").level or logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _serve(server: _Server, listening: socket.socket) -> None:
    try:
        with listening:
            asyncio.run(server.serve_until_stopped(listening))
    except Exception:
        # The daemon's work goes on without it.
        log.exception("the management server broke", extra={"action": "manage_broke"})


def _listen(settings: ManageSettings) -> socket.socket:
    address, port = settings.address, settings.port
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"[Manage] address: {address}: {error.strerror}") from error
    # With its protocol named: asyncio sends answers without delay only on sockets that say they are TCP.
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(MAX_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"[Manage] port: {address}:{port} cannot be listened on: {error.strerror}; stop the process"
            " that has it, choose another, or switch the server off with -1"
        ) from error
    return listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
