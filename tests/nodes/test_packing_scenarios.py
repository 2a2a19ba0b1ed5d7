"""Packing in plain cases: which nodes, for whom. Among them those by which the old node manager's ServerCalculator and Go's
dispatcher (lib/dispatchcloud/node_size.go) were tested."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.demand import Demand, Offer, Packing, Room, Shape
from nodemanager.nodes.packing import pack
from tests.nodes.packings import nodes, price

GIB = 1 << 30


def size(name: str, cores: int, gib: float, price: float, **more: object) -> NodeSize:
    scratch, gpus = more.pop("scratch_gib", 0), more.pop("gpus", 0)
    assert isinstance(scratch, int)
    assert isinstance(gpus, int)
    return replace(
        NodeSize(name, Resources(cores, int(gib * GIB), scratch * GIB, gpus), price),
        **more,  # type: ignore[arg-type]
    )


def shape(cores: int, gib: float = 1, *, gpus: int = 0, **more: object) -> Shape:
    return replace(Shape(Resources(cores, int(gib * GIB), 0, gpus)), **more)  # type: ignore[arg-type]


def ordered(packing: Packing) -> list[str]:
    """The sizes, one for each node, in their order."""
    return [new.size.name for new in packing.new for _ in range(new.count)]


def of(*shapes: Shape) -> list[Demand]:
    """One container of each, the first the most urgent."""
    return [Demand(one, 1, len(shapes) - index) for index, one in enumerate(shapes)]


def room(name: str, cores: int, gib: float = 64, **more: object) -> Room:
    return replace(Room(name, Resources(cores, int(gib * GIB))), **more)  # type: ignore[arg-type]


# The ServerCalculator gave every job a node of the cheapest size that fits.

SMALL, MEDIUM, LARGE = (
    size("small", 1, 4, 0.1),
    size("medium", 2, 8, 0.2),
    size("large", 4, 16, 0.4),
)


def one_each(*sizes: NodeSize, **more: object) -> Offer:
    return replace(Offer(tuple(sizes), one_per_node=True), **more)  # type: ignore[arg-type]


def test_an_empty_queue_needs_no_nodes() -> None:
    assert pack([], [], one_each(SMALL)).new == ()


def test_each_gets_a_node_when_nodes_are_not_shared() -> None:
    packing = pack([Demand(shape(1), 3)], [], one_each(SMALL, LARGE))
    assert ordered(packing) == ["small"] * 3


@pytest.mark.parametrize("sizes", [(LARGE, SMALL, MEDIUM), (SMALL, MEDIUM, LARGE)])
def test_each_gets_the_cheapest_size_that_fits(sizes: Sequence[NodeSize]) -> None:
    packing = pack(of(shape(1), shape(2), shape(1, 6), shape(3), shape(1)), [], one_each(*sizes))
    assert ordered(packing) == ["small", "medium", "medium", "large", "small"]


def test_the_next_bigger_one_is_taken_when_the_smallest_does_not_do() -> None:
    assert ordered(pack(of(shape(1, 5)), [], one_each(SMALL, LARGE))) == ["large"]


def test_what_no_size_fits_is_told_and_holds_up_nobody() -> None:
    packing = pack(of(shape(5), shape(1), shape(1, 17), shape(2)), [], one_each(SMALL, LARGE))
    assert ordered(packing) == ["small", "large"]
    assert packing.unfit == {0: 1, 2: 1}
    assert packing.unplaced == {}


def test_what_is_too_expensive_waits_and_holds_up_nobody() -> None:
    packing = pack(of(shape(4), shape(1), shape(1)), [], one_each(SMALL, LARGE, max_price=0.3))
    assert ordered(packing) == ["small", "small"]
    assert packing.unplaced == {0: 1}


def test_as_many_nodes_as_are_allowed_are_ordered_and_no_more() -> None:
    packing = pack([Demand(shape(1), 6)], [], one_each(SMALL, max_nodes=4))
    assert ordered(packing) == ["small"] * 4
    assert packing.unplaced == {0: 2}


# Go's dispatcher chose among instance types by price and MaximumPriceFactor.


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (shape(2, 3), "best"),
        (shape(2, 4.5), "dearer"),
        (shape(3, 3), "costly"),
        (shape(1, 1), "tiny"),
    ],
)
@pytest.mark.parametrize("one_per_node", [True, False])
def test_the_cheapest_of_those_that_fit_is_chosen(
    wanted: Shape, chosen: str, one_per_node: bool
) -> None:
    offer = Offer(
        (
            size("costly", 4, 4, 4.4),
            size("dearer", 2, 8, 2.2),
            size("best", 2, 4, 2.1),
            size("tiny", 1, 1, 1.1),
        ),
        one_per_node=one_per_node,
    )
    assert ordered(pack([Demand(wanted, 1)], [], offer)) == [chosen]


PRICED = (
    size("best", 2, 4, 2.0),
    size("second", 2, 4, 2.9),
    size("third", 2, 8, 3.0),
    size("beyond", 4, 8, 3.1),
)


@pytest.mark.parametrize(
    ("factor", "unavailable", "chosen"),
    [
        (1.5, (), ["best"]),
        (1.5, ("best",), ["second"]),
        (1.5, ("best", "second"), ["third"]),
        (1.5, ("best", "second", "third"), []),
        (2.0, ("best", "second", "third"), ["beyond"]),
        (1.0, ("best",), []),
    ],
)
@pytest.mark.parametrize("one_per_node", [True, False])
def test_a_size_that_cannot_be_had_is_replaced_by_one_that_is_not_much_dearer(
    factor: float, unavailable: tuple[str, ...], chosen: list[str], one_per_node: bool
) -> None:
    offer = Offer(PRICED, frozenset(unavailable), one_per_node, max_price_factor=factor)
    packing = pack([Demand(shape(2, 3), 1)], [], offer)
    assert ordered(packing) == chosen
    assert packing.unplaced == ({} if chosen else {0: 1})


def test_a_dear_node_is_ordered_for_several_that_would_cost_as_much_one_by_one() -> None:
    offer = Offer(
        (size("one", 1, 4, 1.0), size("eight", 8, 32, 8.0)),
        frozenset({"one"}),
        max_price_factor=1.5,
    )
    assert pack([Demand(shape(1), 5)], [], offer).unplaced == {0: 5}
    assert ordered(pack([Demand(shape(1), 6)], [], offer)) == ["eight"]


def test_those_whose_size_is_sold_out_spoil_nothing_for_others() -> None:
    sizes = tuple(size(f"{cores}", cores, 4 * cores, 0.1 * cores) for cores in (1, 2, 4, 8, 16))
    spot = size("spot", 2, 8, 0.06, preemptible=True)
    demands = [Demand(shape(1), 32), Demand(shape(2, preemptible=True), 100)]
    packing = pack(demands, [], Offer((*sizes, spot), frozenset({"spot"})))
    assert ordered(packing) == ["16", "16"]
    assert packing.unplaced == {1: 100}


def test_to_place_more_comes_before_to_cost_less() -> None:
    offer = Offer(
        (size("small", 1, 1, 1.0), size("gone", 7, 10, 1.0), size("large", 5, 15, 2.5)),
        frozenset({"gone"}),
    )
    packing = pack([Demand(shape(2, 4), 2), Demand(shape(4, 3), 1)], [], offer)
    assert ordered(packing) == ["large"]
    assert packing.unplaced == {1: 1}


def test_who_bears_being_taken_away_gets_the_cheap_node_and_nobody_else() -> None:
    offer = Offer((size("spot", 2, 4, 0.5, preemptible=True), size("firm", 2, 4, 2.0)))
    packing = pack(of(shape(2), shape(2, preemptible=True)), [], offer)
    assert ordered(packing) == ["firm", "spot"]
    assert [dict(new.load.counts) for new in packing.new] == [{0: 1}, {1: 1}]
    assert pack(of(shape(2)), [], Offer(offer.sizes[:1])).unfit == {0: 1}


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (shape(2, gpus=1), ["one-gpu"]),
        (shape(2, gpus=2), ["four-gpus"]),
        (shape(2, gpus=5), []),
        (shape(2), ["none"]),
        (shape(9, gpus=1), ["four-gpus"]),
    ],
)
def test_gpus_are_counted(wanted: Shape, chosen: list[str]) -> None:
    offer = Offer(
        (
            size("one-gpu", 8, 16, 1.0, gpus=1),
            size("four-gpus", 32, 64, 4.0, gpus=4),
            size("none", 8, 16, 0.4),
        )
    )
    assert ordered(pack([Demand(wanted, 1)], [], offer)) == chosen


def test_partitions_are_kept_apart() -> None:
    offer = Offer(
        (size("long", 4, 16, 0.5, partitions=("long",)), size("any", 4, 16, 1.0, partitions=()))
    )
    demands = of(shape(1, partitions=("short",)), shape(1, partitions=("long",)), shape(1))
    packing = pack(demands, [], offer)
    assert ordered(packing) == ["any"]
    assert packing.new[0].load.counts == {0: 1, 1: 1, 2: 1}
    assert ordered(pack(demands[1:], [], offer)) == ["long"]


# Several on a node.


def test_those_that_need_cores_share_with_those_that_need_ram() -> None:
    offer = Offer((size("lean", 16, 16, 1.6), size("plain", 16, 64, 2.0), size("fat", 2, 64, 1.7)))
    packing = pack([Demand(shape(14, 8), 3), Demand(shape(2, 56), 3)], [], offer)
    assert ordered(packing) == ["plain"] * 3
    assert {tuple(new.load.counts.values()) for new in packing.new} == {(1, 1)}


def test_of_answers_that_cost_the_same_the_one_with_fewer_nodes_is_taken() -> None:
    sizes = tuple(size(f"{cores}", cores, 4 * cores, 0.1 * cores) for cores in (1, 2, 4, 8, 16))
    assert ordered(pack([Demand(shape(1, 4), 24)], [], Offer(sizes))) == ["16", "8"]


def test_nodes_that_cost_nothing_are_few_and_no_larger_than_needed() -> None:
    sizes = tuple(size(f"{cores}", cores, 4 * cores, 0.0) for cores in (2, 4, 8))
    assert ordered(pack([Demand(shape(1), 3)], [], Offer(sizes))) == ["4"]
    assert Counter(ordered(pack([Demand(shape(1), 10)], [], Offer(sizes)))) == {"8": 1, "2": 1}


def test_what_costs_nothing_is_preferred_to_what_costs_something() -> None:
    offer = Offer((size("free", 1, 4, 0.0), size("paid", 8, 32, 0.01)))
    assert ordered(pack([Demand(shape(1), 8)], [], offer)) == ["free"] * 8


def test_two_that_would_fill_a_node_well_get_one_each_where_that_is_cheaper() -> None:
    offer = Offer(
        (
            size("fat", 3, 15, 1.0),
            size("lean", 8, 4, 2.5),
            size("lame", 5, 3, 4.0),
            size("dear", 8, 1, 4.0),
        )
    )
    demands = [Demand(shape(2, 10), 3), Demand(shape(1, 10), 3), Demand(shape(3, 2), 2)]
    assert ordered(pack(demands, [], offer)) == ["fat"] * 8


def test_nobody_is_left_over_when_the_only_size_for_him_was_to_be_shared_and_that_is_too_dear() -> (
    None
):
    offer = Offer(
        (
            size("large", 5, 11, 3.0),
            size("small", 4, 9, 1.0),
            size("spot", 2, 14, 1.5, preemptible=True),
        )
    )
    demands = [
        Demand(shape(2, 1, preemptible=True), 1),
        Demand(shape(5, 1, preemptible=True), 1),
        Demand(shape(2, 9), 2),
    ]
    packing = pack(demands, [], offer)
    assert Counter(ordered(packing)) == {"large": 1, "small": 3}


# Rooms.

BIG = Offer((size("big", 16, 64, 1.0),))


def test_nothing_is_ordered_for_what_has_room() -> None:
    packing = pack([Demand(shape(1), 6)], [room("a", 4), room("b", 2)], BIG)
    assert packing.new == ()
    assert {node: sum(load.counts.values()) for node, load in packing.rooms.items()} == {
        "a": 4,
        "b": 2,
    }


def test_a_rare_kind_finds_the_corner_that_the_frequent_ones_leave() -> None:
    demands = [Demand(shape(3, 3 + number / 100), 10) for number in range(100)]
    packing = pack([*demands, Demand(shape(1), 1)], [room("here", 4)], BIG)
    assert packing.rooms["here"].counts[100] == 1


def test_nodes_that_are_here_are_filled_before_those_that_boot_and_those_before_the_leaving() -> (
    None
):
    rooms = [room("leaves", 4, rank=2), room("boots", 4, rank=1), room("here", 4, rank=0)]
    for count, expected in (
        (3, {"here"}),
        (8, {"here", "boots"}),
        (9, {"here", "boots", "leaves"}),
    ):
        assert set(pack([Demand(shape(1), count)], rooms, BIG).rooms) == expected


def test_idle_nodes_stay_idle_while_busy_ones_have_room() -> None:
    rooms = [room("idle", 4), room("busy", 9, empty=False)]
    assert set(pack([Demand(shape(1), 4)], rooms, BIG).rooms) == {"busy"}


@pytest.mark.parametrize("limit", [None, 0])
def test_the_tight_room_is_taken_so_that_the_large_one_can_go(limit: int | None) -> None:
    rooms = [room("large", 16), room("tight", 3), room("middle", 8)]
    offer = replace(BIG, max_nodes=limit)
    assert set(pack([Demand(shape(3), 1)], rooms, offer).rooms) == {"tight"}


@pytest.mark.parametrize("limit", [None, 0])
def test_a_room_for_few_is_left_to_those_few(limit: int | None) -> None:
    rooms = [room("any", 4), room("spot", 8, preemptible=True)]
    demands = [Demand(shape(4, preemptible=True), 1, 1), Demand(shape(4), 1), Demand(shape(16), 1)]
    packing = pack(demands, rooms, replace(BIG, max_nodes=limit))
    assert {node: dict(load.counts) for node, load in packing.rooms.items()} == {
        "spot": {0: 1},
        "any": {1: 1},
    }


def test_a_node_with_gpus_is_left_to_those_that_need_them() -> None:
    rooms = [room("gpu", 4), room("plain", 4)]
    rooms[0] = replace(rooms[0], free=replace(rooms[0].free, gpus=1))
    packing = pack([Demand(shape(4), 1), Demand(shape(4, gpus=1), 1)], rooms, BIG)
    assert {node: dict(load.counts) for node, load in packing.rooms.items()} == {
        "plain": {0: 1},
        "gpu": {1: 1},
    }


def test_a_room_is_left_to_the_one_who_can_get_no_node() -> None:
    demands = [Demand(shape(8), 1, priority=1), Demand(shape(20), 1, priority=0)]
    packing = pack(demands, [room("here", 24, 256)], BIG)
    assert packing.rooms["here"].counts == {1: 1}
    assert ordered(packing) == ["big"]


def test_what_only_a_room_would_fit_waits_for_it() -> None:
    packing = pack([Demand(shape(20), 2)], [room("here", 24, 256)], BIG)
    assert packing.rooms["here"].counts == {0: 1}
    assert (packing.unplaced, packing.unfit) == ({0: 1}, {})


def test_one_per_node_takes_only_empty_nodes_and_one_on_each() -> None:
    rooms = [room("busy", 8, empty=False), room("idle", 8), room("away", 2, rank=2)]
    packing = pack([Demand(shape(1), 4)], rooms, one_each(SMALL))
    assert {node: dict(load.counts) for node, load in packing.rooms.items()} == {
        "idle": {0: 1},
        "away": {0: 1},
    }
    assert ordered(packing) == ["small"] * 2


# Limits.


def test_the_most_urgent_get_the_nodes() -> None:
    demands = [Demand(shape(8), 4, priority=1), Demand(shape(8), 3, priority=2)]
    packing = pack(demands, [], replace(BIG, max_nodes=2))
    assert nodes(packing) == 2
    assert packing.unplaced == {0: 3}
    assert [new.priority for new in packing.new] == [2, 2]


def test_of_equally_urgent_ones_as_many_are_served_as_can_be() -> None:
    packing = pack([Demand(shape(12), 4), Demand(shape(1), 30)], [], replace(BIG, max_nodes=2))
    assert packing.unplaced == {0: 4}


def test_a_large_urgent_one_is_not_passed_over_for_many_small_ones() -> None:
    demands = [Demand(shape(12), 1, priority=2), Demand(shape(1), 30, priority=1)]
    packing = pack(demands, [], replace(BIG, max_nodes=1))
    assert packing.new[0].load.counts == {0: 1, 1: 4}


def test_where_nodes_are_few_larger_ones_are_ordered() -> None:
    sizes = tuple(size(f"{cores}", cores, 4 * cores, 0.1 * cores) for cores in (1, 2, 4, 8, 16))
    dear = (*sizes[:-1], replace(sizes[-1], price=2.0))
    demands = [Demand(shape(1, 4), 20)]
    assert Counter(ordered(pack(demands, [], Offer(dear)))) == {"8": 2, "4": 1}
    packing = pack(demands, [], Offer(dear, max_nodes=2))
    assert ordered(packing) == ["16", "4"]
    assert packing.unplaced == {}


def test_no_more_money_is_spent_than_there_is() -> None:
    sizes = tuple(size(f"{cores}", cores, 4 * cores, 0.1 * cores) for cores in (1, 2, 4, 8, 16))
    packing = pack(
        [Demand(shape(1, 4), 40, 1), Demand(shape(4, 4), 1, 2)], [], Offer(sizes, max_price=2.5)
    )
    assert price(packing) == pytest.approx(2.5)
    assert packing.unplaced == {0: 19}


def test_what_is_left_of_the_money_goes_to_those_who_can_use_it() -> None:
    sizes = (size("one", 1, 4, 0.1), size("eight", 8, 32, 0.8))
    demands = [Demand(shape(8, 32), 2, priority=2), Demand(shape(1, 4), 9, priority=1)]
    packing = pack(demands, [], Offer(sizes, max_price=1.1))
    assert Counter(ordered(packing)) == {"eight": 1, "one": 3}
    assert packing.unplaced == {0: 1, 1: 6}


def test_the_list_begins_with_the_nodes_for_the_most_urgent() -> None:
    demands = [Demand(shape(16), 2, 1), Demand(shape(16), 1, 3), Demand(shape(16), 1, 2)]
    assert [new.priority for new in pack(demands, [], BIG).new] == [3, 2, 1]
