"""The pool for tests: actors run in the calling thread, in an order that can be repeated."""

from __future__ import annotations

import collections
import contextlib
import random
import threading
from collections.abc import Callable, Iterator

from nodemanager.actors.future import Pool, PooledFuture, Runner
from nodemanager.actors.mailbox import Mailbox
from nodemanager.errors import NodeManagerError

MAX_STEPS = 1_000_000


class NeverIdle(NodeManagerError):
    """The actors kept each other busy for longer than is allowed."""


class NeverAnswered(NodeManagerError):
    """Nobody is left who could answer: all actors are idle."""


class InlinePool(Pool):
    """Runs all its actors in the thread that calls `run_until_idle`, one message at a time.

    Without `seed` the actors' turns come in the order in which they became ready. With it the next actor is
    drawn at random: the same seed explores the same interleaving. ``io`` actors run like the others.

    Waiting for an answer runs actors until it is there: from outside any, in a handler those that have to
    answer. `NeverAnswered` is raised at once when all are idle without it; a timeout is not waited for.
    """

    def __init__(self, seed: int | None = None, max_steps: int = MAX_STEPS) -> None:
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 (no secret)
        self._max_steps = max_steps
        self._ready: collections.deque[Mailbox] = collections.deque()
        self._running = threading.RLock()
        self._depth = 0

    def runner(self, *, io: bool, name: str) -> Runner:  # noqa: ARG002 (both kinds run inline)
        """See `Pool.runner`."""
        return self

    def schedule(self, mailbox: Mailbox) -> None:
        """See `Runner.schedule`; any thread may tell, but nothing runs before somebody asks for it."""
        self._ready.append(mailbox)

    def run_until_idle(self) -> int:
        """Handle messages until no actor has one; how many steps it took.

        Raises `NeverIdle` after `max_steps`, naming the busiest actors.
        """
        return self._run(lambda: False, None)

    @property
    def idle(self) -> bool:
        """No actor has a message."""
        return not self._ready

    def resolve(self, future: PooledFuture, answerer: Mailbox | None) -> None:
        """See `Pool.resolve`."""
        # In a handler only who has to answer may run: another actor's handler could begin to wait for
        # somebody below it on the stack, who cannot go on before it has returned.
        self._run(lambda: future.resolved, answerer if self._depth else None)
        if not future.resolved:
            whom = "anybody" if answerer is None else str(answerer)
            raise NeverAnswered(f"no answer from {whom}: all actors are idle")

    @contextlib.contextmanager
    def pausing(self, *, for_answer: bool) -> Iterator[None]:  # noqa: ARG002 (nobody to make up for)
        """See `Pool.pausing`."""
        yield

    def _run(self, enough: Callable[[], bool], preferred: Mailbox | None) -> int:
        taken: collections.Counter[Mailbox] = collections.Counter()
        steps = 0
        with self._running:
            self._depth += 1
            try:
                while self._ready and not enough():
                    if steps == self._max_steps:
                        raise NeverIdle(_busiest(taken, steps))
                    mailbox = self._next(preferred)
                    taken[mailbox] += 1
                    steps += 1
                    mailbox.run_turn(1)
            finally:
                self._depth -= 1
        return steps

    def _next(self, preferred: Mailbox | None) -> Mailbox:
        if preferred is not None and preferred in self._ready:
            self._ready.remove(preferred)
            return preferred
        if self._random is not None:
            self._ready.rotate(-self._random.randrange(len(self._ready)))
        return self._ready.popleft()


def _busiest(taken: collections.Counter[Mailbox], steps: int) -> str:
    names = ", ".join(f"{mailbox}: {n} messages" for mailbox, n in taken.most_common(3))
    return f"the actors are not idle after {steps} steps; the busiest are {names}"
