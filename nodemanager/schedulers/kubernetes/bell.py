"""Tells of changes, but not more often than is good for who listens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

SHORTEST_GAP_SECONDS = 0.02
LONGEST_GAP_SECONDS = 5.0
REST = 2.0
"""After a look that took a second nobody is called for two: of a third of a core there is enough for looking."""


class Bell:
    """Calls its listeners, from a thread of its own, some time after `ring`; many rings may be one call."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []
        self._rung = threading.Event()
        self._closed = threading.Event()
        self._gap = SHORTEST_GAP_SECONDS
        self._thread: threading.Thread | None = None

    def listen(self, listener: Callable[[], None]) -> None:
        """Call it from now on."""
        self._listeners.append(listener)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kubernetes-bell", daemon=True)
            self._thread.start()

    def ring(self) -> None:
        """Something has changed; from any thread."""
        self._rung.set()

    def took(self, seconds: float) -> None:
        """So long took the look that a call brought about."""
        self._gap = min(max(REST * seconds, SHORTEST_GAP_SECONDS), LONGEST_GAP_SECONDS)

    def close(self) -> None:
        """Call nobody any more."""
        self._closed.set()
        self._rung.set()

    def _run(self) -> None:
        while True:
            self._rung.wait()
            if self._closed.is_set():
                return
            self._rung.clear()
            for listener in tuple(self._listeners):
                try:
                    listener()
                except Exception:
                    log.exception("a listener failed", extra={"action": "listener_failed"})
            if self._closed.wait(self._gap):
                return
