"""What one decision is made on: rooms, what may be booted, and the limit that leaves the least."""

import pytest
from hypothesis import given

from nodemanager.model import Node, NodeState, Resources
from nodemanager.nodes.limits import Brake, Pause, Quota, Shortages
from nodemanager.nodes.messages import NodeStanding
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.nodes.stock import (
    Stock,
    bootable_cores,
    bootable_sizes,
    offer_of,
    rooms_of,
    staleness,
    tightest,
    up,
)
from nodemanager.reason import ReasonToken
from tests.nodes.stocks import (
    GIB,
    GPU,
    LARGE,
    NOW,
    SIZES,
    SMALL,
    SPOT,
    policies,
    standing,
    stock_of,
    stocks,
)

POLICY = NodePolicy(max_nodes=10, max_boot_failures=5)
HELD = Behaviour.HOLD


class TestRooms:
    @pytest.mark.parametrize(
        ("node", "rank", "cores"),
        [
            (standing("a", "idle"), 0, 2),
            (standing("a", "busy", LARGE, used=5), 0, 3),
            (standing("a", "asked"), 1, 2),
            (standing("a", "booting", LARGE), 1, 8),
            (standing("a", "draining", leaving="idle"), 2, 2),
        ],
    )
    def test_where_there_is_room(self, node: NodeStanding, rank: int, cores: int) -> None:
        [room] = rooms_of(stock_of(node))
        assert (room.node, room.rank, room.free.cores) == ("a", rank, cores)
        assert room.empty == (node.phase is not NodePhase.BUSY)

    @pytest.mark.parametrize(
        "node",
        [
            standing("a", "idle", takes_work=False),
            standing("a", "draining"),
            standing("a", "draining", leaving="idle", behaviour=HELD),
            standing("a", "booting", behaviour=HELD),
            standing("a", "booting", None),
            standing("a", "failed"),
            standing("a", "lost"),
            standing("a", "destroying"),
        ],
    )
    def test_where_there_is_none(self, node: NodeStanding) -> None:
        assert rooms_of(stock_of(node)) == ()

    def test_nodes_that_are_not_ours_have_room_too(self) -> None:
        has = Resources(4, 8 * GIB)
        others = (
            Node("static", NodeState.IDLE, has, has),
            Node("drained", NodeState.DRAINED, has, has),
        )
        [room] = rooms_of(stock_of(others=others))
        assert room.node == "static"

    def test_what_nodes_turned_out_to_have_counts_for_those_to_come(self) -> None:
        measured = {"small": Resources(2, 3 * GIB)}
        stock = stock_of(standing("a", "booting"), measured=measured)
        [room] = rooms_of(stock)
        assert room.free == Resources(2, 3 * GIB)
        assert offer_of(stock, POLICY).sizes[0].resources == Resources(2, 3 * GIB)

    def test_partitions_and_preemptible_go_with_the_size(self) -> None:
        spot, gpu = rooms_of(stock_of(standing("a", "asked", SPOT), standing("b", "booting", GPU)))
        assert (spot.preemptible, gpu.partitions) == (True, ("gpu",))


class TestLimits:
    def token(self, stock: Stock, policy: NodePolicy = POLICY) -> tuple[int, ReasonToken]:
        limit = tightest(stock, policy)
        return limit.nodes, limit.token

    def test_max_nodes_counts_whatever_is_not_gone(self) -> None:
        nodes = [standing(phase.value, phase.value) for phase in NodePhase if phase.value != "gone"]
        assert self.token(stock_of(*nodes)) == (10 - len(nodes), ReasonToken.NODE_LIMIT)

    def test_the_quota_that_was_learnt(self) -> None:
        stock = stock_of(standing("a", "busy"), quota=Quota(2, NOW + 30))
        assert self.token(stock) == (1, ReasonToken.CLOUD_QUOTA)

    def test_one_is_tried_beyond_the_quota_and_no_more_before_the_answer(self) -> None:
        nodes = [standing("a", "busy"), standing("b", "busy")]
        quota = Quota(2, NOW - 1)
        assert self.token(stock_of(*nodes, quota=quota))[0] == 1
        assert self.token(stock_of(*nodes, standing("c", "asked"), quota=quota))[0] == 0

    def test_orders_beyond_the_quota_are_too_many(self) -> None:
        asked = [standing(f"a{n}", "asked") for n in range(5)]
        stock = stock_of(standing("b", "booting"), *asked, quota=Quota(1, NOW + 30))
        assert self.token(stock) == (-5, ReasonToken.CLOUD_QUOTA)

    def test_the_brake(self) -> None:
        on = Brake(5, "it never joined", NOW + 60)
        assert self.token(stock_of(brake=on)) == (0, ReasonToken.BOOT_BRAKE)
        assert "5 nodes in a row" in tightest(stock_of(brake=on), POLICY).sentence

    def test_failures_that_are_known_are_not_on_trial_any_more(self) -> None:
        """Else a node that is held to be looked at, or that waits for its window, would hold up the next try."""
        known = [standing(phase, phase, proved=False) for phase in ("failed", "lost", "destroying")]
        assert self.token(stock_of(*known, brake=Brake(5, "x", NOW)))[0] == 1
        assert self.token(stock_of(*known, brake=Brake(3, "x", NOW)))[0] == 2
        trial = standing("a", "booting")
        assert self.token(stock_of(trial, *known, brake=Brake(5, "x", NOW)))[0] == 0

    def test_old_news(self) -> None:
        assert self.token(stock_of(stale="no news")) == (0, ReasonToken.NODES_UNKNOWN)

    @given(stocks(), policies)
    def test_an_offer_is_within_every_limit(self, stock: Stock, policy: NodePolicy) -> None:
        offer = offer_of(stock, policy)
        assert offer.max_nodes is not None
        assert 0 <= offer.max_nodes <= max(0, policy.max_nodes - len(stock.nodes))
        if policy.max_total_price > 0:
            assert offer.max_price is not None
            assert stock.price + offer.max_price <= max(policy.max_total_price, stock.price) + 1e-9


class TestBootable:
    def test_sizes_beyond_the_total_price_never_count(self) -> None:
        assert bootable_sizes(SIZES, NodePolicy(max_nodes=5, max_total_price=0.3)) == (SMALL, SPOT)
        assert bootable_sizes(SIZES, NodePolicy(max_nodes=5)) == SIZES

    def test_with_no_node_allowed_nothing_can_be_booted(self) -> None:
        assert bootable_sizes(SIZES, NodePolicy(max_nodes=0)) == ()

    def test_cores_of_what_comes_and_of_what_may_come(self) -> None:
        policy = NodePolicy(max_nodes=3)
        stock = stock_of(standing("a", "booting"), standing("b", "busy"), sizes=(SMALL, LARGE))
        assert bootable_cores(stock, policy) == 2 + 8

    def test_no_cores_of_what_cannot_be_had(self) -> None:
        pauses = {"large": Pause(NOW + 60, 60, "none left")}
        stock = stock_of(sizes=(SMALL, LARGE), shortages=Shortages(pauses))
        assert bootable_cores(stock, NodePolicy(max_nodes=3)) == 6

    def test_the_total_price_bounds_the_cores(self) -> None:
        policy = NodePolicy(max_nodes=100, max_total_price=1.0)
        assert bootable_cores(stock_of(sizes=(SMALL, LARGE)), policy) == 20


def test_staleness_names_what_is_old() -> None:
    policy = NodePolicy(poll_stale_after=600)
    assert staleness({"cloud": 600.0, "API": 0.0}, policy) == ""
    assert "cloud for more than 10 min 0 s" in staleness({"cloud": 600.1, "API": 0.0}, policy)
    assert staleness({"cloud": 1.0, "API": None}, policy) == "there is no news of the API yet"


def test_min_nodes_counts_what_is_here_or_coming_and_stays() -> None:
    nodes = [standing(phase.value, phase.value) for phase in NodePhase]
    nodes += [standing("leaves", "idle", leaving="idle")]
    assert [node.name for node in up(stock_of(*nodes))] == ["asked", "booting", "idle", "busy"]
