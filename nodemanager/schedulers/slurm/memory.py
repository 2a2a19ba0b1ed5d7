"""What this module has to remember over a restart of the daemon: small files in its state directory.

Which jobs an array has can be read from Slurm too, as long as Slurm remembers the array; which jobs we
cancelled ourselves is written nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nodemanager.durable import write_private
from nodemanager.errors import SchedulerError

_SWEEP_AFTER_SECONDS = 7 * 86400.0
"""Files of jobs that nobody asked about for so long are of no use."""


class CancelMarks:
    """The names of jobs that we cancelled, one empty file each: whose end is ours, not an operator's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, names: Iterable[str]) -> None:
        """To be called before the cancellation."""
        with _disk(self._directory):
            for name in names:
                (self._directory / name).touch(mode=0o600)

    def __contains__(self, name: str) -> bool:
        return (self._directory / name).exists()

    def remove(self, names: Iterable[str]) -> None:
        """The ends of these are recorded."""
        with _disk(self._directory):
            for name in names:
                (self._directory / name).unlink(missing_ok=True)

    def sweep(self, known: Collection[str]) -> None:
        """Remove old marks of jobs that are not in `known`."""
        _sweep(self._directory, known)


class ArrayNames:
    """The names of the jobs of each array, in the order of its tasks: one file per array, named as the array."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: dict[str, tuple[str, ...]] = {}
        self._array_of: dict[str, str] = {}
        self._left: dict[str, set[str]] = {}
        """Of each array, those that are not forgotten yet."""
        self._is_loaded = False

    def remember(self, array: str, names: Sequence[str]) -> None:
        """To be called before the array is submitted."""
        with _disk(self._directory):
            write_private(self._directory / array, "\n".join(names), durable=False)
        self._note(array, names)

    def found(self, array: str, names: Sequence[str]) -> None:
        """Slurm itself says which jobs the array has."""
        self._note(array, names)

    def get(self, array: str) -> tuple[str, ...]:
        """The names, as far as anything is remembered here; none otherwise."""
        self._load()
        return self._names.get(array, ())

    def array_of(self, name: str) -> str:
        """The array that has this job; empty when none is known."""
        self._load()
        return self._array_of.get(name, "")

    def of(self, names: Iterable[str]) -> set[str]:
        """The arrays that have any of these jobs."""
        self._load()
        return {self._array_of[name] for name in names if name in self._array_of}

    def forget(self, names: Iterable[str]) -> None:
        """These jobs are done with; an array of which all are is forgotten."""
        self._load()
        for name in names:
            array = self._array_of.pop(name, None)
            if array is None:
                continue
            self._left[array].discard(name)
            if not self._left[array]:
                del self._left[array], self._names[array]
                with _disk(self._directory):
                    (self._directory / array).unlink(missing_ok=True)

    def sweep(self, known: Collection[str]) -> None:
        """Forget old arrays that are not in `known`."""
        for array in _sweep(self._directory, known):
            for name in self._names.pop(array, ()):
                self._array_of.pop(name, None)
            self._left.pop(array, None)

    def _note(self, array: str, names: Sequence[str]) -> None:
        self._names[array] = tuple(names)
        self._left[array] = set(names)
        self._array_of.update(dict.fromkeys(names, array))

    def _load(self) -> None:
        """What a former daemon left, once."""
        if self._is_loaded:
            return
        with _disk(self._directory):
            for path in self._directory.iterdir():
                if path.name not in self._names and not path.name.endswith(".tmp"):
                    self._note(path.name, path.read_text("utf-8").split())
        self._is_loaded = True


def _sweep(directory: Path, known: Collection[str]) -> list[str]:
    oldest = time.time() - _SWEEP_AFTER_SECONDS
    removed = []
    with _disk(directory):
        for path in directory.iterdir():
            if path.name not in known and path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
                removed.append(path.name)
    return removed


@contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """The directory is there; what the disk refuses is an error of the scheduler."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise SchedulerError(f"cannot keep notes about jobs: {error}") from error
