"""Every waiting container is told why it waits, as far as nodes are concerned."""

from collections.abc import Mapping

import pytest
from hypothesis import given

from nodemanager.model import Node, NodeState, Resources
from nodemanager.nodes.demand import Demand, Shape
from nodemanager.nodes.limits import Brake, Pause, Quota, Shortages
from nodemanager.nodes.messages import NodeStanding
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.stock import Stock
from nodemanager.nodes.why import held_by, reasons_of
from nodemanager.reason import Reason, ReasonToken
from tests.nodes.stocks import (
    EIGHT_CORES,
    GPU,
    LARGE,
    NOW,
    ONE_CORE,
    SMALL,
    TOO_MUCH,
    TWO_CORES,
    WALL,
    demand_lists,
    policies,
    standing,
    stock_of,
    stocks,
    wish,
)

POLICY = NodePolicy(max_nodes=2)


def reasons(
    stock: Stock, waiting: Mapping[Shape, int], policy: NodePolicy = POLICY
) -> list[tuple[int, Reason]]:
    lines = reasons_of(stock, wish(stock, policy, waiting), policy)
    return [part for line in lines.values() for part in line]


def only(stock: Stock, shape: Shape = TWO_CORES, policy: NodePolicy = POLICY) -> Reason:
    [(count, reason)] = reasons(stock, {shape: 1}, policy)
    assert count == 1
    return reason


FULL = (standing("a", "busy", used=2), standing("b", "busy", used=2))


@pytest.mark.parametrize(
    ("stock", "token", "words"),
    [
        (stock_of(standing("a", "idle")), "scheduler-wait", "there is room for it"),
        (
            stock_of(standing("a", "booting")),
            "node-booting",
            "waits for a node of size small that is booting",
        ),
        (stock_of(), "node-booting", "a node of size small is being ordered for it"),
        (
            stock_of(standing("a", "draining", leaving="idle")),
            "node-booting",
            "a node that was to leave stays for it",
        ),
        (stock_of(*FULL), "node-limit", "max_nodes (2) is reached"),
        (
            stock_of(FULL[0], quota=Quota(1, NOW + 60)),
            "cloud-quota",
            "the cloud account allows no more nodes than there are",
        ),
        (
            stock_of(brake=Brake(5, "node7 never joined", NOW + 60)),
            "boot-brake",
            "5 nodes in a row came to nothing (the last: node7 never joined); booting is stopped",
        ),
        (
            stock_of(
                sizes=(SMALL, LARGE),
                shortages=Shortages(
                    {
                        "small": Pause(NOW + 90, 60, "sold out"),
                        "large": Pause(NOW + 30, 60, "no rack"),
                    }
                ),
            ),
            "no-capacity",
            "the cloud gives no small or large: no rack",
        ),
        (
            stock_of(
                sizes=(SMALL, LARGE),
                shortages=Shortages({"small": Pause(NOW + 90, 60, "sold out")}),
            ),
            "no-capacity",
            "the cloud gives none of the cheaper sizes, and the others cost too much for it",
        ),
        (
            stock_of(stale="no news of the API"),
            "nodes-unknown",
            "no node is booted: no news of the API",
        ),
    ],
)
def test_the_reason(stock: Stock, token: str, words: str) -> None:
    reason = only(stock)
    assert (reason.token, reason.sentence) == (ReasonToken(token), words)
    assert reason.since == WALL


def test_why_no_node_at_all_is_booted() -> None:
    held = held_by(stock_of(*FULL), POLICY)
    assert held is not None
    assert held.same_as(only(stock_of(*FULL)))
    assert held_by(stock_of(FULL[0]), POLICY) is None


def test_what_nothing_fits() -> None:
    reason = only(stock_of(), TOO_MUCH)
    assert reason.token is ReasonToken.NO_NODE_FITS
    assert reason.sentence.startswith("RAM: wants 999 GiB, the largest node has ")
    assert reason.facts["ram_bytes"]["wanted"] == 999 << 30
    assert "a [Size NAME] section with more" in reason.advice


def test_what_fits_a_node_that_is_full_will_have_its_turn() -> None:
    full = Node("big", NodeState.BUSY, TOO_MUCH.resources, Resources(0, 0))
    reason = only(stock_of(others=(full,)), TOO_MUCH)
    assert reason.token is ReasonToken.SCHEDULER_WAIT
    assert "full" in reason.sentence


def test_the_total_price() -> None:
    policy = NodePolicy(max_nodes=9, max_total_price=0.45)
    stock = stock_of(standing("a", "busy", LARGE, used=8))
    assert only(stock, policy=policy).sentence == "max_total_price (0.45 per hour) is reached"


def test_the_total_price_is_used_up_by_what_is_ordered_for_others() -> None:
    policy = NodePolicy(max_nodes=9, max_total_price=0.9)
    found = reasons(stock_of(), {EIGHT_CORES: 3}, policy)
    assert [(count, reason.sentence) for count, reason in found] == [
        (2, "a node of size large is being ordered for it"),
        (1, "max_total_price (0.9 per hour) is reached"),
    ]


@pytest.mark.parametrize(
    ("stock", "seconds"),
    [
        (stock_of(FULL[0], quota=Quota(1, NOW + 60)), None),
        (stock_of(brake=Brake(5, "x", NOW + 17)), 17),
        (stock_of(sizes=(SMALL,), shortages=Shortages({"small": Pause(NOW + 90, 60, "x")})), 90),
        (stock_of(*FULL), None),
    ],
)
def test_it_says_when_it_is_tried_again(stock: Stock, seconds: float | None) -> None:
    again = only(stock).next_attempt_at
    assert again == (None if seconds is None else WALL + seconds)


def test_of_those_that_are_alike_some_wait_for_one_thing_and_some_for_another() -> None:
    nodes: list[NodeStanding] = [standing("a", "idle"), standing("b", "booting")]
    stock = stock_of(*nodes, sizes=(SMALL,))
    found = reasons(stock, {TWO_CORES: 9}, NodePolicy(max_nodes=4))
    assert [(count, reason.token.value) for count, reason in found] == [
        (1, "scheduler-wait"),
        (1, "node-booting"),
        (2, "node-booting"),
        (5, "node-limit"),
    ]


def test_limits_are_told_of_each_shape_that_they_hold() -> None:
    found = reasons(stock_of(*FULL), {ONE_CORE: 2, EIGHT_CORES: 1, Shape(GPU.resources): 1})
    assert [count for count, _ in found] == [2, 1, 1]
    assert {reason.token for _, reason in found} == {ReasonToken.NODE_LIMIT}


@given(stocks(), policies, demand_lists)
def test_everything_that_waits_has_one_reason(
    stock: Stock, policy: NodePolicy, demands: list[Demand]
) -> None:
    lines = reasons_of(stock, wish(stock, policy, demands), policy)
    for shape in {demand.shape for demand in demands}:
        told = sum(count for count, _ in lines[shape])
        assert told == sum(demand.count for demand in demands if demand.shape == shape)
    for line in lines.values():
        for count, reason in line:
            assert count > 0
            assert reason.sentence
            assert reason.same_as(reason)
