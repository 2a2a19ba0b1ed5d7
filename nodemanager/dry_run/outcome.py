"""What a forecast says, as values: for the report and for the JSON document alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nodemanager.model import NodeSize
from nodemanager.nodes.demand import Shape
from nodemanager.reason import Reason


@dataclass(frozen=True, slots=True)
class Lot:
    """So many containers that fare alike: `reason` says where each will run, or why it waits all the same."""

    count: int
    reason: Reason
    nodes: tuple[str, ...] = ()
    """Where there is room for them now."""


@dataclass(frozen=True, slots=True)
class Work:
    """Containers of one shape that one scheduler has or gets."""

    shape: Shape
    scheduler: str
    """As people call it; empty when none takes them now."""
    claimed: int
    """Claimed and submitted now."""
    resubmitted: int
    """Claimed before, and without a job: submitted now."""
    waiting: int
    """Claimed and submitted before; their jobs wait."""
    example: str
    """The UUID of the most urgent one."""
    lots: tuple[Lot, ...] = ()


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """Queued containers that are left for one reason."""

    count: int
    reason: Reason
    """Of the one whose next attempt comes first."""
    example: str
    """The UUID of the most urgent one."""


@dataclass(frozen=True, slots=True)
class Boot:
    """New nodes of one size."""

    size: NodeSize
    count: int


class ChangeKind(StrEnum):
    """What becomes of a node that is there."""

    SHUT = "shut"
    """Drained and destroyed: nothing waits for it."""
    DESTROY = "destroy"
    """It is of no use."""
    DRAIN = "drain"
    RESUME = "resume"
    """A drain of a former process is ended."""

    @property
    def removes(self) -> bool:
        """Whether the node costs nothing any more afterwards."""
        return self in (ChangeKind.SHUT, ChangeKind.DESTROY)


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one node."""

    node: str
    """Its host name."""
    kind: ChangeKind
    why: str
    price: float
    """Per hour."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One of the limits that are in force."""

    words: str
    """Its name and value, and how much of it is used up."""
    binds: bool
    """Something would be done if it were larger."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the daemon would do."""

    queued: int = 0
    works: tuple[Work, ...] = ()
    """Most urgent first."""
    unclaimed: tuple[Unclaimed, ...] = ()
    """The most numerous first."""
    running: int = 0
    """Ours whose jobs run."""
    unknown: int = 0
    """Ours of whose jobs nobody knows."""
    ending: int = 0
    """Ours whose jobs have ended: that is written down."""
    cancelled: tuple[str, ...] = ()
    """Jobs that nobody wants any more."""
    boots: tuple[Boot, ...] = ()
    boots_per_turn: int = 0
    """No more nodes than that are ordered at once."""
    changes: tuple[Change, ...] = ()
    phases: Mapping[str, int] = field(default_factory=dict)
    """How many nodes of ours there are, by phase."""
    price_now: float = 0.0
    """Per hour, for all nodes of ours."""
    price_then: float = 0.0
    """When all that has been done."""
    limits: tuple[Limit, ...] = ()
    is_packed: bool = True
    """Whether there was time to find a place for all that waits."""
    stale: str = ""
    """Why no node is booted or shut at all; empty when some may be."""

    @property
    def claimed(self) -> int:
        """How many containers are claimed."""
        return sum(work.claimed for work in self.works)
