"""The inbox and the future of a pooled actor: who has messages, who waits for whom.

A `Mailbox` is pykka's inbox with one addition: it puts itself on a run queue when it becomes non-empty, and
lends a thread to its actor for a bounded number of messages (`run_turn`). The loop that handles these
messages is pykka's own; when a turn is over, `get` leaves that loop by raising.

A `PooledFuture` knows which mailbox will answer it, so that a handler that would wait for itself, straight
or round a circle of asks, gets `AskCycle` at once instead of hanging.
"""

from __future__ import annotations

import abc
import collections
import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pykka
from pykka._envelope import Envelope
from pykka._types import OptExcInfo
from pykka.messages import _ActorStop

from nodemanager.errors import NodeManagerError

if TYPE_CHECKING:
    from nodemanager.actors.actor import PooledActor


class AskCycle(NodeManagerError):
    """A handler waits for an answer that cannot come before the handler has ended."""


class Runner(Protocol):
    """What lends threads to mailboxes: a pool's workers, or one thread of an `io` actor."""

    def schedule(self, mailbox: Mailbox) -> None:
        """Let `mailbox.run_turn` be called soon, once. Any thread may call this."""
        ...


class Pool(abc.ABC):
    """What actors and their futures need of a pool."""

    @abc.abstractmethod
    def runner(self, *, io: bool, name: str) -> Runner:
        """What will give turns to a new actor, of kind ``io`` or ``workers``."""

    @abc.abstractmethod
    def resolve(self, future: PooledFuture, answerer: Mailbox | None) -> None:
        """Somebody is about to wait for `future`, which `answerer` of this pool has to answer."""

    @abc.abstractmethod
    def pausing(self, *, for_answer: bool) -> contextlib.AbstractContextManager[None]:
        """Around a pause of one of this pool's workers: for an answer, or for something outside."""


class _Here(threading.local):
    """What the calling thread is doing."""

    mailbox: Mailbox | None = None
    """The mailbox whose actor is handling a message in this thread."""
    worker_of: Pool | None = None
    """The pool that this thread is a compensated worker of."""
    pausing: bool = False


here = _Here()


class _TurnOver(Exception):
    """No message left, or enough handled for now."""


class Mailbox:
    """The messages of one pooled actor. See the module's docstring."""

    __slots__ = (
        "_actor",
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
        self.current = envelope
        return envelope

    def empty(self) -> bool:
        """No message is left."""
        return self._messages is None

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


class PooledFuture(pykka.Future[Any]):
    """A future whose `get` tells the pool that its thread is about to wait.

    Like `pykka.ThreadingFuture`, at a third of the cost: what a waiting thread needs is made when one waits.
    """

    answerer: Mailbox | None = None

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._result: tuple[Any, OptExcInfo | None] | None = None
        self._waiters: list[threading.Lock] | None = None

    @property
    def resolved(self) -> bool:
        """There is an answer, or an exception."""
        return self._result is not None

    def get(self, *, timeout: float | None = None) -> Any:
        """See `pykka.Future.get`; raises `AskCycle` when the answer can never come."""
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if self._result is None:
            self._wait(timeout)
        return self._outcome()

    def set(self, value: Any | None = None) -> None:
        """See `pykka.Future.set`."""
        self._resolve((value, None))

    def set_exception(self, exc_info: OptExcInfo | None = None) -> None:
        """See `pykka.Future.set_exception`."""
        self._resolve((None, sys.exc_info() if exc_info is None else exc_info))

    def set_get_hook(self, func: Callable[[float | None], Any]) -> None:
        """See `pykka.Future.set_get_hook`."""
        with self._lock:
            if self._result is not None:
                raise queue.Full
            super().set_get_hook(func)

    def _resolve(self, result: tuple[Any, OptExcInfo | None]) -> None:
        with self._lock:
            if self._result is not None or self._get_hook is not None:
                raise queue.Full
            self._result = result
            waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.release()

    def _outcome(self) -> Any:
        if self._result is None:
            raise RuntimeError("the future was looked at before it was resolved")
        value, exc_info = self._result
        if exc_info is None:
            return value
        error_type, error, trace = exc_info
        if error is None:
            error = (
                RuntimeError("an exception without a type") if error_type is None else error_type()
            )
        raise error.with_traceback(trace)

    def _wait(self, timeout: float | None) -> None:
        answerer = self.answerer
        asker = here.mailbox
        whose = answerer or asker
        pool = None if whose is None else whose.pool
        with _wait_noted(asker, answerer):
            if pool is not None:
                pool.resolve(self, answerer)
            if self._result is None:
                with pausing(for_answer=True):
                    self._sleep(timeout)

    def _sleep(self, timeout: float | None) -> None:
        waiter = threading.Lock()
        waiter.acquire()
        with self._lock:
            if self._result is not None:
                return
            self._waiters = [*(self._waiters or ()), waiter]
        if not waiter.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            with self._lock:
                self._waiters = [other for other in self._waiters or () if other is not waiter]
            if self._result is None:
                raise pykka.Timeout(f"{timeout} seconds")

    def answer_if_unanswered(self) -> None:
        """The actor died of this very message."""
        if not self.resolved:
            error = pykka.ActorDeadError("the actor died while it handled the message")
            with contextlib.suppress(queue.Full):
                self.set_exception((pykka.ActorDeadError, error, None))


@contextlib.contextmanager
def pausing(*, for_answer: bool) -> Iterator[None]:
    """The calling thread is about to wait: if a pool counts on it, the pool makes up for it."""
    if here.worker_of is None or here.pausing:
        yield
        return
    with here.worker_of.pausing(for_answer=for_answer):
        here.pausing = True
        try:
            yield
        finally:
            here.pausing = False


_waits_lock = threading.Lock()


@contextlib.contextmanager
def _wait_noted(asker: Mailbox | None, answerer: Mailbox | None) -> Iterator[None]:
    """Note that `asker` waits for `answerer`, unless that closes a circle."""
    if asker is None or answerer is None:
        yield
        return
    with _waits_lock:
        circle, behind = [asker], answerer
        while behind.waits_for is not None and behind is not asker:
            circle.append(behind)
            behind = behind.waits_for
        if behind is asker:
            names = " -> ".join(str(mailbox) for mailbox in [*circle, asker])
            raise AskCycle(
                f"{asker} waits for its own end: {names}; use tell, and take the answer as a message"
            )
        asker.waits_for = answerer
    try:
        yield
    finally:
        asker.waits_for = None


def _refuse(envelope: Envelope[Any]) -> None:
    """Answer a message that nobody will handle, as pykka does when an actor stops."""
    if envelope.reply_to is None:
        return
    if isinstance(envelope.message, _ActorStop):
        envelope.reply_to.set(None)
    else:
        error = pykka.ActorDeadError("the actor stopped before handling the message")
        envelope.reply_to.set_exception((pykka.ActorDeadError, error, None))
