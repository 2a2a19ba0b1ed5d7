"""The sizes on offer, seen from what waits: which one carries a load, and which may be ordered for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodemanager.model import NodeSize
from nodemanager.nodes.demand import Offer
from nodemanager.nodes.packing.kinds import NOTHING, Amounts, Waiting, amounts, holds

ROUNDING = 1 + 1e-9
"""Prices are sums of floats: what is equal in decimals counts as equal."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A size that can be had."""

    size: NodeSize
    room: Amounts
    price: float
    welcome: tuple[bool, ...]
    """By audience."""


class Offers:
    """The sizes that can be had and are of use, cheapest first (then those with less to waste, then by name),
    and what containers cost on a node of their own."""

    def __init__(self, waiting: Waiting, offer: Offer) -> None:
        self._waiting = waiting
        self._factor = offer.max_price_factor
        everything = sorted(
            (
                Choice(s, amounts(s.resources), s.price, welcome)
                for s in offer.sizes
                if any(welcome := waiting.welcome(s.partitions, preemptible=s.preemptible))
            ),
            key=lambda c: (c.price, *c.room[::-1], c.size.name),
        )
        self._prices: dict[tuple[Amounts, tuple[bool, ...]], float] = {}
        for choice in reversed(everything):
            self._prices[choice.room, choice.welcome] = choice.price
        self.choices = _useful(c for c in everything if c.size.name not in offer.unavailable)
        cheapest = [
            next((c.price for c in everything if _fits(c, need, audience)), None)
            for need, audience in zip(waiting.needs, waiting.audience, strict=True)
        ]
        self.fits = [price is not None for price in cheapest]
        """By kind: whether some size would fit it, to be had or not."""
        self._fair = [price or 0.0 for price in cheapest]
        """By kind: the price of the cheapest of those."""
        self.alone = [self._alone(kind) for kind in range(len(waiting))]
        """By kind: the choice for a node of its own, by index; None when there is none that may be ordered."""

    def price(self, room: Amounts, welcome: tuple[bool, ...]) -> float | None:
        """That of the cheapest size which is exactly so; None if there is none."""
        return self._prices.get((room, welcome))

    def fair(self, load: Mapping[int, int]) -> float:
        """What the load would cost, each container on the cheapest size that fits it."""
        return sum(self._fair[kind] * count for kind, count in load.items())

    def may(self, price: float, fair: float) -> bool:
        """Whether a node at that price may be ordered for containers that would cost `fair` one by one."""
        return price <= self._factor * fair * ROUNDING

    def saves(self, price: float, load: Mapping[int, int]) -> bool:
        """Whether it is no dearer than one node for each container, as far as they may have one."""
        total = 0.0
        for kind, count in load.items():
            choice = self.alone[kind]
            if choice is None:
                return True
            total += self.choices[choice].price * count
        return price <= total * ROUNDING

    def carrier(self, load: Mapping[int, int], below: float = math.inf) -> int | None:
        """The cheapest choice that carries the load, if its price is `below`."""
        total, audiences = self._total(load)
        for index, choice in enumerate(self.choices):
            if choice.price >= below:
                return None
            if holds(choice.room, total) and all(choice.welcome[a] for a in audiences):
                return index
        return None

    def _alone(self, kind: int) -> int | None:
        carrier = self.carrier({kind: 1})
        if carrier is not None and self.may(self.choices[carrier].price, self._fair[kind]):
            return carrier
        return None

    def _total(self, load: Mapping[int, int]) -> tuple[Amounts, set[int]]:
        """What the load needs, and the audiences in it."""
        total = NOTHING
        for kind, count in load.items():
            need = self._waiting.needs[kind]
            total = (
                total[0] + need[0] * count,
                total[1] + need[1] * count,
                total[2] + need[2] * count,
                total[3] + need[3] * count,
            )
        return total, {self._waiting.audience[kind] for kind in load}


def _fits(choice: Choice, need: Amounts, audience: int) -> bool:
    return choice.welcome[audience] and holds(choice.room, need)


def _useful(choices: Iterable[Choice]) -> list[Choice]:
    """Without those than which another has no less of anything, welcomes no fewer, and costs less.

    `choices` are cheapest first. At the same price the smaller is kept: it wastes less.
    """
    kept: list[Choice] = []
    for choice in choices:
        if not any(_beats(other, choice) for other in kept):
            kept.append(choice)
    return kept


def _beats(other: Choice, choice: Choice) -> bool:
    return (
        holds(other.room, choice.room)
        and (other.price < choice.price or other.room == choice.room)
        and all(a or not b for a, b in zip(other.welcome, choice.welcome, strict=True))
    )
