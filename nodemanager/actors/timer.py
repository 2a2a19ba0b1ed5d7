"""The timer: one actor with a heap of messages to deliver later.

Times are `Clock.elapsed()` seconds. With a real clock a thread of its own (`_Alarm`) sleeps until the next
message is due and then tells the actor, so that no worker is occupied. With a `ManualClock` nobody sleeps:
`nodemanager.actors.driver.advance` asks `NextDue` and tells `Deliver`.
"""

from __future__ import annotations

import contextlib
import heapq
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pykka

from nodemanager.actors.actor import Actor
from nodemanager.clock import Clock, ManualClock

LONGEST_SLEEP_SECONDS = 60.0
"""Threads sleep on a clock that stands still while the machine is suspended, so look up now and then."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Tell `message` to `receiver` at `at_elapsed` seconds of the clock, or at once if that is past.

    A `key` makes it cancellable; scheduling again with the same key replaces what was scheduled.
    """

    at_elapsed: float
    receiver: pykka.ActorRef[Any]
    message: Any
    key: Hashable | None = None


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget what was scheduled with `key`; nothing happens if that was delivered already, or never was."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class Deliver:
    """From the alarm or the driver: deliver all that is due at `now`, in the order of its times."""

    now: float


@dataclass(frozen=True, slots=True)
class NextDue:
    """Asked by the driver: when the next message is due (float), or None."""


class Agenda:
    """What is scheduled, earliest first; equal times in the order in which they were scheduled."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Schedule]] = []
        self._by_key: dict[Hashable, int] = {}
        self._dropped: set[int] = set()
        self._numbers = count()

    def add(self, item: Schedule) -> None:
        """Take up `item`, in place of an earlier one with its key."""
        number = next(self._numbers)
        if item.key is not None:
            self.cancel(item.key)
            self._by_key[item.key] = number
        heapq.heappush(self._heap, (item.at_elapsed, number, item))

    def cancel(self, key: Hashable) -> None:
        """Drop the item with `key`, if there is one."""
        number = self._by_key.pop(key, None)
        if number is not None:
            self._dropped.add(number)
            # A timer that is set and cancelled again and again must not grow the heap for ever.
            if len(self._dropped) > 64 and len(self._dropped) * 2 > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[1] not in self._dropped]
                heapq.heapify(self._heap)
                self._dropped.clear()

    def next_due(self) -> float | None:
        """The time of the earliest item."""
        while self._heap and self._heap[0][1] in self._dropped:
            self._dropped.discard(heapq.heappop(self._heap)[1])
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> list[Schedule]:
        """Remove and return what is due at `now`, earliest first."""
        items = []
        while (due := self.next_due()) is not None and due <= now:
            item = heapq.heappop(self._heap)[2]
            if item.key is not None:
                del self._by_key[item.key]
            items.append(item)
        return items

    def __len__(self) -> int:
        return len(self._heap) - len(self._dropped)


class TimerActor(Actor):
    """See the module's docstring; understands `Schedule` and `CancelTimer`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._agenda = Agenda()
        self._alarm = None if isinstance(clock, ManualClock) else _Alarm(clock, self.actor_ref)

    def on_start(self) -> None:
        """Start the thread that sleeps."""
        if self._alarm is not None:
            self._alarm.start()

    def on_stop(self) -> None:
        """What is scheduled is never delivered."""
        if self._alarm is not None:
            self._alarm.end()

    def on_failure(self, *_: object) -> None:
        """Nothing of ours stays behind."""
        self.on_stop()

    def on_receive(self, message: Any) -> float | None:
        """Schedule, cancel, deliver."""
        match message:
            case Schedule():
                self._agenda.add(message)
            case CancelTimer(key):
                self._agenda.cancel(key)
            case Deliver(now):
                self._deliver(now)
            case NextDue():
                return self._agenda.next_due()
            case _:
                super().on_receive(message)
        if self._alarm is not None:
            self._alarm.set(self._agenda.next_due())
        return None

    def _deliver(self, now: float) -> None:
        for item in self._agenda.take_due(now):
            # A receiver that is gone needs no message any more.
            with contextlib.suppress(pykka.ActorDeadError):
                item.receiver.tell(item.message)


class _Alarm(threading.Thread):
    """Sleeps until the time that was `set`, then tells `Deliver`, once until `set` again."""

    def __init__(self, clock: Clock, timer: pykka.ActorRef[Any]) -> None:
        super().__init__(name="timer-alarm", daemon=True)
        self._clock = clock
        self._timer = timer
        self._changed = threading.Condition()
        self._due: float | None = None
        self._ended = False

    def set(self, due: float | None) -> None:
        """Ring at `due` seconds of the clock; None: not at all."""
        with self._changed:
            earlier = due is not None and (self._due is None or due < self._due)
            self._due = due
            # A later time needs no waking up: the thread looks again when the former one has come.
            if earlier:
                self._changed.notify()

    def end(self) -> None:
        """The actor stops."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def run(self) -> None:
        """The thread."""
        while (now := self._wait()) is not None:
            with contextlib.suppress(pykka.ActorDeadError):
                self._timer.tell(Deliver(now))

    def _wait(self) -> float | None:
        with self._changed:
            while not self._ended:
                now = self._clock.elapsed()
                if self._due is not None and now >= self._due:
                    self._due = None
                    return now
                pause = LONGEST_SLEEP_SECONDS if self._due is None else self._due - now
                self._changed.wait(min(pause, LONGEST_SLEEP_SECONDS))
        return None
