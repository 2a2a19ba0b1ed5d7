"""Tells systemd, in one line, what the daemon is doing: what `systemctl status` shows."""

from __future__ import annotations

import logging
import threading
import time

from nodemanager.notify import Notifier
from nodemanager.status.health import HealthLimits, one_line_status, why_not_ready
from nodemanager.status.look import Source

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
FIRST_LOOK_SECONDS = 0.5
"""Until it is ready there is more to tell."""
SHARE = 20
"""So much longer than a look takes is the pause after it: with 100,000 containers it takes a while."""
PATIENCE_SECONDS = 5.0
INTERRUPTION_SECONDS = 60.0
"""So long at least somebody has to read what another has told in between, while we have nothing new."""


class Herald:
    """A thread from `start` to `stop`; without a systemd that listens, nothing."""

    def __init__(
        self,
        notifier: Notifier,
        source: Source,
        limits: HealthLimits,
        interruption_seconds: float = INTERRUPTION_SECONDS,
    ) -> None:
        self._notifier = notifier
        self._interruption_seconds = interruption_seconds
        self._source = source
        self.limits = limits
        """May be changed at any time."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="herald", daemon=True)
        self._said = ""
        self._again_at = float("inf")
        """When to say the same again."""

    def start(self) -> None:
        """Tell from now on."""
        if self._notifier.address:
            self._thread.start()

    def stop(self) -> None:
        """Tell no more; does not wait for a look that is under way."""
        self._ended.set()

    def interrupted(self) -> None:
        """Somebody else has told systemd something: in a while what we say is due again, new or not."""
        self._again_at = time.monotonic() + self._interruption_seconds

    @property
    def words(self) -> str:
        """What was told last."""
        return self._said

    def _run(self) -> None:
        pause = FIRST_LOOK_SECONDS
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                is_ready = self._tell()
            except Exception:
                log.exception("systemd cannot be told", extra={"action": "herald_failed"})
                is_ready = True
            least = LOOK_SECONDS if is_ready else FIRST_LOOK_SECONDS
            pause = max(least, SHARE * (time.monotonic() - began))

    def _tell(self) -> bool:
        look = self._source.look(PATIENCE_SECONDS)
        obstacles = why_not_ready(look, self._source.pulse(), self.limits)
        words = one_line_status(look, obstacles)
        is_due = words != self._said or time.monotonic() >= self._again_at
        if is_due and not self._ended.is_set():
            self._said, self._again_at = words, float("inf")
            self._notifier.status(words)
        return not obstacles
