"""The answer while it is being written: who goes where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nodemanager.model import NodeSize
from nodemanager.nodes.demand import Load, NewNodes, Packing, Room
from nodemanager.nodes.packing.allowance import Allowance
from nodemanager.nodes.packing.kinds import Amounts, Batch, Waiting, amounts, holds
from nodemanager.nodes.packing.offers import Offers


@dataclass(frozen=True, slots=True)
class Vacancy:
    """A room that something could go into."""

    node: str
    room: Amounts
    welcome: tuple[bool, ...]
    stage: tuple[int, bool]
    """Lower ones are filled first: by rank, and before empty nodes those that others keep busy anyway."""

    @property
    def is_empty(self) -> bool:
        """Nothing runs there."""
        return self.stage[1]


def vacancies(waiting: Waiting, rooms: Iterable[Room]) -> list[Vacancy]:
    """The rooms that something could go into, in the order in which to fill them.

    In a stage, rooms that few may use come first, since others have nowhere else to go; then the tight ones, so that
    large nodes stay free for large containers, or to leave.
    """
    least = [min((need[r] for need in waiting.needs), default=0) for r in range(4)]
    found = []
    for room in rooms:
        free = amounts(room.free)
        welcome = waiting.welcome(room.partitions, preemptible=room.preemptible)
        if any(welcome) and all(has >= wants for has, wants in zip(free, least, strict=True)):
            found.append(Vacancy(room.node, free, welcome, (room.rank, room.empty)))
    most = [max((v.room[r] for v in found), default=0) or 1 for r in range(4)]
    found.sort(
        key=lambda v: (
            v.stage,
            sum(v.welcome),
            sum(has / of for has, of in zip(v.room, most, strict=True)),
            v.node,
        )
    )
    return found


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, and what has been done of it."""

    waiting: Waiting
    vacant: Sequence[Vacancy]
    offers: Offers
    allowance: Allowance
    is_over: Callable[[], bool]
    draft: Draft


class Draft:
    """Takes containers out of `waiting` and puts them where they are to go."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._rooms: dict[str, Counter[int]] = {}
        self._new: dict[tuple[str, frozenset[tuple[int, int]]], NewNodes] = {}

    def put(self, vacancy: Vacancy, load: Mapping[int, int]) -> None:
        """So many of each kind go into a room."""
        into = self._rooms.setdefault(vacancy.node, Counter())
        for kind, count in load.items():
            for batch in self._waiting.take(kind, count):
                into[batch.demand] += batch.count

    def order(self, size: NodeSize, load: Mapping[int, int], count: int) -> None:
        """`count` nodes with the same load, by kind. Which containers those are may differ from node to node."""
        waiting = self._waiting
        while count:
            alike = min(waiting.head(kind).count // number for kind, number in load.items())
            alike = max(1, min(alike, count))
            batches: list[Batch] = []
            for kind, number in load.items():
                batches += waiting.take(kind, number * alike)
            self.add(size, batches, alike)
            count -= alike

    def add(self, size: NodeSize, batches: Sequence[Batch], count: int = 1) -> None:
        """`count` nodes, on which these have been put in equal parts."""
        load: Counter[int] = Counter()
        for batch in batches:
            load[batch.demand] += batch.count // count
        priority = max(batch.priority for batch in batches)
        key = size.name, frozenset(load.items())
        if key in self._new:
            count += self._new[key].count
        self._new[key] = NewNodes(size, count, Load(dict(sorted(load.items()))), priority)

    def finish(
        self,
        fits: Sequence[bool],
        rooms: Sequence[Room],
        *,
        complete: bool,
        within: Allowance | None = None,
    ) -> Packing:
        """The answer; `fits` says for each kind whether some size would fit it. Nodes that are not `within` the
        limits are left out, the least urgent first."""
        unplaced: Counter[int] = Counter()
        unfit: Counter[int] = Counter()
        for kind, batches in self._waiting.rest():
            into = unplaced if fits[kind] or self._has_room(kind, rooms) else unfit
            for batch in batches:
                into[batch.demand] += batch.count
        new = []
        for nodes in sorted(self._new.values(), key=_most_urgent_first):
            count = nodes.count
            if within is not None:
                count = int(min(count, within.most(nodes.size.price)))
                within.spend(count, nodes.size.price * count)
            if count:
                new.append(replace(nodes, count=count))
            if count < nodes.count:
                for demand, number in nodes.load.counts.items():
                    unplaced[demand] += number * (nodes.count - count)
        return Packing(
            rooms={node: Load(dict(sorted(load.items()))) for node, load in self._rooms.items()},
            new=tuple(new),
            unplaced=dict(unplaced),
            unfit=dict(unfit),
            complete=complete,
        )

    def _has_room(self, kind: int, rooms: Iterable[Room]) -> bool:
        need, audience = self._waiting.needs[kind], self._waiting.audience[kind]
        return any(
            holds(amounts(room.free), need)
            and self._waiting.welcome(room.partitions, preemptible=room.preemptible)[audience]
            for room in rooms
        )


def _most_urgent_first(nodes: NewNodes) -> tuple[int, int, str, list[tuple[int, int]]]:
    """Of equal urgency, those that serve more."""
    load = nodes.load.counts
    return -nodes.priority, -sum(load.values()), nodes.size.name, sorted(load.items())
