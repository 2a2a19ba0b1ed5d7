"""Which reasons have to be written to the API: only what changed, and only what lasts.

A reason that came and went between two turns (most jobs start within a second) is never written at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nodemanager.api.base import Annotation
from nodemanager.reason import Reason


@dataclass(slots=True)
class _Entry:
    reason: Reason | None
    written: Reason | None = None
    is_last: bool = False
    """Nothing more will be said of it."""


class ReasonBook:
    """The current reason of each container that a dispatcher speaks about."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._changed: set[str] = set()

    def note(self, uuid: str, reason: Reason | None) -> None:
        """`reason` holds now; `since` of a reason that goes on stays that of its first day."""
        entry = self._entries.get(uuid)
        if entry is None:
            if reason is not None:
                self._entries[uuid] = _Entry(reason)
                self._changed.add(uuid)
            return
        if reason is not None and entry.reason is not None and reason.same_as(entry.reason):
            return
        if (
            reason is not None
            and entry.reason is not None
            and reason.token is entry.reason.token
            and reason.next_attempt_at == entry.reason.next_attempt_at
        ):
            reason = replace(reason, since=entry.reason.since)
        entry.reason = reason
        self._changed.add(uuid)

    def say_last(self, uuid: str, reason: Reason) -> None:
        """`reason` takes the place of the last one, and is all that we say of it from now on."""
        self.note(uuid, reason)
        self._entries[uuid].is_last = True

    def drop(self, uuid: str) -> None:
        """The container is no longer ours to speak about; the API removed its annotation itself."""
        self._entries.pop(uuid, None)
        self._changed.discard(uuid)

    def get(self, uuid: str) -> Reason | None:
        """The current reason, if any."""
        entry = self._entries.get(uuid)
        return None if entry is None else entry.reason

    def due(self) -> list[Annotation]:
        """What to write now; the caller writes it, so it counts as written."""
        annotations = []
        for uuid in sorted(self._changed):
            entry = self._entries[uuid]
            if entry.reason is None:
                if entry.written is not None:
                    annotations.append(Annotation(uuid, None))
                del self._entries[uuid]
            elif not entry.reason.same_as(entry.written):
                annotations.append(Annotation(uuid, entry.reason))
                entry.written = entry.reason
            if entry.is_last:
                self._entries.pop(uuid, None)
        self._changed.clear()
        return annotations

    def rewrite(self) -> None:
        """Everything counts as unwritten: the dispatcher has a new record, the old links are gone."""
        for uuid, entry in self._entries.items():
            entry.written = None
            self._changed.add(uuid)
