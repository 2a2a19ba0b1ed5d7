"""What has to outlive the daemon and a scheduler has no place for: small files in the module's state directory.

Each note is one file, of a kind and about one name; there are as many as there are jobs that were cancelled and hosts
that are drained.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from nodemanager.errors import SchedulerError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class NoteKind(StrEnum):
    """What a note is about."""

    CANCELLED = "cancelled"
    """We have asked for the end of this job, for the first time at this Unix time. A job that is deleted before
    it starts leaves no other trace."""
    LOST = "lost"
    """This job was said to be lost with its node, for this reason; whatever Grid Engine still shows of it."""
    ARRAY = "array"
    """These jobs are the tasks of this array, which was submitted or was about to be."""
    DRAIN = "drain"
    """This host is drained by us: the first line is the reason, the others are the queues."""
    REMOVAL = "removal"
    """This host of ours is being taken out of the cell, and bears no mark any more."""


class Notes:
    """All notes, read once. Every error of the file system is a `SchedulerError`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._texts: dict[NoteKind, dict[str, str]] = {kind: {} for kind in NoteKind}
        self._read = False

    def all(self, kind: NoteKind) -> dict[str, str]:
        """The notes of a kind, by name; not to be changed."""
        if not self._read:
            self._load()
        return self._texts[kind]

    def get(self, kind: NoteKind, name: str) -> str | None:
        """The text of a note; None if there is none."""
        return self.all(kind).get(name)

    def write(self, kind: NoteKind, name: str, text: str) -> None:
        """Make a note, or change it."""
        self.all(kind)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._directory / f".{name}"
            draft.write_text(text, "utf-8")
            draft.replace(self._path(kind, name))
        except OSError as error:
            raise SchedulerError(f"cannot make a note: {error}") from error
        self._texts[kind][name] = text

    def remove(self, kind: NoteKind, name: str) -> None:
        """It is of no use any more; one that is not there is none."""
        if name not in self.all(kind):
            return
        try:
            self._path(kind, name).unlink(missing_ok=True)
        except OSError as error:
            raise SchedulerError(f"cannot remove a note: {error}") from error
        self._texts[kind].pop(name, None)

    def remove_all(self, kind: NoteKind, names: Iterable[str]) -> None:
        """The same for many."""
        for name in names:
            self.remove(kind, name)

    def older(self, kind: NoteKind, seconds: float) -> list[str]:
        """The names of the notes that were made so long ago."""
        oldest = time.time() - seconds
        found = []
        for name in self.all(kind):
            try:
                if self._path(kind, name).stat().st_mtime < oldest:
                    found.append(name)
            except OSError as error:
                raise SchedulerError(f"cannot look at a note: {error}") from error
        return found

    def _path(self, kind: NoteKind, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise SchedulerError(f"no note can be about {name!r}")
        return self._directory / f"{name}.{kind}"

    def _load(self) -> None:
        try:
            paths = list(self._directory.iterdir()) if self._directory.exists() else []
            for path in paths:
                kind = path.suffix[1:]
                if kind in set(NoteKind) and _NAME.fullmatch(path.stem):
                    self._texts[NoteKind(kind)][path.stem] = path.read_text("utf-8", "replace")
        except OSError as error:
            raise SchedulerError(f"cannot read notes: {error}") from error
        self._read = True
