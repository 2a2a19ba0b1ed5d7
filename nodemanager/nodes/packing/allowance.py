"""How many nodes may still be ordered, and at what price."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nodemanager.nodes.demand import Offer
from nodemanager.nodes.packing.kinds import Amounts, Waiting
from nodemanager.nodes.packing.offers import ROUNDING, Offers
from nodemanager.nodes.packing.patterns import Pattern
from nodemanager.nodes.packing.pricing import Market, worth


@dataclass(slots=True)
class Allowance:
    """What may still be ordered."""

    nodes: float = math.inf
    price: float = math.inf
    """Per hour, for all of them together."""

    @classmethod
    def of(cls, offer: Offer) -> Allowance:
        """All that is offered."""
        return cls(
            math.inf if offer.max_nodes is None else max(0, offer.max_nodes),
            math.inf if offer.max_price is None else max(0.0, offer.max_price),
        )

    def most(self, price: float) -> float:
        """How many nodes at that price it bears."""
        if price <= 0 or math.isinf(self.price):
            return self.nodes
        return min(self.nodes, math.floor(self.price / price * ROUNDING))

    def spend(self, nodes: int, price: float) -> None:
        """So many are ordered, at that price together."""
        self.nodes -= nodes
        self.price = max(0.0, self.price - price)


def bears(allowance: Allowance, patterns: Iterable[Pattern], offers: Offers) -> bool:
    """Whether the nodes are within the limits."""
    nodes, price = 0, 0.0
    for pattern in patterns:
        nodes += pattern.count
        price += pattern.count * offers.choices[pattern.bin].price
    return nodes <= allowance.nodes and price <= allowance.price * ROUNDING


def must_exceed(
    allowance: Allowance, waiting: Waiting, rooms: Iterable[Amounts], offers: Offers
) -> bool:
    """Whether no packing whatever could place all containers within the limits: those that `rooms` cannot
    hold, poured like water, cost more (see `pricing`)."""
    total = [0, 0, 0, 0]
    for count, need, alone in zip(waiting.left, waiting.needs, offers.alone, strict=True):
        if alone is not None:
            total = [amount + count * wants for amount, wants in zip(total, need, strict=True)]
    for room in rooms:
        total = [amount - has for amount, has in zip(total, room, strict=True)]
    missing = (max(0, total[0]), max(0, total[1]), max(0, total[2]), max(0, total[3]))

    def least(costs: Sequence[float]) -> float:
        if min(costs, default=0.0) <= 0:
            return 0.0
        market = Market(zip((choice.room for choice in offers.choices), costs, strict=True))
        return worth(market.prices(missing), missing)

    return (
        least([1.0] * len(offers.choices)) > allowance.nodes * ROUNDING
        or least([choice.price for choice in offers.choices]) > allowance.price * ROUNDING
    )
