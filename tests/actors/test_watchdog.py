"""The watchdog: who does not answer ends the process; who is only slow, or was suspended, does not."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pykka
import pytest

from nodemanager.actors.actor import Actor
from nodemanager.actors.fatal import use_exit
from nodemanager.actors.pool import ActorPool, InlinePool
from nodemanager.actors.watchdog import Feed, Watchdog
from nodemanager.clock import ManualClock, SystemClock

Ref = pykka.ActorRef[Any]
Until = Callable[[Callable[[], object]], None]


class Sleeper(Actor):
    """Waits for whatever event it is sent."""

    def on_receive(self, message: Any) -> None:
        message.wait(30)


class Holder(Sleeper):
    kind = "io"

    @property
    def answers_within(self) -> float:
        return 100.0


class Bench:
    """A watchdog whose rounds are made by hand, 5 s apart."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.dog = Watchdog(self.clock, patience_seconds=20, round_seconds=5)

    def silent_after(self, rounds: int) -> list[Ref]:
        silent: list[Ref] = []
        for _ in range(rounds):
            self.clock.advance(5)
            silent = [silence.actor for silence in self.dog.look()]
        return silent


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_who_answers_is_left_alone(bench: Bench, inline: InlinePool) -> None:
    ref = Sleeper.start()
    bench.dog.watch(ref)
    for _ in range(50):
        assert bench.silent_after(1) == []
        inline.run_until_idle()


def test_who_does_not_answer_is_found_after_the_bound(bench: Bench, inline: InlinePool) -> None:
    good, bad = Sleeper.start(), Sleeper.start()
    bench.dog.watch(good, bad)
    assert bench.silent_after(5) == []  # asked in the first round; 20 s later it is still in time
    assert bench.silent_after(1) == [good, bad]
    inline.run_until_idle()
    assert bench.silent_after(1) == []


def test_a_bound_of_its_own_is_respected(bench: Bench, inline: InlinePool) -> None:
    assert inline
    ref = Holder.start()
    bench.dog.watch(ref)
    assert bench.silent_after(21) == []
    assert bench.silent_after(1) == [ref]


def test_who_has_stopped_is_no_longer_watched(bench: Bench, inline: InlinePool) -> None:
    ref = Sleeper.start()
    bench.dog.watch(ref)
    bench.silent_after(1)
    ref.stop()
    inline.run_until_idle()
    assert bench.silent_after(10) == []


def test_a_suspended_machine_is_nobodys_fault(bench: Bench, inline: InlinePool) -> None:
    ref = Sleeper.start()
    bench.dog.watch(ref)
    bench.silent_after(2)
    bench.clock.advance(8 * 3600)
    assert bench.dog.look() == []
    inline.run_until_idle()
    assert bench.silent_after(3) == []
    # It is not fooled for ever either.
    assert bench.silent_after(6) == [ref]


def test_actors_of_pykka_are_watched_too(bench: Bench, until: Until) -> None:
    class Threaded(pykka.ThreadingActor):
        pass

    ref: Ref = Threaded.start()
    bench.dog.watch(ref)
    for _ in range(10):
        assert bench.silent_after(1) == []
        assert ref.ask("a later message is answered after the ping") is None
    ref.stop()
    until(lambda: not ref.is_alive())


@pytest.mark.parametrize("actor_class", [Sleeper, Holder])
def test_a_hanging_actor_ends_the_process_with_all_stacks_in_the_log(
    pool: ActorPool,
    caplog: pytest.LogCaptureFixture,
    until: Until,
    actor_class: type[Actor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert pool
    monkeypatch.setattr(Holder, "answers_within", 0.1)
    statuses: list[int] = []
    gate = threading.Event()
    # As many as there are workers: the pool is wholly stuck, the watchdog is not.
    stuck: list[Ref] = [actor_class.start() for _ in range(2)]
    dog = Watchdog(SystemClock(), patience_seconds=0.1, round_seconds=0.02)
    dog.watch(*stuck)
    with use_exit(statuses.append), caplog.at_level(logging.CRITICAL):
        for ref in stuck:
            ref.tell(gate)
        dog.start()
        until(lambda: statuses)
        dog.end()
    gate.set()
    assert statuses == [70]
    assert f"{actor_class.__name__} (urn:uuid:" in caplog.text
    assert "handling Event in thread" in caplog.text
    assert "message.wait(30)" in caplog.text  # the line it hangs in
    assert "does not answer" in caplog.text


def test_the_pulse_tells_who_is_silent_before_the_process_ends(
    bench: Bench, inline: InlinePool
) -> None:
    ref, holder = Sleeper.start(), Holder.start()
    bench.dog.watch(ref, holder)
    bench.silent_after(2)
    bench.clock.advance(5)
    assert bench.dog.pulse().silent == (), "10 s, half of what ends the process"
    assert bench.dog.pulse().round_age_seconds == 5
    bench.clock.advance(1)
    [silence] = bench.dog.pulse().silent
    assert (silence.actor, silence.seconds) == (ref, 11)
    inline.run_until_idle()
    assert bench.dog.pulse().silent == (), "an answer counts before the next round collects it"


def test_a_pulse_without_rounds_grows_old(bench: Bench, inline: InlinePool) -> None:
    bench.silent_after(1)
    bench.clock.advance(100)
    assert bench.dog.pulse().round_age_seconds == 100


def test_it_is_fed_while_all_answer_and_starves_when_one_does_not(
    pool: ActorPool, until: Until
) -> None:
    """Half of the time that the one who waits has, not of what ends the process."""
    assert pool
    fed: list[float] = []
    clock = SystemClock()
    gate = threading.Event()
    feed = Feed(lambda: fed.append(clock.elapsed()), 0.4)
    dog = Watchdog(clock, patience_seconds=600, feed=feed)
    ref = Sleeper.start()
    dog.watch(ref)
    dog.start()
    until(lambda: len(fed) > 3)
    ref.tell(gate)
    until(lambda: clock.elapsed() - fed[-1] > 1.0)
    gate.set()
    starved = len(fed)
    until(lambda: len(fed) > starved)
    dog.end()


def test_a_patience_that_was_changed_counts_at_once(bench: Bench, inline: InlinePool) -> None:
    ref = Sleeper.start()
    bench.dog.watch(ref)
    assert bench.silent_after(4) == []
    bench.dog.be_patient(10)
    assert bench.silent_after(1) == [ref]


def test_an_end_in_good_order(pool: ActorPool) -> None:
    assert pool
    statuses: list[int] = []
    with use_exit(statuses.append):
        dog = Watchdog(SystemClock(), patience_seconds=60, round_seconds=0.01)
        dog.watch(Sleeper.start())
        dog.start()
        dog.end()
    assert statuses == []


HANG = """
import ctypes, threading
from nodemanager.actors.actor import Actor
from nodemanager.actors.watchdog import Feed, Watchdog
from nodemanager.clock import SystemClock

class Stuck(Actor):
    def on_receive(self, message):
        {how}

ref = Stuck.start()
dog = Watchdog(SystemClock(), patience_seconds=0.2, round_seconds=0.05, last_resort=True)
dog.watch(ref)
dog.start()
ref.tell("hang")
threading.Event().wait(30)
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("threading.Event().wait()", 70, "does not answer; the process ends"),
        # Unlike CDLL, PyDLL keeps the interpreter to itself while it sleeps.
        ("ctypes.PyDLL(None).sleep(30)", 1, "Timeout (0:00:00.25"),
    ],
    ids=["python", "c"],
)
def test_the_process_really_ends(how: str, status: int, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANG.format(how=how)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == status
    assert words in ended.stderr
    assert "on_receive" in ended.stderr
