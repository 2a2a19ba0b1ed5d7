"""What nodes do the waiting containers need? The actor that keeps the demand and packs it into node sizes.

The dispatcher tells it of each claimed container that waits for a node, and when it waits no more. Those of one
shape and about the same urgency are one demand, so that packing does not take longer the more there are.
Asked by the node-size arbiter, it packs the whole demand into the rooms and sizes of the question and answers with a `Wishlist`: the arbiter then
decides on exactly the snapshot that it has asked about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nodemanager.actors.actor import Actor, tell_if_alive
from nodemanager.clock import Clock
from nodemanager.nodes.demand import Demand, Shape
from nodemanager.nodes.messages import (
    Assess,
    Ref,
    Waits,
    WaitsNoMore,
    WishesChanged,
    Wishlist,
)
from nodemanager.nodes.packing import pack

LONGEST_PACKING_SECONDS = 2.0
"""After so long the best packing so far is the answer; the next question packs the rest."""

FIRST_BAND = 64
"""So many of the most urgent containers are told apart from all others; each band after that is twice as large."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One container that waits for a node."""

    shape: Shape
    priority: int


def demands_of(wishes: Iterable[Wish]) -> tuple[Demand, ...]:
    """The wishes as demands, most urgent first.

    An Arvados container's priority says when its request was made, too, so hardly two are equal. What matters is
    that when there are not nodes for all, the first in line come first: they are put into bands of growing
    size, and within a band it does not matter who is served first. Equal priorities share a band. The order
    does not depend on who came first, so that equal wishes make equal demands.
    """
    by_priority: dict[int, Counter[Shape]] = {}
    for wish in wishes:
        by_priority.setdefault(wish.priority, Counter())[wish.shape] += 1
    bands: list[Counter[Shape]] = [Counter()]
    room = FIRST_BAND
    for priority in sorted(by_priority, reverse=True):
        if room <= 0:
            room = FIRST_BAND << len(bands)
            bands.append(Counter())
        bands[-1] += by_priority[priority]
        room -= by_priority[priority].total()
    return tuple(
        Demand(shape, count, -band)
        for band, counts in enumerate(bands)
        for shape, count in sorted(counts.items(), key=_largest_first)
    )


def _largest_first(item: tuple[Shape, int]) -> tuple[Any, ...]:
    shape, wanted = item[0], item[0].resources
    return (
        -wanted.cores,
        -wanted.ram_bytes,
        -wanted.scratch_bytes,
        -wanted.gpus,
        shape.partitions,
        shape.preemptible,
    )


class WishlistActor(Actor):
    """See the module's docstring."""

    def __init__(self, arbiter: Ref, clock: Clock) -> None:
        super().__init__()
        self._arbiter = arbiter
        self._clock = clock
        self._waiting: dict[str, Wish] = {}
        self._told = False

    def on_receive(self, message: Any) -> None:
        """Count, or pack."""
        match message:
            case Waits(uuid, shape, priority):
                wish = Wish(shape, priority)
                if self._waiting.get(uuid) != wish:
                    self._waiting[uuid] = wish
                    self._tell_changed()
            case WaitsNoMore(uuid):
                if self._waiting.pop(uuid, None) is not None:
                    self._tell_changed()
            case Assess():
                self._assess(message)
            case _:
                super().on_receive(message)

    def _tell_changed(self) -> None:
        """Once for all changes until the next question."""
        if not self._told:
            self._told = True
            tell_if_alive(self._arbiter, WishesChanged())

    def _assess(self, asked: Assess) -> None:
        self._told = False
        began = self._clock.elapsed()
        demands = demands_of(self._waiting.values())
        packing = pack(
            demands,
            asked.rooms,
            asked.offer,
            lambda: self._clock.elapsed() - began > LONGEST_PACKING_SECONDS,
        )
        seconds = self._clock.elapsed() - began
        tell_if_alive(self._arbiter, Wishlist(asked.serial, demands, packing, seconds))
