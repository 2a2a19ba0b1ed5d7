"""Which jobs each array has. Slurm can be asked for that too, as long as it remembers the array."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from nodemanager.schedulers.notes import NoteKind, Notes

SWEEP_AFTER_SECONDS = 7 * 86400.0
"""Notes about jobs that nobody asked about for so long are of no use."""


class ArrayNames:
    """The names of the jobs of each array, in the order of its tasks."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._names: dict[str, tuple[str, ...]] = {}
        self._array_of: dict[str, str] = {}
        self._left: dict[str, set[str]] = {}
        """Of each array, those that are not forgotten yet."""
        self._is_loaded = False

    def remember(self, array: str, names: Sequence[str]) -> None:
        """To be called before the array is submitted."""
        self._notes.write(NoteKind.ARRAY, array, " ".join(names))
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

    def forget(self, names: Iterable[str]) -> None:
        """These jobs are done with; an array of which all are is forgotten."""
        self._load()
        for name in names:
            array = self._array_of.pop(name, None)
            if array is None:
                continue
            self._left[array].discard(name)
            if not self._left[array]:
                self._drop(array)

    def sweep(self, known: Collection[str]) -> None:
        """Forget old arrays none of whose jobs is in `known`."""
        self._load()
        for array in self._notes.older(NoteKind.ARRAY, SWEEP_AFTER_SECONDS):
            names = self._names.get(array, ())
            if not any(name in known for name in names):
                for name in names:
                    self._array_of.pop(name, None)
                self._drop(array)

    def _drop(self, array: str) -> None:
        self._left.pop(array, None)
        self._names.pop(array, None)
        self._notes.remove(NoteKind.ARRAY, array)

    def _note(self, array: str, names: Sequence[str]) -> None:
        self._names[array] = tuple(names)
        self._left[array] = set(names)
        self._array_of.update(dict.fromkeys(names, array))

    def _load(self) -> None:
        """What a former daemon left, once."""
        if self._is_loaded:
            return
        for array, text in self._notes.all(NoteKind.ARRAY).items():
            if array not in self._names:
                self._note(array, text.split())
        self._is_loaded = True
