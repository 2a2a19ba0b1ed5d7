"""The snapshot that one decision of the arbiter is made on, and what it leaves room for.

Three things are kept apart, as in Dask's adaptive scaling: what is *wanted* (the wishlist), what is *asked* for
(nodes that boot) and what is *here* (nodes that have joined the scheduler).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from nodemanager.model import Node, NodeSize, NodeState, Resources, format_seconds
from nodemanager.nodes.demand import Offer, Room
from nodemanager.nodes.limits import Brake, Quota, Shortages
from nodemanager.nodes.messages import NodeStanding
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.reason import ReasonToken

COMING = frozenset({NodePhase.ASKED, NodePhase.BOOTING})
"""Asked for, not here."""
_HERE = frozenset({NodePhase.IDLE, NodePhase.BUSY})
_TRIED = frozenset({NodePhase.FAILED, NodePhase.LOST, NodePhase.DESTROYING})
"""How such a node came out is known, whether it proved itself or not."""
_TAKES_WORK = frozenset({NodeState.IDLE, NodeState.BUSY})


@dataclass(frozen=True, slots=True)
class Stock:
    """Everything one decision is made on."""

    wall: float
    elapsed: float
    viewed_at: float
    """Elapsed: when the view of the scheduler that it rests on was asked for."""
    nodes: tuple[NodeStanding, ...]
    """Ours, but those that are gone."""
    others: tuple[Node, ...] = ()
    """Nodes of the scheduler that are not ours: their room is used, and they are left alone."""
    sizes: tuple[NodeSize, ...] = ()
    """What is configured, cheapest first."""
    quota: Quota = field(default_factory=Quota)
    shortages: Shortages = field(default_factory=Shortages)
    brake: Brake = field(default_factory=Brake)
    stale: str = ""
    """What is too old to act on; empty when nothing is."""
    dissolving: bool = False
    """No more is booted, and whatever is idle goes."""
    measured: Mapping[str, Resources] = field(default_factory=dict)
    """What nodes of a size turned out to have, where that is less than was configured."""

    @property
    def price(self) -> float:
        """Per hour, for all of ours."""
        return sum(node.price for node in self.nodes)

    def usable(self, size: NodeSize) -> NodeSize:
        """`size` with what such nodes turned out to have."""
        measured = self.measured.get(size.name)
        return size if measured is None else replace(size, resources=measured)


@dataclass(frozen=True, slots=True)
class Limit:
    """Why no more than `nodes` may be booted now; less than 0 says how many are too many."""

    nodes: int
    token: ReasonToken
    sentence: str
    next_attempt_in: float | None = None
    """Seconds until it is tried again, where that is known."""


def rooms_of(stock: Stock) -> tuple[Room, ...]:
    """What is free on nodes that are here, booting, or leaving and could stay; by host name."""
    return (*_our_rooms(stock), *_other_rooms(stock))


def _our_rooms(stock: Stock) -> Iterator[Room]:
    for node in stock.nodes:
        seen = node.node
        if node.takes_work and seen is not None:
            yield _room(node.host, seen, rank=0)
        elif node.phase in COMING and node.size is not None and node.behaviour is Behaviour.RUN:
            size = stock.usable(node.size)
            yield Room(node.host, size.resources, size.partitions, size.preemptible, rank=1)
        elif _could_stay(node) and seen is not None:
            yield _room(node.host, seen, rank=2)


def _other_rooms(stock: Stock) -> Iterator[Room]:
    for node in stock.others:
        if node.state in _TAKES_WORK:
            yield _room(node.name, node, rank=0)


def _room(host: str, node: Node, rank: int) -> Room:
    return Room(
        host,
        node.free,
        node.partitions,
        node.preemptible,
        empty=node.state in (NodeState.IDLE, NodeState.DRAINED),
        rank=rank,
    )


def _could_stay(node: NodeStanding) -> bool:
    return (
        node.phase is NodePhase.DRAINING
        and bool(node.leaving)
        and node.behaviour is Behaviour.RUN
        and node.node is not None
    )


def by_host(nodes: Iterable[Node], hosts: Mapping[str, str]) -> dict[str, Node]:
    """The nodes of a scheduler by the names that we gave them: `hosts` has those by the cloud's ids, for schedulers
    that know machines by these."""
    return {hosts.get(node.machine, node.name): node for node in nodes}


def offer_of(stock: Stock, policy: NodePolicy) -> Offer:
    """What may be booted now."""
    price_left = None
    if policy.max_total_price > 0:
        price_left = max(0.0, policy.max_total_price - stock.price)
    return Offer(
        sizes=tuple(stock.usable(size) for size in bootable_sizes(stock.sizes, policy)),
        unavailable=stock.shortages.unavailable(stock.elapsed),
        one_per_node=policy.one_per_node,
        max_price_factor=policy.max_price_factor,
        max_nodes=max(0, tightest(stock, policy).nodes),
        max_price=price_left,
    )


def bootable_sizes(sizes: tuple[NodeSize, ...], policy: NodePolicy) -> tuple[NodeSize, ...]:
    """The sizes of which at least one node is within the operator's limits."""
    if policy.max_nodes < 1:
        return ()
    most = policy.max_total_price
    return tuple(size for size in sizes if most <= 0 or size.price <= most)


def tightest(stock: Stock, policy: NodePolicy) -> Limit:
    """The limit on the number of nodes that leaves the least."""
    return min(_limits(stock, policy), key=lambda limit: limit.nodes)


def _limits(stock: Stock, policy: NodePolicy) -> Iterator[Limit]:
    count, now = len(stock.nodes), stock.elapsed
    asked = sum(node.phase is NodePhase.ASKED for node in stock.nodes)
    if stock.dissolving:
        words = "no node is booted any more: the daemon is ending"
        yield Limit(-asked, ReasonToken.NODE_LIMIT, words)
    if stock.stale:
        yield Limit(0, ReasonToken.NODES_UNKNOWN, f"no node is booted: {stock.stale}")
    on_trial = sum(not node.proved and node.phase not in _TRIED for node in stock.nodes)
    allowed = stock.brake.allowed(on_trial, policy, now)
    if allowed is not None:
        wait = stock.brake.try_at - now
        sentence = (
            f"{stock.brake.failures} nodes in a row came to nothing (the last: {stock.brake.last}); "
            f"{'booting is stopped' if stock.brake.is_on(policy) else 'fewer are booted'}"
        )
        yield Limit(allowed, ReasonToken.BOOT_BRAKE, sentence, wait if wait > 0 else None)
    quota = stock.quota.allowed(count - asked, now)
    if quota is not None:
        # Without a number, and without the moment of the next try: both change every minute, and whatever
        # waits would have to be told anew each time.
        words = "the cloud account allows no more nodes than there are"
        yield Limit(quota - count, ReasonToken.CLOUD_QUOTA, words)
    yield Limit(
        policy.max_nodes - count,
        ReasonToken.NODE_LIMIT,
        f"max_nodes ({policy.max_nodes}) is reached",
    )


def bootable_cores(stock: Stock, policy: NodePolicy) -> int:
    """Cores of the nodes that are coming, and of those that may still be booted."""
    coming = sum(
        stock.usable(node.size).resources.cores
        for node in stock.nodes
        if node.phase in COMING and node.size is not None
    )
    offer = offer_of(stock, policy)
    sizes = [size for size in offer.sizes if size.name not in offer.unavailable]
    if not sizes or not offer.max_nodes:
        return coming
    more = offer.max_nodes * max(size.resources.cores for size in sizes)
    if offer.max_price is not None:
        cheapest = min(size.price / max(1, size.resources.cores) for size in sizes)
        if cheapest > 0:
            more = min(more, int(offer.max_price / cheapest))
    return coming + more


def staleness(ages: Mapping[str, float | None], policy: NodePolicy) -> str:
    """Which of the sources (name -> seconds since it was last heard, None for never) is too old."""
    for source, seconds in ages.items():
        if seconds is None:
            return f"there is no news of the {source} yet"
        if seconds > policy.poll_stale_after:
            limit = format_seconds(policy.poll_stale_after)
            return f"there has been no news of the {source} for more than {limit}"
    return ""


def up(stock: Stock) -> list[NodeStanding]:
    """Ours that are here or coming, and not about to leave: those that `min_nodes` counts."""
    return [
        node
        for node in stock.nodes
        if (node.phase in _HERE or node.phase in COMING) and not node.leaving
    ]
