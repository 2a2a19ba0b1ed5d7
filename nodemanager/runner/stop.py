"""Why a runner should stop: set by signals, the heartbeat and the time limit; read by everyone.

`Stop` is written from a signal handler, so it takes no lock; it wakes the main thread through a pipe,
which is also where the interpreter announces signals.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Sequence
from enum import Enum, auto

STOP_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR2,  # Grid Engine's notice before KILL (-notify)
    signal.SIGXCPU,  # a scheduler's soft limit
)


class Why(Enum):
    """The causes of a stop."""

    SIGNAL = auto()
    """The runner was told to end; `Stop.number` is the signal."""
    CANCELLED = auto()
    """The container's priority is 0."""
    TIME_LIMIT = auto()
    """The command ran for its `max_run_time`."""
    FENCED = auto()
    """The container is no longer ours: nothing may be reported."""


class FencedError(Exception):
    """Raised wherever work is given up because the container is no longer ours."""


class StoppedError(Exception):
    """Raised where there is nothing to finish: the runner was told to stop before the command began."""


class Stop:
    """One stop, with its cause. The first cause stays, except that FENCED overrules all others."""

    def __init__(self) -> None:
        self.why: Why | None = None
        self.number = 0
        self.detail = ""
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)

    def request(self, why: Why, detail: str, number: int = 0) -> None:
        """Ask for the stop; from any thread or signal handler."""
        if self.why is None or (why is Why.FENCED and self.why is not Why.FENCED):
            self.number, self.detail = number, detail
            self.why = why
        self.wake()

    def is_requested(self) -> bool:
        """Whether there is any reason to stop."""
        return self.why is not None

    def listen_to_signals(self) -> None:
        """Turn `STOP_SIGNALS` into requests; from the main thread only."""
        # An ignored signal would stay ignored in the command, a handler does not outlive exec.
        signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
        for number in STOP_SIGNALS:
            signal.signal(
                number,
                lambda n, _frame: self.request(Why.SIGNAL, "the runner was told to stop", n),
            )
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def raise_if_fenced(self) -> None:
        """Raise `FencedError` when the container is no longer ours."""
        if self.why is Why.FENCED:
            raise FencedError(self.detail)

    def raise_if_requested(self) -> None:
        """Raise `FencedError` or `StoppedError` when there is any reason to stop."""
        self.raise_if_fenced()
        if self.is_requested():
            raise StoppedError(self.detail)

    def wake(self) -> None:
        """End a `wait` early; a full pipe will end it just as well."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, b"\0")

    def wait(self, seconds: float | None, readable: Sequence[int] = ()) -> None:
        """Sleep until `seconds` have passed, something is `readable`, or a wake-up; main thread only."""
        ready, _, _ = select.select([self._read_end, *readable], [], [], seconds)
        if self._read_end in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read_end, 4096)
