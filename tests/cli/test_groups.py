"""Thousands of containers as a few lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.cli.groups import groups_of
from nodemanager.cli.waiting import Listed
from nodemanager.model import Container, ContainerState, Resources
from nodemanager.reason import Reason, ReasonToken, Tier


def listed(number: int, token: ReasonToken | None, sentence: str = "", at: float = 0.0) -> Listed:
    container = Container(
        uuid=f"zzzzz-dz642-{number:015d}",
        state=ContainerState.QUEUED if token else ContainerState.RUNNING,
        priority=1,
        resources=Resources(1, 1),
        created_at=float(number),
    )
    reason = None if token is None else Reason(token, sentence, next_attempt_at=at or None)
    return Listed(container, reason)


def test_alike_is_one_line_with_the_oldest_and_the_next_attempt() -> None:
    many = [listed(n, ReasonToken.BACKOFF, "it failed", at=1000.0 - n) for n in range(5, 2005)]
    [group] = groups_of(many)
    assert (group.count, group.oldest, group.oldest_since) == (2000, many[0].container.uuid, 5.0)
    assert group.next_attempt_at == 1000.0 - 2004


def test_what_needs_somebody_comes_first() -> None:
    groups = groups_of(
        [
            *[listed(n, ReasonToken.NOT_SEEN, "not seen") for n in range(50)],
            *[listed(n, ReasonToken.WAITING_FOR_RESOURCES, "busy") for n in range(50, 90)],
            listed(90, ReasonToken.NO_NODE_FITS, "too large"),
            listed(91, ReasonToken.ON_HOLD, "on hold"),
            *[listed(n, ReasonToken.CLOUD_QUOTA, "quota") for n in range(92, 95)],
        ]
    )
    assert [group.tier for group in groups] == list(Tier)
    assert [group.count for group in groups] == [1, 1, 3, 40, 50]


def test_many_sentences_of_one_kind_do_not_fill_the_screen() -> None:
    many = [listed(n, ReasonToken.SCHEDULER_WAIT, f"place {n % 40:02d}") for n in range(401)]
    groups = groups_of(many)
    assert [group.sentence for group in groups[:3]] == ["place 00", "place 01", "place 02"]
    assert [group.count for group in groups] == [11, 10, 10, 10, 360]
    assert groups[-1].sentence == "place 04 (and 35 other sentences)"
    [one] = groups_of(many, most_sentences=0)
    assert (one.count, one.sentence) == (401, "place 00 (and 39 other sentences)")
    two = groups_of([listed(n, ReasonToken.BACKOFF, str(n)) for n in range(2)], most_sentences=0)
    assert two[0].sentence == "0 (and 1 other sentence)"


def test_what_runs_waits_for_nothing() -> None:
    assert groups_of([listed(1, None)]) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, *ReasonToken]), st.sampled_from("abcdefgh"), st.floats(0, 9)
        )
    )
)
def test_every_waiting_container_is_counted_once(
    drawn: list[tuple[ReasonToken | None, str, float]],
) -> None:
    found = [listed(n, token, said, at) for n, (token, said, at) in enumerate(drawn)]
    groups = groups_of(found)
    assert sum(group.count for group in groups) == sum(item.reason is not None for item in found)
    assert len({(group.token, group.sentence) for group in groups}) == len(groups)
    assert [group.tier.value for group in groups] == sorted(group.tier.value for group in groups)
