"""Packing: how long it takes, and what the nodes cost against the least they could and against one for each container.

    python benchmarks/packing.py --sizes 1000           seconds
    python benchmarks/packing.py                        1,000, 20,000 and 100,000 containers: under a minute

Containers of 400 shapes, 424 sizes of node. The first call and the fastest of five more, in milliseconds of elapsed time.
Costs are parts of a lower bound, that of the linear program in `tests/nodes/bound.py`: it buys fractions of nodes for
fractions of containers, so no packing of whole ones reaches it. The mixes:

- uniform: 1 to 16 cores, 1 to 8 GiB of RAM for each core;
- tail: 1 to 8 cores, mostly one, and RAM as in traces of clusters: 80 % of the containers have less than 4 GiB, 1 % more
  than 64 GiB;
- genomics: 70 % have one core and 1.5 to 8 GiB, 20 % 2 to 8 cores, 10 % 16 cores and up to 64 GiB; all need scratch space;
- gpu: 2 % need one or two GPUs, the others are as in tail and uniform.

In all of them 30 % of the shapes bear being taken away (spot), and some shapes are much more frequent than others.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.demand import Demand, Offer, Packing, Room, Shape
from nodemanager.nodes.packing import pack

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.nodes.bound import lower_bound
from tests.nodes.packings import as_rooms, nodes, price

GIB = 1 << 30
SHAPES = 400
HALF_FULL = 1000
CALLS = 5
PREEMPTIBLE = 0.3
"""So many of the shapes may run on spot nodes."""

CORES = (1, 2, 4, 8, 16, 32, 48, 64, 96)
FAMILIES = {
    "compute": (2, 0.0425, (5, 6, 7)),
    "general": (4, 0.048, (5, 6, 7)),
    "memory": (8, 0.063, (5, 6, 7)),
    "large": (16, 0.104, (5, 6)),
}
"""GiB and price for each core, and the generations there are."""
GPU_NODES = ((4, 1), (8, 1), (16, 1), (48, 4), (96, 8), (32, 4), (64, 8))
"""Cores and GPUs."""
GENERATIONS = {5: 1.08, 6: 1.0, 7: 1.03}
"""How much dearer than the cheapest."""
LOCAL_SCRATCH = 1.12
USABLE_RAM = 0.95
SPOT = (0.3, 0.45)
"""A spot node costs between so much and so much of the other."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 20_000, 100_000])
    parser.add_argument("--mixes", nargs="+", choices=MIXES, default=list(MIXES))
    options = parser.parse_args(arguments)
    sizes = catalogue()
    print(f"{SHAPES} shapes, {len(sizes)} sizes\n")
    print_costs(options.mixes, options.sizes, sizes)
    print()
    print_cases(options.mixes, 20_000 if 20_000 in options.sizes else options.sizes[0], sizes)


def print_costs(mixes: Sequence[str], counts: Sequence[int], sizes: tuple[NodeSize, ...]) -> None:
    """The table of what new nodes cost."""
    head = "mix        containers   first ms   again ms    nodes   packed/bound   one each/bound"
    print(head)
    print("-" * len(head))
    for mix in mixes:
        for count in counts:
            demands = containers(mix, count)
            offer = Offer(sizes)
            first, again, packing = timed(lambda d=demands, o=offer: pack(d, (), o))  # type: ignore[misc]
            single = pack(demands, (), replace(offer, one_per_node=True))
            bound = lower_bound(demands, sizes)
            print(
                f"{mix:10} {count:10,} {first:10.0f} {again:10.0f} {nodes(packing):8,} "
                f"{price(packing) / bound:14.3f} {price(single) / bound:16.3f}"
            )


def print_cases(mixes: Sequence[str], count: int, sizes: tuple[NodeSize, ...]) -> None:
    """The table of what else may be asked, each with `count` containers."""
    head = (
        "mix        case                                first ms   again ms   "
        "in rooms   on new nodes   new nodes   waiting"
    )
    print(head)
    print("-" * len(head))
    rooms = half_full(sizes)
    for mix in mixes:
        demands = containers(mix, count)
        urgent = containers(mix, count, workflows=count // 20)
        booting = as_rooms(pack(demands, (), Offer(sizes)))
        for case, wanted, free, offer in (
            (f"{HALF_FULL:,} nodes half full", demands, rooms, Offer(sizes)),
            ("all that was ordered boots", demands, booting, Offer(sizes)),
            (f"{count // 20:,} priorities", urgent, (), Offer(sizes)),
            ("the same, at most 100 nodes", urgent, (), Offer(sizes, max_nodes=100)),
            ("the same, at most 100 per hour", urgent, (), Offer(sizes, max_price=100.0)),
            ("the same, half full, no new nodes", urgent, rooms, Offer(sizes, max_nodes=0)),
        ):
            first, again, packing = timed(lambda d=wanted, r=free, o=offer: pack(d, r, o))  # type: ignore[misc]
            housed = sum(sum(load.counts.values()) for load in packing.rooms.values())
            waiting = sum(packing.unplaced.values())
            print(
                f"{mix:10} {case:35} {first:8.0f} {again:10.0f} {housed:10,} "
                f"{count - housed - waiting:14,} {nodes(packing):11,} {waiting:9,}"
            )


def timed(call: Callable[[], Packing]) -> tuple[float, float, Packing]:
    """Milliseconds of the first call and of the fastest of the others, and the answer."""
    times = []
    for _ in range(1 + CALLS):
        began = time.perf_counter()
        packing = call()
        times.append(1000 * (time.perf_counter() - began))
    return times[0], min(times[1:]), packing


def catalogue() -> tuple[NodeSize, ...]:
    """The sizes of a cloud: families with little and much RAM, generations, with and without local disks, and the same
    again as spot nodes, whose prices differ from one to the next."""
    rng = random.Random(7)
    sizes = []

    def add(name: str, resources: Resources, cost: float) -> None:
        sizes.append(NodeSize(name, resources, round(cost, 5)))
        spot = round(cost * rng.uniform(*SPOT), 5)
        sizes.append(NodeSize(f"{name}-spot", resources, spot, preemptible=True))

    for family, (ram, cost, generations) in FAMILIES.items():
        for generation in generations:
            for disks in (False, True):
                for cores in CORES:
                    scratch = cores * 37 * GIB if disks else 8 * GIB
                    add(
                        f"{family}{generation}{'d' if disks else ''}-{cores}",
                        Resources(cores, int(cores * ram * GIB * USABLE_RAM), scratch),
                        cost * cores * GENERATIONS[generation] * (LOCAL_SCRATCH if disks else 1),
                    )
    for generation in (5, 6):
        for cores, gpus in GPU_NODES:
            resources = Resources(cores, int(cores * 4 * GIB * USABLE_RAM), cores * 28 * GIB, gpus)
            cost = (0.048 * cores + 0.35 * gpus) * GENERATIONS[generation]
            add(f"gpu{generation}-{cores}x{gpus}", resources, cost)
    return tuple(sizes)


def containers(mix: str, count: int, workflows: int = 1) -> tuple[Demand, ...]:
    """`count` containers of a mix, each of one of so many workflows; each workflow has a priority of its own."""
    rng = random.Random(f"{mix} {count}")
    shapes = [Shape(MIXES[mix](rng), preemptible=rng.random() < PREEMPTIBLE) for _ in range(SHAPES)]
    frequency = [rng.lognormvariate(0, 1) for _ in shapes]
    counts = Counter(
        (kind, rng.randrange(workflows)) for kind in rng.choices(range(SHAPES), frequency, k=count)
    )
    return tuple(
        Demand(shapes[kind], number, priority)
        for (kind, priority), number in sorted(counts.items())
    )


def half_full(sizes: Sequence[NodeSize]) -> tuple[Room, ...]:
    """Nodes of any size, on each of which something runs; a random part of its cores and RAM is free."""
    rng = random.Random(3)
    rooms = []
    for number in range(HALF_FULL):
        size = rng.choice(sizes)
        has = size.resources
        free = Resources(
            int(has.cores * rng.random()),
            int(has.ram_bytes * rng.random()),
            int(has.scratch_bytes * rng.random()),
            rng.randint(0, has.gpus),
        )
        rooms.append(Room(f"node{number:04}", free, preemptible=size.preemptible, empty=False))
    return tuple(rooms)


def _uniform(rng: random.Random) -> Resources:
    cores = rng.randint(1, 16)
    return Resources(cores, int(cores * rng.uniform(1, 8) * GIB))


def _tail(rng: random.Random) -> Resources:
    cores = rng.choice((1, 1, 1, 1, 2, 2, 4, 8))
    low, high = rng.choices(((0.25, 4), (4, 64), (64, 256)), (80, 19, 1))[0]
    return Resources(cores, int(math.exp(rng.uniform(math.log(low), math.log(high))) * GIB))


def _genomics(rng: random.Random) -> Resources:
    kind = rng.random()
    if kind < 0.7:
        return Resources(1, int(rng.uniform(1.5, 8) * GIB), int(rng.uniform(1, 30) * GIB))
    if kind < 0.9:
        cores = rng.choice((2, 4, 8))
        return Resources(cores, int(rng.uniform(6, 32) * GIB), int(rng.uniform(10, 100) * GIB))
    return Resources(16, int(rng.uniform(56, 64) * GIB), int(rng.uniform(50, 400) * GIB))


def _gpu(rng: random.Random) -> Resources:
    kind = rng.random()
    if kind < 0.02:
        ram = int(rng.uniform(8, 30) * GIB)
        return Resources(rng.choice((4, 8)), ram, 0, rng.choice((1, 1, 2)))
    return _uniform(rng) if kind < 0.3 else _tail(rng)


MIXES: dict[str, Callable[[random.Random], Resources]] = {
    "uniform": _uniform,
    "tail": _tail,
    "genomics": _genomics,
    "gpu": _gpu,
}


if __name__ == "__main__":
    main()
