"""Who has shown the token in a browser: sessions, and how often somebody may guess. Nothing here is kept on disk."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from nodemanager.clock import Clock

SESSION_SECONDS = 12 * 3600.0
"""So long after its login a browser has to show the token again: a working day."""
MAX_SESSIONS = 100
"""One more, and the oldest ends."""
FREE_TRIES = 3
"""So many wrong tokens cost an address nothing."""
LONGEST_PAUSE_SECONDS = 30.0
"""From then on it waits twice as long after each, but never longer."""
MAX_ADDRESSES = 1000
"""One more, and who failed first is forgotten."""


class Sessions:
    """Belongs to the event loop's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[bytes, float] = {}
        """By the hash of its id, oldest first: a lookup tells nobody, by its time, how much of an id is right."""

    def open(self) -> str:
        """A new session's id: random, and known to its browser alone."""
        self._forget_ended()
        while len(self._ends) >= MAX_SESSIONS:
            del self._ends[next(iter(self._ends))]
        session = secrets.token_urlsafe(32)
        self._ends[_hash(session)] = self._clock.elapsed() + SESSION_SECONDS
        return session

    def holds(self, session: str) -> bool:
        """Whether that is the id of a session that has not ended."""
        return self._ends.get(_hash(session), float("-inf")) > self._clock.elapsed()

    def close(self, session: str) -> None:
        """End it, if it is one."""
        self._ends.pop(_hash(session), None)

    def _forget_ended(self) -> None:
        now = self._clock.elapsed()
        self._ends = {session: end for session, end in self._ends.items() if end > now}


def _hash(session: str) -> bytes:
    return hashlib.sha256(session.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    again_at: float
    """Elapsed: before that, no wrong token of this address is answered or logged as such."""


class Tries:
    """How often each address has shown a wrong token. Belongs to the event loop's thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, _Failures] = {}

    def pause_seconds(self, address: str) -> float:
        """How long one who has shown a wrong token is to wait before the next; 0 when not at all."""
        failures = self._failures.get(address)
        return 0.0 if failures is None else max(0.0, failures.again_at - self._clock.elapsed())

    def failed(self, address: str) -> None:
        """It was wrong."""
        before = self._failures.pop(address, None)
        count = 1 if before is None else before.count + 1
        pause = 0.0
        if count > FREE_TRIES:
            pause = min(2.0 ** min(count - FREE_TRIES - 1, 10), LONGEST_PAUSE_SECONDS)
        while len(self._failures) >= MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]
        self._failures[address] = _Failures(count, self._clock.elapsed() + pause)

    def succeeded(self, address: str) -> None:
        """It was right: what was before is forgotten."""
        self._failures.pop(address, None)
