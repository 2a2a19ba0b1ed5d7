"""What waits, sorted into kinds: all containers of one shape, however many, are one line of numbers.

Packing works on kinds and their counts. Only when a place is found for some containers of a kind are they taken
out of its queue, the most urgent first, so that which demand they belong to is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nodemanager.model import Resources
from nodemanager.nodes.demand import Demand, Shape

Amounts = tuple[int, int, int, int]
"""Cores, RAM, scratch, GPUs: what the inner loops reckon with."""
NOTHING: Amounts = (0, 0, 0, 0)


def amounts(resources: Resources) -> Amounts:
    """`resources` as a plain tuple."""
    return resources.cores, resources.ram_bytes, resources.scratch_bytes, resources.gpus


def holds(room: Amounts, need: Amounts) -> bool:
    """Whether `need` fits into `room` (as `fit.fits`, on tuples)."""
    return need[0] <= room[0] and need[1] <= room[1] and need[2] <= room[2] and need[3] <= room[3]


def less(room: Amounts, need: Amounts, times: int = 1) -> Amounts:
    """What is left of `room` without `times` times `need`."""
    return (
        room[0] - need[0] * times,
        room[1] - need[1] * times,
        room[2] - need[2] * times,
        room[3] - need[3] * times,
    )


def copies(room: Amounts, need: Amounts, most: int) -> int:
    """How many times `need` fits into `room`, at most `most`."""
    if not holds(room, need):
        return 0
    for has, wants in zip(room, need, strict=True):
        if wants and has < wants * most:
            most = has // wants
    return most


@dataclass(slots=True)
class Batch:
    """Some containers of one demand."""

    demand: int
    count: int
    priority: int


@dataclass(slots=True)
class Group:
    """All containers of one kind and one priority."""

    priority: int
    kind: int
    count: int


class Waiting:
    """The containers that wait. A kind is an index into the lists; kinds are in an order of their own, so that
    the order of the demands does not matter."""

    def __init__(self, demands: Sequence[Demand]) -> None:
        queues: dict[tuple[Amounts, tuple[str, ...], bool], list[Batch]] = {}
        for index, demand in enumerate(demands):
            if demand.count > 0:
                shape = demand.shape
                names = tuple(sorted(set(shape.partitions)))
                key = (amounts(shape.resources), names, shape.preemptible)
                batch = Batch(index, demand.count, demand.priority)
                queues.setdefault(key, []).append(batch)
        keys = sorted(queues)
        self.needs: list[Amounts] = [need for need, _, _ in keys]
        audiences = sorted({(names, preemptible) for _, names, preemptible in keys})
        number = {audience: index for index, audience in enumerate(audiences)}
        self.audience: list[int] = [number[names, preemptible] for _, names, preemptible in keys]
        """By kind: containers of one audience may run on the same nodes, if those are large enough."""
        self._audiences = [Shape(Resources(*NOTHING), *audience) for audience in audiences]
        self._queues = [deque(sorted(queues[key], key=lambda b: -b.priority)) for key in keys]
        self.left: list[int] = [sum(b.count for b in queue) for queue in self._queues]
        """By kind: how many have no place yet."""

    def __len__(self) -> int:
        return len(self.needs)

    @property
    def audiences(self) -> range:
        """All of them."""
        return range(len(self._audiences))

    def welcome(self, partitions: tuple[str, ...], *, preemptible: bool) -> tuple[bool, ...]:
        """Which audiences may run on a node in `partitions`."""
        return tuple(
            audience.suits(partitions, preemptible=preemptible) for audience in self._audiences
        )

    def take(self, kind: int, count: int) -> Iterator[Batch]:
        """Take the `count` most urgent of a kind out of its queue."""
        self.left[kind] -= count
        queue = self._queues[kind]
        while count:
            head = queue[0]
            taken = min(count, head.count)
            yield Batch(head.demand, taken, head.priority)
            count -= taken
            head.count -= taken
            if not head.count:
                queue.popleft()

    def head(self, kind: int) -> Batch:
        """The most urgent of a kind of which there are some left."""
        return self._queues[kind][0]

    def portions(self, most_kinds: int) -> Iterator[list[int]]:
        """What is left, by kind, in portions of about so many kinds, the most urgent first."""
        if len(self) <= most_kinds:
            yield list(self.left)
            return
        portion = [0] * len(self)
        kinds, priority = 0, None
        for group in self.by_urgency():
            if kinds >= most_kinds and group.priority != priority:
                yield portion
                portion, kinds = [0] * len(self), 0
            kinds += not portion[group.kind]
            portion[group.kind] += group.count
            priority = group.priority
        yield portion

    def by_urgency(
        self, kinds: Iterable[int] | None = None, weight: Sequence[float] | None = None
    ) -> list[Group]:
        """What is left of some kinds, or all, most urgent first; of equal urgency, the lightest by `weight` (by
        kind) first."""
        groups: dict[tuple[int, int], Group] = {}
        for kind in range(len(self)) if kinds is None else sorted(kinds):
            for batch in self._queues[kind]:
                key = (kind, batch.priority)
                if key in groups:
                    groups[key].count += batch.count
                else:
                    groups[key] = Group(batch.priority, kind, batch.count)
        weights = weight or [0.0] * len(self)
        return sorted(groups.values(), key=lambda g: (-g.priority, weights[g.kind], g.kind))

    def rest(self) -> Iterator[tuple[int, Iterable[Batch]]]:
        """The kinds of which some have no place, and those."""
        for kind, queue in enumerate(self._queues):
            if queue:
                yield kind, queue
