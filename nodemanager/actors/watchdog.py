"""The watchdog: every long-lived actor must answer a ping within a bound, or the process ends.

It works in a thread of its own, so that a pool whose workers are all busy or stuck cannot silence it. The
ping is pykka's own request for an attribute, which every actor answers without knowing of it.

Time in which this thread itself did not run (the machine was suspended or overloaded, the process was
stopped) is nobody's fault and is not counted.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import traceback
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

    def __init__(
        self,
        clock: Clock,
        patience_seconds: float = 600.0,
        round_seconds: float | None = None,
        *,
        last_resort: bool = False,
    ) -> None:
        self._clock = clock
        self._patience = patience_seconds
        self._round = min(patience_seconds / 4, 15.0) if round_seconds is None else round_seconds
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

    def start(self) -> None:
        """Begin."""
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
            silent = []
            for urn, watched in list(self._watched.items()):
                if not watched.actor.is_alive():
                    del self._watched[urn]
                elif watched.ping is None or _is_answered(watched.ping):
                    watched.ping = watched.actor.ask(_PING, block=False)
                    watched.sent_at = now
                elif now - watched.sent_at > max(self._patience, _bound(watched.actor)):
                    silent.append(
                        Silence(watched.actor, now - watched.sent_at, _doing(watched.actor))
                    )
            return silent

    def _forgive(self, now: float) -> None:
        """Do not count the time in which nobody looked."""
        if self._last_look is not None:
            jump = now - self._last_look - 2 * self._round
            if jump > 0:
                for watched in self._watched.values():
                    watched.sent_at += jump
        self._last_look = now

    def _postpone_last_resort(self) -> None:
        if self._last_resort:
            faulthandler.dump_traceback_later(self._patience + self._round, exit=True)

    def _run(self) -> None:
        while not self._ended.wait(self._round):
            self._postpone_last_resort()
            silent = self.look()
            if silent:
                self._bite(silent)
                return

    def _bite(self, silent: list[Silence]) -> None:
        for silence in silent:
            log.critical(
                "%s has not answered for %.0f s; it is %s",
                silence.actor,
                silence.seconds,
                silence.doing,
                extra={"action": "actor_silent", "seconds": silence.seconds},
            )
        log.critical("what every thread is doing:\n%s", stacks(), extra={"action": "stacks"})
        end_process(f"{silent[0].actor} does not answer")


def stacks() -> str:
    """The stacks of all threads, with their names."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 (documented, and the only way)
        lines = "".join(traceback.format_stack(frame))
        parts.append(f"Thread {names.get(ident, 'of no name')} ({ident}):\n{lines}")
    return "\n".join(parts)


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
