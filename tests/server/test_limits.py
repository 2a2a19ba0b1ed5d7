"""How long a body may take, and how many calls are served at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from nodemanager.server.errors import ServerError
from nodemanager.server.limits import QUEUED_PER_SERVED, Turns, pieces_of


class Sender:
    """A client that sends `pieces`, each after a pause of so many seconds, and then nothing more."""

    def __init__(
        self, pieces: list[tuple[float, bytes]], *, ends: bool, leaves: bool = False
    ) -> None:
        self._messages: Iterator[tuple[float, dict[str, Any]]] = iter(
            [
                (pause, {"type": "http.request", "body": piece, "more_body": True})
                for pause, piece in pieces
            ]
            + ([(0.0, {"type": "http.request", "body": b"", "more_body": False})] if ends else [])
            + ([(0.0, {"type": "http.disconnect"})] if leaves else [])
        )

    async def receive(self) -> dict[str, Any]:
        for pause, message in self._messages:
            await asyncio.sleep(pause)
            return message
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")

    def sent(self, seconds: float, slowest: float = 0.0) -> bytes:
        """What arrives within the limits."""

        async def read() -> bytes:
            request = Request({"type": "http", "headers": []}, self.receive)
            return b"".join([piece async for piece in pieces_of(request, seconds, slowest=slowest)])

        return asyncio.run(read())


def test_a_body_comes_in_pieces() -> None:
    assert Sender([(0.0, b"ab"), (0.0, b"c")], ends=True).sent(10.0) == b"abc"


def test_a_body_that_does_not_go_on_is_408() -> None:
    with pytest.raises(ServerError, match="2 bytes came in time") as caught:
        Sender([(0.0, b"ab")], ends=False).sent(0.02)
    assert caught.value.status == 408


def test_an_upload_goes_on_as_long_as_it_makes_progress() -> None:
    assert Sender([(0.1, b"a")] * 8, ends=True).sent(0.6) == b"a" * 8


def test_a_small_body_that_trickles_is_408() -> None:
    with pytest.raises(ServerError, match="request_timeout"):
        Sender([(0.05, b"a")] * 1000, ends=True).sent(0.2, slowest=1e6)


def test_a_large_body_may_take_longer() -> None:
    assert len(Sender([(0.05, b"a" * 1000)] * 8, ends=True).sent(0.2, slowest=1e3)) == 8000


def test_a_client_that_leaves_is_noticed() -> None:
    with pytest.raises(ClientDisconnect):
        Sender([(0.0, b"a")], ends=False, leaves=True).sent(10.0)


def test_calls_wait_their_turn_and_too_many_are_503() -> None:
    asyncio.run(_three_at_once())


async def _three_at_once() -> None:
    most = 2
    turns = Turns(most)
    served: list[int] = []
    go_on = asyncio.Event()

    async def call(number: int) -> None:
        async with turns.one():
            served.append(number)
            await go_on.wait()

    calls = [asyncio.create_task(call(n)) for n in range(most * (1 + QUEUED_PER_SERVED))]
    await asyncio.sleep(0)
    assert served == [0, 1]
    with pytest.raises(ServerError, match="max_concurrent_requests") as caught:
        await call(99)
    assert caught.value.status == 503
    # Whoever gives up waiting leaves a place.
    calls[2].cancel()
    await asyncio.gather(calls[2], return_exceptions=True)
    late = asyncio.create_task(call(6))
    go_on.set()
    await asyncio.gather(late, *calls, return_exceptions=True)
    assert served == [0, 1, 3, 4, 5, 6]
    await call(7)
