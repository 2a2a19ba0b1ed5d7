"""The pace of the actor above the modules; what it concludes is in test_jobs and test_dispatch."""

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.actors.budget import Budget
from nodemanager.schedulers.fake import Fault
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
