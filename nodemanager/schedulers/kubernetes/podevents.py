"""What has been noted about pods (events), asked for only where nothing else tells what became of one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from nodemanager.clock import Clock
from nodemanager.schedulers.kubernetes.client import KubeClient, KubeRefused
from nodemanager.schedulers.kubernetes.ends import Noted

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 60.0
"""Events may come late, so those of a pod that is alive are asked for again."""


class PodEvents:
    """By the pods' unique ids. Serves one thread."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[Noted, ...]]] = {}
        self._complained = False

    def of(self, uid: str) -> tuple[Noted, ...] | None:
        """What was noted, oldest first; None when it is not known."""
        known = self._known.get(uid)
        return known[1] if known else None

    def ask(self, uids: Iterable[str]) -> None:
        """Find out about these, unless that was done a short while ago. What cannot be found out stays unknown."""
        now = self._clock.elapsed()
        due = [
            uid
            for uid in uids
            if uid not in self._known or now - self._known[uid][0] >= _AGAIN_SECONDS
        ]
        for uid, answer in zip(due, self._client.many(self._ask, due), strict=True):
            if isinstance(answer, tuple):
                self._known[uid] = (now, answer)
            elif isinstance(answer, KubeRefused):
                # Without the right to read events one has to do without them.
                self._known[uid] = (now, ())
                self._complain(answer)

    def keep(self, uids: Collection[str]) -> None:
        """Of all others nothing needs to be known any more."""
        for uid in self._known.keys() - uids:
            del self._known[uid]

    def _ask(self, uid: str) -> tuple[Noted, ...]:
        found = self._client.pod_events(uid)
        dated = sorted(found, key=lambda event: str(event.get("lastTimestamp") or ""))
        return tuple(Noted(e.get("reason") or "", e.get("message") or "") for e in dated)

    def _complain(self, refusal: KubeRefused) -> None:
        if not self._complained:
            self._complained = True
            log.warning(
                "events of pods cannot be read, so a preemption looks like a deletion by an operator: %s",
                refusal,
                extra={"action": "pod_events_refused"},
            )
