"""The timer, with a clock driven by hand and with a real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.actors.actor import Actor
from nodemanager.actors.driver import TimeStandsStill, advance, settle
from nodemanager.actors.pool import ActorPool, InlinePool
from nodemanager.actors.timer import Agenda, CancelTimer, NextDue, Schedule, TimerActor
from nodemanager.clock import ManualClock, SystemClock

Ref = pykka.ActorRef[Any]


class Listener(Actor):
    """Notes messages and when they came; a callable message is called."""

    def __init__(self, clock: ManualClock | SystemClock) -> None:
        super().__init__()
        self.clock = clock
        self.heard: list[tuple[float, Any]] = []

    def on_receive(self, message: Any) -> Any:
        if message == "heard":
            return list(self.heard)
        self.heard.append((self.clock.elapsed(), message))
        if callable(message):
            message()
        return None


def heard_by(listener: Ref) -> list[tuple[float, Any]]:
    heard: list[tuple[float, Any]] = listener.ask("heard", block=True)
    return heard


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def timer(inline: InlinePool, clock: ManualClock) -> Ref:
    assert inline
    return TimerActor.start(clock)


@pytest.fixture
def listener(inline: InlinePool, clock: ManualClock) -> Ref:
    assert inline
    return Listener.start(clock)


def test_messages_come_at_their_times_in_order(
    clock: ManualClock, timer: Ref, inline: InlinePool, listener: Ref
) -> None:
    for at in (20.0, 5.0, 10.0, 5.0, 31.0):
        timer.tell(Schedule(at, listener, at))
    advance(clock, timer, inline, 30)
    assert heard_by(listener) == [(5, 5), (5, 5), (10, 10), (20, 20)]
    assert clock.elapsed() == 30
    assert timer.ask(NextDue()) == 31
    advance(clock, timer, inline, 1)
    assert heard_by(listener)[-1] == (31, 31)
    assert timer.ask(NextDue()) is None


def test_what_is_past_is_delivered_at_once(
    clock: ManualClock, timer: Ref, inline: InlinePool, listener: Ref
) -> None:
    clock.advance(100)
    timer.tell(Schedule(3, listener, "late"))
    advance(clock, timer, inline, 0)
    assert heard_by(listener) == [(100, "late")]


def test_a_cancelled_message_does_not_come(
    clock: ManualClock, timer: Ref, inline: InlinePool, listener: Ref
) -> None:
    timer.tell(Schedule(5, listener, "a", key="a"))
    timer.tell(Schedule(5, listener, "b", key="b"))
    timer.tell(CancelTimer("a"))
    timer.tell(CancelTimer("unknown"))
    advance(clock, timer, inline, 10)
    timer.tell(CancelTimer("b"))
    timer.tell(Schedule(12, listener, "a again", key="a"))
    advance(clock, timer, inline, 10)
    assert heard_by(listener) == [(5, "b"), (12, "a again")]


def test_the_same_key_replaces(
    clock: ManualClock, timer: Ref, inline: InlinePool, listener: Ref
) -> None:
    timer.tell(Schedule(5, listener, "first", key=1))
    timer.tell(Schedule(8, listener, "second", key=1))
    advance(clock, timer, inline, 10)
    assert heard_by(listener) == [(8, "second")]


def test_receivers_that_are_gone_are_passed_over(
    clock: ManualClock, timer: Ref, inline: InlinePool, listener: Ref
) -> None:
    gone: Ref = Listener.start(clock)
    timer.tell(Schedule(5, gone, "nobody"))
    timer.tell(Schedule(6, listener, "somebody"))
    gone.stop()
    advance(clock, timer, inline, 10)
    assert timer.is_alive()
    assert heard_by(listener) == [(6, "somebody")]


def test_what_a_message_brings_about_is_settled_before_time_goes_on(
    clock: ManualClock, timer: Ref, inline: InlinePool, listener: Ref
) -> None:
    def schedule_next() -> None:
        timer.tell(Schedule(clock.elapsed() + 0.1, listener, schedule_next))

    timer.tell(Schedule(0.1, listener, schedule_next))
    advance(clock, timer, inline, 1.05)
    times = [at for at, _ in heard_by(listener)]
    assert times == pytest.approx([0.1 * n for n in range(1, 11)])
    assert clock.elapsed() == 1.05


def test_a_receiver_never_finds_its_time_not_come(
    clock: ManualClock, timer: Ref, inline: InlinePool, listener: Ref
) -> None:
    dues = [0.1 * n + 1 / 3 for n in range(200)]
    for due in dues:
        timer.tell(Schedule(due, listener, due))
    advance(clock, timer, inline, 60)
    heard = heard_by(listener)
    assert len(heard) == 200
    assert all(at >= due for at, due in heard)


def test_time_that_stands_still_is_an_error(
    clock: ManualClock, timer: Ref, inline: InlinePool, listener: Ref
) -> None:
    def again() -> None:
        timer.tell(Schedule(clock.elapsed(), listener, again))

    timer.tell(Schedule(1, listener, again))
    with pytest.raises(TimeStandsStill, match=r"at 1\.0 s"):
        advance(clock, timer, inline, 2)
    timer.stop()
    settle(inline)


def test_with_a_real_clock_a_thread_of_its_own_waits(
    pool: ActorPool, until: Callable[[Callable[[], object]], None]
) -> None:
    clock = SystemClock()
    timer: Ref = TimerActor.start(clock)
    listener: Ref = Listener.start(clock)
    now = clock.elapsed()
    timer.tell(Schedule(now + 3600, listener, "never"))
    timer.tell(Schedule(now + 0.06, listener, "second"))
    timer.tell(Schedule(now + 0.03, listener, "first"))
    timer.tell(Schedule(now + 0.01, listener, "cancelled", key=1))
    timer.tell(CancelTimer(1))
    until(lambda: len(heard_by(listener)) == 2)
    heard = heard_by(listener)
    assert [message for _, message in heard] == ["first", "second"]
    assert heard[0][0] >= now + 0.03
    assert heard[1][0] >= now + 0.06
    assert pool.statistics().waiting_workers == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 20), st.integers(0, 5) | st.none()),
            st.tuples(st.just("cancel"), st.integers(0, 5)),
            st.tuples(st.just("take"), st.integers(0, 25)),
        ),
        max_size=60,
    )
)
def test_the_agenda_is_a_sorted_list_with_keys(steps: list[tuple[Any, ...]]) -> None:
    agenda, model = Agenda(), list[Schedule]()
    receiver: Any = None
    for number, step in enumerate(steps):
        match step:
            case ("add", at, key):
                item = Schedule(float(at), receiver, number, key)
                agenda.add(item)
                model = [other for other in model if key is None or other.key != key]
                model.append(item)
            case ("cancel", key):
                agenda.cancel(key)
                model = [other for other in model if other.key != key]
            case ("take", now):
                due = sorted(
                    (i for i in model if i.at_elapsed <= now),
                    key=lambda i: (i.at_elapsed, i.message),
                )
                assert agenda.take_due(now) == due
                model = [i for i in model if i.at_elapsed > now]
        assert len(agenda) == len(model)
        assert agenda.next_due() == min((i.at_elapsed for i in model), default=None)


def test_a_timer_set_and_cancelled_for_ever_stays_small() -> None:
    agenda = Agenda()
    receiver: Any = None
    for number in range(10_000):
        agenda.add(Schedule(1e6 + number, receiver, number, key="same"))
    assert len(agenda) == 1
    assert len(agenda._heap) < 200
