"""What the arbiter and its node actors are given when they start."""

from __future__ import annotations

from dataclasses import dataclass

from nodemanager.clock import Clock
from nodemanager.nodes.messages import Ref
from nodemanager.nodes.order import OrderTemplate
from nodemanager.nodes.policy import NodePolicy


@dataclass(frozen=True, slots=True)
class NodePeers:
    """The actors an arbiter works with."""

    scheduler: Ref
    cloud: Ref
    wishlist: Ref
    dispatcher: Ref
    timer: Ref
    records: Ref | None = None
    """None when machines have no records at the API."""
    admits: bool = False
    """The scheduler admits nodes; see `Scheduler.admits`."""


@dataclass(frozen=True, slots=True)
class NodeSurroundings:
    """What all node actors of an arbiter share; one object until the policy changes."""

    arbiter: Ref
    cloud: Ref
    scheduler: Ref
    records: Ref | None
    """None when machines have no records at the API."""
    clock: Clock
    policy: NodePolicy
    template: OrderTemplate
    admits: bool = False
    """The scheduler has to be told of a node before its machine is ordered; see `Scheduler.admits`."""


@dataclass(frozen=True, slots=True)
class InUse:
    """What other machines have, so that a new one must not get it."""

    records: frozenset[str] = frozenset()
    """UUIDs of records at the API."""
    hosts: frozenset[str] = frozenset()
    """Names in the scheduler."""
