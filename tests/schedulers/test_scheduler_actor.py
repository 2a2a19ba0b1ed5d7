"""The pace of the actor above the modules; what it concludes is in test_jobs and test_dispatch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.actors.actor import Actor
from nodemanager.actors.budget import Budget
from nodemanager.actors.driver import advance, settle
from nodemanager.actors.inline import InlinePool
from nodemanager.actors.lease import ActUntil
from nodemanager.actors.pool import use_pool
from nodemanager.actors.timer import TimerActor
from nodemanager.clock import ManualClock
from nodemanager.model import Node, NodeState, Resources
from nodemanager.schedulers.actor import Pace, SchedulerActor
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.batches import batches
from nodemanager.schedulers.fake import FakeScheduler, Fault
from nodemanager.schedulers.fakecluster import FakeCluster
from nodemanager.schedulers.messages import (
    Ref,
    Submit,
    Subscribe,
)
from nodemanager.testing import Harness, Program


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 5)), max_size=40), st.floats(0.1, 50))
def test_a_budget_is_kept_over_any_while(steps: list[tuple[float, int]], rate: float) -> None:
    """Whoever waits as long as it is told runs no more than the rate allows, and a burst."""
    now, spent = 0.0, 0
    budget = Budget(rate, now)
    for pause, wanted in steps:
        now += pause
        for _ in range(wanted):
            now += budget.wait(now)
            assert budget.wait(now) < 1e-6 * max(1.0, now), "who waited has room"
            budget.spend(now)
            spent += 1
    assert spent <= rate * now + 2 * max(rate, 1) + 1


def test_a_thousand_jobs_cost_a_handful_of_calls() -> None:
    with Harness(max_claimed=1000) as world:
        world.program = lambda _record: Program(seconds=1000)
        for _ in range(300):
            world.submit()
        world.advance(30)
        scheduler = world.site.scheduler
        assert len(scheduler.calls("submit")) <= 10
        assert len(scheduler.calls("poll")) <= 30
        before = world.wire.calls + world.site.wire.calls
        world.advance(10)
        assert world.wire.calls + world.site.wire.calls - before <= 60


def test_a_silent_scheduler_is_asked_more_and_more_slowly() -> None:
    with Harness() as world:
        world.advance(10)
        world.site.scheduler.faults.upcoming[Fault.POLL] = 1000
        before = len(world.site.scheduler.calls("poll"))
        world.advance(600)
        asked = len(world.site.scheduler.calls("poll")) - before
        assert 8 <= asked <= 16


class OneByOne(FakeScheduler):
    """A scheduler of commands: one for each kind of job, as where arrays are used."""

    in_process = False
    price = 1

    def cost(self, jobs: Sequence[JobSpec]) -> int:
        return self.price * len(batches(jobs, 1000))

    def listen(self, changed: Callable[[], None]) -> None:
        """It has to be polled."""


class Owner(Actor):
    """Who wants jobs."""

    def on_receive(self, message: object) -> None:
        """Takes note of nothing."""


@dataclass
class Stage:
    """A scheduler actor on its own, with time driven by hand."""

    pool: InlinePool
    clock: ManualClock
    timer: Ref
    scheduler: OneByOne
    actor: Ref
    owner: Ref

    def submit(self, count: int, kinds: int) -> None:
        for number in range(count):
            name = f"zzzzz-dz642-{number:015d}"
            spec = JobSpec(name, ("true",), Resources(1 + number % kinds, 1 << 20))
            self.actor.tell(Submit(spec, self.owner))
        settle(self.pool)

    def advance(self, seconds: float) -> None:
        advance(self.clock, self.timer, self.pool, seconds)

    @property
    def submitted(self) -> int:
        return sum(len(call.names) for call in self.scheduler.calls("submit"))


@pytest.fixture
def stage() -> Iterator[Stage]:
    pool, clock = InlinePool(), ManualClock()
    big = Resources(1000, 1 << 40, 1 << 40)
    cluster = FakeCluster(clock, [Node("n1", NodeState.IDLE, big, big)])
    scheduler = OneByOne(SchedulerContext("zzzzz", Path("/nonexistent")), cluster)
    with use_pool(pool):
        timer = TimerActor.start(clock)
        pace = Pace(poll_seconds=60, commands_per_second=2, submit_batch=1000)
        actor = SchedulerActor.start(scheduler, pace, timer, clock)
        owner = Owner.start()
        actor.tell(ActUntil(1e9))
        actor.tell(Subscribe(owner))
        settle(pool)
        yield Stage(pool, clock, timer, scheduler, actor, owner)
        for ref in (actor, owner, timer):
            ref.stop(block=False)
        settle(pool)


def test_jobs_of_one_kind_go_in_one_command(stage: Stage) -> None:
    stage.advance(10)
    stage.submit(900, kinds=1)
    assert stage.submitted == 900
    assert len(stage.scheduler.calls("submit")) == 1


def test_jobs_that_all_differ_go_as_fast_as_the_budget_has_commands(stage: Stage) -> None:
    stage.advance(10)
    stage.submit(60, kinds=60)
    assert 1 <= stage.submitted <= 4, "a burst of two seconds' worth"
    for _ in range(20):
        before = stage.submitted
        stage.advance(1)
        assert stage.submitted - before <= 3
    # Other commands take their share, and nothing waits for the next poll.
    assert 30 <= stage.submitted <= 60
    stage.advance(60)
    assert stage.submitted == 60


def test_none_is_left_behind_or_sent_twice(stage: Stage) -> None:
    stage.submit(40, kinds=7)
    stage.advance(120)
    names = [name for call in stage.scheduler.calls("submit") for name in call.names]
    assert sorted(names) == [f"zzzzz-dz642-{number:015d}" for number in range(40)]


def test_a_job_that_costs_more_than_there_ever_is_comes_in_its_turn(stage: Stage) -> None:
    stage.scheduler.price = 9
    stage.advance(10)
    stage.submit(3, kinds=3)
    assert stage.submitted == 1
    stage.advance(60)
    assert stage.submitted == 3
