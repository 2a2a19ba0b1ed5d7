"""What waits, where there is room, and what is to be had: the values that packing speaks in.

Containers that ask for the same things are one `Shape`; however many there are, they are packed together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodemanager.fit import fits, shares_partition
from nodemanager.model import Container, NodeSize, Properties, Resources


@dataclass(frozen=True, slots=True)
class Shape:
    """What packing looks at in a container: an equivalence class of them."""

    resources: Resources
    partitions: tuple[str, ...] = ()
    """Partitions it may run in; empty means any."""
    preemptible: bool = False
    """It may run on a node that can be taken away; without it, never."""

    @classmethod
    def of(cls, container: Container) -> Shape:
        """The shape of `container`."""
        return cls(container.resources, container.partitions, container.preemptible)

    @property
    def properties(self) -> Properties:
        """None: where there are rules of several schedulers, they were looked at before it got here."""
        return ()

    def suits(self, partitions: tuple[str, ...], *, preemptible: bool) -> bool:
        """Whether it may run on a node in `partitions` at all, however large that is.

        A node that names no partitions is in every one: partitions are not used there.
        """
        if preemptible and not self.preemptible:
            return False
        return shares_partition(self.partitions, partitions)

    def fits_size(self, size: NodeSize) -> bool:
        """Whether one such container fits an empty node of that size."""
        return self.suits(size.partitions, preemptible=size.preemptible) and fits(
            self.resources, size.resources
        )


@dataclass(frozen=True, slots=True)
class Demand:
    """So many containers of one shape and one priority wait."""

    shape: Shape
    count: int
    priority: int = 0
    """Larger is more urgent."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on one node that is here, or booting, or leaving and could stay."""

    node: str
    free: Resources
    partitions: tuple[str, ...] = ()
    preemptible: bool = False
    empty: bool = True
    """Nothing runs there."""
    rank: int = 0
    """Rooms of a lower rank are filled first: 0 here, 1 booting, 2 leaving."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What packing may ask for beyond the rooms."""

    sizes: tuple[NodeSize, ...]
    unavailable: frozenset[str] = frozenset()
    """Names of sizes that cannot be had at the moment. What a container would cost on them still counts
    as its price, so that a dearer size is measured against what it replaces."""
    one_per_node: bool = False
    """Every container gets a node to itself."""
    max_price_factor: float = 1.5
    """A new node may cost at most so many times the sum of what its containers would cost one by one, each
    alone on the cheapest size that fits it (Arvados' MaximumPriceFactor, for several on a node)."""
    max_nodes: int | None = None
    """At most so many new nodes; None means no limit."""
    max_price: float | None = None
    """At most so much per hour for all new nodes together."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is placed on one node: how many containers of each demand, by its index in the input."""

    counts: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewNodes:
    """`count` nodes of one size, each with the same load."""

    size: NodeSize
    count: int
    load: Load
    priority: int
    """That of the most urgent container in the load."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Where everything that waits is to go. Together `rooms`, `new`, `unplaced` and `unfit` hold every
    demand exactly."""

    rooms: Mapping[str, Load]
    """By `Room.node`; only rooms that get something."""
    new: tuple[NewNodes, ...]
    """Most urgent first: whoever can have only some of them takes the head of the list."""
    unplaced: Mapping[int, int]
    """By demand: containers that an offered size would fit, but not now: limits, or sizes unavailable."""
    unfit: Mapping[int, int]
    """By demand: containers that no offered size and no room fits."""
    complete: bool = True
    """False when time ran out and this is the best that was found till then."""
