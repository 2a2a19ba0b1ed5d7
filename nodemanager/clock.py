"""What time it is, so that tests can say so.

Two readings, as the design page demands: `wall` for people and records, `elapsed` for leases and timers,
which also runs while the machine is suspended and never jumps.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The two readings every actor takes its time from."""

    def wall(self) -> float:
        """Unix seconds."""
        ...

    def elapsed(self) -> float:
        """Seconds since some fixed moment; never goes back, counts suspended time."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()

    def elapsed(self) -> float:
        """CLOCK_BOOTTIME: unlike CLOCK_MONOTONIC it counts the time the machine was suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class ManualClock:
    """A clock that stands still until it is told to `advance`."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._wall = wall
        self._elapsed = 0.0

    def wall(self) -> float:
        """Unix seconds."""
        return self._wall

    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let `seconds` (0 or more) pass."""
        if seconds < 0:
            msg = f"time does not go back: {seconds}"
            raise ValueError(msg)
        self._wall += seconds
        self._elapsed += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock, as people and time servers do: no time passes. May be negative."""
        self._wall += seconds
