"""Long-lived actors come back in groups, after a pause, and not for ever."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from typing import Any

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.actors.actor import Actor
from nodemanager.actors.driver import advance, settle
from nodemanager.actors.fatal import use_exit
from nodemanager.actors.pool import InlinePool
from nodemanager.actors.supervisor import (
    GetGroup,
    RestartPolicy,
    Supervise,
    SupervisorActor,
    TellGroup,
    recent,
    restart_delay,
)
from nodemanager.actors.timer import TimerActor
from nodemanager.clock import ManualClock

Ref = pykka.ActorRef[Any]

policies = st.builds(
    RestartPolicy,
    base_seconds=st.floats(0.01, 10),
    max_seconds=st.floats(10, 1000),
    jitter=st.floats(0, 0.9),
)


@given(policies, st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_pause_grows_up_to_its_maximum(
    policy: RestartPolicy, failures: int, draw: float
) -> None:
    middle = restart_delay(policy, failures, 0.5)
    assert policy.base_seconds <= middle <= policy.max_seconds
    assert middle <= restart_delay(policy, failures + 1, 0.5)
    pause = restart_delay(policy, failures, draw)
    assert abs(pause - middle) <= middle * (policy.jitter + 1e-9)
    assert pause > 0


def test_the_pause_doubles() -> None:
    policy = RestartPolicy(base_seconds=1, max_seconds=60, jitter=0)
    assert [restart_delay(policy, n, 0.3) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_old_failures_are_forgotten() -> None:
    policy = RestartPolicy(window_seconds=100)
    assert recent([0, 10, 50, 99], policy, now=110) == (50, 99)


class Worker(Actor):
    def on_receive(self, message: Any) -> str:
        if message == "break":
            raise ValueError("broken")
        return "working"


class Bench:
    """A supervisor with a group of three workers, the first of which can be made to fail at its start."""

    def __init__(self, pool: InlinePool) -> None:
        self.pool = pool
        self.clock = ManualClock()
        self.timer: Ref = TimerActor.start(self.clock)
        self.policy = RestartPolicy(base_seconds=1, jitter=0, max_failures=4, window_seconds=100)
        self.supervisor: Ref = SupervisorActor.start(
            self.timer, self.clock, self.policy, random.Random(1)
        )
        self.started: list[tuple[Ref, ...]] = []
        self.cannot_start = False
        self.supervisor.tell(Supervise("workers", self.start))
        settle(pool)

    def start(self, supervisor: Ref, key: Hashable) -> Sequence[Ref]:
        if self.cannot_start:
            raise OSError("no licence")
        self.started.append(tuple(Worker.start_under(supervisor, key) for _ in range(3)))
        return self.started[-1]

    def advance(self, seconds: float) -> None:
        advance(self.clock, self.timer, self.pool, seconds)

    def group(self) -> tuple[Ref, ...]:
        group: tuple[Ref, ...] = self.supervisor.ask(GetGroup("workers"), block=True)
        return group

    def break_one(self) -> None:
        self.group()[1].tell("break")
        settle(self.pool)


@pytest.fixture
def bench(inline: InlinePool) -> Bench:
    return Bench(inline)


def test_a_group_is_started(bench: Bench) -> None:
    assert bench.group() == bench.started[0]
    assert all(ref.ask("?") == "working" for ref in bench.group())
    assert bench.supervisor.ask(GetGroup("other")) == ()


def test_a_group_is_told_in_order_with_starts(bench: Bench) -> None:
    told: list[Sequence[Ref]] = []
    bench.group()[1].tell("break")
    settle(bench.pool)
    bench.supervisor.tell(TellGroup("workers", told.append))
    bench.advance(2)
    # Nobody waits for an answer: who is started before it is handled is told.
    bench.supervisor.tell(Supervise("workers", bench.start))
    bench.supervisor.tell(TellGroup("workers", told.append))
    settle(bench.pool)
    assert told == [(), bench.started[-1]]


def test_one_that_fails_brings_its_group_down_and_back(bench: Bench) -> None:
    bench.break_one()
    assert bench.group() == ()
    assert not any(ref.is_alive() for ref in bench.started[0])
    bench.advance(0.9)
    assert len(bench.started) == 1
    bench.advance(0.2)
    assert bench.group() == bench.started[1]
    assert all(ref.is_alive() for ref in bench.group())


def test_two_that_fail_together_are_one_failure(bench: Bench) -> None:
    first, second, _ = bench.group()
    first.tell("break")
    second.tell("break")
    settle(bench.pool)
    bench.advance(1)
    assert len(bench.started) == 2
    bench.advance(50)
    assert len(bench.started) == 2


def test_the_pause_grows_and_shrinks_again(bench: Bench) -> None:
    for pause in (1, 2, 4):
        bench.break_one()
        bench.advance(pause - 0.1)
        assert bench.group() == ()
        bench.advance(0.1)
        assert bench.group()
    bench.advance(100)
    bench.break_one()
    bench.advance(1)
    assert bench.group()


def test_a_group_that_cannot_start_is_tried_again(bench: Bench) -> None:
    bench.cannot_start = True
    bench.break_one()
    bench.advance(1)
    assert bench.group() == ()
    bench.cannot_start = False
    bench.advance(2)
    assert bench.group()


def test_it_gives_up_in_the_end(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    statuses: list[int] = []
    bench.cannot_start = True
    with use_exit(statuses.append):
        bench.break_one()
        bench.advance(60)
    assert statuses == [70]
    assert "workers failed 5 times in 100 s" in caplog.text


def test_a_group_is_not_doubled_while_a_member_has_not_stopped(bench: Bench) -> None:
    class Stubborn(Worker):
        """Refuses to stop once."""

        refused = False

        def _stop(self) -> None:
            if not self.refused:
                self.refused = True
                return
            super()._stop()

    started: list[Ref] = []

    def start(supervisor: Ref, key: Hashable) -> Sequence[Ref]:
        started.append(Stubborn.start_under(supervisor, key))
        return (started[-1], Worker.start_under(supervisor, key))

    bench.supervisor.tell(Supervise("stubborn", start))
    settle(bench.pool)
    group: tuple[Ref, ...] = bench.supervisor.ask(GetGroup("stubborn"), block=True)
    group[1].tell("break")
    bench.advance(5)
    assert len(started) == 1
    started[0].stop()
    bench.advance(1)
    assert len(started) == 2


def test_stopping_the_supervisor_stops_its_groups(bench: Bench) -> None:
    bench.supervisor.stop()
    settle(bench.pool)
    assert not any(ref.is_alive() for ref in bench.started[0])
