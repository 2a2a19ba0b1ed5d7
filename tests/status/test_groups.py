"""Containers by the reason for which they wait."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.dispatch.messages import HeldContainer, QueuedContainer, Status
from nodemanager.model import PRIORITY_STEP, ContainerState, user_priority
from nodemanager.reason import Reason, ReasonToken
from nodemanager.status.groups import (
    MAX_GROUPS,
    OTHER_SENTENCES,
    group_containers,
    group_document,
    row_document,
)
from tests.status.daemon import DISPATCHER, NOW, container

REASONS = st.builds(
    Reason,
    token=st.sampled_from(ReasonToken),
    sentence=st.text(max_size=3),
    since=st.just(NOW),
    next_attempt_at=st.none() | st.floats(NOW - 100, NOW + 100),
)
CONTAINERS = st.builds(
    lambda number, priority, state, age: replace(
        container(f"zzzzz-dz642-{number:015d}", state), priority=priority, created_at=NOW - age
    ),
    st.integers(0, 10**6),
    st.integers(0, 1000).map(lambda each: each * PRIORITY_STEP),
    st.sampled_from([ContainerState.LOCKED, ContainerState.RUNNING]),
    st.floats(0, 1000),
)
STATUSES = st.builds(
    lambda held, queued: replace(DISPATCHER, containers=tuple(held), queued=tuple(queued)),
    st.lists(st.builds(HeldContainer, CONTAINERS, st.none() | REASONS), max_size=40),
    st.lists(st.builds(QueuedContainer, CONTAINERS, st.none() | REASONS), max_size=40),
)


def waiting(sentence: str, token: ReasonToken = ReasonToken.NODE_LIMIT) -> HeldContainer:
    return HeldContainer(container("zzzzz-dz642-000000000000000"), Reason(token, sentence))


@given(STATUSES)
def test_every_container_is_in_one_group_with_those_that_wait_for_the_same(status: Status) -> None:
    groups = group_containers(status)
    everything = [*status.containers, *status.queued]
    shown = [member for group in groups for member in group.members]
    assert Counter(map(id, shown)) == Counter(map(id, everything))
    assert len({group.id for group in groups}) == len(groups)
    for group in groups:
        reasons = {(m.reason.token, m.reason.sentence) for m in group.members if m.reason}
        assert len(reasons) <= 1 or group.sentence == OTHER_SENTENCES
        urgency = [-member.container.priority for member in group.members]
        assert urgency == sorted(urgency)
        document = group_document(group, NOW)
        assert 0 <= document["claimed"] <= document["containers"] == len(group.members)


def test_there_are_never_too_many_groups() -> None:
    held = tuple(waiting(f"reason {number}") for number in range(1000))
    held += tuple(waiting("the same") for _ in range(5))
    groups = group_containers(replace(DISPATCHER, containers=held))
    assert len(groups) == MAX_GROUPS + 1
    assert (groups[0].sentence, len(groups[0].members)) == ("the same", 5)
    assert (groups[-1].sentence, groups[-1].token) == (OTHER_SENTENCES, "node-limit")
    assert len(groups[-1].members) == 1005 - 5 - (MAX_GROUPS - 1)


def test_a_group_keeps_its_id_while_its_reason_is_the_same() -> None:
    one = group_containers(replace(DISPATCHER, containers=(waiting("a"), waiting("b"))))
    other = group_containers(replace(DISPATCHER, containers=(waiting("b"), waiting("b"))))
    assert other[0].id in {group.id for group in one}


def test_a_row_says_when_it_is_tried_again_and_what_failed() -> None:
    due = replace(container("u"), run_after=NOW + 60, error="the node was lost", attempt=3)
    row = row_document(QueuedContainer(due, Reason(ReasonToken.BACKOFF, "soon")))
    assert (row["attempt"], row["error"]) == (3, "the node was lost")
    assert row["next_attempt_at"] == "2027-01-15T08:01:00.000000000Z"
    running = replace(due, state=ContainerState.RUNNING)
    assert row_document(HeldContainer(running, node="busy"))["next_attempt_at"] is None


def test_priorities_are_those_that_users_gave() -> None:
    born_in_milliseconds = 1_800_000_000_000
    assert user_priority(500 * PRIORITY_STEP - born_in_milliseconds) == 500
    assert user_priority(1000 * PRIORITY_STEP) == 1000
    assert user_priority(0) == 0
