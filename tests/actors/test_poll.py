"""Polling: an even beat while answered, longer and longer pauses while not, never two at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.actors.actor import Actor
from nodemanager.actors.driver import advance, settle
from nodemanager.actors.poll import (
    GetStaleness,
    PollActor,
    Polled,
    PollFailed,
    PollNow,
    PollPace,
    PollPlan,
    after_answer,
    after_error,
)
from nodemanager.actors.pool import InlinePool
from nodemanager.actors.timer import TimerActor
from nodemanager.clock import ManualClock
from nodemanager.errors import SchedulerError

PACE = PollPace(wait_seconds=10, max_wait_seconds=60)

paces = st.builds(
    PollPace,
    wait_seconds=st.floats(0.1, 1e3),
    max_wait_seconds=st.floats(0.1, 1e4),
)


def test_an_answer_keeps_the_beat_however_long_it_took() -> None:
    plan = PollPlan(due=100, pause_seconds=10)
    assert after_answer(plan, PACE, now=103) == PollPlan(110, 10)
    assert after_answer(plan, PACE, now=109.9) == PollPlan(110, 10)


def test_polls_that_news_brought_forward_do_not_put_off_the_next_one() -> None:
    plan = PollPlan(100, 10)
    for now in (91, 92, 93):
        plan = after_answer(plan, PACE, now=now)
    assert plan == PollPlan(103, 10)


def test_missed_beats_are_not_made_up_for() -> None:
    assert after_answer(PollPlan(100, 10), PACE, now=137) == PollPlan(147, 10)


def test_errors_double_the_pause_up_to_the_maximum() -> None:
    plan, pauses = PollPlan(0, 10), []
    for _ in range(5):
        plan = after_error(plan, PACE, now=plan.due)
        pauses.append(plan.pause_seconds)
    assert pauses == [20, 40, 60, 60, 60]
    assert after_answer(plan, PACE, now=plan.due).pause_seconds == 10


@given(
    paces,
    st.lists(st.tuples(st.booleans(), st.floats(0, 1e4)), max_size=30),
)
def test_the_next_poll_is_always_ahead_and_never_too_far(
    pace: PollPace, polls: list[tuple[bool, float]]
) -> None:
    longest = max(pace.wait_seconds, pace.max_wait_seconds)
    plan, failures = PollPlan(0.0, pace.wait_seconds), 0
    for answered, took in polls:
        now = plan.due + took
        plan = (after_answer if answered else after_error)(plan, pace, now)
        failures = 0 if answered else failures + 1
        assert plan.due > now
        assert plan.due - now <= longest * (1 + 1e-9)
        assert plan.pause_seconds == min(pace.wait_seconds * 2.0**failures, longest) or answered


class Subscriber(Actor):
    def __init__(self, news: list[Polled | PollFailed]) -> None:
        super().__init__()
        self.news = news

    def on_receive(self, message: Any) -> None:
        self.news.append(message)


class Service:
    """What is polled: fails while `error` is set."""

    def __init__(self) -> None:
        self.calls: list[float] = []
        self.error: Exception | None = None
        self.during: Callable[[], None] = lambda: None
        self.clock = ManualClock()

    def __call__(self) -> int:
        self.calls.append(self.clock.elapsed())
        self.during()
        if self.error is not None:
            raise self.error
        return len(self.calls)


class Bench:
    """A poll actor over a service, with a timer."""

    def __init__(self, pool: InlinePool) -> None:
        self.pool = pool
        self.service = Service()
        self.clock = self.service.clock
        self.news: list[Polled | PollFailed] = []
        self.timer: pykka.ActorRef[Any] = TimerActor.start(self.clock)
        self.subscriber: pykka.ActorRef[Any] = Subscriber.start(self.news)
        self.ref: pykka.ActorRef[Any] = PollActor.start(
            self.service, PACE, self.subscriber, self.timer, self.clock, longest_answer_seconds=90
        )

    def advance(self, seconds: float) -> None:
        advance(self.clock, self.timer, self.pool, seconds)


@pytest.fixture
def bench(inline: InlinePool) -> Bench:
    return Bench(inline)


def test_it_polls_at_once_and_then_evenly(bench: Bench) -> None:
    bench.service.during = lambda: bench.clock.advance(3)
    bench.advance(25)
    assert bench.service.calls == [0, 10, 20]
    assert bench.news[1] == Polled(answer=2, asked_at=10)


def test_it_backs_off_while_there_is_no_answer(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.service.error = SchedulerError("squeue: no answer")
    with caplog.at_level(logging.WARNING):
        bench.advance(100)
    assert bench.service.calls == [0, 20, 60]
    assert bench.news[-1] == PollFailed(bench.service.error, last_success=None)
    assert "squeue: no answer; tried again in 60 s" in caplog.text
    assert "Traceback" not in caplog.text
    bench.service.error = None
    bench.advance(40)
    assert bench.service.calls == [0, 20, 60, 120, 130, 140]


def test_an_error_nobody_expected_is_logged_with_its_traceback(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.service.error = ZeroDivisionError("a bug")
    with caplog.at_level(logging.WARNING):
        bench.advance(1)
    assert "ZeroDivisionError: a bug" in caplog.text
    assert "Traceback" in caplog.text
    assert bench.ref.is_alive()


def test_it_knows_how_old_the_last_answer_is(bench: Bench) -> None:
    bench.advance(12)
    assert bench.ref.ask(GetStaleness()) == 2
    bench.service.error = SchedulerError("gone")
    bench.advance(30)
    assert bench.ref.ask(GetStaleness()) == 32
    assert isinstance(bench.news[-1], PollFailed)
    assert bench.news[-1].last_success == 10


def test_there_is_no_age_before_the_first_answer(bench: Bench) -> None:
    bench.service.error = SchedulerError("gone")
    bench.advance(5)
    assert bench.ref.ask(GetStaleness()) is None


def test_pokes_that_come_together_make_one_poll(bench: Bench) -> None:
    bench.advance(4)
    for _ in range(5):
        bench.ref.tell(PollNow())
    settle(bench.pool)
    assert bench.service.calls == [0, 4]
    # The beat begins anew at the poke, and there is only one.
    bench.advance(20)
    assert bench.service.calls == [0, 4, 14, 24]


def test_a_poke_during_a_poll_makes_one_after_it(bench: Bench) -> None:
    bench.service.during = lambda: (
        bench.ref.tell(PollNow()) if len(bench.service.calls) == 2 else None
    )
    bench.advance(11)
    assert bench.service.calls == [0, 10, 10]


def test_it_goes_on_when_nobody_listens(bench: Bench) -> None:
    bench.subscriber.stop()
    bench.advance(25)
    assert bench.service.calls == [0, 10, 20]


def test_it_tells_the_watchdog_how_long_an_answer_may_take(bench: Bench) -> None:
    assert bench.ref.proxy().answers_within.get() == 90
