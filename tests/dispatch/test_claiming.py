from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.dispatch.claiming import (
    CLAIM_BATCH,
    Claimer,
    Load,
    claim_limit,
    explain_queue,
    explain_unclaimed,
    urgency,
)
from nodemanager.dispatch.reasons import ReasonBook
from nodemanager.fit import can_run, capabilities_of
from nodemanager.model import (
    Capabilities,
    Container,
    ContainerState,
    Node,
    NodeState,
    PartitionNodes,
    Resources,
)
from nodemanager.reason import Reason, ReasonToken

UUID = "zzzzz-dz642-000000000000001"
QUEUED = Container(UUID, ContainerState.QUEUED, 5, Resources(1, 1), 0.0)
ROOMY = Capabilities((Resources(8, 8),))


def node(total: int, free: int, state: NodeState = NodeState.IDLE) -> Node:
    return Node("n", state, Resources(total, 1), Resources(free, 1))


def test_claims_what_could_start_and_a_little_more() -> None:
    assert claim_limit(0, [node(4, 4)], Load(live=0, waiting=0)) == 6
    assert claim_limit(0, [node(4, 0)], Load(live=4, waiting=0)) == 2
    assert claim_limit(0, [node(4, 0)], Load(live=6, waiting=2)) == 0


def test_claims_nothing_for_nodes_that_take_no_work() -> None:
    for state in (NodeState.DOWN, NodeState.DRAINED, NodeState.DRAINING, NodeState.UNKNOWN):
        assert claim_limit(0, [node(4, 4, state)], Load(0, 0)) == 0


def test_the_configured_limit_counts_what_is_held() -> None:
    assert claim_limit(10, [], Load(live=7, waiting=7)) == 3
    assert claim_limit(10, [], Load(live=12, waiting=0)) == 0


@given(
    st.integers(0, 5000),
    st.lists(
        st.builds(
            Node,
            st.just("n"),
            st.sampled_from(NodeState),
            st.builds(Resources, st.integers(0, 99), st.just(1)),
            st.builds(Resources, st.integers(-9, 99), st.just(1)),
        )
    ),
    st.integers(0, 5000),
)
def test_a_limit_is_never_negative_nor_more_than_a_batch(
    max_claimed: int, nodes: list[Node], live: int
) -> None:
    limit = claim_limit(max_claimed, nodes, Load(live, live))
    assert 0 <= limit <= CLAIM_BATCH
    if max_claimed:
        assert live + limit <= max(max_claimed, live)


def test_a_drained_node_still_counts_for_what_can_run_at_all() -> None:
    drained = Node("a", NodeState.DRAINED, Resources(8, 8), Resources(8, 8), ("p",))
    down = Node("b", NodeState.DOWN, Resources(99, 99), Resources(0, 0))
    largest = (Resources(8, 8),)
    assert capabilities_of([drained, down]) == Capabilities(
        largest, ("p",), by_partition=(PartitionNodes("p", largest),)
    )


ME = "zzzzz-bmxii-000000000000001"
CLAIMER = Claimer(ME, ROOMY, limit=1, load=Load(1, 1))

queued = st.builds(
    Container,
    uuid=st.uuids().map(str),
    state=st.just(ContainerState.QUEUED),
    priority=st.integers(1, 3),
    resources=st.builds(Resources, st.integers(1, 12), st.just(1)),
    created_at=st.integers(0, 3).map(float),
    run_after=st.none() | st.integers(0, 200).map(float),
    hold=st.booleans(),
    error=st.sampled_from(("", "attempt 1 ended TempFail")),
    avoid=st.sampled_from((None, ME, "zzzzz-bmxii-000000000000002")),
    avoid_until=st.integers(0, 200).map(float),
)


def claimable(container: Container, now: float) -> bool:
    """What a claim of ours gives out, as `nodemanager.server.queue` has it."""
    return (
        can_run(container, ROOMY)
        and not container.hold
        and (container.run_after is None or container.run_after <= now)
        and (container.avoid != ME or container.avoid_until <= now)
    )


@given(st.lists(queued, max_size=12, unique_by=lambda c: c.uuid), st.integers(0, 5))
def test_who_is_not_explained_is_just_what_a_claim_would_return(
    containers: list[Container], limit: int
) -> None:
    queue = sorted(containers, key=urgency)
    told = explain_queue(queue, replace(CLAIMER, limit=limit), now=100.0)
    claimed = [c.uuid for c in queue if claimable(c, 100.0)][:limit]
    assert [uuid for uuid, reason in told.items() if reason is None] == claimed
    assert list(told) == [c.uuid for c in queue]


@given(queued)
def test_while_claims_are_paused_nothing_is_without_a_reason(container: Container) -> None:
    paused = replace(CLAIMER, paused="ada: upgrade")
    reason = explain_unclaimed(container, paused, now=100.0)
    assert reason is not None
    if claimable(container, 100.0):
        assert reason.token is ReasonToken.CLAIMS_PAUSED
        assert "ada: upgrade" in reason.sentence
        assert reason.facts == {"paused": "ada: upgrade"}


def test_what_was_handed_back_waits_for_others() -> None:
    avoided = replace(QUEUED, avoid=ME, avoid_until=160.0)
    reason = explain_unclaimed(avoided, CLAIMER, now=100.0)
    assert reason is not None
    assert reason.token is ReasonToken.GIVEN_BACK
    assert reason.next_attempt_at == 160.0
    assert explain_unclaimed(avoided, CLAIMER, now=160.0) is None


def test_backoff_and_run_after_are_told_apart() -> None:
    later = replace(QUEUED, run_after=160.0)
    asked = explain_unclaimed(later, CLAIMER, now=100.0)
    failed = replace(later, error="exited with 75, which asks for another try", temp_fails=2)
    backoff = explain_unclaimed(failed, CLAIMER, now=100.0)
    assert asked is not None
    assert backoff is not None
    assert asked.token is ReasonToken.RUN_AFTER
    assert backoff.token is ReasonToken.BACKOFF
    assert "exited with 75" in backoff.sentence
    assert "2 in a row" in backoff.sentence
    assert backoff.line(100.0).endswith("(in 60 s)")


def test_what_keeps_nodes_from_being_booted_keeps_us_from_claiming() -> None:
    brake = Reason(ReasonToken.BOOT_BRAKE, "5 nodes in a row came to nothing", since=17.0)
    braked = replace(CLAIMER, held=brake)
    told = explain_unclaimed(QUEUED, replace(braked, limit=0), now=100.0)
    assert told == replace(brake, since=100.0)
    assert explain_unclaimed(QUEUED, braked, now=100.0) is None


def reason(sentence: str, since: float = 0.0) -> Reason:
    return Reason(ReasonToken.SCHEDULER_WAIT, sentence, since=since)


class TestReasonBook:
    def test_only_what_changed_is_written(self) -> None:
        book = ReasonBook()
        book.note(UUID, reason("a"))
        assert [a.reason for a in book.due()] == [reason("a")]
        assert book.due() == []
        book.note(UUID, reason("a", since=9.0))
        assert book.due() == []

    def test_what_came_and_went_is_never_written(self) -> None:
        book = ReasonBook()
        book.note(UUID, reason("a"))
        book.note(UUID, None)
        assert book.due() == []
        assert book.get(UUID) is None

    def test_what_was_written_is_taken_away(self) -> None:
        book = ReasonBook()
        book.note(UUID, reason("a"))
        book.due()
        book.note(UUID, None)
        [annotation] = book.due()
        assert annotation.reason is None

    def test_a_reason_that_goes_on_keeps_its_first_day(self) -> None:
        book = ReasonBook()
        book.note(UUID, reason("2 ahead", since=1.0))
        book.note(UUID, reason("1 ahead", since=7.0))
        kept = book.get(UUID)
        assert kept is not None
        assert (kept.sentence, kept.since) == ("1 ahead", 1.0)

    def test_a_new_record_says_everything_again(self) -> None:
        book = ReasonBook()
        book.note(UUID, reason("a"))
        book.due()
        book.rewrite()
        assert len(book.due()) == 1

    def test_dropped_is_forgotten_without_a_word(self) -> None:
        book = ReasonBook()
        book.note(UUID, reason("a"))
        book.drop(UUID)
        assert book.due() == []

    def test_a_last_word_is_written_and_forgotten(self) -> None:
        book = ReasonBook()
        book.note(UUID, reason("a"))
        book.due()
        book.say_last(UUID, reason("b"))
        assert [a.reason for a in book.due()] == [reason("b")]
        assert book.get(UUID) is None
        book.note(UUID, reason("b"))
        assert [a.reason for a in book.due()] == [reason("b")], "it came back"
