"""What is booted and what leaves, on a given snapshot."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given

from nodemanager.model import NodeSize
from nodemanager.nodes.demand import Demand
from nodemanager.nodes.limits import Brake, Pause, Quota, Shortages
from nodemanager.nodes.messages import NodeStanding
from nodemanager.nodes.plan import Plan
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.nodes.stock import Stock, tightest, up
from tests.nodes.stocks import (
    EIGHT_CORES,
    GPU,
    LARGE,
    NOW,
    ONE_CORE,
    SIZES,
    SMALL,
    SPOT,
    TOO_MUCH,
    TWO_CORES,
    decide,
    demand_lists,
    policies,
    standing,
    standings,
    stock_of,
    stocks,
    wish,
)

POLICY = NodePolicy(max_nodes=10, boots_per_turn=10)
CLOSED = "its shutdown window is closed"


def booted(made: Plan) -> list[str]:
    return [size.name for size in made.boot]


class TestBooting:
    def test_a_node_for_what_waits(self) -> None:
        assert booted(decide(stock_of(), POLICY, {TWO_CORES: 3})) == ["small"] * 3

    def test_nothing_for_what_fits_nothing(self) -> None:
        made = decide(stock_of(), POLICY, {TOO_MUCH: 3})
        assert made.boot == ()
        assert "3 find no place" in made.held

    @pytest.mark.parametrize("phase", ["asked", "booting", "idle"])
    def test_nothing_for_what_has_room_already(self, phase: str) -> None:
        assert decide(stock_of(standing("a", phase)), POLICY, {TWO_CORES: 1}).boot == ()

    @pytest.mark.parametrize("phase", ["failed", "lost", "destroying", "draining"])
    def test_one_in_place_of_a_node_that_is_of_no_use(self, phase: str) -> None:
        made = decide(stock_of(standing("a", phase)), POLICY, {TWO_CORES: 1})
        assert booted(made) == ["small"]

    def test_when_all_nodes_are_busy(self) -> None:
        busy = standing("a", "busy", used=2)
        assert booted(decide(stock_of(busy), POLICY, {ONE_CORE: 1})) == ["small"]

    def test_a_busy_node_with_room_is_used_first(self) -> None:
        busy = standing("a", "busy", used=1)
        assert decide(stock_of(busy), POLICY, {ONE_CORE: 1}).boot == ()
        alone = replace(POLICY, one_per_node=True)
        assert booted(decide(stock_of(busy), alone, {ONE_CORE: 1})) == ["small"]

    def test_only_what_an_earlier_view_wanted_too(self) -> None:
        """Jobs that start between the list of jobs and that of nodes are counted twice on one view."""
        made = decide(stock_of(), POLICY, {TWO_CORES: 3}, confirmed=0)
        assert (made.boot, made.wanted) == ((), 3)
        assert len(decide(stock_of(), POLICY, {TWO_CORES: 3}, confirmed=2).boot) == 2

    def test_so_many_in_a_turn(self) -> None:
        stock = stock_of(sizes=(SMALL,))
        made = decide(stock, replace(POLICY, boots_per_turn=4), {TWO_CORES: 9})
        assert (len(made.boot), made.wanted) == (4, 9)

    def test_the_most_urgent_first(self) -> None:
        """Old node manager, 13166: less urgent work took the quota."""
        demands = [Demand(TWO_CORES, 4, 1), Demand(EIGHT_CORES, 1, 900)]
        made = decide(stock_of(), replace(POLICY, max_nodes=2), demands)
        assert booted(made)[0] == "large"

    def test_up_to_max_nodes_whatever_the_nodes_are_doing(self) -> None:
        nodes = [standing(p, p, used=2) for p in ("busy", "lost", "draining", "destroying")]
        made = decide(stock_of(*nodes), replace(POLICY, max_nodes=5), {TWO_CORES: 9})
        assert len(made.boot) == 1
        assert "max_nodes (5) is reached" in made.held

    def test_up_to_the_total_price(self) -> None:
        dear = standing("a", "busy", LARGE, used=8)
        made = decide(stock_of(dear), replace(POLICY, max_total_price=0.65), {TWO_CORES: 9})
        assert booted(made) == ["small"] * 2

    def test_up_to_the_quota(self) -> None:
        made = decide(stock_of(quota=Quota(3, NOW + 60)), POLICY, {TWO_CORES: 9})
        assert len(made.boot) == 3

    def test_another_size_when_one_cannot_be_had(self) -> None:
        shortages = Shortages({"small": Pause(NOW + 60, 60, "none left")})
        stock = stock_of(shortages=shortages, sizes=(SMALL, LARGE))
        assert booted(decide(stock, replace(POLICY, max_price_factor=4), {TWO_CORES: 1})) == [
            "large"
        ]
        assert decide(stock, POLICY, {TWO_CORES: 1}).boot == (), "too dear for that"

    def test_nothing_new_while_the_brake_is_on(self) -> None:
        brake = Brake(5, "it never joined", NOW + 60)
        assert decide(stock_of(brake=brake), POLICY, {TWO_CORES: 9}).boot == ()
        assert len(decide(stock_of(brake=Brake(5, "x", NOW)), POLICY, {TWO_CORES: 9}).boot) == 1


class TestMinNodes:
    POLICY = NodePolicy(max_nodes=10, min_nodes=3)

    def test_are_of_the_cheapest_size(self) -> None:
        assert booted(decide(stock_of(), self.POLICY)) == ["small"] * 3

    @pytest.mark.parametrize("phase", ["asked", "booting", "idle", "busy"])
    def test_count_what_is_up(self, phase: str) -> None:
        stock = stock_of(standing("a", phase, LARGE), standing("b", phase), standing("c", phase))
        assert decide(stock, self.POLICY).boot == ()

    def test_count_what_is_booted_for_containers(self) -> None:
        made = decide(stock_of(), self.POLICY, {EIGHT_CORES: 2})
        assert booted(made) == ["large", "large", "small"]

    def test_within_the_total_price_together_with_those(self) -> None:
        policy = replace(self.POLICY, max_total_price=0.55)
        assert booted(decide(stock_of(), policy, {EIGHT_CORES: 1})) == ["large", "small"]

    def test_of_the_next_size_when_the_cheapest_cannot_be_had(self) -> None:
        shortages = Shortages({"small": Pause(NOW + 60, 60, "none left")})
        assert booted(decide(stock_of(shortages=shortages), self.POLICY)) == ["spot"] * 3

    def test_stay_and_the_cheapest_of_them(self) -> None:
        nodes = [standing("a", "idle", LARGE), *(standing(f"b{n}", "idle") for n in range(4))]
        made = decide(stock_of(*nodes), self.POLICY)
        assert sorted(made.leave) == ["a", "b0"]

    def test_are_not_kept_when_the_daemon_ends_for_good(self) -> None:
        stock = stock_of(standing("a", "idle", not_ready=CLOSED), dissolving=True)
        made = decide(stock, self.POLICY, {TWO_CORES: 0})
        assert (made.boot, list(made.leave)) == ((), ["a"])


class TestLeaving:
    def test_idle_and_nothing_waits_for_it(self) -> None:
        assert list(decide(stock_of(standing("a", "idle")), POLICY).leave) == ["a"]

    @pytest.mark.parametrize(
        "node",
        [
            standing("a", "idle", not_ready=CLOSED),
            standing("a", "idle", takes_work=False),
            standing("a", "idle", leaving="told already"),
            standing("a", "idle", behaviour=Behaviour.HOLD),
            *(standing("a", p.value) for p in NodePhase if p not in (NodePhase.IDLE, "gone")),
        ],
    )
    def test_no_other_node(self, node: NodeStanding) -> None:
        assert decide(stock_of(node), POLICY).leave == {}

    def test_not_while_something_waits_for_it(self) -> None:
        assert decide(stock_of(standing("a", "idle")), POLICY, {ONE_CORE: 1}).leave == {}

    def test_what_was_leaving_stays_when_it_is_wanted_again(self) -> None:
        leaving = standing("a", "draining", leaving="idle")
        made = decide(stock_of(leaving), POLICY, {TWO_CORES: 1})
        assert (made.stay, made.boot) == (("a",), ())
        assert decide(stock_of(leaving), POLICY).stay == ()

    def test_one_of_unknown_size(self) -> None:
        """Old node manager: of an invalid size is eligible for shutdown."""
        assert list(decide(stock_of(standing("a", "idle", None)), POLICY).leave) == ["a"]


class TestMakingRoom:
    """At a limit an idle node that is of no use for what waits leaves at once (Go: ShutdownAtQuota)."""

    IDLE = (standing("a", "idle", not_ready=CLOSED, idle_seen=True),)

    def leaves(self, policy: NodePolicy = POLICY, waiting: int = 1, **more: object) -> int:
        nodes = [replace(self.IDLE[0], name=f"a{n}", host=f"a{n}") for n in range(3)]
        return len(decide(stock_of(*nodes, **more), policy, {EIGHT_CORES: waiting}).leave)

    def test_at_max_nodes(self) -> None:
        assert self.leaves(replace(POLICY, max_nodes=3)) == 1
        assert self.leaves(replace(POLICY, max_nodes=4)) == 0, "there is room beside it"
        assert self.leaves(replace(POLICY, max_nodes=4), waiting=3) == 2

    def test_at_the_quota(self) -> None:
        assert self.leaves(quota=Quota(3, NOW + 60)) == 1

    def test_at_the_total_price(self) -> None:
        assert self.leaves(replace(POLICY, max_total_price=0.6)) == 1
        assert self.leaves(replace(POLICY, max_total_price=0.75)) == 0

    def test_not_when_that_would_help_nobody(self) -> None:
        at_limit = replace(POLICY, max_nodes=3)
        none_left = Shortages({"large": Pause(NOW + 60, 60, "none left")})
        assert self.leaves(at_limit, shortages=none_left) == 0
        assert self.leaves(at_limit, brake=Brake(5, "it never joined", NOW + 60)) == 0
        assert self.leaves(shortages=none_left) == 0

    def test_not_a_node_that_has_only_just_come(self) -> None:
        node = replace(self.IDLE[0], idle_seen=False)
        made = decide(stock_of(node), replace(POLICY, max_nodes=1), {EIGHT_CORES: 1})
        assert made.leave == {}


class TestWithdrawing:
    def test_an_order_that_nothing_waits_for(self) -> None:
        assert decide(stock_of(standing("a", "asked")), POLICY).withdraw == ("a",)
        assert decide(stock_of(standing("a", "asked")), POLICY, {ONE_CORE: 1}).withdraw == ()
        assert decide(stock_of(standing("a", "booting")), POLICY).withdraw == ()

    def test_not_below_min_nodes(self) -> None:
        nodes = [standing(f"a{n}", "asked") for n in range(5)]
        made = decide(stock_of(*nodes), replace(POLICY, min_nodes=3))
        assert len(made.withdraw) == 2

    def test_orders_that_the_quota_would_refuse(self) -> None:
        nodes = [standing("b", "busy", used=2), *(standing(f"a{n}", "asked") for n in range(5))]
        stock = stock_of(*nodes, quota=Quota(2, NOW + 60))
        made = decide(stock, POLICY, {TWO_CORES: 9})
        assert made.withdraw == ("a1", "a2", "a3", "a4"), "the latest"

    def test_orders_of_a_size_that_has_run_out(self) -> None:
        nodes = [standing("a", "asked"), standing("b", "asked", LARGE), standing("c", "booting")]
        shortages = Shortages({"small": Pause(NOW + 60, 60, "none left")})
        stock = stock_of(*nodes, shortages=shortages)
        assert decide(stock, POLICY, {ONE_CORE: 99}).withdraw == ("a",)

    def test_orders_beyond_what_the_brake_lets_try(self) -> None:
        nodes = [standing(f"a{n}", "asked") for n in range(5)]
        stock = stock_of(*nodes, brake=Brake(3, "it never joined", NOW + 60))
        assert decide(stock, POLICY, {TWO_CORES: 99}).withdraw == ("a2", "a3", "a4")


def test_with_old_news_nothing_is_done() -> None:
    nodes = [standing("a", "idle"), standing("b", "asked"), standing("c", "draining", leaving="x")]
    made = decide(stock_of(*nodes, stale="no news of the cloud"), POLICY, {EIGHT_CORES: 5})
    assert not made.acts
    assert made.withdraw == ()
    assert made.held == "nothing is done: no news of the cloud"


def test_the_decision_is_one_line_with_its_numbers() -> None:
    nodes = [standing("a", "idle", LARGE), standing("b", "booting")]
    stock = stock_of(*nodes, sizes=(SMALL,))
    made = decide(stock, replace(POLICY, max_nodes=3), {TWO_CORES: 9})
    assert made.sentence == (
        "boot 1 x small (9 containers wait, 2 of 3 nodes, 1 coming, 1 idle, 0.5 per hour; "
        "3 find no place: max_nodes (3) is reached)"
    )
    assert made.numbers["waiting"] == 9
    assert made.numbers["unplaced"] == 3


class TestProperties:
    @given(stocks(), policies, demand_lists)
    def test_no_limit_is_overstepped(
        self, stock: Stock, policy: NodePolicy, demands: list[Demand]
    ) -> None:
        made = decide(stock, policy, demands)
        if not made.boot:
            return
        assert len(made.boot) <= policy.boots_per_turn
        assert len(stock.nodes) + len(made.boot) <= policy.max_nodes
        assert len(made.boot) <= tightest(stock, policy).nodes
        price = stock.price + sum(size.price for size in made.boot)
        assert policy.max_total_price == 0 or price <= policy.max_total_price + 1e-9
        unavailable = stock.shortages.unavailable(stock.elapsed)
        assert unavailable.isdisjoint(size.name for size in made.boot)

    @given(stocks(), policies, demand_lists)
    def test_nothing_is_booted_that_no_waiting_container_can_use(
        self, stock: Stock, policy: NodePolicy, demands: list[Demand]
    ) -> None:
        made = decide(stock, policy, demands)
        for_containers = list(made.boot)[: made.wanted]
        for size in for_containers:
            assert any(demand.shape.fits_size(size) for demand in demands)
        assert len(for_containers) <= sum(demand.count for demand in demands)
        kept_up = len(made.boot) - len(for_containers)
        assert kept_up <= max(0, policy.min_nodes - len(up(stock)))

    @given(stocks(), policies, demand_lists)
    def test_nothing_leaves_that_something_waits_for(
        self, stock: Stock, policy: NodePolicy, demands: list[Demand]
    ) -> None:
        used = wish(stock, policy, demands).packing.rooms
        made = decide(stock, policy, demands)
        by_name = {node.name: node for node in stock.nodes}
        for name in made.leave:
            node = by_name[name]
            assert node.host not in used
            assert node.behaviour is Behaviour.RUN
            assert node.phase is NodePhase.IDLE or stock.dissolving
        for name in made.stay:
            assert by_name[name].host in used
        if made.leave and not stock.dissolving:
            assert len(up(stock)) + len(made.boot) - len(made.leave) >= policy.min_nodes

    @given(stocks(), policies, demand_lists)
    def test_with_old_news_nothing_at_all(
        self, stock: Stock, policy: NodePolicy, demands: list[Demand]
    ) -> None:
        made = decide(replace(stock, stale="no news"), policy, demands)
        assert (made.boot, made.leave, made.stay, made.withdraw) == ((), {}, (), ())

    @given(stocks(), policies, demand_lists)
    def test_the_same_snapshot_brings_the_same_decision(
        self, stock: Stock, policy: NodePolicy, demands: list[Demand]
    ) -> None:
        assert decide(stock, policy, demands) == decide(stock, policy, demands)

    @given(stocks(), policies, demand_lists)
    def test_only_what_was_only_asked_for_is_withdrawn(
        self, stock: Stock, policy: NodePolicy, demands: list[Demand]
    ) -> None:
        asked = {node.name for node in stock.nodes if node.phase is NodePhase.ASKED}
        made = decide(stock, policy, demands)
        assert asked.issuperset(made.withdraw)
        assert len(set(made.withdraw)) == len(made.withdraw)

    @given(standings("a"), policies)
    def test_min_nodes_are_booted_in_the_end(self, node: NodeStanding, policy: NodePolicy) -> None:
        """Turn after turn, with nothing that waits and nothing in the way."""
        policy = replace(policy, max_total_price=0.0)
        nodes: Sequence[NodeStanding] = [node]
        for turn in range(5):
            made = decide(stock_of(*nodes), policy)
            nodes = [*nodes, *_as_asked(made.boot, turn)]
        enough = len(up(stock_of(*nodes))) >= policy.min_nodes
        assert enough or len(nodes) >= policy.max_nodes


def _as_asked(sizes: Sequence[NodeSize], turn: int) -> list[NodeStanding]:
    return [standing(f"new{turn}-{n}", "asked", size) for n, size in enumerate(sizes)]


def test_the_sizes_of_these_tests_are_cheapest_first() -> None:
    assert list(SIZES) == sorted((GPU, LARGE, SPOT, SMALL), key=lambda size: size.price)
