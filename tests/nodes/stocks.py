"""Snapshots for the pure tests of the arbiter: nodes in a phase, stocks of them, and decisions on those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from nodemanager.model import Node, NodeSize, NodeState, Resources
from nodemanager.nodes.demand import Demand, Shape
from nodemanager.nodes.limits import Brake, Pause, Quota, Shortages
from nodemanager.nodes.messages import NodeStanding, Wishlist
from nodemanager.nodes.packing import pack
from nodemanager.nodes.plan import Plan, plan
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.nodes.stock import Stock, offer_of, rooms_of

GIB = 1 << 30
WALL = 1_800_000_000.0
NOW = 10_000.0

SMALL = NodeSize("small", Resources(2, 4 * GIB), 0.1)
LARGE = NodeSize("large", Resources(8, 16 * GIB), 0.4)
SPOT = NodeSize("spot", Resources(8, 16 * GIB), 0.15, preemptible=True)
GPU = NodeSize("gpu", Resources(8, 16 * GIB, gpus=1), 2.0, partitions=("gpu",))
SIZES = (SMALL, SPOT, LARGE, GPU)

ONE_CORE = Shape(Resources(1, GIB))
TWO_CORES = Shape(Resources(2, GIB))
EIGHT_CORES = Shape(Resources(8, GIB))
TOO_MUCH = Shape(Resources(1, 999 * GIB))

_WORD = {
    NodePhase.IDLE: NodeState.IDLE,
    NodePhase.BUSY: NodeState.BUSY,
    NodePhase.DRAINING: NodeState.DRAINED,
    NodePhase.LOST: NodeState.DOWN,
}


def standing(
    name: str, phase: str, size: NodeSize | None = SMALL, used: int = 0, **more: Any
) -> NodeStanding:
    """A node in that phase, with `used` of its cores taken."""
    here = NodePhase(phase)
    node = None
    if here in _WORD and size is not None:
        total = size.resources
        free = replace(total, cores=total.cores - used)
        node = Node(name, _WORD[here], total, free, size.partitions, preemptible=size.preemptible)
    values: dict[str, Any] = {
        "node": node,
        "takes_work": here in (NodePhase.IDLE, NodePhase.BUSY),
        "proved": here not in (NodePhase.ASKED, NodePhase.BOOTING),
        **more,
    }
    return NodeStanding(name, name, size, here, WALL - 60, **values)


def stock_of(*nodes: NodeStanding, **more: Any) -> Stock:
    values: dict[str, Any] = {"sizes": SIZES, **more}
    return Stock(WALL, NOW, NOW, nodes, **values)


def wish(
    stock: Stock, policy: NodePolicy, demands: Mapping[Shape, int] | Sequence[Demand]
) -> Wishlist:
    """The assessment of that stock, as the wishlist would give it."""
    if isinstance(demands, Mapping):
        demands = [Demand(shape, count) for shape, count in demands.items()]
    packing = pack(demands, rooms_of(stock), offer_of(stock, policy))
    return Wishlist(1, tuple(demands), packing)


def decide(
    stock: Stock,
    policy: NodePolicy,
    demands: Mapping[Shape, int] | Sequence[Demand] = (),
    confirmed: int = 1000,
) -> Plan:
    return plan(stock, wish(stock, policy, demands), policy, confirmed)


# For properties.

shapes = st.builds(
    Shape,
    st.builds(
        Resources,
        st.integers(1, 9),
        st.integers(1, 17).map(lambda n: n * GIB),
        gpus=st.sampled_from([0, 0, 0, 1]),
    ),
    st.sampled_from([(), (), ("gpu",), ("gpu", "cpu")]),
    st.booleans(),
)
demand_lists = st.lists(
    st.builds(Demand, shapes, st.integers(1, 6), st.integers(0, 3)),
    max_size=6,
    unique_by=lambda demand: (demand.shape, demand.priority),
)


@st.composite
def standings(draw: st.DrawFn, name: str) -> NodeStanding:
    phase = draw(st.sampled_from([phase for phase in NodePhase if phase is not NodePhase.GONE]))
    size = draw(st.sampled_from([*SIZES, None]))
    used = draw(st.integers(1, size.resources.cores)) if size and phase is NodePhase.BUSY else 0
    leaving = ""
    if phase is NodePhase.DRAINING:
        leaving = draw(st.sampled_from(["idle", ""]))
    return standing(
        name,
        phase.value,
        size,
        used,
        leaving=leaving,
        behaviour=draw(st.sampled_from([Behaviour.RUN, Behaviour.RUN, *Behaviour])),
        takes_work=phase in (NodePhase.IDLE, NodePhase.BUSY) and draw(st.integers(0, 9)) > 0,
        not_ready=draw(st.sampled_from(["", "", "its shutdown window is closed"])),
        idle_seen=draw(st.booleans()),
        proved=draw(st.booleans()),
    )


@st.composite
def stocks(draw: st.DrawFn) -> Stock:
    nodes = [draw(standings(f"node{n}")) for n in range(draw(st.integers(0, 6)))]
    others = [
        replace(node.node, name=f"other{n}")
        for n, node in enumerate([draw(standings("x")) for _ in range(draw(st.integers(0, 2)))])
        if node.node is not None
    ]
    pauses = {
        name: Pause(NOW + draw(st.sampled_from([-5.0, 50.0])), 60.0, "none left")
        for name in draw(st.sets(st.sampled_from([size.name for size in SIZES]), max_size=2))
    }
    limit = draw(st.none() | st.integers(0, 6))
    quota = Quota(limit, NOW + draw(st.sampled_from([-5.0, 50.0])))
    failures = draw(st.sampled_from([0, 0, 0, 1, 4, 5, 7]))
    brake = Brake(failures, "it never joined", NOW + draw(st.sampled_from([-5.0, 50.0])))
    return stock_of(
        *nodes,
        others=tuple(others),
        quota=quota if limit is not None else Quota(),
        shortages=Shortages(pauses),
        brake=brake,
        stale=draw(st.sampled_from(["", "", "", "", "no news"])),
        dissolving=draw(st.integers(0, 9)) == 0,
    )


policies = st.builds(
    NodePolicy,
    min_nodes=st.integers(0, 3),
    max_nodes=st.integers(0, 8),
    max_total_price=st.sampled_from([0.0, 0.0, 0.5, 3.0]),
    one_per_node=st.booleans(),
    boots_per_turn=st.integers(1, 5),
)
