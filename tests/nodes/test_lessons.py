"""What the outcome of a boot teaches, and what it does not."""

import pytest

from nodemanager.clouds.errors import CloudError, Denied, NoCapacity, QuotaExceeded
from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.lessons import Lessons
from nodemanager.nodes.messages import Booted, BootOutcome
from nodemanager.nodes.policy import NodePolicy

POLICY = NodePolicy(max_nodes=9, max_boot_failures=2, capacity_pause=60)
SIZE = NodeSize("small", Resources(2, 4 << 30), 0.1)


def after(
    outcome: BootOutcome, error: CloudError | None = None, *, proved: bool = False
) -> Lessons:
    booted = Booted("node1", SIZE, outcome, "so it was", 60.0, error, proved)
    return Lessons().came_out(booted, existing=3, policy=POLICY, now=100.0)


def test_a_refusal_for_the_quota_teaches_the_quota() -> None:
    lessons = after(BootOutcome.REFUSED, QuotaExceeded("no more"))
    assert lessons.quota.limit == 3
    assert lessons.shortages.unavailable(100.0) == frozenset()


@pytest.mark.parametrize(
    ("error", "pause"), [(NoCapacity("none"), 60), (Denied("no"), 5), (CloudError("?"), 5)]
)
def test_any_other_refusal_is_the_sizes(error: CloudError, pause: float) -> None:
    lessons = after(BootOutcome.REFUSED, error)
    assert lessons.quota.limit is None
    assert lessons.shortages.until("small") == 100 + pause


@pytest.mark.parametrize("outcome", [BootOutcome.FAILED, BootOutcome.DISAPPEARED])
def test_a_node_that_comes_to_nothing_is_a_failure_unless_it_had_proved_itself(
    outcome: BootOutcome,
) -> None:
    assert after(outcome).brake.failures == 1
    assert after(outcome).brake.last == "node1: so it was"
    assert after(outcome, proved=True) == Lessons(), "spot machines that worked for hours, say"


@pytest.mark.parametrize("outcome", [BootOutcome.JOINED, BootOutcome.ABORTED])
def test_others_teach_nothing(outcome: BootOutcome) -> None:
    assert after(outcome) == Lessons()


def test_a_node_that_proves_itself_takes_the_brake_off() -> None:
    lessons = after(BootOutcome.FAILED)
    booted = Booted("node2", SIZE, BootOutcome.PROVED, "of use", 60.0)
    assert lessons.came_out(booted, 3, POLICY, 200.0).brake.failures == 0


def test_a_created_node_unlearns_its_sizes_shortage_and_moves_the_quota() -> None:
    lessons = after(BootOutcome.REFUSED, NoCapacity("none")).created(SIZE, 4)
    assert lessons.shortages.unavailable(101.0) == frozenset()
    assert after(BootOutcome.REFUSED, QuotaExceeded("no")).created(SIZE, 3).quota.limit == 4


def test_the_least_that_a_node_of_a_size_had_is_kept() -> None:
    found = Resources(2, 3 << 30, 7)
    lessons = Lessons().measure(SIZE, found)
    assert lessons.measured == {"small": Resources(2, 3 << 30, 0)}
    assert lessons.measure(SIZE, Resources(9, 9 << 30)) is lessons
    assert Lessons().measure(SIZE, SIZE.resources).measured == {}
