"""Management servers on free ports, each beside a daemon that a test has in its hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from nodemanager.actors.watchdog import Pulse
from nodemanager.api.story import Story
from nodemanager.clock import ManualClock
from nodemanager.status.look import DaemonLook, OperatorMessage
from nodemanager.status.records import DispatcherEntry
from nodemanager.status.server import ManagementServer
from nodemanager.status.settings import ManageSettings
from tests.status.daemon import TOKEN, Client, StandIn

Serve = Callable[..., Client]


@dataclass
class Whoever:
    """A `Source` that passes everything on to the daemon of the test that runs."""

    daemon: StandIn = field(default_factory=StandIn)

    def look(self, timeout_seconds: float) -> DaemonLook:
        return self.daemon.look(timeout_seconds)

    def pulse(self) -> Pulse:
        return self.daemon.pulse()

    def tell_nodes(self, message: OperatorMessage) -> None:
        self.daemon.tell_nodes(message)

    def story(self, uuid: str) -> Story:
        return self.daemon.story(uuid)

    def log_tail(self, uuid: str) -> bytes:
        return self.daemon.log_tail(uuid)

    def dispatchers(self) -> tuple[DispatcherEntry, ...]:
        return self.daemon.dispatchers()


def started(source: Any, clock: ManualClock, patience: float, **settings: Any) -> ManagementServer:
    given = {"port": 0, "management_token": TOKEN, "max_nodes": 8, **settings}
    # No samples are taken unless a test wants them: they look, too.
    server = ManagementServer(ManageSettings(**given), source, clock, patience, sample_seconds=0)
    server.start()
    return server


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.wake()


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def serve(daemon: StandIn, clock: ManualClock) -> Iterator[Serve]:
    """Start a server that looks at `daemon`, for a client that has its token.

    Settings may be given, and how patient it is.
    """
    servers: list[ManagementServer] = []

    def start(*, patience_seconds: float = 10.0, **settings: Any) -> Client:
        servers.append(started(daemon, clock, patience_seconds, **settings))
        return Client(servers[-1].url, settings.get("management_token", TOKEN) or None)

    yield start
    daemon.wake()
    ended = [server.stop(10.0) for server in servers]
    assert all(ended)


@pytest.fixture(scope="module")
def shared(clock: ManualClock) -> Iterator[tuple[ManagementServer, Whoever]]:
    whoever = Whoever()
    server = started(whoever, clock, 10.0)
    yield server, whoever
    assert server.stop(10.0)


@pytest.fixture
def client(
    shared: tuple[ManagementServer, Whoever], daemon: StandIn, clock: ManualClock
) -> Iterator[Client]:
    """A client without a token, of a server that looks at `daemon`."""
    server, whoever = shared
    whoever.daemon = daemon
    yield Client(server.url)
    # Nobody is shown what the last test's daemon answered.
    clock.advance(60)


@pytest.fixture
def operator(client: Client) -> Client:
    """A client with the right token."""
    return Client(client.url, TOKEN)
