"""The watchdog: every long-lived actor must answer a ping within a bound, or the process ends.

It works in a thread of its own, so that a pool whose workers are all busy or stuck cannot silence it. The
ping is pykka's own request for an attribute, which every actor answers without knowing of it.

Who waits for this process to be alive (systemd, a monitor) is answered by the same rounds: `pulse` says how the
actors are, and `feed` is called after each round in which none was silent for long.

Time in which this thread itself did not run (the machine was suspended or overloaded, the process was
stopped) is nobody's fault and is not counted.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pykka
from pykka.messages import ProxyGetAttr

from nodemanager.actors.fatal import end_process
from nodemanager.actors.future import PooledFuture
from nodemanager.actors.mailbox import Mailbox
from nodemanager.clock import Clock

log = logging.getLogger(__name__)

Ref: TypeAlias = pykka.ActorRef[Any]

_PING = ProxyGetAttr(("actor_urn",))


@dataclass(frozen=True, slots=True)
class Silence:
    """An actor that has not answered for too long."""

    actor: Ref
    seconds: float
    doing: str
    """The kind of message it is handling (never its content, which may be secret), and in which thread."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Somebody who has to hear from us: `give` is called well within `seconds`, as long as no actor is silent for half
    of them."""

    give: Callable[[], object]
    seconds: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """How the long-lived actors are, as far as can be told without waiting for any."""

    round_age_seconds: float
    """Since the watchdog last looked; it looks every `round_seconds`."""
    round_seconds: float
    silent: tuple[Silence, ...] = ()
    """Those that have not answered for longer than half of what ends the process, or than they may; the longest
    first."""


@dataclass(slots=True)
class _Watched:
    actor: Ref
    ping: pykka.Future[Any] | None = None
    sent_at: float = 0.0


class Watchdog:
    """Watches the actors it is given; `start` begins, `end` stops watching.

    `patience_seconds` is the bound for an answer; an actor whose `answers_within` is more gets so much.
    With `last_resort` the interpreter itself is watched too: C code that never gives the interpreter back
    leaves no thread of ours to notice, but `faulthandler` has one that needs no interpreter.
    """

    ROUND_SECONDS = 15.0

    def __init__(
        self,
        clock: Clock,
        patience_seconds: float = 600.0,
        round_seconds: float | None = None,
        *,
        last_resort: bool = False,
        feed: Feed | None = None,
    ) -> None:
        self._clock = clock
        self._patience = patience_seconds
        self._given_round = round_seconds
        self._feed = feed
        self._last_resort = last_resort
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._last_look: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def watch(self, *actors: Ref) -> None:
        """From now on these have to answer. One that stops is no longer watched."""
        with self._lock:
            for actor in actors:
                self._watched[actor.actor_urn] = _Watched(actor)

    @property
    def round_seconds(self) -> float:
        """How often `look` has to be called."""
        if self._given_round is not None:
            return self._given_round
        feed_seconds = self._patience if self._feed is None else self._feed.seconds
        return min(self._patience / 4, feed_seconds / 4, self.ROUND_SECONDS)

    def be_patient(self, seconds: float) -> None:
        """Another bound for answers from now on."""
        with self._lock:
            self._patience = seconds

    def start(self) -> None:
        """Begin."""
        with self._lock:
            self._last_look = self._clock.elapsed()
        self._postpone_last_resort()
        self._thread.start()

    def end(self, timeout: float = 5.0) -> None:
        """Stop watching: the process is about to end in good order."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        if self._last_resort:
            faulthandler.cancel_dump_traceback_later()

    def look(self) -> list[Silence]:
        """One round: collect answers, ping those that answered, and return those that are silent.

        Has to be called every `round_seconds`; a longer pause is taken for a suspension.
        """
        with self._lock:
            now = self._clock.elapsed()
            self._forgive(now)
            for urn, watched in list(self._watched.items()):
                if not watched.actor.is_alive():
                    del self._watched[urn]
                elif watched.ping is None or _is_answered(watched.ping):
                    watched.ping = watched.actor.ask(_PING, block=False)
                    watched.sent_at = now
            return self._silent(self._patience, now)

    def pulse(self) -> Pulse:
        """How the actors are; never waits for any of them."""
        with self._lock:
            now = self._clock.elapsed()
            age = 0.0 if self._last_look is None else now - self._last_look
            silent = self._silent(self._patience / 2, now)
        silent.sort(key=lambda silence: -silence.seconds)
        return Pulse(age, self.round_seconds, tuple(silent))

    def _silent(self, patience: float, now: float) -> list[Silence]:
        """Those that have not answered for longer than `patience`, and than they may."""
        return [
            Silence(watched.actor, now - watched.sent_at, _doing(watched.actor))
            for watched in self._watched.values()
            if watched.ping is not None
            and now - watched.sent_at > max(patience, _bound(watched.actor))
            and watched.actor.is_alive()
            and not _is_answered(watched.ping)
        ]

    def _forgive(self, now: float) -> None:
        """Do not count the time in which nobody looked."""
        if self._last_look is not None:
            jump = now - self._last_look - 2 * self.round_seconds
            if jump > 0:
                for watched in self._watched.values():
                    watched.sent_at += jump
        self._last_look = now

    def _postpone_last_resort(self) -> None:
        if self._last_resort:
            faulthandler.dump_traceback_later(self._patience + self.round_seconds, exit=True)

    def _run(self) -> None:
        while not self._ended.wait(self.round_seconds):
            self._postpone_last_resort()
            silent = self.look()
            if silent:
                self._bite(silent)
                return
            self._give()

    def _give(self) -> None:
        if self._feed is None:
            return
        with self._lock:
            silent = self._silent(self._feed.seconds / 2, self._clock.elapsed())
        if not silent:
            self._feed.give()

    def _bite(self, silent: list[Silence]) -> None:
        for silence in silent:
            log.critical(
                "%s has not answered for %.0f s; it is %s",
                silence.actor,
                silence.seconds,
                silence.doing,
                extra={
                    "action": "actor_silent",
                    "actor": silence.actor.actor_class.__name__,
                    "seconds": silence.seconds,
                },
            )
        for name, stack in stacks():
            log.critical(
                "thread %s, innermost last: %s",
                name,
                stack,
                extra={"action": "stack", "of_thread": name},
            )
        end_process(f"{silent[0].actor} does not answer")


def stacks() -> list[tuple[str, str]]:
    """What every thread is doing: its name, and its stack in one line, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        (
            names.get(ident, f"of no name ({ident})"),
            " > ".join(
                f"{call.filename}:{call.lineno} {call.name}: {call.line}"
                for call in traceback.extract_stack(frame)
            ),
        )
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 (documented, and the only way)
    ]


def _is_answered(ping: pykka.Future[Any]) -> bool:
    if isinstance(ping, PooledFuture):
        # Not `get`: on an inline pool that would run the actors.
        return ping.resolved
    try:
        ping.get(timeout=0)
    except pykka.Timeout:
        return False
    except pykka.ActorDeadError:
        return True
    return True


def _bound(actor: Ref) -> float:
    inbox = actor.actor_inbox
    return inbox.answers_within if isinstance(inbox, Mailbox) else 0.0


def _doing(actor: Ref) -> str:
    inbox = actor.actor_inbox
    if not isinstance(inbox, Mailbox):
        return "an actor of another kind"
    envelope = inbox.current
    if inbox.thread_id is None:
        return "waiting for a thread"
    if envelope is None:
        return f"starting in thread {inbox.thread_id}"
    return f"handling {type(envelope.message).__qualname__} in thread {inbox.thread_id}"
