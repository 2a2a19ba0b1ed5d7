"""How many calls of a scheduler or cloud per second: a token bucket, with time passed in."""

from __future__ import annotations


class Budget:
    """A token bucket: `rate` operations a second; twice that many, at least one, in a burst."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._burst = max(1.0, 2 * rate)
        self._room = self._burst
        self._at = now

    def pace(self, rate: float, now: float) -> None:
        """So many a second from now on; what was spent stays spent."""
        self._refill(now)
        self._rate, self._burst = rate, max(1.0, 2 * rate)
        self._room = min(self._room, self._burst)

    def spend(self, now: float, operations: int = 1) -> None:
        """So many operations are begun; the budget may go below nothing, and is waited for then."""
        self._refill(now)
        self._room -= operations

    def room(self, now: float) -> int:
        """How many operations may begin now."""
        self._refill(now)
        return max(0, int(self._room))

    def wait(self, now: float) -> float:
        """Seconds until another operation may begin."""
        self._refill(now)
        return max(0.0, (1 - self._room) / self._rate) if self._room < 1 else 0.0

    def _refill(self, now: float) -> None:
        self._room = min(self._burst, self._room + (now - self._at) * self._rate)
        self._at = now
