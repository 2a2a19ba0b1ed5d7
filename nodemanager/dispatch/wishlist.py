"""What nodes do the waiting containers need? The actor that keeps the demand and packs it into node sizes.

The dispatcher tells it of each claimed container that waits for a node, and when it waits no more. It counts
them by shape and priority, so that its work does not grow with their number. Asked by the node-size arbiter,
it packs the whole demand into the rooms and sizes of the question and answers with a `Wishlist`: the arbiter then
decides on exactly the snapshot that it has asked about.
"""

from __future__ import annotations

from collections import Counter
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

_Key = tuple[Shape, int]


class WishlistActor(Actor):
    """See the module's docstring."""

    def __init__(self, arbiter: Ref, clock: Clock) -> None:
        super().__init__()
        self._arbiter = arbiter
        self._clock = clock
        self._waiting: dict[str, _Key] = {}
        self._counts: Counter[_Key] = Counter()
        self._told = False

    def on_receive(self, message: Any) -> None:
        """Count, or pack."""
        match message:
            case Waits(uuid, shape, priority):
                if self._waiting.get(uuid) != (shape, priority):
                    self._drop(uuid)
                    self._waiting[uuid] = (shape, priority)
                    self._counts[shape, priority] += 1
                    self._tell_changed()
            case WaitsNoMore(uuid):
                if self._drop(uuid):
                    self._tell_changed()
            case Assess():
                self._assess(message)
            case _:
                super().on_receive(message)

    def _drop(self, uuid: str) -> bool:
        key = self._waiting.pop(uuid, None)
        if key is None:
            return False
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
        return True

    def _tell_changed(self) -> None:
        """Once for all changes until the next question."""
        if not self._told:
            self._told = True
            tell_if_alive(self._arbiter, WishesChanged())

    def _assess(self, asked: Assess) -> None:
        self._told = False
        began = self._clock.elapsed()
        demands = tuple(
            Demand(shape, count, priority)
            for (shape, priority), count in sorted(self._counts.items(), key=_most_urgent_first)
        )
        packing = pack(
            demands,
            asked.rooms,
            asked.offer,
            lambda: self._clock.elapsed() - began > LONGEST_PACKING_SECONDS,
        )
        seconds = self._clock.elapsed() - began
        tell_if_alive(self._arbiter, Wishlist(asked.serial, demands, packing, seconds))


def _most_urgent_first(item: tuple[_Key, int]) -> tuple[Any, ...]:
    """An order that does not depend on who came first, so that equal demands make equal wishlists."""
    (shape, priority), _ = item
    wanted = shape.resources
    return (
        -priority,
        -wanted.cores,
        -wanted.ram_bytes,
        -wanted.scratch_bytes,
        -wanted.gpus,
        shape.partitions,
        shape.preemptible,
    )
