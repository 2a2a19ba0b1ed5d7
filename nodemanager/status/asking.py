"""How the event loop asks the daemon without being held up: in threads, once for many readers, bounded."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from nodemanager.actors.watchdog import Pulse
from nodemanager.clock import Clock
from nodemanager.errors import ApiRefused, NodeManagerError
from nodemanager.model import format_seconds
from nodemanager.status.look import DaemonLook, OperatorMessage, Source

log = logging.getLogger(__name__)

SHARED_SECONDS = 1.0
"""So long a look is shown to all who ask; as Go's dispatcher does."""
MAX_READING = 4
"""So many threads may be asking the API at a time."""

_Result = TypeVar("_Result")


class NoAnswer(NodeManagerError):
    """The daemon cannot be looked at, or told anything, at the moment."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A look under way; `epoch` is how often something had changed when it began."""

    outcome: asyncio.Future[DaemonLook | BaseException]
    epoch: int


@dataclass(frozen=True, slots=True)
class _Kept:
    outcome: DaemonLook | BaseException
    at: float
    """Elapsed."""


class Asker:
    """Everything that is asked of the `Source`. Belongs to the event loop's thread.

    One look is under way at a time, whoever asks, and what came of it is good for `SHARED_SECONDS`: a look
    that failed, too. If one never returns, all that ask are told so after `patience_seconds`, and no second
    is begun.
    """

    def __init__(self, source: Source, clock: Clock, patience_seconds: float) -> None:
        self._source = source
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._running: _Look | None = None
        self._kept: _Kept | None = None
        self._epoch = 0
        self._threads = asyncio.Semaphore(MAX_READING)

    async def look(self) -> DaemonLook:
        """A look that is younger than `SHARED_SECONDS`; raises `NoAnswer`."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                outcome = await self._newest()
        except TimeoutError:
            raise self._too_late() from None
        if isinstance(outcome, BaseException):
            raise NoAnswer(_words(outcome)) from outcome
        return outcome

    def pulse(self) -> Pulse:
        """Whether the actors answer at all, without asking any."""
        return self._source.pulse()

    def wall(self) -> float:
        """What time it is."""
        return self._clock.wall()

    async def tell(self, message: OperatorMessage) -> None:
        """Pass on an operator's word; raises `NoAnswer`. The next look is a new one."""
        telling = _in_thread(partial(self._source.tell_nodes, message))
        done, _ = await asyncio.wait([telling], timeout=self._patience_seconds)
        self._epoch += 1
        self._kept = None
        if not done:
            raise self._too_late()
        outcome = telling.result()
        if outcome is not None:
            _log(outcome)
            raise NoAnswer(_words(outcome)) from outcome

    async def read(self, work: Callable[[Source], _Result]) -> _Result:
        """What `work` finds out from the source, in a thread; raises `NoAnswer`, or `ApiRefused`.

        Those that find all threads taken wait for one; a thread that hangs is taken until it does not.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._threads.acquire()
                reading = _in_thread(partial(work, self._source))
                reading.add_done_callback(lambda _: self._threads.release())
                await asyncio.wait([reading])
        except TimeoutError:
            raise self._too_late() from None
        outcome = reading.result()
        if isinstance(outcome, ApiRefused):
            raise outcome
        if isinstance(outcome, BaseException):
            _log(outcome)
            raise NoAnswer(_words(outcome)) from outcome
        return outcome

    async def _newest(self) -> DaemonLook | BaseException:
        while True:
            kept = self._kept
            if kept is not None and self._clock.elapsed() - kept.at < SHARED_SECONDS:
                return kept.outcome
            running = self._running or self._begin()
            # To stop waiting for it does not stop it: others wait, too.
            await asyncio.wait([running.outcome])
            if running.epoch == self._epoch:
                return running.outcome.result()

    def _begin(self) -> _Look:
        outcome = _in_thread(partial(self._source.look, self._patience_seconds))
        self._running = _Look(outcome, self._epoch)
        outcome.add_done_callback(self._end)
        return self._running

    def _end(self, done: asyncio.Future[DaemonLook | BaseException]) -> None:
        running, self._running = self._running, None
        outcome = done.result()
        if isinstance(outcome, BaseException):
            _log(outcome)
        if running is not None and running.epoch == self._epoch:
            self._kept = _Kept(outcome, self._clock.elapsed())

    def _too_late(self) -> NoAnswer:
        return NoAnswer(
            f"the daemon did not answer within {format_seconds(self._patience_seconds)}"
        )


def _in_thread(work: Callable[[], _Result]) -> asyncio.Future[_Result | BaseException]:
    """Do `work` in a thread of its own; the future holds what it returned or raised, and never fails.

    The thread is a daemon thread: one that hangs does not keep the process from ending, as those of an
    executor would.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result | BaseException] = loop.create_future()

    def run() -> None:
        try:
            outcome: _Result | BaseException = work()
        except BaseException as error:  # whatever it was, somebody waits
            outcome = error
        try:
            loop.call_soon_threadsafe(future.set_result, outcome)
        except RuntimeError:
            log.debug(
                "the management server ended before its question was answered",
                extra={"action": "answer_unheard"},
            )

    threading.Thread(target=run, name="management-question", daemon=True).start()
    return future


def _words(error: BaseException) -> str:
    """What strangers may read of it."""
    if isinstance(error, NodeManagerError):
        return str(error)
    return f"the daemon's actors could not be asked ({type(error).__name__}); see the log"


def _log(error: BaseException) -> None:
    expected = isinstance(error, NodeManagerError)
    log.warning(
        "the daemon could not be asked: %s",
        error if expected else type(error).__name__,
        exc_info=None if expected else error,
        extra={"action": "no_answer"},
    )
