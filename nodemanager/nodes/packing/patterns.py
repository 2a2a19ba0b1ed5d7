"""How to fill nodes well: the greedy choice of patterns.

A *bin* is a kind of room: a size that can be ordered as often as one likes, or free room on so many nodes. A
*pattern* is a load for one bin. The greedy choice takes, again and again, the bin and pattern with the most value
for its cost, as often as there are containers for it; so the work depends on how many kinds and bins there are, not
on how many containers wait. Three things make it quick and good:

- *Values* (`pricing`) are reckoned anew now and then for what is left, so that what becomes plentiful becomes
  cheap: otherwise the easy containers would be used up first and the awkward ones left with no partners.
- A pattern grows by the container that would be worth the most if the room that is left were filled with
  nothing else: a node with much RAM left takes one that needs RAM.
- The value of a bin's best pattern only falls while containers are used up. So a heap of what they were last
  worth, or of an upper bound, says which has to be looked at again; most never are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from nodemanager.nodes.packing.kinds import Amounts, Waiting, copies, less
from nodemanager.nodes.packing.pricing import Values

REPRICED_AFTER = 1 / 8
"""Values are reckoned anew whenever so much of what was left has been placed."""
GOOD_ENOUGH = 0.005
"""The first pattern that has no more than so much less value for its cost than another might have is taken."""
WINDOW = 64
"""So many kinds are looked at for the next container, those with the most value waiting first; others fill
what these leave. More make packing slower and hardly better."""

_NEAR = 1 - 1e-9


@dataclass(frozen=True, slots=True)
class Bin:
    """Where containers can go."""

    room: Amounts
    welcome: tuple[bool, ...]
    """By audience."""
    cost: float | None = None
    """None: as much as what the room can hold is worth, so that the fullest is the best."""
    supply: int | None = None
    """How many there are; None means as many as one likes."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """`count` bins with the same load, by kind."""

    bin: int
    """By index, or what was settled on in its place."""
    load: Mapping[int, int]
    count: int


def most_urgent_first(patterns: Iterable[Pattern], waiting: Waiting) -> list[Pattern]:
    """By the most urgent container that each could get."""
    return sorted(patterns, key=lambda p: -max(waiting.head(kind).priority for kind in p.load))


Settle = Callable[[int, Mapping[int, int]], int | None]
"""What to have for a bin and its load: the bin itself, by index, or what the caller rather has for it; None if
the load may not be placed there."""

_Entry = tuple[float, int, Mapping[int, int] | None]
"""Minus value for cost, a bin, and the load that has it; None if it is an upper bound."""
_Line = tuple[int, int, int, int, int, float, float, float, float]
"""A kind, what it needs, and that per value: flat, since most of the time is spent on these."""


class Filler:
    """Finds patterns for `counts` containers by kind; what it finds no place for is left in `counts`."""

    def __init__(
        self,
        waiting: Waiting,
        counts: list[int],
        values: Values,
        bins: Sequence[Bin],
        is_over: Callable[[], bool],
        *,
        settle: Settle = lambda index, _load: index,
        slack: float = 0.0,
        biggest_first: bool = False,
    ) -> None:
        """`bins` are in order of preference among equals. The first pattern within `slack` of the best that
        could be is taken. `biggest_first` fills a bin with the biggest that fit, rather than those that suit."""
        self.counts = counts
        self.complete = True
        """False when time was up before all was looked at."""
        self._waiting = waiting
        self._values = values
        self._bins = bins
        self._supply = [b.supply for b in bins]
        self._is_over = is_over
        self._settle = settle
        self._good = _NEAR * (1 - slack)
        self._choose = _biggest if biggest_first else _best
        self._costs = [0.0] * len(bins)
        self._lines: dict[tuple[bool, ...], list[_Line]] = {}
        """Kinds by who is welcome, those with the most value waiting first."""

    def run(self) -> list[Pattern]:
        """Patterns, best first."""
        found: list[Pattern] = []
        left = sum(self.counts)
        self._values.update(self.counts)
        heap = self._heap()
        reprice_at = left * (1 - REPRICED_AFTER)
        while left and heap:
            if self._is_over():
                self.complete = False
                break
            if left < reprice_at:
                reprice_at = left * (1 - REPRICED_AFTER)
                if self._values.update(self.counts):
                    heap = self._heap()
            key, index, load = heappop(heap)
            if load is None or not self._has(load):
                load = self._fill(index)
                if not load:
                    continue
                key = -self._value(load) / self._costs[index]
                if heap and key > heap[0][0] * self._good:
                    heappush(heap, (key, index, load))
                    continue
            settled = self._settle(index, load)
            if settled is None:
                continue
            enough = max(1, int((left - reprice_at) / sum(load.values())) + 1)
            count = self._use(index, load, enough)
            found.append(Pattern(settled, load, count))
            left -= count * sum(load.values())
            if self._supply[index] != 0:
                heappush(heap, (key, index, load))
        return found

    def _heap(self) -> list[_Entry]:
        """Upper bounds, at today's values."""
        self._lines = {}
        heap: list[_Entry] = []
        for index, each in enumerate(self._bins):
            most = self._values.most(each.room, each.welcome)
            self._costs[index] = most if each.cost is None else each.cost
            if self._supply[index] != 0:
                heap.append((-most / self._costs[index], index, None))
        heapify(heap)
        return heap

    def _value(self, load: Mapping[int, int]) -> float:
        of = self._values.of
        return sum(of[kind] * count for kind, count in load.items())

    def _has(self, load: Mapping[int, int]) -> bool:
        """Whether that many are left."""
        counts = self.counts
        return all(counts[kind] >= count for kind, count in load.items())

    def _use(self, index: int, load: Mapping[int, int], most: int) -> int:
        """Place the load as often as it goes, but no more than `most`; returns how often."""
        supply = self._supply[index]
        count = min(self.counts[kind] // number for kind, number in load.items())
        count = min(count, most if supply is None else min(most, supply))
        for kind, number in load.items():
            self.counts[kind] -= number * count
        if supply is not None:
            self._supply[index] = supply - count
        return count

    def _fill(self, index: int) -> dict[int, int]:
        """A load for one bin: as long as there is room, half of what fits of the kind that suits the room
        best."""
        counts = self.counts
        room = self._bins[index].room
        lines = self._line(self._bins[index].welcome)
        load: dict[int, int] = {}
        near = _window(lines, counts, room)
        while near:
            best = self._choose(near, room)
            kind, need = best[0], best[1:5]
            have = load.get(kind, 0)
            number = copies(room, need, counts[kind] - have)
            load[kind] = have + (number // 2 or 1)
            room = less(room, need, number // 2 or 1)
            if load[kind] == counts[kind]:
                near.remove(best)
            near = _fitting(near, room) or _window(lines, counts, room)
        return load

    def _line(self, welcome: tuple[bool, ...]) -> Iterator[_Line]:
        """The kinds that are welcome, to be walked through once."""
        lines = self._lines.get(welcome)
        if lines is None:
            lines = self._lines[welcome] = self._sorted(welcome)
        elif any(not self.counts[line[0]] for line in lines[:WINDOW]):
            lines = self._lines[welcome] = [line for line in lines if self.counts[line[0]]]
        return iter(lines)

    def _sorted(self, welcome: tuple[bool, ...]) -> list[_Line]:
        of, counts = self._values.of, self.counts
        audience, needs = self._waiting.audience, self._waiting.needs
        kinds = [kind for kind, count in enumerate(counts) if count and welcome[audience[kind]]]
        kinds.sort(key=lambda kind: (-counts[kind] * of[kind], kind))
        return [
            (kind, *need, need[0] / value, need[1] / value, need[2] / value, need[3] / value)
            for kind, need, value in ((kind, needs[kind], of[kind]) for kind in kinds)
        ]


def _window(lines: Iterator[_Line], counts: Sequence[int], room: Amounts) -> list[_Line]:
    """The next kinds that fit."""
    cores, ram, scratch, gpus = room
    near: list[_Line] = []
    for line in lines:
        if (
            line[1] <= cores
            and line[2] <= ram
            and line[3] <= scratch
            and line[4] <= gpus
            and counts[line[0]]
        ):
            near.append(line)
            if len(near) == WINDOW:
                break
    return near


def _fitting(lines: Sequence[_Line], room: Amounts) -> list[_Line]:
    """Those that fit."""
    cores, ram, scratch, gpus = room
    return [
        line
        for line in lines
        if line[1] <= cores and line[2] <= ram and line[3] <= scratch and line[4] <= gpus
    ]


def _best(lines: Sequence[_Line], room: Amounts) -> _Line:
    """The kind of which `room` would hold the most value, if it could be cut to fit."""
    cores, ram, scratch, gpus = (1 / has if has else 0.0 for has in room)
    best, least = lines[0], math.inf
    for line in lines:
        if (
            (a := line[5] * cores) < least
            and (b := line[6] * ram) < least
            and (c := line[7] * scratch) < least
            and (d := line[8] * gpus) < least
        ):
            best, least = line, max(a, b, c, d)
    return best


def _biggest(lines: Sequence[_Line], room: Amounts) -> _Line:
    """The kind that needs the most of `room`, all resources together."""
    cores, ram, scratch, gpus = (1 / has if has else 0.0 for has in room)
    return max(
        lines, key=lambda line: line[1] * cores + line[2] * ram + line[3] * scratch + line[4] * gpus
    )
