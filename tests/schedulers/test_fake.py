"""The fake scheduler fails on demand, and says what was asked of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodemanager.clock import ManualClock
from nodemanager.errors import SchedulerError
from nodemanager.model import JobState, Node, NodeState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.fake import Call, FakeCluster, FakeScheduler, Fault, Script

CONTEXT = SchedulerContext("zzzzz", Path("/nowhere"))
SIZE = Resources(4, 4 << 30)


def spec(number: int, cores: int = 1, priority: int = 0, stdin: bytes = b"") -> JobSpec:
    name = f"zzzzz-dz642-{number:015d}"
    return JobSpec(name, ("true",), Resources(cores, 1 << 20), stdin, priority)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cluster(clock: ManualClock) -> FakeCluster:
    cluster = FakeCluster(clock, [Node("n1", NodeState.IDLE, SIZE, SIZE)])
    cluster.script = lambda _spec: Script(10)
    return cluster


@pytest.fixture
def scheduler(cluster: FakeCluster) -> FakeScheduler:
    return FakeScheduler(CONTEXT, cluster)


def states(scheduler: FakeScheduler) -> list[JobState]:
    return [job.state for job in scheduler.poll().jobs]


def test_jobs_run_by_the_clock(scheduler: FakeScheduler, clock: ManualClock) -> None:
    scheduler.submit([spec(n) for n in range(6)])
    assert states(scheduler) == [JobState.RUNNING] * 4 + [JobState.WAITING] * 2
    clock.advance(9)
    assert JobState.ENDED not in states(scheduler)
    clock.advance(1)
    assert states(scheduler) == [JobState.ENDED] * 4 + [JobState.RUNNING] * 2
    assert scheduler.cluster.next_event_at() == 20
    clock.advance(10)
    assert states(scheduler) == [JobState.ENDED] * 6
    assert scheduler.cluster.next_event_at() is None
    assert set(scheduler.cluster.starts.values()) == {1}


def test_a_harness_plays_the_runner(scheduler: FakeScheduler, cluster: FakeCluster) -> None:
    cluster.script = lambda _spec: Script(None)
    told: list[object] = []

    def start(name: str, stdin: bytes) -> None:
        told.append((name, stdin))
        cluster.finish(name, End(EndKind.EXITED, 4))

    cluster.on_start = start
    cluster.on_end = lambda name, end: told.append((name, end))
    scheduler.listen(lambda: told.append("changed"))
    one = spec(1, stdin=b"token")
    scheduler.submit([one])
    assert told[0] == (one.name, b"token")
    assert (one.name, End(EndKind.EXITED, 4)) in told
    assert "changed" in told


def test_a_submit_may_fail_before_halfway_or_after(scheduler: FakeScheduler) -> None:
    accepted = []
    for number, fault in enumerate((Fault.SUBMIT, Fault.SUBMIT_HALFWAY, Fault.SUBMIT_AFTER)):
        scheduler.faults.upcoming[fault] = 1
        with pytest.raises(SchedulerError):
            scheduler.submit([spec(10 * number), spec(10 * number + 1)])
        accepted.append(len(scheduler.poll().jobs))
    assert accepted == [0, 1, 3]
    # The same again: everything is there once.
    answers = scheduler.submit([spec(10), spec(11)])
    assert all(answer.job_id for answer in answers)
    assert len(scheduler.poll().jobs) == 4
    assert set(scheduler.cluster.starts.values()) == {1}


@pytest.mark.parametrize("fault", [Fault.POLL, Fault.LOOK_UP, Fault.CANCEL, Fault.NODES])
def test_calls_fail_so_many_times(scheduler: FakeScheduler, fault: Fault) -> None:
    calls = {
        Fault.POLL: scheduler.poll,
        Fault.LOOK_UP: lambda: scheduler.look_up(["x"]),
        Fault.CANCEL: lambda: scheduler.cancel(["x"]),
        Fault.NODES: scheduler.nodes,
    }
    scheduler.faults.upcoming[fault] = 2
    for _ in range(2):
        with pytest.raises(SchedulerError, match="fake:"):
            calls[fault]()
    calls[fault]()


def test_polls_may_be_partial_or_lie(scheduler: FakeScheduler) -> None:
    scheduler.submit([spec(n) for n in range(4)])
    scheduler.faults.upcoming[Fault.PARTIAL_POLL] = 1
    poll = scheduler.poll()
    assert (len(poll.jobs), poll.complete) == (2, False)
    scheduler.faults.hidden = {spec(1).name}
    poll = scheduler.poll()
    assert (len(poll.jobs), poll.complete) == (3, True)
    scheduler.faults.hidden = set()
    scheduler.faults.unknown = {spec(2).name}
    assert states(scheduler)[2] is JobState.UNKNOWN


def test_jobs_may_be_lost_deleted_or_die_with_their_node(
    scheduler: FakeScheduler, cluster: FakeCluster
) -> None:
    scheduler.faults.upcoming[Fault.LOSS] = 1
    assert scheduler.submit([spec(0)])[0].job_id
    assert cluster.starts == {}
    scheduler.submit([spec(n) for n in range(1, 4)])
    cluster.lose(spec(1).name)
    cluster.delete(spec(2).name)
    cluster.fail_node("n1")
    jobs = {job.name: job.end for job in scheduler.poll().jobs}
    assert set(jobs) == {spec(3).name}
    assert jobs[spec(3).name] == End(EndKind.NODE_LOST, detail="NODE_FAIL")
    ends = scheduler.look_up([spec(n).name for n in range(4)])
    assert set(ends) == {spec(2).name, spec(3).name}
    assert ends[spec(2).name].kind is EndKind.OPERATOR_DELETED
    assert [node.state for node in scheduler.nodes()] == [NodeState.DOWN]
    assert cluster.live_count == 0


def test_a_site_limit_is_busy_and_a_refusal_is_for_good(scheduler: FakeScheduler) -> None:
    scheduler.faults.max_jobs = 1
    scheduler.faults.refused = {spec(0).name: "invalid account"}
    answers = scheduler.submit([spec(0), spec(1), spec(2)])
    assert answers[0].refused == "invalid account"
    assert answers[1].job_id
    assert answers[2].busy


def test_slow_calls_take_time(scheduler: FakeScheduler, clock: ManualClock) -> None:
    scheduler.faults.call_seconds = 3
    scheduler.faults.sleep = clock.advance
    scheduler.poll()
    scheduler.nodes()
    assert clock.elapsed() == 6


def test_a_job_may_ignore_term(
    scheduler: FakeScheduler, cluster: FakeCluster, clock: ManualClock
) -> None:
    cluster.script = lambda _spec: Script(None, term_seconds=None)
    terms: list[str] = []
    cluster.on_term = terms.append
    scheduler.submit([spec(1)])
    scheduler.cancel([spec(1).name])
    assert terms == [spec(1).name]
    clock.advance(cluster.kill_grace - 1)
    assert states(scheduler) == [JobState.RUNNING]
    clock.advance(1)
    assert scheduler.poll().jobs[0].end == End(EndKind.CANCELLED)


def test_nodes_come_and_go(scheduler: FakeScheduler, cluster: FakeCluster) -> None:
    cluster.refuses_too_big = False
    scheduler.submit([spec(1, cores=8)])
    assert states(scheduler) == [JobState.WAITING]
    big = Resources(8, 8 << 30)
    cluster.add_node(Node("n2", NodeState.IDLE, big, big, partitions=("big",)))
    assert scheduler.poll().jobs[0].node == "n2"
    cluster.remove_node("n2")
    assert scheduler.poll().jobs[0].end == End(EndKind.NODE_LOST, detail="NODE_FAIL")
    assert [node.name for node in scheduler.nodes()] == ["n1"]


def places(scheduler: FakeScheduler) -> list[str]:
    return [job.node for job in scheduler.poll().jobs]


def test_partitions_and_spot_nodes_are_heeded(
    scheduler: FakeScheduler, cluster: FakeCluster
) -> None:
    cluster.remove_node("n1")
    cluster.add_node(Node("spot", NodeState.IDLE, SIZE, SIZE, ("a",), preemptible=True))
    cluster.add_node(Node("firm", NodeState.IDLE, SIZE, SIZE, ("a", "b")))
    cluster.add_node(Node("any", NodeState.IDLE, Resources(8, 8 << 30), SIZE))
    specs = [
        replace(spec(1), partitions=("a",)),
        replace(spec(2), partitions=("a",), preemptible=True),
        replace(spec(3), partitions=("b", "x")),
        replace(spec(4), partitions=("x",)),
        replace(spec(5, cores=8), preemptible=True),
    ]
    scheduler.submit(specs)
    assert places(scheduler) == ["firm", "spot", "firm", "any", ""]


def test_who_wants_a_node_to_itself_gets_it(
    scheduler: FakeScheduler, cluster: FakeCluster, clock: ManualClock
) -> None:
    first, second, third = spec(1), replace(spec(2), exclusive=True), spec(3)
    scheduler.submit([first, second, third])
    assert places(scheduler) == ["n1", "", ""]
    clock.advance(10)
    assert places(scheduler) == ["n1", "n1", ""]
    assert [node.free for node in scheduler.nodes()] == [Resources(0, 0)]
    clock.advance(10)
    assert places(scheduler) == ["n1", "n1", "n1"]
    assert [node.free.cores for node in scheduler.nodes()] == [3]


def test_the_most_urgent_comes_first_whatever_nodes_it_may_use(
    scheduler: FakeScheduler, clock: ManualClock
) -> None:
    scheduler.submit([spec(0, cores=4)])
    high = replace(spec(2, cores=3, priority=2), preemptible=True)
    scheduler.submit([spec(1, cores=3, priority=1), high])
    clock.advance(10)
    assert states(scheduler) == [JobState.ENDED, JobState.WAITING, JobState.RUNNING]


def test_who_waits_for_a_node_to_come_holds_up_nobody(
    scheduler: FakeScheduler, cluster: FakeCluster
) -> None:
    cluster.refuses_too_big = False
    scheduler.submit([spec(1, cores=8, priority=9), spec(2)])
    assert places(scheduler) == ["", "n1"]
    scheduler.drain("n1", "a test")
    scheduler.submit([spec(3)])
    big = Resources(8, 8 << 30)
    cluster.add_node(Node("n2", NodeState.IDLE, big, big))
    assert places(scheduler) == ["n2", "n1", ""]
    scheduler.resume("n1")
    assert places(scheduler) == ["n2", "n1", "n1"]


def test_who_waits_for_a_large_node_keeps_only_such_nodes_free(
    scheduler: FakeScheduler, cluster: FakeCluster
) -> None:
    large = Resources(8, 8 << 30)
    cluster.add_node(Node("n2", NodeState.IDLE, large, large))
    scheduler.submit([spec(0, cores=5, priority=9)])
    scheduler.submit([spec(1, cores=6, priority=8), spec(2, cores=3), spec(3), spec(4)])
    assert places(scheduler) == ["n2", "", "n1", "n1", ""], (
        "n2 has room, but not for less urgent ones"
    )


def test_a_new_priority_moves_a_job(scheduler: FakeScheduler, clock: ManualClock) -> None:
    scheduler.submit([spec(0, cores=4), spec(1, cores=4), spec(2, cores=4), spec(3, cores=3)])
    scheduler.prioritise({spec(2).name: 5, spec(3).name: 4})
    scheduler.prioritise({spec(3).name: 6})
    clock.advance(10)
    assert places(scheduler) == ["n1", "", "", "n1"]
    clock.advance(10)
    assert places(scheduler) == ["n1", "", "n1", "n1"]


def test_on_a_node_that_hangs_nothing_ends(
    scheduler: FakeScheduler, cluster: FakeCluster, clock: ManualClock
) -> None:
    scheduler.submit([spec(n) for n in range(4)])
    assert states(scheduler) == [JobState.RUNNING] * 4
    cluster.hang_node("n1")
    clock.advance(100)
    assert states(scheduler) == [JobState.RUNNING] * 4
    scheduler.cancel([spec(0).name])
    assert states(scheduler)[0] is JobState.ENDED
    cluster.fail_node("n1")
    assert states(scheduler) == [JobState.ENDED] * 4


def test_the_journal_has_every_call(scheduler: FakeScheduler, clock: ManualClock) -> None:
    scheduler.submit([spec(1)])
    clock.advance(5)
    scheduler.poll()
    scheduler.cancel([spec(1).name])
    assert scheduler.journal == [
        Call(0, "submit", (spec(1).name,)),
        Call(5, "poll"),
        Call(5, "cancel", (spec(1).name,)),
    ]
    assert scheduler.calls("poll") == [Call(5, "poll")]


def test_many_thousand_jobs_are_no_matter(clock: ManualClock) -> None:
    many = Resources(300, 1 << 50)
    cluster = FakeCluster(clock, [Node("n1", NodeState.IDLE, many, many)])
    cluster.script = lambda _spec: Script(1)
    scheduler = FakeScheduler(CONTEXT, cluster)
    scheduler.submit([spec(n, priority=n % 7) for n in range(30_000)])
    while (at := cluster.next_event_at()) is not None:
        clock.advance(at - clock.elapsed())
        cluster.run_due()
    assert clock.elapsed() == 100
    assert len(cluster.starts) == cluster.starts.total() == 30_000
    assert cluster.live_count == 0
