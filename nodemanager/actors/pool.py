"""Who runs pooled actors: a few threads, or (in tests) whoever asks for it.

`ActorPool` is an elastic set of worker threads over one run queue. A worker handles a bounded number of one
actor's messages, then it is the next actor's turn. A handler that is about to wait, for an answer or in
`with blocking():` around slow I/O, tells the pool, which makes up for the lost worker; surplus workers
retire. Actors of kind ``io`` have a thread of their own and need not tell anything.

All threads are daemon threads: a handler that hangs must not keep the process from exiting. So an orderly
end is somebody's task: the launcher calls `close`. The main thread has to stay alive as long as actors are
to work.

`InlinePool`, for tests, has no threads: see its docstring.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pykka

from nodemanager.actors.future import Pool, PooledFuture, Runner, here, pausing
from nodemanager.actors.inline import InlinePool
from nodemanager.actors.mailbox import Mailbox
from nodemanager.errors import NodeManagerError

__all__ = ["ActorPool", "InlinePool", "Pool", "blocking", "current_pool", "use_pool"]

log = logging.getLogger(__name__)

TURN_MESSAGES = 32
"""An actor handles at most so many messages, then the next actor's turn comes."""


class PoolClosed(NodeManagerError):
    """An actor was started on a pool that is closed."""


class PoolExhausted(NodeManagerError):
    """Every thread the pool may have waits for an answer: one more, and none is left to give one."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """What the pool is doing; threads are counted, and compensations since the start."""

    workers: int
    waiting_workers: int
    io_threads: int
    ready_actors: int
    compensations: int
    """Workers started because another was about to wait."""
    refused_compensations: int
    """Times that `max_workers` forbade it."""


class ActorPool(Pool):
    """The real pool. See the module's docstring.

    `size` workers run actors at a time, counting none that waits; there are never more than `max_workers`
    threads (and those of ``io`` actors). A worker without work for `idle_seconds` retires if it is surplus.
    """

    def __init__(
        self, size: int | None = None, max_workers: int = 64, idle_seconds: float = 5.0
    ) -> None:
        self._size = size if size is not None else max(2, min(os.cpu_count() or 1, 4))
        self._max_workers = max(max_workers, self._size)
        self._idle_seconds = idle_seconds
        self._ready: queue.SimpleQueue[Mailbox | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: set[threading.Thread] = set()
        self._io_threads: set[_IoThread] = set()
        self._waiting = 0
        self._compensations = 0
        self._refused = 0
        self._closed = False
        self._numbers = count(1)

    def runner(self, *, io: bool, name: str) -> Runner:
        """See `Pool.runner`; raises `PoolClosed` after `close`."""
        if self._closed:
            raise PoolClosed(f"{name} cannot start: the pool of actors is closed")
        return _IoThread(self, name) if io else self

    def schedule(self, mailbox: Mailbox) -> None:
        """See `Runner.schedule`."""
        self._ready.put(mailbox)
        if self._closed:
            self._abandon_ready()
        elif len(self._workers) - self._waiting < self._size:
            with self._lock:
                self._start_worker()

    def resolve(self, future: PooledFuture, answerer: Mailbox | None) -> None:
        """See `Pool.resolve`; a thread of the pool will answer."""

    @contextlib.contextmanager
    def pausing(self, *, for_answer: bool) -> Iterator[None]:
        """See `Pool.pausing`; raises `PoolExhausted` if nobody would be left to give the answer."""
        with self._lock:
            self._make_up(for_answer=for_answer)
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def statistics(self) -> PoolStatistics:
        """A snapshot for the metrics; its numbers may be of slightly different moments."""
        return PoolStatistics(
            workers=len(self._workers),
            waiting_workers=self._waiting,
            io_threads=len(self._io_threads),
            ready_actors=self._ready.qsize(),
            compensations=self._compensations,
            refused_compensations=self._refused,
        )

    def close(self, timeout: float) -> bool:
        """Stop every actor of this pool and end its threads; True if that took less than `timeout` s.

        What is in an inbox is handled before its actor stops. Actors stop in no particular order: stop
        those whose order matters first. Whoever does not stop in time is logged; its thread is left to die
        with the process.
        """
        deadline = time.monotonic() + timeout
        actors = [
            ref
            for ref in reversed(pykka.ActorRegistry.get_all())
            if isinstance(ref.actor_inbox, Mailbox) and ref.actor_inbox.pool is self
        ]
        stops = [ref.stop(block=False) for ref in actors]
        for stop in stops:
            with contextlib.suppress(pykka.Timeout):
                stop.get(timeout=max(0.0, deadline - time.monotonic()))
        self._closed = True
        with self._lock:
            threads: list[threading.Thread] = [*self._workers, *self._io_threads]
        for _ in threads:
            self._ready.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        left = self._report_left(actors)
        self._abandon_ready()
        return not left and not any(thread.is_alive() for thread in threads)

    def _report_left(self, actors: list[pykka.ActorRef[Any]]) -> bool:
        left = [ref for ref in actors if ref.is_alive()]
        for ref in left:
            doing = ref.actor_inbox.current if isinstance(ref.actor_inbox, Mailbox) else None
            # Whoever declares that it may take long (a call held open) is no surprise.
            expected = isinstance(ref.actor_inbox, Mailbox) and ref.actor_inbox.answers_within > 0
            log.log(
                logging.INFO if expected else logging.WARNING,
                "%s did not stop in time; it is handling %s",
                ref,
                "nothing" if doing is None else type(doing.message).__qualname__,
                extra={"action": "actor_left", "actor": ref.actor_class.__name__},
            )
        return bool(left)

    def _abandon_ready(self) -> None:
        """Nobody will give these a turn any more: answer who waits for them."""
        with contextlib.suppress(queue.Empty):
            while True:
                mailbox = self._ready.get_nowait()
                if mailbox is not None:
                    mailbox.abandon()

    # Below: with the lock held.

    def _make_up(self, *, for_answer: bool) -> None:
        running = len(self._workers) - self._waiting
        if running <= self._size:
            if len(self._workers) < self._max_workers:
                self._compensations += 1
                self._waiting += 1
                self._start_worker()
                return
            self._refused += 1
            if running <= 1 and for_answer:
                raise PoolExhausted(
                    f"all {len(self._workers)} workers wait for answers; use tell, and take the answer as"
                    " a message, or allow more workers"
                )
        self._waiting += 1

    def _start_worker(self) -> None:
        running = len(self._workers) - self._waiting
        if running >= self._size or len(self._workers) >= self._max_workers:
            return
        worker = threading.Thread(
            target=self._work, name=f"actors-{next(self._numbers)}", daemon=True
        )
        self._workers.add(worker)
        try:
            worker.start()
        except RuntimeError:
            self._workers.discard(worker)
            if running <= 0:
                raise
            log.warning(
                "no more threads: %d workers go on",
                running,
                extra={"action": "thread_shortage", "workers": running},
            )

    # The threads.

    def _work(self) -> None:
        here.worker_of = self
        while True:
            try:
                mailbox = self._ready.get(timeout=self._idle_seconds)
            except queue.Empty:
                if self._retire(only_surplus=True):
                    return
                continue
            if mailbox is None:
                self._retire(only_surplus=False)
                return
            mailbox.run_turn(TURN_MESSAGES)

    def _retire(self, *, only_surplus: bool) -> bool:
        with self._lock:
            if only_surplus and len(self._workers) - self._waiting <= self._size:
                return False
            self._workers.discard(threading.current_thread())
            return True

    def io_started(self, thread: _IoThread) -> None:
        """An ``io`` actor had its first message."""
        with self._lock:
            self._io_threads.add(thread)

    def io_ended(self, thread: _IoThread) -> None:
        """Its actor stopped."""
        with self._lock:
            self._io_threads.discard(thread)

    @property
    def closed(self) -> bool:
        """`close` was called: no actor starts any more."""
        return self._closed


class _IoThread(threading.Thread):
    """The thread of one ``io`` actor; started by its first turn, ends when the actor stops."""

    def __init__(self, pool: ActorPool, name: str) -> None:
        super().__init__(name=f"io-{name}", daemon=True)
        self._pool = pool
        self._turn = threading.Semaphore(0)
        self._mailbox: Mailbox | None = None

    def schedule(self, mailbox: Mailbox) -> None:
        """See `Runner.schedule`. One actor: this is called again only after the turn before is over."""
        if self._mailbox is None:
            self._mailbox = mailbox
            self._pool.io_started(self)
            self.start()
        self._turn.release()

    def run(self) -> None:
        """Give the actor its turns."""
        mailbox = self._mailbox
        while mailbox is not None and not mailbox.closed:
            self._turn.acquire()
            mailbox.run_turn(TURN_MESSAGES)
        self._pool.io_ended(self)


def blocking() -> contextlib.AbstractContextManager[None]:
    """Around slow I/O in a handler: the pool makes up for the worker while it waits.

    Does nothing in a thread that is not a pool's worker, so it may stand in code that is used elsewhere.
    """
    return pausing(for_answer=False)


_default_lock = threading.Lock()
_default: Pool | None = None


def current_pool() -> Pool:
    """The pool that new actors get: the one set by `use_pool`, else one made at first need."""
    global _default  # noqa: PLW0603 (one for the process, like pykka's registry)
    with _default_lock:
        if _default is None:
            _default = ActorPool()
        return _default


class use_pool:  # noqa: N801 (reads as a verb: with use_pool(pool): ...)
    """Give `pool` to the actors started from now on; as a context manager, until its end."""

    def __init__(self, pool: Pool) -> None:
        global _default
        self._pool = pool
        with _default_lock:
            self._before, _default = _default, pool

    def __enter__(self) -> Pool:
        return self._pool

    def __exit__(self, *_: object) -> None:
        global _default  # noqa: PLW0603
        with _default_lock:
            _default = self._before
