"""Which waiting job of the local scheduler starts next, and on which node: pure, with time passed in.

The rule: more urgent first, then older first. A job that does not fit into what is free lets those
behind it pass, but only until it has been the first in line for `patience` seconds; from then on nothing passes
it, so that room for it comes together as running jobs end. Thus nothing waits for ever while the machine
works, and the machine stands idle only for a job that has waited long.

With several nodes each has its own line: a job stands in the lines of the nodes that could hold it if they were
empty, and is first in those where no more urgent one stands. When its patience is over, one node is kept for it, the
one that lacks least; the others go on. As nothing starts on that node, what it lacks only shrinks, and another is
kept in its stead only when that one lacks less, so the job's turn comes. A job that no node here could ever hold
stands in no line: it waits for a node to come, and holds up nobody meanwhile.

A job is put on the node that is fullest already, so that others become empty and can be let go.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nodemanager.fit import fits, shares_partition
from nodemanager.model import Resources, format_bytes


@dataclass(frozen=True, slots=True)
class Need:
    """What a job asks of its node; of resources at least a core."""

    resources: Resources
    partitions: tuple[str, ...] = ()
    """Partitions it may run in; empty means any."""
    preemptible: bool = False
    """It may run on a node that can be taken away; without it, never."""
    exclusive: bool = False
    """It wants the node to itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node that takes work, as it is now."""

    node: str
    total: Resources
    free: Resources
    """Nothing while a job has the node to itself."""
    partitions: tuple[str, ...] = ()
    """Empty means that they are not used there: it is in every one."""
    preemptible: bool = False
    empty: bool = True
    """Nothing runs there."""

    def could_hold(self, need: Need) -> bool:
        """Whether the job may run here at all, and fits when the node is empty."""
        if self.preemptible and not need.preemptible:
            return False
        if not shares_partition(need.partitions, self.partitions):
            return False
        return fits(need.resources, self.total)

    def holds(self, need: Need) -> bool:
        """Whether the job can start here now."""
        if need.exclusive and not self.empty:
            return False
        return self.could_hold(need) and fits(need.resources, self.free)

    def lack(self, need: Need) -> float:
        """How far the node is from holding a job that it could hold: the sum of relative shortfalls."""
        wanted = self.total if need.exclusive else need.resources
        pairs = (
            (wanted.cores, self.free.cores),
            (wanted.ram_bytes, self.free.ram_bytes),
            (wanted.scratch_bytes, self.free.scratch_bytes),
            (wanted.gpus, self.free.gpus),
        )
        return sum((wants - has) / wants for wants, has in pairs if wants > has)


@dataclass(slots=True)
class _Waiting:
    need: Need
    place: tuple[int, int, str]
    """Minus priority, number, name: the order of the line."""
    first_since: float | None = None
    """When it was first found at the head of a node's line without room."""


class Line:
    """The waiting jobs."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._jobs: dict[str, _Waiting] = {}
        self._order: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, name: str, number: int, priority: int, need: Need) -> None:
        """Put a job in line; `number` grows with each submission."""
        job = _Waiting(need, (-priority, number, name))
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

    def choose(self, places: Sequence[Place], now: float) -> tuple[str, str] | None:
        """The job to start now and its node, or None; the job stays in line until it is removed.

        `places` are the nodes that take work.
        """
        usable = {place.node: place for place in places}
        headless = set(usable)
        """Nodes in whose line nobody was met yet."""
        met: set[Need] = set()
        cores = _most_cores(usable.values())
        for _, _, name in self._order:
            job = self._jobs[name]
            if not headless:
                # From here on only who can start now is of interest.
                if cores < 1:
                    return None
                if job.need.resources.cores > cores:
                    continue
            if job.need in met:
                # Whoever asked for the same before found no room, and stands before it in every line.
                continue
            met.add(job.need)
            room = [place for place in usable.values() if place.holds(job.need)]
            if room:
                return name, min(room, key=_emptiness).node
            could = [place for place in places if place.could_hold(job.need)]
            first_in = [place for place in could if place.node in headless]
            if first_in and self._is_out_of_patience(job, now):
                kept = min(first_in, key=lambda place: (place.lack(job.need), place.node))
                del usable[kept.node]
                cores = _most_cores(usable.values())
            headless.difference_update(place.node for place in could)
        return None

    def _is_out_of_patience(self, job: _Waiting, now: float) -> bool:
        if job.first_since is None:
            job.first_since = now
        return now - job.first_since >= self._patience


def _most_cores(places: Iterable[Place]) -> int:
    return max((place.free.cores for place in places), default=0)


def _emptiness(place: Place) -> tuple[bool, int, int, str]:
    """The fullest node has the least of it."""
    return place.empty, place.free.cores, place.free.ram_bytes, place.node


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
