"""Several schedulers that look like one: where a job goes, where it is found again, and what a silent one means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.actors.actor import Actor
from nodemanager.actors.driver import advance, settle
from nodemanager.actors.inline import InlinePool
from nodemanager.actors.lease import ActUntil
from nodemanager.actors.pool import use_pool
from nodemanager.actors.timer import TimerActor
from nodemanager.clock import ManualClock
from nodemanager.config.accept import Accept
from nodemanager.fit import explain_route
from nodemanager.model import Capabilities, JobState, Node, NodeState, Resources, Route
from nodemanager.reason import ReasonToken
from nodemanager.rule import Rule
from nodemanager.schedulers.actor import Pace, SchedulerActor
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.fake import FakeScheduler, Fault
from nodemanager.schedulers.fakecluster import FakeCluster
from nodemanager.schedulers.jobs import JobReport
from nodemanager.schedulers.messages import (
    Cancel,
    Dismiss,
    Forget,
    Prioritise,
    Ref,
    SchedulerView,
    Seek,
    Submit,
    Subscribe,
)
from nodemanager.schedulers.router import RouterActor, Way
from nodemanager.schedulers.routes import Line, choose

MIB = 1 << 20
SMALL, LARGE = Resources(2, 100 * MIB), Resources(8, 1000 * MIB)


def rule(text: str) -> Rule:
    parsed: Rule = Accept().parse(text)
    return parsed


def spec(number: int = 1, **changes: Any) -> JobSpec:
    job = JobSpec(f"zzzzz-dz642-{number:015d}", ("true",), Resources(1, MIB))
    return replace(job, **changes)


def line(
    name: str, accept: str = "", node: Resources | None = LARGE, *, silent: bool = False
) -> Line:
    """A scheduler with one node; None: not heard of yet."""
    made = rule(accept)
    route = None if node is None else Route(name, made, Capabilities((node,)))
    return Line(name, made, route, silent)


class TestChoice:
    def test_the_first_that_takes_it_gets_it(self) -> None:
        lines = [line("a", "cores <= 1"), line("b", node=SMALL), line("c")]
        assert choose(spec(), lines).scheduler == "a"
        assert choose(spec(resources=Resources(2, MIB)), lines).scheduler == "b"
        made = choose(spec(resources=Resources(4, MIB)), lines)
        assert made.scheduler == "c"
        assert list(made.tried) == ["a", "b"]
        assert made.words.startswith("not for a (its rule wants at most 1 cores), b (")

    @pytest.mark.parametrize(
        ("accept", "changes"),
        [
            ("partition = long, high", {"partitions": ("long",)}),
            ("preemptible = yes", {"preemptible": True}),
            ("property.project = exome", {"properties": (("project", "exome"),)}),
            ("ram <= 1 MiB and gpus = 0", {}),
        ],
    )
    def test_a_rule_looks_at_all_that_a_job_is(self, accept: str, changes: dict[str, Any]) -> None:
        lines = [line("a", accept), line("b")]
        # Where partitions are asked for a node has to offer them.
        if "partitions" in changes:
            route = Route("a", lines[0].rule, Capabilities((LARGE,), ("long",)))
            lines[0] = replace(lines[0], route=route)
        assert choose(spec(**changes), lines).scheduler == "a"
        other = spec(resources=Resources(1, 2 * MIB))
        assert choose(other, lines).scheduler == "b"

    def test_nobody_takes_it(self) -> None:
        made = choose(spec(resources=Resources(99, MIB)), [line("a", "cores <= 16"), line("b")])
        assert made.scheduler == ""
        assert made.trouble is not None
        assert made.trouble.token is ReasonToken.NO_SCHEDULER
        assert "tried a (its rule wants at most 16 cores), b (" in made.trouble.sentence

    def test_a_silent_one_is_passed_over_if_another_takes_it(self) -> None:
        lines = [line("a", silent=True), line("b", "cores <= 1")]
        assert choose(spec(), lines).scheduler == "b"
        made = choose(spec(resources=Resources(2, MIB)), lines)
        assert made.trouble is not None
        assert made.trouble.token is ReasonToken.SCHEDULER_DOWN
        assert "a (it does not answer)" in made.trouble.sentence

    def test_one_that_was_not_heard_of_is_waited_for(self) -> None:
        made = choose(spec(), [line("a", node=None), line("b")])
        assert made.scheduler == ""
        assert made.trouble is not None
        assert made.trouble.token is ReasonToken.SUBMITTING
        assert choose(spec(), [line("a", "cores >= 2", node=None), line("b")]).scheduler == "b"

    @given(
        st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), max_size=4),
        st.integers(1, 5),
    )
    def test_what_is_chosen_takes_it_and_nothing_before_it_does(
        self, shape: list[tuple[int, bool, bool]], cores: int
    ) -> None:
        job = spec(resources=Resources(cores, MIB))
        lines = [
            line(str(n), f"cores <= {most}", SMALL if small else LARGE, silent=silent)
            for n, (most, small, silent) in enumerate(shape)
        ]
        made = choose(job, lines)
        takes = [
            each.name
            for each in lines
            if each.route is not None and not each.silent and not explain_route(job, each.route)
        ]
        assert made.scheduler == (takes[0] if takes else "")
        assert (made.trouble is None) == bool(takes)


class Ear(Actor):
    """Keeps what it is told."""

    def __init__(self, heard: list[Any]) -> None:
        super().__init__()
        self._heard = heard

    def on_receive(self, message: Any) -> None:
        self._heard.append(message)


class Stage:
    """A router over two pretended schedulers, and an owner; time is driven by hand."""

    def __init__(self, pool: InlinePool) -> None:
        self.pool, self.clock = pool, ManualClock()
        self.timer = TimerActor.start(self.clock)
        self.clusters = {
            "small": self._cluster("s1", SMALL),
            "large": self._cluster("l1", LARGE),
        }
        self.schedulers: dict[str, FakeScheduler] = {}
        self.heard: list[Any] = []
        self.views: list[Any] = []
        self.owner = Ear.start(self.heard)
        self.subscriber = Ear.start(self.views)
        self.router: Ref
        self._actors: list[Ref] = []
        self.start()

    def _cluster(self, name: str, size: Resources) -> FakeCluster:
        return FakeCluster(self.clock, [Node(name, NodeState.IDLE, size, size)])

    def start(self, silent: str = "") -> None:
        """As a daemon starts: on the clusters as they are."""
        ways = []
        for name, cluster in self.clusters.items():
            context = SchedulerContext("zzzzz", Path("/nonexistent"))
            scheduler = self.schedulers[name] = FakeScheduler(context, cluster)
            if name == silent:
                scheduler.faults.upcoming[Fault.POLL] = 10**6
            pace = Pace(poll_seconds=5)
            actor = SchedulerActor.start(scheduler, pace, self.timer, self.clock, name)
            ways.append(Way(name, rule("cores <= 4" if name == "small" else ""), actor))
            self._actors.append(actor)
        self.router = RouterActor.start(ways)
        self._actors.append(self.router)
        self.tell(ActUntil(1e9), Subscribe(self.subscriber))

    def restart(self, silent: str = "") -> None:
        self.stop()
        self.heard.clear()
        self.start(silent)

    def stop(self) -> None:
        for actor in self._actors:
            actor.stop(block=False)
        self._actors.clear()
        settle(self.pool)

    def close(self) -> None:
        self.stop()
        for ref in (self.owner, self.subscriber, self.timer):
            ref.stop(block=False)
        settle(self.pool)

    def tell(self, *messages: Any) -> None:
        for message in messages:
            self.router.tell(message)
        settle(self.pool)

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            advance(self.clock, self.timer, self.pool, 1)
            for cluster in self.clusters.values():
                cluster.run_due()
            settle(self.pool)

    def submit(self, *jobs: JobSpec) -> None:
        self.tell(*(Submit(job, self.owner) for job in jobs))
        self.advance(6)

    def where(self, job: JobSpec) -> list[str]:
        return [name for name, c in self.clusters.items() if c.job(job.name) is not None]

    def last(self, job: JobSpec) -> JobReport:
        reports = [m for m in self.heard if isinstance(m, JobReport) and m.name == job.name]
        return reports[-1]


@pytest.fixture
def stage() -> Iterator[Stage]:
    pool = InlinePool()
    with use_pool(pool):
        stage = Stage(pool)
        stage.advance(6)
        yield stage
        stage.close()


TWO, FOUR, EIGHT = (
    spec(n, resources=Resources(cores, MIB)) for n, cores in ((2, 2), (4, 4), (8, 8))
)


def test_each_job_goes_to_the_first_that_takes_it(stage: Stage) -> None:
    stage.submit(TWO, FOUR, EIGHT)
    assert [stage.where(job) for job in (TWO, FOUR, EIGHT)] == [["small"], ["large"], ["large"]]
    assert stage.last(TWO).scheduler == "small"
    waiting = [m for m in stage.heard if m.name == EIGHT.name and m.state is JobState.WAITING]
    assert "not for small (its rule wants at most 4 cores)" in waiting[0].words


def test_all_look_like_one(stage: Stage) -> None:
    view = stage.views[-1]
    assert isinstance(view, SchedulerView)
    assert [node.name for node in view.nodes] == ["s1", "l1"]
    assert [route.scheduler for route in view.routes] == ["small", "large"]


def test_what_nobody_takes_waits_and_is_told_who_was_tried(stage: Stage) -> None:
    job = spec(resources=Resources(9, MIB))
    stage.submit(job)
    report = stage.last(job)
    assert report.trouble is not None
    assert report.trouble.token is ReasonToken.NO_SCHEDULER
    assert "small" in report.trouble.sentence
    assert "large" in report.trouble.sentence
    stage.tell(Cancel(job.name))
    assert stage.last(job).state is None


def test_a_node_that_comes_lets_a_job_go(stage: Stage) -> None:
    job = spec(resources=Resources(16, MIB))
    stage.submit(job)
    assert stage.where(job) == []
    size = Resources(16, 1000 * MIB)
    stage.clusters["large"].add_node(Node("l2", NodeState.IDLE, size, size))
    stage.advance(12)
    assert stage.where(job) == ["large"]


def test_a_silent_scheduler_keeps_nobody_from_another(stage: Stage) -> None:
    stage.schedulers["small"].faults.upcoming[Fault.POLL] = 10**6
    stage.advance(7)
    stage.submit(TWO)
    assert stage.where(TWO) != ["large"], "one failed poll moves nothing"
    stage.advance(60)
    other = replace(TWO, name="zzzzz-dz642-000000000000022")
    stage.submit(other)
    assert stage.where(other) == ["large"]
    view = [view for view in stage.views if isinstance(view, SchedulerView)][-1]
    assert [node.name for node in view.nodes] == ["l1"], "nobody knows what is free there"
    assert [route.scheduler for route in view.routes] == ["small", "large"]


def test_a_job_that_waits_here_is_known_to_be_nowhere(stage: Stage) -> None:
    """Its actor crashed, and the next one asks."""
    job = spec(resources=Resources(16, MIB))
    stage.submit(job)
    stage.tell(Seek(job.name, stage.owner))
    assert stage.last(job).state is None
    stage.submit(job)
    trouble = stage.last(job).trouble
    assert trouble is not None
    assert trouble.token is ReasonToken.NO_SCHEDULER


def test_after_a_restart_a_job_is_found_where_it_is(stage: Stage) -> None:
    stage.submit(TWO, EIGHT)
    stage.restart()
    missing = spec(99)
    stage.tell(*(Seek(job.name, stage.owner) for job in (TWO, EIGHT, missing)))
    stage.advance(6)
    assert [stage.last(job).scheduler for job in (TWO, EIGHT)] == ["small", "large"]
    assert stage.last(missing).state is None
    # And what is asked for goes there.
    stage.tell(Cancel(EIGHT.name), Prioritise(TWO.name, 7))
    stage.advance(12)
    assert stage.last(EIGHT).state is JobState.ENDED


def test_a_silent_scheduler_may_have_the_job_that_is_sought(stage: Stage) -> None:
    stage.submit(TWO)
    stage.restart(silent="small")
    stage.tell(Seek(TWO.name, stage.owner))
    stage.advance(30)
    assert not [m for m in stage.heard if isinstance(m, JobReport)]
    stage.schedulers["small"].faults.upcoming[Fault.POLL] = 0
    stage.advance(120)
    assert stage.last(TWO).scheduler == "small"


def test_a_job_that_was_handed_on_stays_there(stage: Stage) -> None:
    """Submitting it again, as an actor does that was started anew, makes no second one."""
    stage.submit(TWO)
    stage.schedulers["small"].faults.upcoming[Fault.POLL] = 10**6
    stage.submit(TWO)
    assert stage.where(TWO) == ["small"]


def test_strangers_are_dismissed_wherever_they_are(stage: Stage) -> None:
    stage.submit(TWO)
    stage.restart()
    stage.advance(6)
    assert [job.name for job in stage.views[-1].strangers] == [TWO.name]
    stage.tell(Dismiss(TWO.name), Forget(TWO.name))
    stage.advance(12)
    job = stage.clusters["small"].job(TWO.name)
    assert job is None or job.end is not None


def test_a_priority_counts_before_and_after_a_job_is_placed(stage: Stage) -> None:
    job = spec(resources=Resources(16, MIB), priority=1)
    stage.submit(job)
    stage.tell(Prioritise(job.name, 9))
    size = Resources(16, 1000 * MIB)
    stage.clusters["large"].add_node(Node("l2", NodeState.IDLE, size, size))
    stage.advance(12)
    placed = stage.clusters["large"].job(job.name)
    assert placed is not None
    assert placed.spec.priority == 9
