"""The part of a forecast that is about nodes: the arbiter's own decision, on what was seen. Pure.

A daemon that starts sees a node idle once, and lets it go when it has been idle for as long as `[Cloud] idle_time`
says. Here that time is taken to have passed, with everything else as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nodemanager.clouds.base import SIZE_TAG, CloudNode
from nodemanager.dispatch.wishlist import Wish, demands_of
from nodemanager.dry_run.outcome import Boot, Change, ChangeKind
from nodemanager.dry_run.sight import CloudSight, Sight
from nodemanager.model import Node, NodeSize, NodeState
from nodemanager.nodes.demand import Packing, Shape
from nodemanager.nodes.messages import NodeStanding, Wishlist
from nodemanager.nodes.observe import DOWN_PAUSE_SECONDS, seen_in_cloud, seen_in_scheduler, taken_up
from nodemanager.nodes.order import host_of
from nodemanager.nodes.packing import pack
from nodemanager.nodes.plan import Plan, plan
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.report import standing_of, verdict
from nodemanager.nodes.states import DOWN_VIEWS, NodePhase, NodeSituation, NodeStep, next_step
from nodemanager.nodes.stock import Stock, by_host, offer_of, rooms_of, staleness

_ALL_AT_ONCE = 1 << 30


@dataclass(frozen=True, slots=True)
class Fleet:
    """The nodes of ours, before anything is decided."""

    stock: Stock
    policy: NodePolicy
    situations: Mapping[str, NodeSituation]
    """By host name."""
    steps: Mapping[str, NodeStep]
    """What each node does by itself, whoever wants it."""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What is done about nodes, and where everything that waits is put."""

    plan: Plan
    packing: Packing
    demands: Sequence[Shape]
    """Of each demand of `packing`, the shape."""


def fleet_of(sight: Sight, cloud: CloudSight) -> Fleet:
    """The nodes of ours, as the cloud and the scheduler show them."""
    scheduler = sight.scheduler_of_nodes
    machines = cloud.machines or ()
    nodes = by_host(scheduler.nodes, cloud.hosts)
    sizes = {size.name: size for size in cloud.sizes}
    settled = max(cloud.policy.idle_time, DOWN_VIEWS * DOWN_PAUSE_SECONDS)
    situations, steps = {}, {}
    for machine in machines:
        host = host_of(machine)
        size = sizes.get(machine.tags.get(SIZE_TAG, ""))
        seen = None if scheduler.error else _Seen(nodes.get(host), settled)
        situation = _situation(machine, size, seen, cloud.policy, sight.now)
        steps[host] = next_step(situation, cloud.policy, sight.now, settled)
        if steps[host] is NodeStep.RESUME and seen is not None and seen.node is not None:
            seen = replace(seen, node=_resumed(seen.node))
            situation = _situation(machine, size, seen, cloud.policy, sight.now)
        situations[host] = situation
    ages = {
        "cloud": None if cloud.machines is None else 0.0,
        "scheduler": None if scheduler.error else 0.0,
        "API": None if sight.queue is None else 0.0,
    }
    stock = Stock(
        wall=sight.now,
        elapsed=settled,
        viewed_at=settled,
        nodes=tuple(
            standing_of(each, cloud.policy, sight.now, settled, proved=True)
            for each in situations.values()
        ),
        others=tuple(node for host, node in nodes.items() if host not in situations),
        sizes=cloud.sizes,
        stale=staleness(ages, cloud.policy),
    )
    return Fleet(stock, cloud.policy, situations, steps)


def plan_fleet(fleet: Fleet, wishes: Iterable[Wish], is_over: Callable[[], bool]) -> FleetPlan:
    """What the arbiter decides, over as many turns as it takes."""
    stock, policy = fleet.stock, fleet.policy
    demands = demands_of(wishes)
    packing = pack(demands, rooms_of(stock), offer_of(stock, policy), is_over)
    wanted = sum(new.count for new in packing.new)
    everything = replace(policy, boots_per_turn=_ALL_AT_ONCE)
    # As many as are wanted are confirmed: the next view of the scheduler shows the same.
    made = plan(stock, Wishlist(0, demands, packing), everything, wanted)
    return FleetPlan(made, packing, [demand.shape for demand in demands])


def with_boots(stock: Stock, made: Plan) -> Stock:
    """When the new nodes have been ordered."""
    ordered = (
        NodeStanding(f"new-{number}", "", size, NodePhase.ASKED, stock.wall)
        for number, size in enumerate(made.boot)
    )
    return replace(stock, nodes=(*stock.nodes, *ordered))


def boots_of(made: Plan) -> tuple[Boot, ...]:
    """The new nodes by size, in the order in which they are ordered."""
    return tuple(Boot(size, count) for size, count in Counter(made.boot).items())


def changes_of(fleet: Fleet, made: Plan) -> Iterator[Change]:
    """What becomes of the nodes there are."""
    standings = {node.host: node for node in fleet.stock.nodes}
    for host, step in fleet.steps.items():
        kind = _KINDS.get(step)
        if kind is not None and not fleet.stock.stale:
            situation = fleet.situations[host]
            yield Change(host, kind, _why(step, situation, fleet), standings[host].price)
    by_name = {node.name: node for node in fleet.stock.nodes}
    for name, why in made.leave.items():
        node = by_name[name]
        yield Change(node.host, ChangeKind.SHUT, why, node.price)


_KINDS = {
    NodeStep.DESTROY: ChangeKind.DESTROY,
    NodeStep.DRAIN: ChangeKind.DRAIN,
    NodeStep.RESUME: ChangeKind.RESUME,
}


def _why(step: NodeStep, situation: NodeSituation, fleet: Fleet) -> str:
    match step:
        case NodeStep.DESTROY:
            return situation.condemned or verdict(situation, fleet.policy, fleet.stock.wall)
        case NodeStep.DRAIN:
            return situation.drain_reason
        case _:
            return "a former process drained it, and nobody wants that any more"


@dataclass(frozen=True, slots=True)
class _Seen:
    """How the scheduler shows a node, and has for so many seconds; None: it does not know it."""

    node: Node | None
    seconds: float


def _situation(
    machine: CloudNode,
    size: NodeSize | None,
    seen: _Seen | None,
    policy: NodePolicy,
    wall: float,
) -> NodeSituation:
    """The machine as a node's actor would know it; `seen` None: the scheduler does not answer."""
    situation = taken_up(machine, size, wall)
    if seen is not None:
        views = max(policy.consecutive_idle_count, DOWN_VIEWS + 1)
        for number in range(views):
            at = seen.seconds * number / (views - 1)
            situation = seen_in_scheduler(situation, seen.node, at, at)
    return seen_in_cloud(situation, machine, 0.0 if seen is None else seen.seconds)


def _resumed(node: Node) -> Node:
    state = NodeState.IDLE if node.state is NodeState.DRAINED else NodeState.BUSY
    return replace(node, state=state, reason="")
