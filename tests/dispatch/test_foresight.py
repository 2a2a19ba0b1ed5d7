"""Which of the arbiter's reasons belongs to which of the containers that are alike."""

from dataclasses import replace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.dispatch.children import Child
from nodemanager.dispatch.foresight import foresee
from nodemanager.model import Container, ContainerState, Resources
from nodemanager.nodes.demand import Shape
from nodemanager.reason import Reason, ReasonToken

GIB = 1 << 30
LOCKED = Container("x", ContainerState.LOCKED, 5, Resources(1, GIB), 0.0)
SHAPE = Shape.of(LOCKED)
QUEUED = Reason(ReasonToken.SCHEDULER_WAIT, "its job waits in the queue: Resources")
ROOM = Reason(ReasonToken.SCHEDULER_WAIT, "there is room for it")
BOOTING = Reason(ReasonToken.NODE_BOOTING, "a node boots for it")
LIMIT = Reason(ReasonToken.NODE_LIMIT, "max_nodes (2) is reached")


def child(uuid: str, reason: Reason | None = QUEUED, **more: Any) -> Child:
    container = replace(LOCKED, uuid=uuid, **more)
    actor = cast("Any", None)
    return Child(actor, container, waits=True, wants_node=True, reason=reason)


def test_the_most_urgent_has_the_best_place() -> None:
    children = [child("a", priority=1), child("b", priority=9), child("c", created_at=7.0)]
    found = foresee(children, {SHAPE: ((2, BOOTING), (1, LIMIT))})
    assert found == {"b": BOOTING, "c": BOOTING, "a": LIMIT}


def test_of_equally_urgent_ones_the_first() -> None:
    children = [child("a", created_at=2.0), child("b", created_at=1.0)]
    assert foresee(children, {SHAPE: ((1, BOOTING), (1, LIMIT))}) == {"b": BOOTING, "a": LIMIT}


def test_where_there_is_room_the_scheduler_says_more() -> None:
    children = [child("a", priority=9), child("b")]
    assert foresee(children, {SHAPE: ((1, ROOM), (1, LIMIT))}) == {"b": LIMIT}


def test_one_that_waits_for_something_else_keeps_its_reason() -> None:
    submitting = Reason(ReasonToken.SUBMITTING, "its job is being submitted")
    assert foresee([child("a", submitting)], {SHAPE: ((1, BOOTING),)}) == {}
    assert foresee([child("a", None)], {SHAPE: ((1, BOOTING),)}) == {}


def test_shapes_are_not_mixed_up() -> None:
    large = child("large", resources=Resources(8, GIB))
    found = foresee([large, child("a")], {SHAPE: ((1, BOOTING),)})
    assert found == {"a": BOOTING}


def test_those_that_came_since_have_none_yet() -> None:
    assert len(foresee([child("a"), child("b")], {SHAPE: ((1, BOOTING),)})) == 1


@given(
    st.lists(st.integers(0, 3), max_size=12),
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from([ROOM, BOOTING, LIMIT])), max_size=4),
)
def test_the_counts_are_kept(priorities: list[int], line: list[tuple[int, Reason]]) -> None:
    children = [child(f"{n}", priority=priority) for n, priority in enumerate(priorities)]
    found = foresee(children, {SHAPE: tuple(line)})
    reasons = [reason for count, reason in line for _ in range(count)][: len(children)]
    for reason in (BOOTING, LIMIT):
        assert list(found.values()).count(reason) == reasons.count(reason)
