"""The inbox of a pooled actor: whether it has messages, and whose turn it is.

A `Mailbox` is pykka's inbox with one addition: it puts itself on a run queue when it becomes non-empty, and
lends a thread to its actor for a bounded number of messages (`run_turn`). The loop that handles these
messages is pykka's own; when a turn is over, `get` leaves that loop by raising.
"""

from __future__ import annotations

import collections
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from nodemanager.actors.future import Pool, PooledFuture, Runner, here

if TYPE_CHECKING:
    from nodemanager.actors.actor import PooledActor


class _TurnOver(Exception):
    """No message left, or enough handled for now."""


class Mailbox:
    """The messages of one pooled actor. See the module's docstring."""

    __slots__ = (
        "_actor",
        "_began_at",
        "_budget",
        "_closed",
        "_lock",
        "_messages",
        "_runner",
        "_scheduled",
        "_started",
        "current",
        "pool",
        "thread_id",
        "waits_for",
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Most actors have no message, most of the others one; a deque is 624 bytes even when empty.
        self._messages: Envelope[Any] | collections.deque[Envelope[Any]] | None = None
        self._actor: PooledActor | None = None
        self._runner: Runner | None = None
        self._scheduled = False
        self._started = False
        self._closed = False
        self._budget = 0
        self._began_at = 0.0
        self.pool: Pool | None = None
        self.current: Envelope[Any] | None = None
        """What the actor is handling, for whoever wonders why it does not answer."""
        self.thread_id: int | None = None
        """`threading.get_ident()` of the thread that runs the actor now."""
        self.waits_for: Mailbox | None = None
        """Whose answer the current handler waits for."""

    def __str__(self) -> str:
        actor = self._actor
        return "a stopped actor" if actor is None else str(actor)

    # Pykka's inbox.

    def put(self, envelope: Envelope[Any], /) -> None:
        """Add a message. One that comes after the actor stopped is answered with ActorDeadError."""
        future = envelope.reply_to
        if isinstance(future, PooledFuture):
            future.answerer = self
        with self._lock:
            closed = self._closed
            if not closed:
                self._append(envelope)
                if self._scheduled or self._runner is None:
                    return
                self._scheduled = True
        if closed:
            _refuse(envelope)
        elif self._runner is not None:
            self._runner.schedule(self)

    def get(self) -> Envelope[Any]:
        """The next message, for pykka's loop; leaves the loop when the turn is over."""
        if self._budget <= 0 and not self._closed:
            raise _TurnOver
        self._budget -= 1
        with self._lock:
            envelope = self._pop()
        if envelope is None:
            raise _TurnOver
        self._began_at = time.monotonic()
        self.current = envelope
        return envelope

    def empty(self) -> bool:
        """No message is left."""
        return self._messages is None

    @property
    def length(self) -> int:
        """How many messages wait here; any thread may ask."""
        messages = self._messages
        if isinstance(messages, collections.deque):
            return len(messages)
        return 0 if messages is None else 1

    @property
    def busy_since(self) -> float | None:
        """`time.monotonic()` when its actor began what it is doing now; None when it is idle. Any thread may ask."""
        return None if self.thread_id is None else self._began_at

    def _append(self, envelope: Envelope[Any]) -> None:
        messages = self._messages
        if messages is None:
            self._messages = envelope
        elif isinstance(messages, Envelope):
            self._messages = collections.deque((messages, envelope))
        else:
            messages.append(envelope)

    def _pop(self) -> Envelope[Any] | None:
        messages = self._messages
        if messages is None or isinstance(messages, Envelope):
            self._messages = None
            return messages
        envelope = messages.popleft()
        if not messages:
            self._messages = None
        return envelope

    # Turns.

    def attach(self, actor: PooledActor, pool: Pool, runner: Runner) -> None:
        """The actor is started: from now on `runner` gives it turns, the first one for `on_start`."""
        with self._lock:
            self._actor, self._runner, self.pool = actor, runner, pool
            self._scheduled = True
        runner.schedule(self)

    def run_turn(self, messages: int) -> None:
        """Let the actor handle up to `messages` messages in the calling thread."""
        actor = self._actor
        if actor is None:
            return
        outer, here.mailbox = here.mailbox, self
        self._began_at = time.monotonic()
        self.thread_id = threading.get_ident()
        self._budget = messages
        try:
            self._run(actor)
        finally:
            here.mailbox = outer
            self.current = self.thread_id = None
        self._end_turn()

    def _run(self, actor: PooledActor) -> None:
        try:
            if not self._started:
                self._started = True
                actor._actor_loop_setup()  # noqa: SLF001 (pykka's points for implementors)
            actor._actor_loop_running()  # noqa: SLF001
        except _TurnOver:
            return
        except BaseException:
            # Pykka's loop lets nothing out; on_start or stop_all may, and the thread is not theirs.
            actor._handle_failure(*sys.exc_info())  # noqa: SLF001
        self.stop(actor)

    def stop(self, actor: PooledActor) -> None:
        """The actor has stopped: answer what is left, and let go of it."""
        last = self.current
        actor._actor_loop_teardown()  # noqa: SLF001
        self._actor = None
        if last is not None and isinstance(last.reply_to, PooledFuture):
            # A SystemExit in a handler leaves its asker without an answer.
            last.reply_to.answer_if_unanswered()

    def close(self) -> None:
        """Take no message any more; `get` hands out what is there, whatever the turn's length."""
        with self._lock:
            self._closed = True

    @property
    def closed(self) -> bool:
        """The actor has stopped."""
        return self._closed

    def abandon(self, actor: PooledActor | None = None) -> None:
        """Its pool is closed: refuse everything, now and later. The actor handles nothing more."""
        self.close()
        actor, self._actor = actor or self._actor, None
        if actor is not None:
            pykka.ActorRegistry.unregister(actor.actor_ref)
            actor.actor_stopped.set()
        while True:
            with self._lock:
                envelope = self._pop()
            if envelope is None:
                return
            _refuse(envelope)

    @property
    def answers_within(self) -> float:
        """What its actor says; see `PooledActor.answers_within`."""
        actor = self._actor
        return 0.0 if actor is None else actor.answers_within

    def _end_turn(self) -> None:
        with self._lock:
            if self._messages is None:
                self._scheduled = False
                return
        if self._runner is not None:
            self._runner.schedule(self)


def _refuse(envelope: Envelope[Any]) -> None:
    """Answer a message that nobody will handle, as pykka does when an actor stops."""
    if envelope.reply_to is None:
        return
    if isinstance(envelope.message, _ActorStop):
        envelope.reply_to.set(None)
    else:
        error = pykka.ActorDeadError("the actor stopped before handling the message")
        envelope.reply_to.set_exception((pykka.ActorDeadError, error, None))
