"""A dispatcher whose claims are paused: what it has goes on, the rest waits and says why."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from nodemanager.reason import ReasonToken
from nodemanager.testing import Harness, Program


@pytest.fixture
def world() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


def pause(world: Harness, reason: str = "new switch") -> None:
    (record,) = world.call("dispatchers", "list")["items"]
    world.call("dispatchers", "pause", uuid=record["uuid"], body={"reason": reason})


def resume(world: Harness) -> None:
    (record,) = world.call("dispatchers", "list")["items"]
    world.call("dispatchers", "resume", uuid=record["uuid"])


def test_what_it_has_ends_and_what_waits_says_who_paused_it_and_why(world: Harness) -> None:
    world.program = lambda _record: Program(seconds=60)
    running = world.submit()
    world.advance(10)
    assert world.container_of(running)["state"] == "Running"
    pause(world)
    waiting = world.submit()
    # The next ping tells it, the next turn writes it.
    world.advance(30)
    (reason,) = world.reasons(waiting)
    assert reason.token is ReasonToken.CLAIMS_PAUSED
    assert reason.sentence.startswith("claims are paused: new switch (root, ")
    assert world.container_of(waiting)["state"] == "Queued"
    world.advance(60)
    assert world.container_of(running)["state"] == "Complete"
    assert world.container_of(waiting)["state"] == "Queued"
    resume(world)
    world.advance(90)
    assert world.container_of(waiting)["state"] == "Complete"
    assert world.reasons(waiting) == []


def test_its_lease_is_kept_however_long_it_is_paused(world: Harness) -> None:
    world.advance(10)
    me = world.status().me
    pause(world)
    world.advance(3000)
    assert world.status().me == me
    (record,) = world.call("dispatchers", "list")["items"]
    assert (record["uuid"], record["state"]) == (me.dispatcher if me else "", "alive")


def test_one_that_registers_while_all_are_paused_knows_it(world: Harness) -> None:
    world.kill(world.site)
    world.call("dispatchers", "pause_all", body={"reason": "restored"})
    waiting = world.submit()
    world.restart(world.site)
    world.advance(10)
    (reason,) = world.reasons(waiting)
    assert reason.token is ReasonToken.CLAIMS_PAUSED
    assert "restored (all dispatchers, root, " in reason.sentence
    world.call("dispatchers", "resume_all")
    world.advance(30)
    assert world.container_of(waiting)["state"] == "Complete"


def test_it_says_once_that_it_is_paused_and_once_that_it_goes_on(
    world: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.advance(10)
    pause(world)
    world.submit()
    world.advance(300)
    resume(world)
    world.advance(60)
    actions = [getattr(each, "action", "") for each in caplog.records]
    assert actions.count("dispatcher_paused") == 1
    assert actions.count("dispatcher_resumed") == 1


def test_what_runs_goes_on_when_the_database_has_forgotten_the_last_start(world: Harness) -> None:
    world.program = lambda _record: Program(seconds=100)
    request = world.submit()
    world.advance(10)
    world.restart(world.site)
    world.advance(10)
    with world.service.database.write() as conn:
        conn.exec_driver_sql("UPDATE dispatchers SET epoch = 1")
    world.advance(120)
    assert [attempt["state"] for attempt in world.attempts(request)] == ["Complete"]
