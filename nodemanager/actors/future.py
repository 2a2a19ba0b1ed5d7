"""Futures that know who will answer them, and what a thread is doing when it begins to wait.

A `PooledFuture` tells the pool when its thread is about to wait. It knows which mailbox will answer it, so
that a handler that would wait for itself, straight or round a circle of asks, gets `AskCycle` at once
instead of hanging.
"""

from __future__ import annotations

import abc
import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pykka
from pykka._types import OptExcInfo

from nodemanager.errors import NodeManagerError

if TYPE_CHECKING:
    from nodemanager.actors.mailbox import Mailbox


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
