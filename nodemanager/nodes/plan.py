"""What to boot, what to let go, and why each container still waits: the arbiter's decision, pure.

A snapshot (`Stock`) and the wishlist that was packed for exactly that snapshot go in, a `Plan` comes out. It boots
nothing that no waiting container can use (but what `min_nodes` asks for), and lets go of nothing that one
waits for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodemanager.model import NodeSize
from nodemanager.nodes.demand import Demand, Offer, Shape
from nodemanager.nodes.messages import NodeStanding, Wishlist
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.nodes.stock import COMING, Stock, bootable_sizes, offer_of, tightest, up
from nodemanager.nodes.why import reasons_of
from nodemanager.reason import Reason, ReasonToken

_FULL = frozenset({ReasonToken.NODE_LIMIT, ReasonToken.CLOUD_QUOTA})
"""Limits that one node less would leave room under."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the arbiter does now."""

    boot: tuple[NodeSize, ...] = ()
    """One entry for each node, most urgent first."""
    leave: Mapping[str, str] = field(default_factory=dict)
    """By name, with the reason."""
    stay: tuple[str, ...] = ()
    withdraw: tuple[str, ...] = ()
    """Orders that are not needed any more, if the cloud has not been asked yet."""
    wanted: int = 0
    """New nodes that the wishlist asks for within the limits, booted now or in a later turn."""
    reasons: Mapping[Shape, tuple[tuple[int, Reason], ...]] = field(default_factory=dict)
    held: str = ""
    """What keeps containers from getting a node, or everything from being done; empty when nothing does."""
    sentence: str = ""
    """The decision as one line, with its numbers."""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def acts(self) -> bool:
        """Whether anything is done, but for what is withdrawn: that is said again and again until it is done."""
        return bool(self.boot or self.leave or self.stay)


def plan(stock: Stock, wishlist: Wishlist, policy: NodePolicy, confirmed: int) -> Plan:
    """Decide on `stock`, of which `wishlist` is the assessment.

    `confirmed` is how many new nodes the wishlist before this one asked for, on an older view of the scheduler:
    no more are booted for waiting containers, since jobs that start or end between the scheduler's list of jobs
    and its list of nodes are counted twice or not at all on a single view.
    """
    packing = wishlist.packing
    reasons = reasons_of(stock, wishlist, policy)
    if stock.stale:
        return _told(stock, wishlist, policy, Plan(reasons=reasons))
    new = [part.size for part in packing.new for _ in range(part.count)]
    boot = new[: min(confirmed, policy.boots_per_turn)]
    boot += _to_keep_up(stock, policy, boot, len(new))
    used = packing.rooms
    surplus = [node for node in stock.nodes if node.host not in used and not node.leaving]
    kept = 0 if stock.dissolving else policy.min_nodes
    spare = max(0, len(up(stock)) + len(boot) - kept)
    room = _room_needed(stock, wishlist, policy)
    leave = _all_idle(surplus) if stock.dissolving else _leaving(surplus, spare, room)
    withdraw = _withdrawn(stock, policy, surplus, spare - len(leave))
    stay = tuple(
        node.name
        for node in stock.nodes
        if node.leaving and node.phase is NodePhase.DRAINING and node.host in used
    )
    return _told(
        stock,
        wishlist,
        policy,
        Plan(tuple(boot), leave, stay, withdraw, len(new), reasons),
    )


def _to_keep_up(
    stock: Stock, policy: NodePolicy, boot: list[NodeSize], wanted: int
) -> tuple[NodeSize, ...]:
    """Nodes for `min_nodes` beside those in `boot`: of the cheapest size that can be had, within all limits."""
    kept = 0 if stock.dissolving else policy.min_nodes
    lacking = kept - len(up(stock)) - max(len(boot), wanted)
    left = min(tightest(stock, policy).nodes, policy.boots_per_turn) - len(boot)
    unavailable = stock.shortages.unavailable(stock.elapsed)
    sizes = [s for s in bootable_sizes(stock.sizes, policy) if s.name not in unavailable]
    if not sizes:
        return ()
    more, price = min(lacking, left), sizes[0].price
    if policy.max_total_price > 0 and price > 0:
        left_to_spend = policy.max_total_price - stock.price - sum(size.price for size in boot)
        more = min(more, math.floor(left_to_spend / price))
    return (sizes[0],) * max(0, more)


def _all_idle(surplus: list[NodeStanding]) -> dict[str, str]:
    """Whatever does no work: the daemon ends, and nobody will look after them."""
    workless = (NodePhase.IDLE, NodePhase.BOOTING)
    ours = (n for n in surplus if n.phase in workless and n.behaviour is Behaviour.RUN)
    return {node.name: "the daemon is ending" for node in ours}


def _leaving(surplus: list[NodeStanding], spare: int, room: int) -> dict[str, str]:
    """Idle nodes that nothing waits for, the dearest first, but for those that `min_nodes` keeps.

    For each of the `room` nodes that a limit keeps from being booted, one that is of no use makes room at once,
    whatever its windows say (as Go's dispatcher does at quota).
    """
    going: dict[str, str] = {}
    for node in _dearest_first(filter(_may_leave, surplus)):
        if len(going) >= spare:
            break
        if not node.not_ready:
            going[node.name] = "idle, and nothing waits for it"
        elif len(going) < room and node.idle_seen:
            going[node.name] = "idle, and others wait for a size that has no room beside it"
    return going


def _may_leave(node: NodeStanding) -> bool:
    return node.phase is NodePhase.IDLE and node.takes_work and node.behaviour is Behaviour.RUN


def _room_needed(stock: Stock, wishlist: Wishlist, policy: NodePolicy) -> int:
    """How many containers could have a node if there were fewer others.

    Not those whose sizes cannot be had, or that wait for the brake: for them it would only cost nodes that work.
    """
    packing, offer, limit = wishlist.packing, offer_of(stock, policy), tightest(stock, policy)
    full = limit.token in _FULL and limit.nodes <= sum(new.count for new in packing.new)
    if not full and (limit.nodes <= 0 or offer.max_price is None):
        return 0
    spent = sum(new.size.price * new.count for new in packing.new)
    needed = 0
    for index, count in packing.unplaced.items():
        prices = _prices(wishlist.demands[index].shape, offer)
        dear = offer.max_price is not None and min(prices, default=0.0) > offer.max_price - spent
        needed += count if prices and (full or dear) else 0
    return needed


def _prices(shape: Shape, offer: Offer) -> list[float]:
    """Of the sizes that can be had for one such container."""
    fitting = [size for size in offer.sizes if shape.fits_size(size)]
    most = offer.max_price_factor * min((size.price for size in fitting), default=0.0)
    return [
        size.price for size in fitting if size.name not in offer.unavailable and size.price <= most
    ]


def _withdrawn(
    stock: Stock, policy: NodePolicy, surplus: list[NodeStanding], spare: int
) -> tuple[str, ...]:
    """Orders that nothing waits for, and those that experience says will come to nothing: since they were
    given the quota was reached, their size ran out, or the brake went on."""
    unneeded = [node for node in surplus if node.phase is NodePhase.ASKED]
    names = [node.name for node in _dearest_first(unneeded)[: max(0, spare)]]
    unavailable = stock.shortages.unavailable(stock.elapsed)
    asked = [node for node in stock.nodes if node.phase is NodePhase.ASKED]
    names += [node.name for node in asked if node.size and node.size.name in unavailable]
    too_many = max(0, -tightest(stock, policy).nodes)
    names += [node.name for node in asked[len(asked) - min(too_many, len(asked)) :]]
    return tuple(dict.fromkeys(names))


def _dearest_first(nodes: Iterable[NodeStanding]) -> list[NodeStanding]:
    return sorted(nodes, key=lambda node: (-node.price, node.name))


def _told(stock: Stock, wishlist: Wishlist, policy: NodePolicy, made: Plan) -> Plan:
    """`made`, with its sentence and numbers."""
    waiting = _count(wishlist.demands)
    packing = wishlist.packing
    unplaced = sum(packing.unplaced.values())
    numbers = {
        "waiting": waiting,
        "unplaced": unplaced,
        "unfit": sum(packing.unfit.values()),
        "wanted": dict(wishlist.sizes),
        "nodes": len(stock.nodes),
        "coming": sum(node.phase in COMING for node in stock.nodes),
        "idle": sum(node.phase is NodePhase.IDLE for node in stock.nodes),
        "max_nodes": policy.max_nodes,
        "price": round(stock.price, 4),
        "packing_seconds": round(wishlist.seconds, 4),
    }
    deeds = [
        *(f"boot {n} x {size}" for size, n in Counter(s.name for s in made.boot).items()),
        *_farewells(made.leave),
        *(f"keep {name}, which was leaving" for name in made.stay),
        *(f"withdraw {name}" for name in made.withdraw),
    ]
    held = f"nothing is done: {stock.stale}" if stock.stale else _holds(made.reasons)
    sentence = (
        f"{'; '.join(deeds) or 'no change'} ({waiting} containers wait, {len(stock.nodes)} of "
        f"{policy.max_nodes} nodes, {numbers['coming']} coming, {numbers['idle']} idle, "
        f"{stock.price:.4g} per hour{f'; {held}' if held else ''})"
    )
    return Plan(
        made.boot,
        made.leave,
        made.stay,
        made.withdraw,
        made.wanted,
        made.reasons,
        held,
        sentence,
        numbers,
    )


def _farewells(leave: Mapping[str, str]) -> Iterator[str]:
    """One clause for each reason why nodes leave."""
    by_reason: dict[str, list[str]] = {}
    for name, why in leave.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        yield f"let go of {', '.join(names)} ({why})"


def _holds(reasons: Mapping[Shape, tuple[tuple[int, Reason], ...]]) -> str:
    """How many find no place, and why, each reason once."""
    placed = (ReasonToken.NODE_BOOTING, ReasonToken.SCHEDULER_WAIT)
    counts: Counter[str] = Counter()
    for line in reasons.values():
        for count, reason in line:
            if reason.token not in placed:
                counts[reason.sentence] += count
    return "; ".join(f"{count} find no place: {words}" for words, count in counts.items())


def _count(demands: tuple[Demand, ...]) -> int:
    return sum(demand.count for demand in demands)
