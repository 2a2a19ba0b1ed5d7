"""The messages between the wishlist, the arbiter and the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import pykka

from nodemanager.api.nodes import NodeRecord
from nodemanager.clouds.base import CloudNode
from nodemanager.model import Node, NodeSize
from nodemanager.nodes.demand import Demand, Offer, Packing, Room, Shape
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.reason import Reason

Ref: TypeAlias = pykka.ActorRef[Any]


# From the arbiter to a node.


@dataclass(frozen=True, slots=True)
class CloudIs:
    """The machine as a list that was asked for at `asked_at` has it; None when it lacks it."""

    cloud: CloudNode | None
    asked_at: float


@dataclass(frozen=True, slots=True)
class SchedulerIs:
    """The node as a view that was asked for at `asked_at` has it; None when it lacks it."""

    node: Node | None
    asked_at: float


@dataclass(frozen=True, slots=True)
class RecordIs:
    """The record of the node at the API, as it was listed and paired with the machine."""

    record: NodeRecord


@dataclass(frozen=True, slots=True)
class Leave:
    """Nobody wants the node: take no new work and go when what runs there has ended."""

    why: str


@dataclass(frozen=True, slots=True)
class Stay:
    """The node is wanted again: if it has not gone yet, it stays."""

    why: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Nobody wants the node: if the cloud has not been asked for it yet, it is not asked for."""


# From an operator, by way of the arbiter.


@dataclass(frozen=True, slots=True)
class Behave:
    """From now on the node of that name behaves so; kept in its tags."""

    name: str
    behaviour: Behaviour


@dataclass(frozen=True, slots=True)
class Kill:
    """Destroy the node of that name now, whatever runs there."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class ReleaseBrake:
    """Boot again, although the last boots came to nothing."""


@dataclass(frozen=True, slots=True)
class Dissolve:
    """Boot no more, and let every node go as soon as it is idle: nobody will look after them."""


# From a node to the arbiter.


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """How a node is, told whenever that changes."""

    name: str
    host: str
    size: NodeSize | None
    phase: NodePhase
    ordered_at: float
    """Wall clock."""
    cloud_id: str = ""
    node: Node | None = None
    """As in the scheduler, if it is there."""
    behaviour: Behaviour = Behaviour.RUN
    leaving: str = ""
    """Why it is to leave; empty if it is not."""
    takes_work: bool = False
    """It has joined and nobody drained it."""
    not_ready: str = ""
    """For an idle node: why it may not leave yet; empty when it may."""
    idle_since: float | None = None
    """Elapsed seconds; None when it is not idle."""
    idle_seen: bool = False
    """It was seen idle at least once since it last worked."""
    record_uuid: str = ""
    """Of its record at the API's `nodes`, if it has one."""
    pinged: bool = False
    """It has announced itself there."""
    proved: bool = False
    """It has shown that it is of use; see `BootOutcome.PROVED`."""
    admitted: bool = False
    """A scheduler that admits nodes keeps a place for it under `host`."""

    @property
    def price(self) -> float:
        """Per hour; 0 when its size is not known."""
        return 0.0 if self.size is None else self.size.price


class BootOutcome(StrEnum):
    """How the booting of a node came out; the words of the metric."""

    JOINED = "joined"
    PROVED = "proved"
    """It joined and has been of use."""
    REFUSED = "refused"
    """The cloud did not create it, or the scheduler had no place for it."""
    FAILED = "failed"
    """It never joined, or was lost before it had proved itself."""
    ABORTED = "aborted"
    """It was not wanted any more before it joined."""
    DISAPPEARED = "disappeared"
    """The machine vanished without our doing."""


@dataclass(frozen=True, slots=True)
class Booted:
    """How a boot came out, told once for each outcome. `error` says what sort of refusal it was, for REFUSED;
    `proved` that it had been of use before."""

    name: str
    size: NodeSize | None
    outcome: BootOutcome
    words: str
    seconds: float
    error: Exception | None = None
    proved: bool = False


# Between arbiter and wishlist.


@dataclass(frozen=True, slots=True)
class Waits:
    """To the wishlist: this claimed container waits for a node."""

    uuid: str
    shape: Shape
    priority: int


@dataclass(frozen=True, slots=True)
class WaitsNoMore:
    """To the wishlist: its job has started, or will never."""

    uuid: str


@dataclass(frozen=True, slots=True)
class WishesChanged:
    """To the arbiter: the demand is another than when it last asked."""


@dataclass(frozen=True, slots=True)
class Assess:
    """To the wishlist: what is wanted, with these rooms and this offer? `serial` comes back."""

    serial: int
    rooms: tuple[Room, ...]
    offer: Offer


@dataclass(frozen=True, slots=True)
class Wishlist:
    """From the wishlist: everything that waits, and where it is to go; the answer to `Assess`."""

    serial: int
    demands: tuple[Demand, ...]
    packing: Packing
    seconds: float = 0.0
    """What the packing took."""

    @property
    def sizes(self) -> dict[str, int]:
        """How many new nodes of which size are wanted."""
        wanted: dict[str, int] = {}
        for new in self.packing.new:
            wanted[new.size.name] = wanted.get(new.size.name, 0) + new.count
        return wanted


# From the arbiter to the dispatcher.


@dataclass(frozen=True, slots=True)
class Outlook:
    """What nodes could still be booted, and what those that wait are waiting for."""

    sizes: tuple[NodeSize, ...]
    """Every size that could ever be booted within the limits."""
    bootable_cores: int
    """Cores of the nodes that are booting, or may still be booted."""
    reasons: Mapping[Shape, tuple[tuple[int, Reason], ...]] = field(default_factory=dict)
    """For each shape, most urgent first: so many containers wait for this reason."""
    held: Reason | None = None
    """Why no node at all is booted now; None when some may be."""


@dataclass(frozen=True, slots=True)
class Heard:
    """From the dispatcher: all its containers are known as of `at` (elapsed seconds)."""

    at: float


# For people.


@dataclass(frozen=True, slots=True)
class GetNodesStatus:
    """Ask the arbiter for its `NodesStatus`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of the arbiter, with the numbers it was made on."""

    at: float
    """Wall clock."""
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodesStatus:
    """The arbiter's view of the world."""

    nodes: tuple[NodeStanding, ...]
    wishlist: Mapping[str, int]
    """New nodes wanted, by size, within the limits."""
    waiting: int
    """Containers that wait for a node."""
    unplaced: int
    """Those of them for which none may be booted now."""
    price: float
    """Per hour, of all nodes that are here or booting."""
    quota: int | None
    unavailable: Mapping[str, float]
    """Sizes that cannot be had, and for how many seconds they are not asked for."""
    brake: str
    """Why nothing is booted; empty when the brake is off."""
    stale: str
    """What is too old to act on; empty when nothing is."""
    outcomes: Mapping[str, int]
    """How often each `BootOutcome` was seen since the start."""
    history: tuple[Decision, ...]
    idle_times: Mapping[str, float] = field(default_factory=dict)
    """For how many seconds each idle node has been idle, by host name."""
    bootable_cores: int = 0
    sizes: tuple[NodeSize, ...] = ()
    """All that are configured, cheapest first."""
