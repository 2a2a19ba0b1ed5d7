"""Events: one word when there is something new, one look for all who listen, an end for each stream."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import orjson
import pytest

from nodemanager.clock import ManualClock
from nodemanager.errors import NodeManagerError
from nodemanager.status import events as events_module
from nodemanager.status.asking import Asker
from nodemanager.status.events import Events, effort, has_changed
from nodemanager.status.look import DaemonLook
from nodemanager.status.sessions import SESSION_SECONDS
from tests.status.conftest import Serve, started
from tests.status.daemon import DISPATCHER, LOOK, NODES, TOKEN, Client, StandIn

BEAT = 0.01
BOUND_SECONDS = 20

Stream = AsyncGenerator[bytes, None]
Play = Callable[[Events], Coroutine[Any, Any, None]]


class World:
    """Events of a daemon, on a clock of its own."""

    def __init__(self, daemon: StandIn) -> None:
        self.daemon = daemon
        self.clock = ManualClock()

    def play(self, play: Play) -> None:
        """Run `play` beside the events."""

        async def run() -> None:
            events = Events(Asker(self.daemon, self.clock, 10.0), every_seconds=BEAT)
            beside = asyncio.create_task(events.run())
            try:
                async with asyncio.timeout(BOUND_SECONDS):
                    await play(events)
            finally:
                beside.cancel()
                await asyncio.gather(beside, return_exceptions=True)

        asyncio.run(run())

    def changes_to(self, answer: DaemonLook | BaseException) -> None:
        self.daemon.answer = answer
        self.clock.advance(1)


@pytest.fixture
def world(daemon: StandIn) -> World:
    return World(daemon)


def open_stream(events: Events) -> Stream:
    return events.stream(lambda: True)._pieces


async def next_event(stream: Stream) -> tuple[str, Any]:
    """The next that is one, with its data."""
    async for piece in stream:
        if piece.startswith(b"event: "):
            name, data = piece.decode().strip().split("\n")
            return name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))
    raise EOFError


def test_who_comes_is_told_at_once_and_then_when_something_changes(world: World) -> None:
    async def play(events: Events) -> None:
        stream = open_stream(events)
        assert (await next_event(stream))[0] == "look"
        world.changes_to(replace(LOOK, dispatcher=replace(DISPATCHER, containers=())))
        assert (await next_event(stream))[0] == "look"
        await stream.aclose()

    world.play(play)


def test_all_who_listen_cost_one_look(world: World) -> None:
    async def play(events: Events) -> None:
        streams = [open_stream(events) for _ in range(10)]
        told = await asyncio.gather(*map(next_event, streams))
        assert {name for name, _ in told} == {"look"}
        assert world.daemon.looks == 1
        await asyncio.gather(*(stream.aclose() for stream in streams))

    world.play(play)


def test_nobody_looks_while_nobody_listens(world: World) -> None:
    async def play(events: Events) -> None:
        for _ in range(10):
            world.clock.advance(1)
            await asyncio.sleep(BEAT)
        assert world.daemon.looks == 0
        stream = open_stream(events)
        await next_event(stream)
        await stream.aclose()
        await asyncio.sleep(5 * BEAT)
        looks = world.daemon.looks
        for _ in range(10):
            world.clock.advance(1)
            await asyncio.sleep(BEAT)
        assert world.daemon.looks <= looks + 1

    world.play(play)


def test_time_alone_is_no_news_and_something_is_sent_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "HEARTBEAT_SECONDS", 3 * BEAT)

    async def play(events: Events) -> None:
        stream = open_stream(events)
        await next_event(stream)
        later = replace(DISPATCHER, lease_seconds=500.0)
        world.changes_to(replace(LOOK, dispatcher=later, taken_at=LOOK.taken_at + 50))
        assert await anext(stream) == b": still here\n\n"
        await stream.aclose()

    world.play(play)


def test_an_event_comes_from_time_to_time_though_nothing_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "STEADY_SECONDS", 5 * BEAT)

    async def play(events: Events) -> None:
        stream = open_stream(events)
        assert [(await next_event(stream))[0] for _ in range(3)] == ["look"] * 3
        await stream.aclose()

    world.play(play)


def test_trouble_is_told_once_and_its_end(world: World) -> None:
    async def play(events: Events) -> None:
        stream = open_stream(events)
        await next_event(stream)
        world.changes_to(NodeManagerError("it is in the bath"))
        assert await next_event(stream) == ("trouble", {"error": "it is in the bath"})
        world.changes_to(LOOK)
        assert (await next_event(stream))[0] == "look"
        await stream.aclose()

    world.play(play)


def test_who_reads_slowly_is_told_once_for_all_that_happened(world: World) -> None:
    async def play(events: Events) -> None:
        slow, quick = open_stream(events), open_stream(events)
        await next_event(slow)
        await next_event(quick)
        for number in range(5):
            world.changes_to(replace(LOOK, version=str(number)))
            await next_event(quick)
        await next_event(slow)
        waits = asyncio.create_task(next_event(slow))
        done, _ = await asyncio.wait([waits], timeout=5 * BEAT)
        assert not done
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        await quick.aclose()

    world.play(play)


@pytest.mark.parametrize(
    ("after", "changed"),
    [
        (replace(LOOK, taken_at=0.0), False),
        (replace(LOOK, nodes=replace(NODES, idle_times={"busy": 3.0})), False),
        (replace(LOOK, nodes=replace(NODES, unavailable={"huge": 12.0})), False),
        (replace(LOOK, dispatcher=replace(DISPATCHER, lease_seconds=-1.0)), True),
        (replace(LOOK, dispatcher=None), True),
        (replace(LOOK, nodes=None), True),
        (replace(LOOK, nodes=replace(NODES, brake="")), True),
        (replace(LOOK, failures={}), True),
    ],
)
def test_news_is_what_a_page_would_show(after: DaemonLook, changed: bool) -> None:
    assert has_changed(LOOK, after) is changed


@pytest.mark.parametrize(("containers", "times"), [(0, 1), (10_000, 1), (100_000, 10)])
def test_the_more_there_is_to_look_at_the_rarer_it_is_looked_at(
    containers: int, times: int
) -> None:
    held = DISPATCHER.containers[:1] * containers
    assert effort(replace(LOOK, dispatcher=replace(DISPATCHER, containers=held))) == times
    assert effort(replace(LOOK, dispatcher=None)) == effort(None) == 1


# Over HTTP.


def listen(client: Client, *headers: str) -> socket.socket:
    connection = socket.create_connection(client.address, timeout=BOUND_SECONDS)
    lines = ["GET /events HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", *headers]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return connection


def read_until(connection: socket.socket, words: bytes) -> bytes:
    received = b""
    while words not in received:
        piece = connection.recv(4096)
        assert piece, received
        received += piece
    return received


def test_streams_are_bounded_and_end_with_their_clients(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "MAX_STREAMS", 2)
    client = serve()
    first, second = listen(client), listen(client)
    for each in (first, second):
        read_until(each, b"event: look")
    one_more = client.get("/events")
    assert (one_more.status, one_more.error) == (503, "2 pages are open already; close one")
    first.close()
    third = listen(client)
    while b"503" in read_until(third, b"\r\n\r\n"):
        third.close()
        third = listen(client)
    second.close()
    third.close()


def test_at_the_end_of_the_server_its_streams_end(daemon: StandIn, clock: ManualClock) -> None:
    server = started(daemon, clock, 10.0)
    with listen(Client(server.url)) as connection:
        assert b"text/event-stream" in read_until(connection, b"event: look")
        assert server.stop(10.0)
        assert connection.recv(4096).endswith(b"0\r\n\r\n"), "in peace, not cut off"


def test_a_stream_ends_with_the_session_that_opened_it(serve: Serve, clock: ManualClock) -> None:
    client = serve()
    given = {"Content_Type": "application/x-www-form-urlencoded", "Sec_Fetch_Site": "same-origin"}
    answer = client.post("/login", f"token={TOKEN}".encode(), **given)
    cookie = answer.headers["set-cookie"].partition(";")[0]
    with socket.create_connection(client.address, timeout=BOUND_SECONDS) as connection:
        head = f"GET /events HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n"
        connection.sendall(head.encode())
        read_until(connection, b"event: look")
        clock.advance(SESSION_SECONDS)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            piece = connection.recv(4096)
            assert piece
            received += piece
