"""Which waiting job of the local scheduler starts next: pure, with time passed in.

The rule: more urgent first, then older first. A job that does not fit into what is free lets those
behind it pass, but only until it has been the first in line for `patience` seconds; from then on nothing passes
it, so that room for it comes together as running jobs end. Thus nothing waits for ever while the machine
works, and the machine stands idle only for a job that has waited long.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from nodemanager.fit import fits
from nodemanager.model import Resources, format_bytes


@dataclass(slots=True)
class _Waiting:
    resources: Resources
    place: tuple[int, int, str]
    """Minus priority, number, name: the order of the line."""
    first_since: float | None = None
    """When it was first found at the head of the line without room."""


class Line:
    """The waiting jobs."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._jobs: dict[str, _Waiting] = {}
        self._order: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, name: str, number: int, priority: int, resources: Resources) -> None:
        """Put a job in line; `number` grows with each submission."""
        job = _Waiting(resources, (-priority, number, name))
        self._jobs[name] = job
        insort(self._order, job.place)

    def remove(self, name: str) -> None:
        """Take a job out of the line."""
        place = self._jobs.pop(name).place
        del self._order[bisect_left(self._order, place)]

    def prioritise(self, name: str, priority: int) -> None:
        """Move a job to the place its new priority gives it."""
        job = self._jobs[name]
        del self._order[bisect_left(self._order, job.place)]
        job.place = (-priority, *job.place[1:])
        insort(self._order, job.place)

    def choose(self, free: Resources, now: float) -> str | None:
        """The job to start now, or None; it stays in line until it is removed."""
        for position, (_, _, name) in enumerate(self._order):
            job = self._jobs[name]
            if fits(job.resources, free):
                return name
            if position == 0:
                if job.first_since is None:
                    job.first_since = now
                if now - job.first_since >= self._patience:
                    return None
            if free.cores < 1:
                return None
        return None


def shortage(needed: Resources, available: Resources) -> str:
    """Which resources do not suffice, with the numbers; empty when all do."""
    rows = (
        ("cores", needed.cores, available.cores, str),
        ("RAM", needed.ram_bytes, available.ram_bytes, format_bytes),
        ("scratch space", needed.scratch_bytes, available.scratch_bytes, format_bytes),
        ("GPUs", needed.gpus, available.gpus, str),
    )
    return ", ".join(
        f"{label}: wants {show(wanted)} of {show(max(has, 0))}"
        for label, wanted, has, show in rows
        if wanted > has
    )
