"""Alive and ready: what keeps the daemon from either is named, with a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from nodemanager.actors.inline import InlinePool
from nodemanager.actors.pool import use_pool
from nodemanager.actors.timer import TimerActor
from nodemanager.actors.watchdog import Pulse, Silence
from nodemanager.clock import ManualClock
from nodemanager.config import parse
from nodemanager.dispatch.messages import News
from nodemanager.model import NodeState
from nodemanager.schedulers.fake import Fault
from nodemanager.status.health import (
    HealthLimits,
    limits_from,
    one_line_status,
    why_not_alive,
    why_not_ready,
)
from nodemanager.status.look import DaemonLook
from nodemanager.testing import Harness
from tests.status.conftest import Serve
from tests.status.daemon import DISPATCHER, LOOK, NODES, NOW, Client, StandIn

WELL = Pulse(5.0, 15.0)
LIMITS = HealthLimits(60.0, 240.0)
READY = replace(LOOK, nodes=replace(NODES, stale=""))


@pytest.fixture
def silence() -> Iterator[Silence]:
    with use_pool(InlinePool(None)):
        yield Silence(TimerActor.start(ManualClock()), 400.0, "handling Schedule in thread 7")


def test_a_daemon_that_is_well() -> None:
    assert why_not_alive(WELL, NOW) == ()
    assert why_not_ready(READY, WELL, LIMITS) == ()


def test_an_actor_that_does_not_answer(silence: Silence) -> None:
    [words] = why_not_alive(Pulse(5.0, 15.0, (silence,)), NOW)
    assert words == (
        "TimerActor has not answered for 6 min 40 s (since 2027-01-15T07:53:20Z):"
        " it is handling Schedule in thread 7"
    )
    assert why_not_ready(READY, Pulse(5.0, 15.0, (silence,)), LIMITS) == (words,)


def test_a_watchdog_that_does_not_look() -> None:
    assert why_not_alive(Pulse(45.0, 15.0), NOW) == ()
    [words] = why_not_alive(Pulse(46.0, 15.0), NOW)
    assert words.startswith("the watchdog has not looked for 46 s")


def look(**changes: Any) -> DaemonLook:
    news = {name: changes.pop(name) for name in list(changes) if name in News.__slots__}
    status = replace(DISPATCHER, news=replace(DISPATCHER.news, **news), **changes)
    return replace(READY, dispatcher=status)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(READY, dispatcher=None, nodes=None), "the dispatcher does not answer: its actors"),
        (replace(READY, stopping=True), "the daemon is stopping"),
        (look(stopping=True), "the daemon is stopping"),
        (look(me=None, api_age_seconds=None), "not registered at the API yet"),
        (look(me=None, api_age_seconds=90.0), "not registered at the API for 90 s (since 2027-01-15T07:58:30Z)"),
        (look(lease_seconds=-30.0), "the lease has been over for 30 s (since 2027-01-15T07:59:30Z): the API does not answer"),
        (look(api_age_seconds=61.0), "the API has not answered for 61 s (since 2027-01-15T07:58:59Z)"),
        (look(adopted=False), "the containers of the last start are not taken up yet"),
        (look(scheduler_age_seconds=None), "the scheduler has not answered yet"),
        (look(scheduler_age_seconds=241.0), "the scheduler has not answered for 4 min 1 s"),
        (
            replace(READY, nodes=replace(NODES, stale="there is no news of the cloud yet")),
            "no node is booted or shut: there is no news of the cloud yet",
        ),
    ],
)  # fmt: skip
def test_what_keeps_it_from_its_work(seen: DaemonLook, words: str) -> None:
    [found] = why_not_ready(seen, WELL, LIMITS)
    assert found.startswith(words)


@pytest.mark.parametrize("seen", [look(api_age_seconds=60.0), look(scheduler_age_seconds=240.0)])
def test_what_is_just_in_time(seen: DaemonLook) -> None:
    assert why_not_ready(seen, WELL, LIMITS) == ()


def test_limits_follow_the_intervals_of_the_config_file() -> None:
    assert limits_from(parse("", "/x/a.cfg")) == HealthLimits(60.0, 240.0)
    text = (
        "[Dispatch]\nping_interval = 1 min\n[Scheduler]\npoll_time = 5 min\nmax_poll_time = 5 min\n"
    )
    assert limits_from(parse(text, "/x/a.cfg")) == HealthLimits(240.0, 1200.0)


class TestOneLine:
    def test_what_it_is_doing(self) -> None:
        assert one_line_status(READY, ()) == (
            "1 running, 1 waiting (most: node booting), 2 nodes and 1 booting"
        )

    def test_without_nodes_of_its_own_and_without_work(self) -> None:
        idle = replace(READY, dispatcher=replace(DISPATCHER, containers=()), nodes=None)
        assert one_line_status(idle, ()) == "0 running, 0 waiting"

    def test_what_is_wrong_comes_first(self) -> None:
        assert one_line_status(READY, ("the API is away", "so is the cloud")) == "the API is away"
        assert one_line_status(replace(READY, dispatcher=None), ()) == "starting"


class TestRoutes:
    def test_neither_needs_a_token(self, client: Client) -> None:
        for name in ("live", "ready"):
            answer = client.get(f"/_health/{name}")
            assert (answer.status, answer.body) == (200, {"health": "OK"})
            assert answer.headers["cache-control"] == "no-store"

    def test_what_is_wrong_is_said(self, client: Client, daemon: StandIn) -> None:
        daemon.answer = look(api_age_seconds=100.0, scheduler_age_seconds=None)
        answer = client.get("/_health/ready")
        assert answer.status == 503
        assert answer.body["health"] == "ERROR"
        scheduler, api = answer.body["error"].split("; ")
        assert scheduler == "the scheduler has not answered yet"
        assert api.startswith("the API has not answered for 100 s (since 2027-")
        assert client.get("/_health/live").status == 200, "which no restart would mend"

    def test_live_answers_while_the_actors_hang(
        self, serve: Serve, daemon: StandIn, silence: Silence
    ) -> None:
        client = serve(patience_seconds=0.2)
        daemon.answers.clear()
        daemon.beats = Pulse(1.0, 15.0, (silence,))
        answer = client.get("/_health/live")
        assert answer.status == 503
        assert answer.body["error"].startswith("TimerActor has not answered for 6 min 40 s")
        answer = client.get("/_health/ready")
        assert answer.status == 503
        assert "did not answer within 0.2 s" in answer.body["error"]


class TestWithADispatcher:
    """The news of a real one."""

    def seen(self, world: Harness) -> tuple[str, ...]:
        return why_not_ready(
            DaemonLook("1", world.clock.wall(), dispatcher=world.status()), WELL, LIMITS
        )

    def test_it_becomes_ready(self) -> None:
        with Harness() as world:
            world.advance(30)
            assert self.seen(world) == ()

    def test_an_api_that_goes_away_and_comes_back(self) -> None:
        with Harness() as world:
            world.advance(30)
            world.site.wire.down = True
            world.advance(90)
            [words] = self.seen(world)
            assert words.startswith("the API has not answered for ")
            world.advance(600)
            [words] = self.seen(world)
            assert words.startswith("the lease has been over for ")
            world.site.wire.down = False
            world.advance(120)
            assert self.seen(world) == ()

    def test_a_scheduler_that_goes_away_and_comes_back(self) -> None:
        with Harness() as world:
            world.advance(30)
            world.site.scheduler.faults.upcoming[Fault.POLL] = 10**6
            world.advance(300)
            [words] = self.seen(world)
            assert words.startswith("the scheduler has not answered for ")
            assert world.status().news.scheduler_error
            world.site.scheduler.faults.upcoming.clear()
            world.advance(120)
            assert self.seen(world) == ()
            assert world.status().news.scheduler_error == ""
            assert world.status().nodes[0].state is NodeState.IDLE
