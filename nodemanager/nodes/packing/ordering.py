"""New nodes for what finds no room: of which sizes, how many, and with what on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nodemanager.nodes.packing.kinds import Waiting
from nodemanager.nodes.packing.merging import merge
from nodemanager.nodes.packing.offers import Offers
from nodemanager.nodes.packing.patterns import GOOD_ENOUGH, Bin, Filler, Pattern
from nodemanager.nodes.packing.pricing import Values

ONE_MORE_NODE = 0.02
"""What a node costs beside its price, as a part of the lowest price: of answers that cost about the same the one
with fewer nodes is the better."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a node is taken to cost."""

    per_price: float
    per_node: float

    @classmethod
    def plain(cls, offers: Offers) -> Costs:
        """Its price, and hardly more."""
        prices = [choice.price for choice in offers.choices if choice.price > 0]
        return cls(1.0, ONE_MORE_NODE * min(prices, default=1.0))

    def of(self, price: float) -> float:
        """A node at that price."""
        return self.per_price * price + self.per_node

    def price_below(self, cost: float) -> float:
        """The price below which a node costs less than `cost`."""
        left = cost - self.per_node
        if self.per_price > 0:
            return left / self.per_price
        return math.inf if left > 0 else 0.0


class Ordering:
    """Finds the nodes that cost the least. Indexes are those of `Offers.choices`."""

    def __init__(
        self,
        waiting: Waiting,
        offers: Offers,
        costs: Costs,
        is_over: Callable[[], bool],
        *,
        thrifty: bool = True,
        roomy: bool = False,
    ) -> None:
        """`thrifty`: no node may be dearer than one for each of its containers. `roomy`: a node stays as large as
        it was packed, though a smaller one would carry its load."""
        self.complete = True
        """False when time was up before all was looked at."""
        self._waiting = waiting
        self._offers = offers
        self._costs = costs
        self._is_over = is_over
        self._thrifty = thrifty
        self._roomy = roomy
        # The dearest first: of two that are equally good the larger is the better, for there will be fewer.
        self._order = range(len(offers.choices) - 1, -1, -1)
        self._bins = [
            Bin(choice.room, choice.welcome, costs.of(choice.price))
            for choice in (offers.choices[index] for index in self._order)
        ]
        self.values = Values(
            waiting, [(each.room, each.welcome, each.cost or 0.0) for each in self._bins]
        )

    def patterns(self, counts: Sequence[int], *, biggest_first: bool = False) -> list[Pattern]:
        """Nodes for so many containers of each kind. For those that are in none, none may be ordered."""
        alone = self._offers.alone
        # Those for whom nothing may be ordered but in company would keep others from a size if they were on it.
        usual = [0 if a is None else count for a, count in zip(alone, counts, strict=True)]
        others = [count if a is None else 0 for a, count in zip(alone, counts, strict=True)]
        found = self._fill(usual, biggest_first=biggest_first)
        if self.complete:
            for kind, choice in enumerate(alone):
                if usual[kind] and choice is not None:
                    found.append(Pattern(choice, {kind: 1}, usual[kind]))
            if any(others):
                found += self._fill(others, biggest_first=biggest_first)
        if not self.complete:
            return found
        costs = [self._costs.of(self._offers.choices[p.bin].price) for p in found]
        return merge(found, costs, [self._offers.fair(p.load) for p in found], self._carry)

    def cost(self, patterns: Sequence[Pattern]) -> float:
        """Of all their nodes."""
        choices = self._offers.choices
        return sum(self._costs.of(choices[p.bin].price) * p.count for p in patterns)

    def _fill(self, counts: list[int], *, biggest_first: bool) -> list[Pattern]:
        filler = Filler(
            self._waiting,
            counts,
            self.values,
            self._bins,
            self._is_over,
            settle=self._settle,
            slack=GOOD_ENOUGH,
            biggest_first=biggest_first,
        )
        found = filler.run()
        self.complete &= filler.complete
        return found

    def _settle(self, index: int, load: Mapping[int, int]) -> int | None:
        choice = self._order[index]
        if self._roomy and self._may(choice, load):
            return choice
        carrier = self._offers.carrier(load)
        return carrier if carrier is not None and self._may(carrier, load) else None

    def _carry(self, load: Mapping[int, int], below: float) -> tuple[int, float] | None:
        carrier = self._offers.carrier(load, self._costs.price_below(below))
        if carrier is None or not self._may(carrier, load):
            return None
        return carrier, self._costs.of(self._offers.choices[carrier].price)

    def _may(self, choice: int, load: Mapping[int, int]) -> bool:
        price = self._offers.choices[choice].price
        return self._offers.may(price, self._offers.fair(load)) and (
            not self._thrifty or self._offers.saves(price, load)
        )
