"""Whose request gets another attempt, and when: the pure decision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.model import ContainerState
from nodemanager.server.policy import Policy
from nodemanager.server.retry import (
    Ended,
    Successor,
    Wanting,
    backoff_seconds,
    merged_scheduling,
    next_attempt,
)

POLICY = Policy()
TEMPFAIL = ContainerState.TEMPFAIL


def wanting(uuid: str = "r", priority: int = 1, count: int = 1, most: int = 1) -> Wanting:
    return Wanting(uuid, priority, count, most)


def test_tempfail_is_tried_again_after_a_growing_wait() -> None:
    waits = []
    for fails in range(12):
        decision = next_attempt(Ended(TEMPFAIL, temp_fails=fails), [wanting()], POLICY, 0.0)
        assert decision.successor is not None
        assert decision.served == ("r",)
        assert decision.successor.temp_fails == fails + 1
        assert not decision.counted
        waits.append(decision.successor.delay_seconds)
    assert waits[:5] == [10, 20, 40, 80, 160]
    assert waits[-1] == 2880


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_the_wait_stays_within_its_bounds(fails: int, jitter: float) -> None:
    assert 10 <= backoff_seconds(fails, POLICY, jitter) <= 3600


def test_a_lost_dispatcher_is_given_time_to_die() -> None:
    decision = next_attempt(Ended(TEMPFAIL, lost=True), [wanting()], POLICY, 0.5)
    assert decision.successor == Successor(temp_fails=1, delay_seconds=60.0)


def test_work_given_back_waits_for_nobody_but_is_not_offered_to_the_same_dispatcher() -> None:
    ended = Ended(TEMPFAIL, temp_fails=3, given_back=True, dispatcher="d1")
    decision = next_attempt(ended, [wanting()], POLICY, 0.5)
    assert decision.successor == Successor(
        temp_fails=3, avoid_dispatcher="d1", avoid_seconds=POLICY.given_back_pause
    )


def test_hold_is_passed_on() -> None:
    decision = next_attempt(Ended(TEMPFAIL, hold=True), [wanting()], POLICY, 0.0)
    assert decision.successor is not None
    assert decision.successor.hold


def test_permfail_counts() -> None:
    ended = Ended(ContainerState.PERMFAIL, temp_fails=4)
    assert next_attempt(ended, [wanting()], POLICY, 0.0).finished == ("r",)
    decision = next_attempt(ended, [wanting(count=1, most=2)], POLICY, 0.0)
    assert decision.successor == Successor(temp_fails=0)
    assert decision.counted
    assert next_attempt(ended, [wanting(count=2, most=2)], POLICY, 0.0).finished == ("r",)


def test_complete_and_cancelled_end_the_request() -> None:
    for state in (ContainerState.COMPLETE, ContainerState.CANCELLED):
        decision = next_attempt(Ended(state), [wanting(most=9)], POLICY, 0.0)
        assert decision.finished == ("r",)
        assert decision.successor is None


def test_what_nobody_wants_any_more_is_cancelled() -> None:
    requests = [wanting("a", priority=0), Wanting("b", 5, 1, 1, expired=True)]
    decision = next_attempt(Ended(TEMPFAIL), requests, POLICY, 0.0)
    assert decision.cancelled == ("a", "b")
    assert decision.successor is None


def test_one_successor_serves_all_that_are_entitled() -> None:
    requests = [wanting("a"), wanting("b", priority=0), wanting("c", priority=9)]
    decision = next_attempt(Ended(TEMPFAIL), requests, POLICY, 0.0)
    assert (decision.served, decision.cancelled, decision.finished) == (("a", "c"), ("b",), ())


def test_a_limit_of_temp_fails() -> None:
    policy = Policy(max_temp_fails=3)
    assert next_attempt(Ended(TEMPFAIL, temp_fails=1), [wanting()], policy, 0.0).served == ("r",)
    assert next_attempt(Ended(TEMPFAIL, temp_fails=2), [wanting()], policy, 0.0).finished == ("r",)
    back = Ended(TEMPFAIL, temp_fails=2, given_back=True)
    assert next_attempt(back, [wanting()], policy, 0.0).served == ("r",)


@given(
    st.builds(
        Ended,
        st.sampled_from([s for s in ContainerState if s.is_final]),
        st.integers(0, 100),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.just("d"),
    ),
    st.lists(
        st.builds(
            Wanting,
            st.uuids().map(str),
            st.integers(0, 2),
            st.integers(0, 3),
            st.integers(1, 3),
            st.booleans(),
        ),
        max_size=5,
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_each_request_has_exactly_one_fate(
    ended: Ended, requests: list[Wanting], jitter: float
) -> None:
    decision = next_attempt(ended, requests, POLICY, jitter)
    fates = [*decision.served, *decision.cancelled, *decision.finished]
    assert sorted(fates) == sorted(r.uuid for r in requests)
    assert (decision.successor is not None) == bool(decision.served)


def test_of_several_requests_properties_are_those_on_which_all_agree() -> None:
    one = {"properties": {"project": "exome", "kind": "quick"}, "max_run_time": 60}
    other = {"properties": {"project": "exome", "kind": "slow"}, "partitions": ["a"]}
    assert merged_scheduling([one])["properties"] == one["properties"]
    assert merged_scheduling([one, other])["properties"] == {"project": "exome"}
    assert merged_scheduling([one, {}])["properties"] == {}
    assert "properties" not in merged_scheduling([{}, {"preemptible": True}])
