"""What jobs read on their nodes: one private file per job, in a directory that the nodes see too.

A job's standard input holds its token, so it must not be in a script, an argument or an environment, all of
which a scheduler keeps and shows. The file is there before the job is submitted and goes when the job is
forgotten; one that is left behind by a crash is removed by `sweep`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from nodemanager.errors import SchedulerError
from nodemanager.schedulers.base import JobSpec

_SUFFIX = ".stdin"
_SWEEP_AFTER_SECONDS = 3600.0


class JobFiles:
    """The directory. Every error of the file system is a `SchedulerError`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """The file of a job, whether it is there or not."""
        return self.directory / f"{name}{_SUFFIX}"

    def write(self, specs: Sequence[JobSpec]) -> None:
        """Keep the standard input of each.

        Not flushed to the disk: after a power cut the job finds no file, and is tried again.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for spec in specs:
                self._write(spec)
        except OSError as error:
            raise SchedulerError(f"cannot write a job's input: {error}") from error

    def remove(self, names: Iterable[str]) -> None:
        """These jobs have ended, or were never accepted."""
        try:
            for name in names:
                self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise SchedulerError(f"cannot remove a job's input: {error}") from error

    def names(self, prefix: str) -> list[str]:
        """The jobs that have a file and whose names begin with `prefix`."""
        try:
            paths = list(self.directory.glob(f"{prefix}*{_SUFFIX}"))
        except OSError as error:
            raise SchedulerError(f"cannot look through {self.directory}: {error}") from error
        return [path.name.removesuffix(_SUFFIX) for path in paths]

    def sweep(self, prefix: str, known: Collection[str]) -> list[str]:
        """Remove old files of jobs whose names begin with `prefix` and that nobody knows; their names.

        `known` must come from a complete listing.
        """
        removed = []
        oldest = time.time() - _SWEEP_AFTER_SECONDS
        try:
            for path in self.directory.glob(f"{prefix}*{_SUFFIX}"):
                name = path.name.removesuffix(_SUFFIX)
                if name not in known and path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
                    removed.append(name)
        except OSError as error:
            raise SchedulerError(f"cannot look through {self.directory}: {error}") from error
        return removed

    def _write(self, spec: JobSpec) -> None:
        # Under another name first: the job of an earlier, doubtful submission may just be reading it.
        draft = self.directory / f".{spec.name}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(draft, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(spec.stdin)
        draft.replace(self.path(spec.name))
