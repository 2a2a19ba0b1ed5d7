"""Who starts the long-lived actors, and starts them again when one has failed.

Actors that know each other by reference fail together: a supervised *group* is stopped as a whole when one
member fails, and started as a whole after a pause. The pause doubles with each failure in a row and has
jitter, so that two processes that fail for the same reason do not come back in step. A group that fails too
often ends the process, non-zero, for systemd to begin afresh.

Many short-lived actors (one per container) are started and restarted by their own parent; it gets
`ChildFailed` like the supervisor does, and needs nothing of this module.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pykka

from nodemanager import metrics
from nodemanager.actors.actor import Actor, ChildFailed
from nodemanager.actors.fatal import end_process, is_fatal
from nodemanager.actors.timer import Schedule
from nodemanager.clock import Clock

log = logging.getLogger(__name__)

Ref: TypeAlias = pykka.ActorRef[Any]

StartGroup = Callable[[Ref, Hashable], Sequence[Ref]]
"""Starts the actors of a group with `start_under(supervisor, key, ...)` and returns them all.

If it raises, what it had started must be stopped by itself or be harmless.
"""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patiently a failed group is started again."""

    base_seconds: float = 1.0
    max_seconds: float = 60.0
    jitter: float = 0.2
    """The pause is up to this share longer or shorter."""
    max_failures: int = 10
    """More failures than this within `window_seconds` end the process."""
    window_seconds: float = 600.0


def restart_delay(policy: RestartPolicy, failures: int, draw: float) -> float:
    """Seconds to wait after the `failures`-th failure (from 1) within the window; `draw` is in [0, 1)."""
    doublings = min(failures - 1, 64)
    pause = min(policy.base_seconds * 2.0**doublings, policy.max_seconds)
    return pause * (1.0 + policy.jitter * (2.0 * draw - 1.0))


def recent(failures: Sequence[float], policy: RestartPolicy, now: float) -> tuple[float, ...]:
    """Those of the times in `failures` that still count at `now`."""
    return tuple(at for at in failures if now - at < policy.window_seconds)


@dataclass(frozen=True, slots=True)
class Supervise:
    """To the supervisor: start this group now, and again whenever one of its actors fails."""

    key: Hashable
    start: StartGroup


@dataclass(frozen=True, slots=True)
class GetGroup:
    """Asked of the supervisor: the living actors of the group (a tuple, empty during a pause)."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class TellGroup:
    """To the supervisor: let `tell` tell the actors of the group something (none during a pause).

    In order with starts: who is started later, was not there. `tell` must neither block nor raise.
    """

    key: Hashable
    tell: Callable[[Sequence[Ref]], None]


@dataclass(frozen=True, slots=True)
class _Restart:
    key: Hashable


@dataclass(slots=True)
class _Group:
    start: StartGroup
    actors: tuple[Ref, ...] = ()
    failures: tuple[float, ...] = field(default=())
    pausing: bool = False
    failed: str = "none"
    """The class of the actor that failed last; none for a group that could not be started."""


class SupervisorActor(Actor):
    """See the module's docstring. Stopping it stops its groups, the last one first."""

    def __init__(
        self,
        timer: Ref,
        clock: Clock,
        policy: RestartPolicy | None = None,
        draws: random.Random | None = None,
    ) -> None:
        super().__init__()
        self._timer = timer
        self._clock = clock
        self._policy = policy or RestartPolicy()
        self._draws = draws or random.Random()  # noqa: S311 (jitter is no secret)
        self._groups: dict[Hashable, _Group] = {}

    def on_receive(self, message: Any) -> tuple[Ref, ...] | None:
        """Start, restart, answer."""
        match message:
            case Supervise(key, start):
                self._groups[key] = _Group(start)
                self._start(key)
            case ChildFailed(key, error, actor):
                self._see_failure(key, error, actor)
            case _Restart(key):
                self._restart(key)
            case GetGroup(key):
                return self._living(key)
            case TellGroup(key, tell):
                tell(self._living(key))
            case _:
                super().on_receive(message)
        return None

    def on_stop(self) -> None:
        """Stop what was started."""
        for group in reversed(self._groups.values()):
            _stop(group.actors)

    def _living(self, key: Hashable) -> tuple[Ref, ...]:
        group = self._groups.get(key)
        return () if group is None or group.pausing else group.actors

    def _start(self, key: Hashable) -> None:
        group = self._groups[key]
        try:
            group.actors = tuple(group.start(self.actor_ref, key))
        except Exception as error:
            if is_fatal(error):
                end_process(f"{key} cannot be started", error)
            log.exception(
                "%s cannot be started", key, extra={"action": "group_start_failed", "key": str(key)}
            )
            group.actors, group.failed = (), "none"
            self._pause(key, error)
            return
        for actor in group.actors:
            # From now on they count 0: a counter that begins with 1 shows no increase.
            metrics.ACTOR_RESTARTS.labels(actor.actor_class.__name__)

    def _see_failure(self, key: Hashable, error: BaseException, actor: Ref) -> None:
        group = self._groups.get(key)
        # A second member that fails while the group is being stopped is the same failure.
        if group is not None and not group.pausing and actor in group.actors:
            group.failed = actor.actor_class.__name__
            self._pause(key, error)

    def _pause(self, key: Hashable, error: BaseException) -> None:
        group, now = self._groups[key], self._clock.elapsed()
        group.pausing = True
        group.failures = (*recent(group.failures, self._policy, now), now)
        _stop(group.actors)
        times = len(group.failures)
        if times > self._policy.max_failures:
            end_process(f"{key} failed {times} times in {self._policy.window_seconds:.0f} s", error)
            return
        delay = restart_delay(self._policy, times, self._draws.random())
        log.warning(
            "%s failed (%s); started again in %.1f s",
            key,
            error,
            delay,
            extra={"action": "group_restart", "key": str(key), "failures": times},
        )
        self._timer.tell(Schedule(now + delay, self.actor_ref, _Restart(key)))

    def _restart(self, key: Hashable) -> None:
        group = self._groups[key]
        if any(actor.is_alive() for actor in group.actors):
            # Two of the same kind must not work side by side; who never stops is the watchdog's case.
            again = self._clock.elapsed() + self._policy.base_seconds
            self._timer.tell(Schedule(again, self.actor_ref, _Restart(key)))
            return
        group.pausing = False
        metrics.ACTOR_RESTARTS.labels(group.failed).inc()
        self._start(key)


def _stop(actors: Sequence[Ref]) -> None:
    for actor in reversed(actors):
        actor.stop(block=False)
