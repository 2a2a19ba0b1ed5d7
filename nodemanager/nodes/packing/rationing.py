"""Who gets a place when not all can: strictly in the order of urgency.

Rooms are filled first fit. Then nodes are ordered in *waves*: of the most urgent containers so many as should
fill most of the nodes that may still be ordered are packed together, as well as `ordering` can. If the limits bear
it those nodes are ordered, if not a smaller wave is tried. The last few nodes are filled group by group: a
group finds room on the nodes that are there, or lets one of the last of them become larger, or gets another. When it
can have none of these it waits, and those behind it get only what is of no use to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nodemanager.nodes.packing.allowance import bears
from nodemanager.nodes.packing.draft import Task
from nodemanager.nodes.packing.firstfit import FirstFit
from nodemanager.nodes.packing.kinds import NOTHING, Amounts, Batch, Group, copies, holds, less
from nodemanager.nodes.packing.offers import ROUNDING
from nodemanager.nodes.packing.ordering import Costs, Ordering
from nodemanager.nodes.packing.patterns import Pattern, most_urgent_first

FIRST_TRY = 0.9
"""A wave is to need so much of what may still be ordered, by the lower bound of what it will need."""
NEXT_TRY = 0.9
"""When that was too much, it is made smaller by this."""
MOST_TRIES = 6
GROWING = 8
"""So many of the nodes ordered last may still become larger."""

_TINY = 1e-6
"""How much the price counts where it is not limited: of sizes that are equally good the cheaper is the better."""


@dataclass(slots=True)
class _Node:
    """A node that will be ordered, though not yet as which size."""

    choice: int | None = None
    price: float = 0.0
    used: Amounts = NOTHING
    fair: float = 0.0
    load: dict[int, int] = field(default_factory=dict)
    """By kind."""
    batches: list[Batch] = field(default_factory=list)
    gap: int | None = None
    """What is left of it, in `FirstFit`."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A node becomes a larger one, or a new one is had, and so many containers more go there."""

    node: _Node
    choice: int
    count: int


class Rationing:
    """Places as many as the limits allow."""

    def __init__(self, task: Task) -> None:
        self._waiting = task.waiting
        self._vacant = task.vacant
        self._offers = task.offers
        self._allowance = task.allowance
        self._is_over = task.is_over
        self._draft = task.draft
        self._nodes: list[_Node] = []
        self._gaps = FirstFit(task.waiting)
        rooms = [choice.room for choice in task.offers.choices]
        self._largest: Amounts = (
            max((room[0] for room in rooms), default=0),
            max((room[1] for room in rooms), default=0),
            max((room[2] for room in rooms), default=0),
            max((room[3] for room in rooms), default=0),
        )

    def run(self) -> bool:
        """Returns whether time sufficed."""
        ordering = self._ordering()
        ordering.values.update(self._waiting.left)
        groups = self._waiting.by_urgency(weight=ordering.values.of)
        complete = (
            self._fill_rooms(groups) and self._order_in_waves(groups) and self._fill_last(groups)
        )
        for node in self._nodes:
            carrier = self._offers.carrier(node.load)
            if carrier is not None:
                size = self._offers.choices[carrier].size
                self._draft.add(size, node.batches)
        return complete

    def _fill_rooms(self, groups: Iterable[Group]) -> bool:
        rooms = FirstFit(self._waiting)
        for vacancy in self._vacant:
            rooms.add(vacancy.room, vacancy.welcome)
        for group in groups:
            if self._is_over():
                return False
            for index, count in rooms.place(group.kind, group.count):
                self._draft.put(self._vacant[index], {group.kind: count})
                group.count -= count
        return True

    def _order_in_waves(self, groups: Iterable[Group]) -> bool:
        share = FIRST_TRY
        for _ in range(MOST_TRIES):
            ordering = self._ordering()
            wave = self._wave([group for group in groups if group.count], ordering, share)
            counts = [0] * len(self._waiting)
            for group, count in wave:
                counts[group.kind] += count
            if self._allowance.nodes < 2 or not any(counts):
                break
            patterns = ordering.patterns(counts)
            if not ordering.complete:
                return False
            if not bears(self._allowance, patterns, self._offers):
                share *= NEXT_TRY
                continue
            self._order(patterns)
            for group, count in wave:
                group.count -= count
            share = FIRST_TRY
        return True

    def _wave(
        self, groups: Sequence[Group], ordering: Ordering, share: float
    ) -> list[tuple[Group, int]]:
        """The most urgent that find no gap, as many as should need `share` of what may still be ordered."""
        counts = [0] * len(self._waiting)
        for group in groups:
            if self._offers.alone[group.kind] is not None:
                counts[group.kind] += group.count
        ordering.values.update(counts)
        needs = ordering.values.of
        if share == FIRST_TRY and sum(n * c for n, c in zip(needs, counts, strict=True)) <= 1:
            share = math.inf
        wave = []
        for group in groups:
            self._into_gaps(group)
            if self._offers.alone[group.kind] is None:
                continue
            count = max(0, int(min(group.count, share / needs[group.kind])))
            wave.append((group, count))
            share -= count * needs[group.kind]
            if count < group.count:
                break
        return wave

    def _fill_last(self, groups: Iterable[Group]) -> bool:
        hopeless: set[int] = set()
        for group in groups:
            if self._is_over():
                return False
            self._into_gaps(group)
            while group.count and group.kind not in hopeless:
                step = self._step(group)
                if step is None:
                    # Nor for those behind it that need the same: there will not be more to be had.
                    hopeless.add(group.kind)
                else:
                    self._take(step, group)
        return True

    def _step(self, group: Group) -> _Step | None:
        """What gives some of the group a place at the least cost for each."""
        need, audience = self._waiting.needs[group.kind], self._waiting.audience[group.kind]
        fair = self._offers.fair({group.kind: 1})
        nodes, choices = self._nodes[-GROWING:], self._offers.choices
        if self._allowance.nodes >= 1:
            nodes.append(_Node())
        best: tuple[tuple[float, bool, int], _Step] | None = None
        for node in nodes:
            if not holds(less(self._largest, node.used), need):
                continue
            audiences = {self._waiting.audience[kind] for kind in node.load} | {audience}
            # Choices are cheapest first, and what is not dearer than the node is no growth.
            for index in range(0 if node.choice is None else node.choice + 1, len(choices)):
                choice = choices[index]
                extra = choice.price - node.price
                if extra > self._allowance.price * ROUNDING:
                    break
                count = copies(less(choice.room, node.used), need, group.count)
                if (
                    count > 0
                    and all(choice.welcome[each] for each in audiences)
                    and self._offers.may(choice.price, node.fair + fair * count)
                ):
                    merit = extra / count, node.choice is None, -count
                    if best is None or merit < best[0]:
                        best = merit, _Step(node, index, count)
        return None if best is None else best[1]

    def _take(self, step: _Step, group: Group) -> None:
        node, choice = step.node, self._offers.choices[step.choice]
        self._allowance.spend(int(node.choice is None), choice.price - node.price)
        node.choice, node.price = step.choice, choice.price
        self._place(node, group.kind, step.count)
        group.count -= step.count
        if node.gap is None:
            self._add(node)
        else:
            self._gaps.change(node.gap, less(choice.room, node.used), choice.welcome)

    def _order(self, patterns: Sequence[Pattern]) -> None:
        for pattern in most_urgent_first(patterns, self._waiting):
            price = self._offers.choices[pattern.bin].price
            self._allowance.spend(pattern.count, price * pattern.count)
            for _ in range(pattern.count):
                node = _Node(pattern.bin, price)
                for kind, count in pattern.load.items():
                    self._place(node, kind, count)
                self._add(node)

    def _add(self, node: _Node) -> None:
        if node.choice is not None:
            choice = self._offers.choices[node.choice]
            node.gap = self._gaps.add(less(choice.room, node.used), choice.welcome)
            self._nodes.append(node)

    def _into_gaps(self, group: Group) -> None:
        """Onto nodes that are to be ordered anyway."""
        for index, count in self._gaps.place(group.kind, group.count):
            self._place(self._nodes[index], group.kind, count)
            group.count -= count

    def _place(self, node: _Node, kind: int, count: int) -> None:
        node.used = less(node.used, self._waiting.needs[kind], -count)
        node.fair += self._offers.fair({kind: count})
        node.load[kind] = node.load.get(kind, 0) + count
        node.batches += self._waiting.take(kind, count)

    def _ordering(self) -> Ordering:
        """By which what is scarce costs: all that may still be ordered costs 1."""
        nodes, price = self._allowance.nodes, self._allowance.price
        dearest = max((choice.price for choice in self._offers.choices), default=0.0) or 1.0
        per_node = 1 / max(1, nodes)
        per_price = 1 / max(price, _TINY * dearest) or _TINY * per_node / dearest
        if math.isinf(nodes):
            per_node = per_price * Costs.plain(self._offers).per_node
        return Ordering(
            self._waiting,
            self._offers,
            Costs(per_price, per_node),
            self._is_over,
            thrifty=math.isinf(nodes),
            roomy=math.isinf(price),
        )
