"""What to boot, what to let go, and why each container still waits: the arbiter's decision, pure.

A snapshot (`Stock`) and the wishlist that was packed for exactly that snapshot go in, a `Plan` comes out. It boots
nothing that no waiting container can use (but what `min_nodes` asks for), and lets go of nothing that one
waits for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodemanager.model import NodeSize, Reason, ReasonToken
from nodemanager.nodes.demand import Demand, Packing, Shape
from nodemanager.nodes.messages import NodeStanding, Wishlist
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.nodes.stock import COMING, Stock, bootable_sizes, tightest, up
from nodemanager.nodes.why import reasons_of


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
        """Whether anything is done."""
        return bool(self.boot or self.leave or self.stay or self.withdraw)


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
    boot += _to_keep_up(stock, policy, len(boot), len(new))
    used = packing.rooms
    surplus = [node for node in stock.nodes if node.host not in used and not node.leaving]
    kept = 0 if stock.dissolving else policy.min_nodes
    spare = max(0, len(up(stock)) + len(boot) - kept)
    leave = _all_idle(surplus) if stock.dissolving else _leaving(surplus, spare, packing)
    coming = [node for node in surplus if node.phase is NodePhase.ASKED]
    withdraw = tuple(n.name for n in _dearest_first(coming)[: max(0, spare - len(leave))])
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


def _to_keep_up(stock: Stock, policy: NodePolicy, booting: int, wanted: int) -> Iterator[NodeSize]:
    """Nodes for `min_nodes`: of the cheapest size that can be had, within all limits."""
    kept = 0 if stock.dissolving else policy.min_nodes
    lacking = kept - len(up(stock)) - max(booting, wanted)
    left = min(tightest(stock, policy).nodes, policy.boots_per_turn) - booting
    unavailable = stock.shortages.unavailable(stock.elapsed)
    sizes = [s for s in bootable_sizes(stock.sizes, policy) if s.name not in unavailable]
    if not sizes:
        return
    price = stock.price
    for _ in range(min(lacking, left)):
        price += sizes[0].price
        if 0 < policy.max_total_price < price:
            return
        yield sizes[0]


def _all_idle(surplus: list[NodeStanding]) -> dict[str, str]:
    """Whatever does no work: the daemon ends, and nobody will look after them."""
    workless = (NodePhase.IDLE, NodePhase.BOOTING)
    ours = (n for n in surplus if n.phase in workless and n.behaviour is Behaviour.RUN)
    return {node.name: "the daemon is ending" for node in ours}


def _leaving(surplus: list[NodeStanding], spare: int, packing: Packing) -> dict[str, str]:
    """Idle nodes that nothing waits for, the dearest first, but for those that `min_nodes` keeps.

    When something waits that a limit keeps from being booted, an idle node that is of no use for it makes
    room at once, whatever its windows say (as Go's dispatcher does at quota).
    """
    makes_room = bool(packing.unplaced)
    idle = [
        node
        for node in surplus
        if node.phase is NodePhase.IDLE and node.takes_work and node.behaviour is Behaviour.RUN
    ]
    going: dict[str, str] = {}
    for node in _dearest_first(idle):
        if len(going) >= spare:
            break
        if not node.not_ready:
            going[node.name] = "idle, and nothing waits for it"
        elif makes_room and node.idle_seen:
            going[node.name] = "idle, and others wait for a size that has no room beside it"
    return going


def _dearest_first(nodes: list[NodeStanding]) -> list[NodeStanding]:
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
