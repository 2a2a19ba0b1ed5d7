"""Problems for the tests of packing, what must hold of every answer, and what the best one would cost."""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from nodemanager.fit import fits
from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.demand import Demand, Load, Offer, Packing, Room, Shape

ROUNDING = 1 + 1e-8


@dataclass(frozen=True)
class Problem:
    """What `pack` is asked."""

    demands: tuple[Demand, ...]
    rooms: tuple[Room, ...]
    offer: Offer


def core(cores: int, ram: int = 0, **more: int) -> Resources:
    """Cores and units of RAM."""
    return Resources(cores, ram, **more)


# Small numbers, so that many things fit exactly, and each of the rarer traits often enough.
partitions = st.sampled_from([(), (), (), ("a",), ("b",), ("a", "b")])
shapes = st.builds(
    Shape,
    st.builds(
        Resources,
        st.integers(0, 8),
        st.integers(0, 12),
        st.sampled_from([0, 0, 0, 1, 3]),
        st.sampled_from([0, 0, 0, 1]),
    ),
    partitions,
    st.booleans(),
)
demand_lists = st.lists(
    st.builds(Demand, shapes, st.sampled_from([0, 1, 1, 2, 5, 40]), st.integers(0, 3)), max_size=8
)
capacities = st.builds(
    Resources,
    st.integers(0, 12),
    st.integers(0, 24),
    st.sampled_from([0, 0, 4]),
    st.sampled_from([0, 0, 1, 2]),
)
prices = st.sampled_from([0.0, 0.3, 0.5, 1.0, 1.0, 1.5, 2.0, 3.0])


@st.composite
def size_lists(draw: st.DrawFn) -> tuple[NodeSize, ...]:
    """Sizes with names of their own."""
    number = draw(st.integers(0, 6))
    return tuple(
        NodeSize(
            f"size{index}",
            draw(capacities),
            draw(prices),
            preemptible=draw(st.booleans()),
            partitions=draw(partitions),
        )
        for index in range(number)
    )


@st.composite
def room_lists(draw: st.DrawFn) -> tuple[Room, ...]:
    """Rooms with names of their own; some nodes have less than nothing left."""
    number = draw(st.integers(0, 6))
    return tuple(
        Room(
            f"node{index}",
            draw(capacities) - Resources(*[draw(st.sampled_from([0, 0, 0, 1]))] * 4),
            draw(partitions),
            draw(st.booleans()),
            draw(st.booleans()),
            draw(st.integers(0, 2)),
        )
        for index in range(number)
    )


@st.composite
def problems(draw: st.DrawFn, *, limited: bool = True) -> Problem:
    """Anything that could be asked; without limits on the new nodes unless `limited`."""
    sizes = draw(size_lists())
    offer = Offer(
        sizes,
        frozenset(size.name for size in sizes if draw(st.integers(0, 4)) == 0),
        one_per_node=draw(st.integers(0, 3)) == 0,
        max_price_factor=draw(st.sampled_from([1.0, 1.5, 1.5, 3.0])),
        max_nodes=draw(st.sampled_from([None, None, 0, 1, 3, 10])) if limited else None,
        max_price=draw(st.sampled_from([None, None, 0.0, 1.0, 3.0, 10.0])) if limited else None,
    )
    return Problem(tuple(draw(demand_lists)), draw(room_lists()), offer)


def rush(seed: int) -> Problem:
    """More waits than the limits allow, in some levels of urgency, with all traits; too large for hypothesis."""
    rng = random.Random(seed)

    def names() -> tuple[str, ...]:
        return tuple(rng.sample("ab", rng.choice((0, 0, 0, 1, 2))))

    sizes = []
    for number in range(rng.randint(2, 14)):
        cores, ram = rng.choice((1, 2, 4, 8, 16, 32)), rng.choice((1, 2, 4, 8))
        room = Resources(cores, cores * ram, rng.choice((0, 9 * cores)), rng.choice((0, 0, 0, 2)))
        cost = round(cores * (1 + 0.2 * ram) * rng.choice((0.9, 1, 1, 1.2)), 3)
        spot = rng.random() < 0.3
        sizes.append(NodeSize(f"size{number}", room, cost, preemptible=spot, partitions=names()))
    demands = []
    levels = rng.choice((1, 3, 30))
    for _ in range(rng.randint(5, 40)):
        cores = rng.choice((1, 1, 2, 3, 4, 8, 16))
        wanted = Resources(cores, rng.randint(1, 6 * cores), 0, int(rng.random() < 0.1))
        shape = Shape(wanted, names(), rng.random() < 0.4)
        demands.append(Demand(shape, rng.choice((1, 5, 20, 100)), rng.randrange(levels)))
    rooms = [
        Room(
            f"node{number}",
            Resources(rng.randint(0, 32), rng.randint(0, 64)),
            names(),
            rng.random() < 0.3,
            rng.random() < 0.5,
            rng.randrange(3),
        )
        for number in range(rng.choice((0, 5, 30)))
    ]
    max_nodes = rng.choice((None, 1, 2, 10, 40))
    max_price = rng.choice((None, 20.0, 200.0)) if max_nodes else rng.choice((20.0, 200.0, 1000.0))
    offer = Offer(
        tuple(sizes),
        frozenset(size.name for size in sizes if rng.random() < 0.1),
        max_nodes=max_nodes,
        max_price=max_price,
    )
    return Problem(tuple(demands), tuple(rooms), offer)


def busy_site(seed: int, containers: int, levels: int = 1) -> tuple[Demand, ...]:
    """Containers as a site of genomics has them: many with one core, some with 16 and 64 GiB."""
    rng = random.Random(seed)
    kinds = []
    for _ in range(max(3, min(400, containers // 8))):
        if rng.random() < 0.8:
            wanted = Resources(1, rng.randint(6, 32))
        else:
            wanted = Resources(rng.choice((4, 8, 16)), rng.randint(64, 256))
        kinds.append(Shape(wanted, (), rng.random() < 0.3))
    counts = Counter((rng.randrange(len(kinds)), rng.randrange(levels)) for _ in range(containers))
    return tuple(
        Demand(kinds[kind], count, priority) for (kind, priority), count in sorted(counts.items())
    )


def catalogue() -> tuple[NodeSize, ...]:
    """Sizes from 1 to 96 cores with little and much RAM (in quarters of a GiB), and preemptible twins."""
    sizes = []
    for family, ram, price in (("lean", 8, 0.0425), ("plain", 16, 0.048), ("fat", 32, 0.063)):
        for cores in (1, 2, 4, 8, 16, 32, 64, 96):
            room, cost = Resources(cores, cores * ram), round(price * cores, 4)
            sizes.append(NodeSize(f"{family}-{cores}", room, cost))
            sizes.append(NodeSize(f"{family}-{cores}-spot", room, cost / 3, preemptible=True))
    return tuple(sizes)


def nodes(packing: Packing) -> int:
    """How many are ordered."""
    return sum(each.count for each in packing.new)


def price(packing: Packing) -> float:
    """What they cost."""
    return sum(each.count * each.size.price for each in packing.new)


def as_rooms(packing: Packing) -> tuple[Room, ...]:
    """The rooms on what was ordered, while it boots."""
    return tuple(
        Room(f"{number}-{copy}", n.size.resources, n.size.partitions, n.size.preemptible, rank=1)
        for number, n in enumerate(packing.new)
        for copy in range(n.count)
    )


def needed(demands: Sequence[Demand], counts: Mapping[int, int]) -> Resources:
    """By all of a load."""
    total = Resources(0, 0)
    for index, count in counts.items():
        one = demands[index].shape.resources
        total += Resources(
            one.cores * count, one.ram_bytes * count, one.scratch_bytes * count, one.gpus * count
        )
    return total


def cheapest(shape: Shape, offer: Offer) -> float | None:
    """The price of the cheapest size that fits one such container, to be had or not."""
    return min((size.price for size in offer.sizes if shape.fits_size(size)), default=None)


def alone(shape: Shape, offer: Offer) -> float | None:
    """The price of the cheapest node that may be ordered for one such container."""
    fair = cheapest(shape, offer)
    allowed = [
        size.price
        for size in offer.sizes
        if shape.fits_size(size)
        and size.name not in offer.unavailable
        and fair is not None
        and size.price <= offer.max_price_factor * fair * ROUNDING
    ]
    return min(allowed, default=None)


def has_room(shape: Shape, room: Room, taken: Resources) -> bool:
    """Whether one such container fits beside what is taken."""
    return shape.suits(room.partitions, preemptible=room.preemptible) and fits(
        shape.resources + taken, room.free
    )


def check(problem: Problem, packing: Packing) -> None:
    """What must hold of any answer, complete or cut off."""
    demands, offer = problem.demands, problem.offer
    rooms = {room.node: room for room in problem.rooms}
    placed: Counter[int] = Counter()
    for node, load in packing.rooms.items():
        room = rooms[node]
        _check_load(demands, load, room.free, room.partitions, preemptible=room.preemptible)
        assert not offer.one_per_node or (room.empty and sum(load.counts.values()) == 1)
        placed.update(load.counts)
    for new in packing.new:
        size, load = new.size, new.load
        assert new.count > 0
        assert size in offer.sizes
        assert size.name not in offer.unavailable
        _check_load(demands, load, size.resources, size.partitions, preemptible=size.preemptible)
        assert not offer.one_per_node or sum(load.counts.values()) == 1
        assert new.priority == max(demands[index].priority for index in load.counts)
        fair = [(cheapest(demands[i].shape, offer), count) for i, count in load.counts.items()]
        assert size.price <= ROUNDING * offer.max_price_factor * sum((p or 0) * n for p, n in fair)
        placed.update({index: count * new.count for index, count in load.counts.items()})
    priorities = [new.priority for new in packing.new]
    assert priorities == sorted(priorities, reverse=True)
    for left in (packing.unplaced, packing.unfit):
        assert all(count > 0 for count in left.values())
        placed.update(left)
    assert placed == Counter({i: d.count for i, d in enumerate(demands) if d.count})
    for index, demand in enumerate(demands):
        could = cheapest(demand.shape, offer) is not None or any(
            has_room(demand.shape, room, Resources(0, 0)) for room in problem.rooms
        )
        assert index not in (packing.unfit if could else packing.unplaced)
    assert offer.max_nodes is None or nodes(packing) <= offer.max_nodes
    assert offer.max_price is None or price(packing) <= offer.max_price * ROUNDING


def _check_load(
    demands: Sequence[Demand],
    load: Load,
    room: Resources,
    names: tuple[str, ...],
    *,
    preemptible: bool,
) -> None:
    assert load.counts
    assert all(count > 0 for count in load.counts.values())
    assert fits(needed(demands, load.counts), room)
    for index in load.counts:
        assert demands[index].shape.suits(names, preemptible=preemptible)


def check_rooms_by_urgency(problem: Problem, packing: Packing) -> None:
    """Nobody waits beside a room that could hold him if less urgent ones were not there."""
    demands, offer = problem.demands, problem.offer
    for index, room in itertools.product(packing.unplaced, problem.rooms):
        demand = demands[index]
        load = packing.rooms.get(room.node, Load()).counts
        ahead = {i: count for i, count in load.items() if demands[i].priority >= demand.priority}
        if not offer.one_per_node:
            assert not has_room(demand.shape, room, needed(demands, ahead))
        elif room.empty and has_room(demand.shape, room, Resources(0, 0)):
            assert ahead


def check_nodes_by_urgency(problem: Problem, packing: Packing) -> None:
    """Nobody waits who could have had a node instead of those that were ordered for less urgent ones."""
    demands, offer = problem.demands, problem.offer
    for index in packing.unplaced:
        cost = alone(demands[index].shape, offer)
        if cost is None:
            continue
        ahead = [new for new in packing.new if new.priority >= demands[index].priority]
        no_node = offer.max_nodes == sum(new.count for new in ahead)
        spent = sum(new.count * new.size.price for new in ahead)
        no_money = offer.max_price is not None and offer.max_price - spent < cost * ROUNDING
        assert no_node or no_money


def least_price(shapes: Sequence[Shape], offer: Offer) -> float | None:
    """By trying every way to share the containers out among new nodes; None if not all may have one."""
    fair = [cheapest(shape, offer) for shape in shapes]

    @functools.cache
    def one_node(members: int) -> float | None:
        chosen = [i for i in range(len(shapes)) if members >> i & 1]
        demands = [Demand(shapes[i], 1) for i in chosen]
        total = needed(demands, dict.fromkeys(range(len(chosen)), 1))
        most = offer.max_price_factor * sum(fair[i] or 0 for i in chosen) * ROUNDING
        return min(
            (
                size.price
                for size in offer.sizes
                if size.name not in offer.unavailable
                and size.price <= most
                and fits(total, size.resources)
                and all(
                    shapes[i].suits(size.partitions, preemptible=size.preemptible) for i in chosen
                )
            ),
            default=None,
        )

    @functools.cache
    def best(members: int) -> float | None:
        if not members:
            return 0.0
        first = members & -members
        others = members ^ first
        least: float | None = None
        part = others
        while True:
            node, rest = one_node(part | first), best(others ^ part)
            if node is not None and rest is not None and (least is None or node + rest < least):
                least = node + rest
            if not part:
                return least
            part = (part - 1) & others

    return best((1 << len(shapes)) - 1)
