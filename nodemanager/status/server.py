"""The management server: HTTP in a thread of its own, beside the actors and never in their way.

It can be asked whatever the actors are doing, and they do not notice whatever strangers do to it: what one
client costs is bounded, in bytes, connections and time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from functools import partial

import uvicorn

from nodemanager.clock import Clock, SystemClock
from nodemanager.config.sections import OFF
from nodemanager.errors import ConfigError
from nodemanager.server.protocol import LimitedProtocol
from nodemanager.status.access import Access
from nodemanager.status.app import create_app
from nodemanager.status.asking import Asker
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
    ) -> None:
        clock = clock or SystemClock()
        self._parts = Parts(
            settings=settings,
            asker=Asker(source, clock, patience_seconds),
            access=Access(settings, clock),
        )
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""
        """Where it is, once it has started; empty when it is switched off."""

    def start(self) -> None:
        """Listen, and serve from now on; does nothing when the port is `OFF`.

        Raises `ConfigError` when the port cannot be listened on.
        """
        if self._parts.settings.port == OFF:
            return
        listening = _listen(self._parts.settings)
        self.url = _url(listening)
        # uvicorn leaves signals alone in any thread but the main one.
        self._server = uvicorn.Server(_configuration(self._parts))
        self._thread = threading.Thread(
            target=_serve, args=(self._server, listening), name="management", daemon=True
        )
        self._thread.start()
        log.info("the management server is at %s", self.url, extra={"action": "manage"})

    def stop(self, timeout_seconds: float = 3.0) -> bool:
        """Answer what is under way and end; True if that was done in time.

        A thread that is left over ends with the process.
        """
        if self._server is None or self._thread is None:
            return True
        self._server.should_exit = True
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            log.warning("the management server does not end", extra={"action": "manage"})
            return False
        return True


class _FewConnections(LimitedProtocol):
    """One connection of not too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One too many is closed at once."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()


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


def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    try:
        with listening:
            asyncio.run(server.serve(sockets=[listening]))
    except Exception:
        # The daemon's work goes on without it.
        log.exception("the management server broke", extra={"action": "manage"})


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
