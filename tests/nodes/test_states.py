"""Every situation of a node has one phase and one next step, and no order of messages leads anywhere else."""

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from nodemanager.api.node_records import CleanRecord, NameRecord, RecordMade
from nodemanager.api.nodes import NodeRecord
from nodemanager.clouds.base import HOST_TAG, CloudNode, CloudState
from nodemanager.clouds.errors import CloudError
from nodemanager.clouds.messages import (
    CreateFailed,
    CreateNode,
    Destroyed,
    DestroyFailed,
    DestroyNode,
    Forgo,
    Forgone,
)
from nodemanager.model import Node, NodeState, Resources
from nodemanager.nodes.limits import NoPlace
from nodemanager.nodes.messages import Behave, Booted, Kill, Leave, Stay, Withdraw
from nodemanager.nodes.observe import seen_in_scheduler
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import (
    DOWN_VIEWS,
    LISTS_WITHOUT,
    PHASE_TRANSITIONS,
    UNLISTED_SECONDS,
    Asked,
    Behaviour,
    NodePhase,
    NodeSituation,
    NodeStep,
    is_proved,
    next_step,
    phase_of,
    readiness,
)
from nodemanager.schedulers.base import Newcomer
from nodemanager.schedulers.messages import (
    Admit,
    Admitted,
    Drain,
    NodeSet,
    NotAdmitted,
    Remove,
    Resume,
)
from tests.nodes.bench import OURS, SIZE, NodeBench

PAGE = Path(__file__).parents[2] / "docs/reference/node-states.md"
POLICY = NodePolicy(
    boot_fail_after=1800,
    poll_stale_after=600,
    consecutive_idle_count=2,
    shutdown_windows=(20, 10),
)
MINUTE = 60.0
NOW = 100_000.0
"""Elapsed; everything was seen just now."""
WALL = 1_800_000_000.0


def machine(state: CloudState = CloudState.RUNNING) -> CloudNode:
    return CloudNode("i-1", "node1", "small", state)


def node(state: NodeState, reason: str = "") -> Node:
    has = Resources(2, 4 << 30)
    return Node("node1", state, has, has, reason=reason)


def situation(
    scheduler: NodeState | None = None, *, minutes: float = 5, **more: Any
) -> NodeSituation:
    """A machine that exists, `minutes` old; with a word of the scheduler, one that has joined."""
    joined = NOW - 60 if scheduler not in (None, NodeState.DOWN) else None
    known: dict[str, Any] = {
        "created": Asked.DONE,
        "cloud": machine(),
        "was_listed": True,
        "listed_at": NOW,
        "viewed_at": NOW,
        "node": None if scheduler is None else node(scheduler),
        "joined_at": joined,
    }
    return NodeSituation("node1", "node1", SIZE, WALL - minutes * MINUTE, **{**known, **more})


def now(situation: NodeSituation) -> tuple[str, str]:
    """Its phase, and what is done for it."""
    phase, step = phase_of(situation, POLICY, WALL), next_step(situation, POLICY, WALL, NOW)
    return phase.value, step.value


LOST: dict[str, Any] = {"joined_at": NOW - 600, "down_views": DOWN_VIEWS}
DRAINED: dict[str, Any] = {"drain": Asked.DONE, "drained_at": NOW - 10}
UNMADE: dict[str, Any] = {"cloud": None, "created": Asked.NO}
BROKEN: dict[str, Any] = {"cloud": machine(CloudState.BROKEN)}
STOPPING: dict[str, Any] = {
    "cloud": machine(CloudState.STOPPING),
    "condemned": "the cloud takes it away",
}
HELD: dict[str, Any] = {"behaviour": Behaviour.HOLD}


@pytest.mark.parametrize(
    ("given", "phase", "step"),
    [
        # The straight way.
        (situation(cloud=None, created=Asked.NO, record=Asked.NO), "asked", "make-record"),
        (situation(cloud=None, created=Asked.NO, record=Asked.YES), "asked", "wait"),
        (situation(cloud=None, created=Asked.NO), "asked", "create"),
        (situation(**UNMADE, record=Asked.NO, admission=Asked.NO), "asked", "make-record"),
        (situation(**UNMADE, record=Asked.YES, admission=Asked.NO), "asked", "wait"),
        (situation(**UNMADE, admission=Asked.NO), "asked", "admit"),
        (situation(**UNMADE, admission=Asked.YES), "asked", "wait"),
        (situation(cloud=None, created=Asked.YES), "asked", "wait"),
        (situation(), "booting", "wait"),
        (situation(NodeState.IDLE), "idle", "wait"),
        (situation(NodeState.BUSY), "busy", "wait"),
        (situation(NodeState.IDLE, leaving="idle"), "draining", "drain"),
        (situation(NodeState.IDLE, leaving="idle", drain=Asked.YES), "draining", "wait"),
        (situation(NodeState.DRAINING, leaving="idle", **DRAINED), "draining", "wait"),
        (situation(NodeState.DRAINED, leaving="idle", **DRAINED), "draining", "destroy"),
        (situation(NodeState.DRAINED, condemned="idle", destroy=Asked.YES), "destroying", "wait"),
        (situation(condemned="idle", destroy=Asked.DONE), "destroying", "wait"),
        (situation(condemned="idle", destroy=Asked.DONE, misses=1), "gone", "let-go"),
        # Wanted again.
        (situation(NodeState.DRAINED, **DRAINED), "draining", "resume"),
        (situation(NodeState.DRAINED, **DRAINED, resume_asked=True), "draining", "wait"),
        (situation(NodeState.IDLE, drain=Asked.YES), "draining", "resume"),
        # Never was a machine.
        (situation(cloud=None, over="forgone"), "gone", "let-go"),
        # Does not join.
        (situation(minutes=29), "booting", "wait"),
        (situation(minutes=30), "failed", "destroy"),
        (situation(NodeState.DOWN, minutes=30), "failed", "destroy"),
        (situation(NodeState.IDLE, minutes=30), "idle", "wait"),
        (situation(minutes=30, viewed_at=NOW - 600), "failed", "wait"),
        (situation(minutes=30, listed_at=NOW - 600), "failed", "wait"),
        (situation(minutes=300, viewed_at=float("-inf")), "booting", "wait"),
        # Breaks.
        (situation(**BROKEN), "failed", "destroy"),
        (situation(NodeState.BUSY, **BROKEN), "failed", "drain"),
        (situation(NodeState.DRAINING, **BROKEN, **DRAINED), "failed", "wait"),
        (situation(NodeState.DRAINED, **BROKEN, **DRAINED), "failed", "destroy"),
        (situation(NodeState.DOWN, joined_at=1.0, down_views=1, **BROKEN), "failed", "destroy"),
        (situation(NodeState.DOWN, joined_at=1.0, down_views=1), "idle", "wait"),
        (situation(NodeState.DOWN, **LOST), "lost", "wait"),
        (situation(NodeState.DOWN, **LOST, minutes=20), "lost", "destroy"),
        (situation(None, **LOST, minutes=20), "lost", "destroy"),
        (situation(NodeState.DOWN, **LOST, leaving="idle"), "lost", "wait"),
        # Is taken away, or vanishes.
        (situation(NodeState.BUSY, **STOPPING), "destroying", "drain"),
        (situation(NodeState.BUSY, misses=1), "busy", "wait"),
        (situation(NodeState.BUSY, misses=LISTS_WITHOUT), "gone", "let-go"),
        # No list ever shows it.
        (situation(was_listed=False, created_at=NOW - 299), "booting", "wait"),
        (situation(was_listed=False, created_at=NOW - UNLISTED_SECONDS), "failed", "destroy"),
        (situation(NodeState.BUSY, was_listed=False, created_at=NOW - 900), "busy", "wait"),
        # What an operator says.
        (situation(**HELD), "booting", "wait"),
        (situation(**HELD, minutes=30), "failed", "wait"),
        (situation(**HELD, **BROKEN), "failed", "wait"),
        (situation(NodeState.IDLE, **HELD), "draining", "drain"),
        (situation(NodeState.DRAINED, **HELD, **DRAINED), "draining", "wait"),
        (situation(NodeState.DOWN, **LOST, **HELD, minutes=30), "lost", "wait"),
        (situation(NodeState.DRAINED, behaviour=Behaviour.DRAIN), "draining", "drain"),
        (
            situation(NodeState.DRAINED, behaviour=Behaviour.DRAIN, **DRAINED),
            "draining",
            "destroy",
        ),
        (situation(NodeState.BUSY, killed="why"), "busy", "destroy"),
        (situation(NodeState.BUSY, **HELD, killed="why"), "draining", "destroy"),
        # Leaving without having joined.
        (situation(leaving="idle"), "booting", "destroy"),
    ],
)
def test_phase_and_step(given: NodeSituation, phase: str, step: str) -> None:
    assert now(given) == (phase, step)


class TestTheOldManagersTable:
    """The 60 rows of its transitions.py say when a node was eligible for shutdown.

    Its "unpaired" is our booting, its "fail" is what its cloud or scheduler calls broken.
    """

    CLOSED, OPEN, EXCEEDED = 5.0, 25.0, 55.0
    """Minutes: window closed, window open, and open again long after the boot wait."""

    @pytest.mark.parametrize("minutes", [CLOSED, OPEN, EXCEEDED])
    @pytest.mark.parametrize("idle_views", [0, 1, 2])
    def test_busy_never(self, minutes: float, idle_views: int) -> None:
        busy = situation(NodeState.BUSY, minutes=minutes, idle_views=idle_views)
        assert now(busy) == ("busy", "wait")

    @pytest.mark.parametrize(
        ("minutes", "goes"), [(CLOSED, False), (OPEN, True), (35, True), (45, True), (65, True)]
    )
    def test_down_when_the_window_is_open_or_the_boot_wait_is_over(
        self, minutes: float, goes: bool
    ) -> None:
        assert now(situation(NodeState.DOWN, minutes=minutes, **LOST)) == (
            "lost",
            "destroy" if goes else "wait",
        )

    @pytest.mark.parametrize(
        ("minutes", "idle_views", "ready"),
        [
            (CLOSED, 1, False),
            (CLOSED, 2, False),
            (OPEN, 1, False),
            (OPEN, 2, True),
            (35, 2, False),
            (EXCEEDED, 1, False),
            (EXCEEDED, 2, True),
        ],
    )
    def test_idle_when_the_window_is_open_and_it_was_idle_often_enough(
        self, minutes: float, idle_views: int, ready: bool
    ) -> None:
        idle = situation(NodeState.IDLE, minutes=minutes, idle_views=idle_views, idle_since=1.0)
        assert (readiness(idle, POLICY, WALL, NOW) == "") == ready

    @pytest.mark.parametrize(
        ("minutes", "goes"), [(CLOSED, False), (OPEN, False), (30, True), (EXCEEDED, True)]
    )
    def test_unpaired_when_the_boot_wait_is_over(self, minutes: float, goes: bool) -> None:
        assert (now(situation(minutes=minutes))[1] == "destroy") == goes

    @pytest.mark.parametrize("minutes", [CLOSED, OPEN, EXCEEDED])
    def test_fail_always(self, minutes: float) -> None:
        assert now(situation(minutes=minutes, **BROKEN)) == ("failed", "destroy")


class TestReadiness:
    def test_says_what_it_waits_for(self) -> None:
        idle = situation(NodeState.IDLE, idle_views=2, idle_since=NOW - 10)
        assert readiness(idle, POLICY, WALL, NOW) == "its shutdown window opens in 15 min 0 s"
        patient = replace(POLICY, idle_time=60.0)
        assert readiness(idle, patient, WALL, NOW) == "idle for 10 s of 60 s"
        assert "1 of 2 times" in readiness(replace(idle, idle_views=1), POLICY, WALL, NOW)

    def test_windows_that_never_open(self) -> None:
        idle = situation(NodeState.IDLE, idle_views=2, idle_since=1.0)
        never = replace(POLICY, shutdown_windows=(5.0, 0.0))
        assert readiness(idle, never, WALL, NOW) == "its shutdown windows never open"

    def test_a_node_that_somebody_else_drained_is_left_alone(self) -> None:
        given = situation(NodeState.DRAINED, idle_views=9, idle_since=1.0, minutes=25)
        given = replace(given, node=node(NodeState.DRAINED, "new disk"))
        assert readiness(given, POLICY, WALL, NOW) == "somebody else drained it: new disk"
        assert now(given) == ("idle", "wait")


def test_a_node_proves_itself_by_staying_up() -> None:
    assert not is_proved(situation(), NOW)
    assert not is_proved(situation(NodeState.BUSY, joined_at=NOW - 119), NOW)
    assert is_proved(situation(NodeState.BUSY, joined_at=NOW - 120), NOW)
    assert not is_proved(situation(NodeState.BUSY, joined_at=NOW - 120, down_views=1), NOW)


@pytest.fixture
def bench() -> Iterator[NodeBench]:
    bench = NodeBench(replace(POLICY, shutdown_windows=(0, 999999)))
    yield bench
    bench.close()


class TestTheActor:
    def test_the_straight_way(self, bench: NodeBench) -> None:
        bench.join()
        bench.viewed(NodeState.BUSY)
        bench.later(120)
        bench.viewed(NodeState.IDLE)
        bench.tell(Leave("idle"))
        [drain] = bench.told(Drain, bench.scheduler)
        assert drain.reason == "node manager: idle"
        bench.node_set(drained=True)
        bench.listed()
        bench.viewed(NodeState.DRAINED, drain.reason)
        bench.tell(Destroyed("i-1"))
        bench.listed(None)
        assert not bench.actor.is_alive()
        assert bench.outcomes == ["joined", "proved"]
        phases = [standing.phase.value for standing in bench.standings]
        assert list(dict.fromkeys(phases)) == [
            *("asked", "booting", "idle", "busy", "draining", "destroying", "gone")
        ]

    def test_one_that_never_joins_has_failed_before_it_is_destroyed(self, bench: NodeBench) -> None:
        bench.created()
        bench.later(POLICY.boot_fail_after)
        bench.listed()
        bench.viewed(None)
        assert bench.phase == "destroying"
        assert bench.outcomes == ["failed"]
        bench.tell(Destroyed("i-1"))
        bench.listed(None)
        assert bench.outcomes == ["failed"]

    def test_one_that_breaks_at_once_has_failed(self, bench: NodeBench) -> None:
        bench.join()
        for _ in range(DOWN_VIEWS):
            bench.later(5)
            bench.viewed(NodeState.DOWN)
        assert bench.outcomes == ["joined", "failed"]
        assert bench.phase == "destroying"

    def test_views_that_follow_each_other_at_once_are_one(self, bench: NodeBench) -> None:
        """A controller that was started again hears of its nodes a moment later."""
        bench.join()
        for _ in range(10):
            bench.viewed(None)
            bench.later(0.3)
        assert bench.phase == "idle"
        bench.viewed(NodeState.BUSY)
        bench.later(5)
        bench.viewed(None)
        assert not bench.told(DestroyNode, bench.cloud)
        bench.later(5)
        bench.viewed(None)
        assert bench.phase == "destroying"

    def test_one_that_the_cloud_calls_broken_has_failed(self, bench: NodeBench) -> None:
        bench.created()
        bench.viewed(None)
        bench.listed(CloudState.BROKEN)
        assert bench.outcomes == ["failed"]
        assert bench.phase == "destroying"

    def test_one_that_breaks_late_has_not(self, bench: NodeBench) -> None:
        bench.join()
        bench.later(120)
        for state in (NodeState.BUSY, *[NodeState.DOWN] * DOWN_VIEWS):
            bench.later(5)
            bench.viewed(state)
        bench.listed()
        assert bench.outcomes == ["joined", "proved"]
        assert bench.phase == "destroying"

    def test_one_that_is_taken_away_soon_has_not_proved_itself(self, bench: NodeBench) -> None:
        bench.join()
        bench.listed(CloudState.STOPPING)
        assert bench.phase == "destroying"
        assert not bench.standings[-1].takes_work
        for _ in range(LISTS_WITHOUT):
            bench.listed(None)
        assert bench.outcomes == ["joined", "disappeared"]

    def test_one_that_the_cloud_stops_and_does_not_take_away_is_destroyed(
        self, bench: NodeBench
    ) -> None:
        bench.join()
        bench.listed(CloudState.STOPPING)
        bench.viewed(NodeState.DOWN)
        assert not bench.told(DestroyNode, bench.cloud)
        bench.listed(CloudState.BROKEN)
        assert bench.told(DestroyNode, bench.cloud)

    def test_a_list_that_is_behind_does_not_lose_a_new_machine(self, bench: NodeBench) -> None:
        bench.created()
        for _ in range(5):
            bench.later(10)
            bench.listed(None)
        assert bench.phase == "booting"
        bench.listed()
        bench.listed(None)
        assert bench.phase == "booting"
        bench.listed(None)
        assert not bench.actor.is_alive()

    def test_what_no_list_ever_shows_is_destroyed_by_its_identifier(self, bench: NodeBench) -> None:
        bench.created()
        bench.later(UNLISTED_SECONDS)
        bench.viewed(None)
        bench.listed(None)
        assert bench.told(DestroyNode, bench.cloud)
        assert bench.outcomes == ["failed"]

    def test_a_destruction_that_fails_is_tried_again_more_and_more_slowly(
        self, bench: NodeBench
    ) -> None:
        bench.join()
        bench.tell(Kill("node1", "because"))
        tried_at: list[float] = []
        for _ in range(600):
            bench.later(1)
            if len(bench.told(DestroyNode, bench.cloud)) > len(tried_at):
                tried_at.append(bench.clock.elapsed())
                bench.tell(DestroyFailed("i-1", CloudError("no")))
            bench.listed()
        pauses = [b - a for a, b in itertools.pairwise(tried_at)]
        assert pauses == [11, 21, 41, 81, 161]
        assert bench.phase == "destroying", "whatever the lists say"

    def test_a_machine_that_stays_listed_though_it_was_destroyed(self, bench: NodeBench) -> None:
        bench.join()
        bench.tell(Kill("node1", "because"), Destroyed("i-1"))
        bench.viewed(None)
        bench.listed()
        assert len(bench.told(DestroyNode, bench.cloud)) == 1, "the list may be behind"
        bench.later(10)
        bench.listed(CloudState.STOPPING)
        assert len(bench.told(DestroyNode, bench.cloud)) == 1
        bench.listed()
        assert len(bench.told(DestroyNode, bench.cloud)) == 2

    def test_a_list_may_show_it_before_the_cloud_answers(self, bench: NodeBench) -> None:
        bench.listed()
        assert bench.phase == "booting"
        bench.tell(CreateFailed("node1", CloudError("timed out")))
        assert bench.phase == "booting"
        assert bench.outcomes == []

    def test_what_an_operator_says_before_it_exists_is_kept_in_its_tags(
        self, bench: NodeBench
    ) -> None:
        bench.tell(Behave("node1", Behaviour.HOLD))
        bench.created()
        [tag] = [m for m in bench.cloud if type(m).__name__ == "TagNode"]
        assert tag.tags == {"arvados-behaviour": "hold"}
        bench.adopt(**tag.tags)
        assert bench.standings[-1].behaviour is Behaviour.HOLD

    def test_killed_before_it_exists(self, bench: NodeBench) -> None:
        bench.tell(Kill("node1", "a mistake"))
        assert bench.told(Forgo, bench.cloud)
        bench.created()
        assert bench.told(DestroyNode, bench.cloud)

    def test_killed_before_it_has_a_record(self) -> None:
        bench = NodeBench(POLICY, with_records=True)
        bench.tell(Kill("node1", "a mistake"))
        bench.tell(RecordMade("node1", NodeRecord("zzzzz-7ekkf-000000000000001", WALL)))
        bench.close()
        assert bench.outcomes == ["aborted"]
        assert not bench.told(CreateNode, bench.cloud)
        assert bench.told(CleanRecord, bench.records)

    def test_a_scheduler_that_admits_nodes_is_asked_before_the_cloud(self) -> None:
        with closing(NodeBench(POLICY, with_records=True, admits=True)) as bench:
            record = NodeRecord("zzzzz-7ekkf-000000000000001", WALL, hostname="compute7")
            assert not bench.told(Admit, bench.scheduler)
            bench.tell(RecordMade("node1", record))
            [admit] = bench.told(Admit, bench.scheduler)
            assert admit.newcomer == Newcomer("compute7", SIZE, frozenset({"node2", "node3"}))
            assert not bench.told(CreateNode, bench.cloud)
            bench.tell(Admitted("slot3"))
            [create] = bench.told(CreateNode, bench.cloud)
            assert create.order.tags[HOST_TAG] == bench.standings[-1].host == "slot3"
            assert bench.told(NameRecord, bench.records) == [NameRecord(record.uuid, "slot3")]
            assert bench.phase == "asked"

    def test_one_that_is_not_admitted_is_not_ordered_and_has_not_failed(self) -> None:
        with closing(NodeBench(POLICY, admits=True)) as bench:
            bench.tell(NotAdmitted("none left"))
            assert not bench.told(CreateNode, bench.cloud)
            assert not bench.told(Remove, bench.scheduler)
            assert bench.outcomes == ["refused"]
            [booted] = bench.told(Booted, bench.arbiter)
            assert isinstance(booted.error, NoPlace)
            assert not bench.standings[-1].admitted
            assert not bench.actor.is_alive()

    def test_what_was_admitted_is_removed_when_it_is_gone(self) -> None:
        with closing(NodeBench(replace(POLICY, shutdown_windows=(0, 9)), admits=True)) as bench:
            bench.tell(Admitted("slot3"))
            bench.join()
            bench.tell(Kill("node1", "because"), Destroyed("i-1"))
            assert not bench.told(Remove, bench.scheduler), "it may still be there"
            assert bench.standings[-1].admitted
            bench.listed(None)
            assert bench.told(Remove, bench.scheduler) == [Remove("slot3")]
            assert not bench.standings[-1].admitted

    def test_what_was_admitted_for_a_machine_of_a_former_process_is_removed_too(self) -> None:
        with closing(NodeBench(POLICY, admits=True)) as bench:
            bench.tell(Admitted("slot3"))
            bench.created()
            bench.adopt()
            assert not bench.told(Admit, bench.scheduler)
            for _ in range(LISTS_WITHOUT):
                bench.listed()
                bench.listed(None)
                bench.listed(None)
            assert bench.told(Remove, bench.scheduler) == [Remove("slot3")]

    def test_one_that_is_killed_while_the_scheduler_is_asked_is_not_ordered(self) -> None:
        with closing(NodeBench(POLICY, admits=True)) as bench:
            bench.tell(Kill("node1", "a mistake"))
            assert bench.actor.is_alive(), "the place has to be given back"
            bench.tell(Admitted("slot3"))
            assert not bench.told(CreateNode, bench.cloud)
            assert bench.told(Remove, bench.scheduler) == [Remove("slot3")]

    def test_one_that_may_still_turn_up_keeps_its_place(self) -> None:
        with closing(NodeBench(POLICY, admits=True)) as bench:
            bench.tell(Admitted("slot3"), CreateFailed("node1", CloudError("timed out")))
            assert not bench.actor.is_alive()
            assert not bench.told(Remove, bench.scheduler)
            assert bench.standings[-1].admitted

    def test_one_taken_up_after_a_restart_is_not_judged_before_the_scheduler_is_asked(
        self, bench: NodeBench
    ) -> None:
        bench.join()
        bench.later(POLICY.boot_fail_after + 1)
        bench.adopt()
        bench.listed()
        assert bench.phase == "booting"
        bench.viewed(NodeState.BUSY)
        assert bench.phase == "busy"
        assert bench.outcomes == ["joined"]

    def test_one_that_was_being_destroyed_before_a_restart_is_no_failed_boot(
        self, bench: NodeBench
    ) -> None:
        bench.join()
        bench.machine = replace(bench.machine, state=CloudState.STOPPING)
        bench.adopt()
        bench.listed(CloudState.STOPPING)
        assert bench.phase == "destroying"
        for _ in range(LISTS_WITHOUT):
            bench.listed(None)
        assert bench.outcomes == ["aborted"]

    def test_a_drain_of_the_former_process_is_ended_or_used(self, bench: NodeBench) -> None:
        bench.join()
        bench.adopt()
        bench.listed()
        bench.viewed(NodeState.DRAINED, OURS)
        assert bench.told(Resume, bench.scheduler)
        bench.adopt(**{"arvados-behaviour": "drain"})
        bench.listed()
        bench.viewed(NodeState.DRAINED, OURS)
        assert bench.told(DestroyNode, bench.cloud)

    def test_a_drain_that_somebody_ended_is_asked_for_again(self, bench: NodeBench) -> None:
        bench.join()
        bench.tell(Behave("node1", Behaviour.HOLD))
        bench.node_set(drained=True)
        bench.viewed(NodeState.DRAINED, OURS)
        bench.viewed(NodeState.IDLE)
        assert len(bench.told(Drain, bench.scheduler)) == 2

    def test_a_held_node_that_is_down_is_left_in_peace(self, bench: NodeBench) -> None:
        bench.join()
        bench.tell(Behave("node1", Behaviour.HOLD))
        bench.node_set(drained=True)
        for _ in range(1000):
            bench.later(5)
            bench.listed()
            bench.viewed(NodeState.DOWN)
        assert bench.phase == "lost"
        assert len(bench.told(Drain, bench.scheduler)) == 1
        assert not bench.told(DestroyNode, bench.cloud)

    def test_a_drain_that_was_not_answered_is_asked_for_again(self, bench: NodeBench) -> None:
        bench.join()
        bench.tell(Leave("idle"))
        for _ in range(8):
            bench.later(5)
            bench.viewed(NodeState.IDLE)
        assert len(bench.told(Drain, bench.scheduler)) == 2

    def test_wanted_again_while_the_drain_is_under_way(self, bench: NodeBench) -> None:
        bench.join()
        bench.tell(Leave("idle"), Stay("wanted"))
        assert bench.told(Resume, bench.scheduler)
        bench.node_set(drained=False)
        assert bench.phase == "idle"
        assert bench.standings[-1].takes_work


ANY_WORD = st.sampled_from([None, *NodeState])
REASONS = st.sampled_from(["", "new disk", OURS])


class Messages(RuleBasedStateMachine):
    """Anything may be said at any time; only answers need a question."""

    def __init__(self) -> None:
        super().__init__()
        self.admits = self.admitted = False
        self.bench = self._bench()
        self.view: Node | None = None
        self.viewed_at = float("-inf")
        self.killed = False
        self.seen = 0
        self.before = NodePhase.ASKED
        self.behaviour = Behaviour.RUN

    def _bench(self) -> NodeBench:
        policy = replace(POLICY, shutdown_windows=(1, 1), boot_fail_after=120)
        return NodeBench(policy, admits=self.admits)

    def teardown(self) -> None:
        self.bench.close()

    @property
    def unanswered(self) -> Mapping[type, int]:
        """Questions to cloud and scheduler, less their answers."""
        bench = self.bench
        return {
            kind: len(bench.told(kind, bench.cloud + bench.scheduler))
            for kind in (CreateNode, DestroyNode, Drain, Resume, Forgo, Admit)
        }

    @initialize(joined=st.booleans(), admits=st.booleans())
    def begin(self, joined: bool, admits: bool) -> None:
        if admits:
            self.bench.close()
            self.admits = True
            self.bench = self._bench()
        self.answered = dict.fromkeys(self.unanswered, 0)
        if joined:
            if admits:
                self.the_scheduler_admits(works=True)
            self.create_is_answered(works=True)
            self.a_list_comes(CloudState.RUNNING)
            self.a_view_comes(NodeState.IDLE, "")

    def _asked(self, *kinds: type) -> bool:
        return any(self.unanswered[kind] > self.answered[kind] for kind in kinds)

    @precondition(lambda self: self._asked(Admit))
    @rule(works=st.booleans())
    def the_scheduler_admits(self, works: bool) -> None:
        self.answered[Admit] += 1
        self.admitted = works
        self.bench.tell(Admitted("slot3") if works else NotAdmitted("none left"))

    @precondition(lambda self: self._asked(CreateNode))
    @rule(works=st.booleans())
    def create_is_answered(self, works: bool) -> None:
        self.answered[CreateNode] += 1
        if works:
            self.bench.created()
        else:
            self.bench.tell(CreateFailed("node1", CloudError("no")))

    @precondition(lambda self: self._asked(CreateNode) and self._asked(Forgo))
    @rule()
    def it_is_forgone(self) -> None:
        self.answered[CreateNode] += 1
        self.bench.tell(Forgone("node1"))

    @precondition(lambda self: self._asked(DestroyNode))
    @rule(works=st.booleans())
    def destroy_is_answered(self, works: bool) -> None:
        self.answered[DestroyNode] += 1
        error = CloudError("no")
        self.bench.tell(Destroyed("i-1") if works else DestroyFailed("i-1", error))

    @precondition(lambda self: self._asked(Drain, Resume))
    @rule()
    def the_last_order_is_answered(self) -> None:
        bench = self.bench
        self.answered.update({k: self.unanswered[k] for k in (Drain, Resume)})
        drained = isinstance(bench.scheduler[-1], Drain)
        bench.tell(NodeSet("node1", drained, bench.clock.elapsed()))

    @rule(state=st.sampled_from([None, CloudState.RUNNING, *CloudState]))
    def a_list_comes(self, state: CloudState | None) -> None:
        self.bench.listed(state)

    @rule(state=ANY_WORD, reason=REASONS)
    def a_view_comes(self, state: NodeState | None, reason: str) -> None:
        self.view = None if state is None else node(state, reason)
        self.viewed_at = self.bench.clock.elapsed()
        self.bench.viewed(state, reason)

    @rule(said=st.sampled_from([Leave("idle"), Stay("wanted"), Withdraw()]))
    def the_arbiter_speaks(self, said: Any) -> None:
        self.bench.tell(said)

    @rule(behaviour=st.sampled_from(Behaviour))
    def an_operator_speaks(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.bench.tell(Behave("node1", behaviour))

    @precondition(lambda self: not self.killed)
    @rule()
    def an_operator_kills(self) -> None:
        self.killed = True
        self.bench.tell(Kill("node1", "because"))

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0, 500.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.later(seconds)

    @precondition(lambda self: self.bench.actor.is_alive() and not self._asked(CreateNode, Admit))
    @rule()
    def the_daemon_restarts(self) -> None:
        bench = self.bench
        tags = {"arvados-behaviour": self.behaviour.value}
        bench.adopt(**tags)
        self.killed = False
        self.before, self.seen = NodePhase.ASKED, 0
        self.view, self.viewed_at = None, float("-inf")
        self.answered = dict.fromkeys(self.unanswered, 0)
        self.answered[CreateNode] = 0
        self.destroys = 0

    destroys = 0

    @invariant()
    def no_phase_follows_one_that_it_may_not(self) -> None:
        standings = self.bench.standings
        for standing in standings[self.seen :]:
            if standing.phase is not self.before:
                assert standing.phase in PHASE_TRANSITIONS[self.before]
            self.before = standing.phase
        self.seen = len(standings)

    @invariant()
    def nothing_of_use_is_destroyed(self) -> None:
        destroys = len(self.bench.told(DestroyNode, self.bench.cloud))
        fresh, self.destroys = destroys > self.destroys, destroys
        if not fresh or self.killed:
            return
        assert self.behaviour is not Behaviour.HOLD
        assert self.bench.clock.elapsed() - self.viewed_at < POLICY.poll_stale_after
        up = (NodeState.IDLE, NodeState.BUSY, NodeState.DRAINING)
        assert self.view is None or self.view.state not in up, "drained first, or down"

    @invariant()
    def the_scheduler_keeps_a_place_for_what_may_exist_and_for_nothing_else(self) -> None:
        bench = self.bench
        removed = bench.told(Remove, bench.scheduler)
        if not self.admits:
            assert not removed
            return
        assert self.admitted or not bench.told(CreateNode, bench.cloud)
        last = bench.standings[-1]
        given_back = self.admitted and last.phase is NodePhase.GONE and not last.admitted
        assert removed == ([Remove("slot3")] if given_back else [])

    @invariant()
    def it_is_created_at_most_once(self) -> None:
        assert len(self.bench.told(CreateNode, self.bench.cloud)) <= 1


TestAnyOrderOfMessages = Messages.TestCase
TestAnyOrderOfMessages.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_the_page_shows_the_same_graph() -> None:
    edges = re.findall(r"^    (\S+) -> (\S+): \S", PAGE.read_text(), re.MULTILINE)
    assert len(edges) == len(set(edges))
    assert {(NodePhase(a), NodePhase(b)) for a, b in edges} == {
        (before, after) for before, afters in PHASE_TRANSITIONS.items() for after in afters
    }


def test_every_phase_is_reached_and_leads_to_the_end() -> None:
    reached = {NodePhase.ASKED}.union(*PHASE_TRANSITIONS.values())
    assert reached == set(NodePhase)
    for phase in NodePhase:
        assert phase is NodePhase.GONE or NodePhase.GONE in PHASE_TRANSITIONS[phase]
    assert NodeStep("let-go")


def test_a_view_that_took_long_to_come_is_no_older_than_its_coming() -> None:
    """A controller that is away for a while answers late, and may not have heard from its nodes yet."""
    there = situation(NodeState.BUSY)
    late = seen_in_scheduler(there, None, asked_at=NOW, now=NOW + 60)
    assert late.down_views == 1
    again = seen_in_scheduler(late, None, asked_at=NOW + 61, now=NOW + 61)
    assert again.down_views == 1
    assert seen_in_scheduler(again, None, asked_at=NOW + 65, now=NOW + 65).down_views == 2
