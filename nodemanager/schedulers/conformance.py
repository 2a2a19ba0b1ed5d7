"""The suite every scheduler module passes; an operator's own module runs it too.

With pytest installed, five lines put a module to the test::

    class TestLsf(SchedulerConformance):
        @pytest.fixture
        def connect(self, tmp_path):
            return lambda cluster_id: Lsf(SchedulerContext(cluster_id, tmp_path, {"queue": "short"}))

`connect` makes a fresh instance of the module, as a daemon's start does; called again after `close` of the
one before, it is a restart. What a scheduler cannot do, the class says in the flags below, and those
tests are skipped; so are those that need several nodes, or nodes of a certain kind, where `nodes` lists none.
Jobs run `probe.py` from the `shared` directory, which nodes and this process must both see
under one path. Nothing is waited for longer than `patience` seconds.

Failures explain themselves better after
``pytest.register_assert_rewrite("nodemanager.schedulers.conformance")`` in a conftest.py. The suite puts whole nodes to use, so a scheduler it shares with others should have `exclusive = False`.
"""

# ruff: noqa: S101 -- a suite is made of assertions
from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nodemanager.model import JobState, Node, NodeState, Resources, new_uuid
from nodemanager.outcome import End, EndKind
from nodemanager.reason import ReasonToken
from nodemanager.schedulers import probe
from nodemanager.schedulers.base import Job, JobSpec, Scheduler, Submission

Connect = Callable[[str], Scheduler]

OURS, THEIRS, NOBODY = "zzzzz", "yyyyy", "xxxxx"
FOR_ROOM = (ReasonToken.WAITING_FOR_RESOURCES, ReasonToken.SCHEDULER_WAIT)
"""What a job may be said to wait for when all is full; the second where the module cannot tell."""

SMALL = Resources(cores=1, ram_bytes=64 << 20)

ODD_ARGUMENTS = (
    "plain",
    "",
    "two words",
    "it's",
    '"quoted"',
    "$(touch oops) `touch oops`",
    "$HOME ${PATH}",
    "a\nb\n\nc\n",
    "back\\slash \\n",
    "-n",
    "--",
    "*",
    "~",
    "a;b&c|d>e<f#g!h",
    "tab\there",
    "caf\u00e9 \u4f60\u597d \U0001f40d",
)


class Bench:
    """What a test works with: instances of the module, jobs, and waiting."""

    def __init__(
        self,
        connect: Connect,
        shared: Path,
        python: str,
        patience: float,
        settle: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._python = python
        self._patience = patience
        self._settle = settle
        self._made: dict[str, Path] = {}
        self.shared = shared
        self.probe = shared / "probe.py"
        shutil.copyfile(probe.__file__, self.probe)
        self.scheduler = connect(OURS)

    def restart(self, cluster_id: str = OURS) -> Scheduler:
        """Close the module and make a fresh one."""
        self.scheduler.close()
        self.scheduler = self._connect(cluster_id)
        return self.scheduler

    def onlooker(self) -> Scheduler:
        """Another module object on the same scheduler and directories, beside `scheduler`."""
        return self._connect(OURS)

    def spec(self, verb: str, *arguments: object, resources: Resources = SMALL) -> JobSpec:
        """A job that runs the probe."""
        return self.named(new_uuid(OURS, "container"), verb, *arguments, resources=resources)

    def named(
        self, name: str, verb: str, *arguments: object, resources: Resources = SMALL
    ) -> JobSpec:
        """A job of that name that runs the probe."""
        argv = (self._python, str(self.probe), verb, *map(str, arguments))
        return JobSpec(name, argv, resources)

    def holder(self, resources: Resources = SMALL) -> JobSpec:
        """A job that runs until `release`."""
        name = new_uuid(OURS, "container")
        started, released = self.file(name, "started"), self.file(name, "release")
        return self.named(name, "hold", started, released, resources=resources)

    def finisher(self, code: int = 0, resources: Resources = SMALL) -> JobSpec:
        """A job that exits at once."""
        name = new_uuid(OURS, "container")
        return self.named(name, "exit", self.file(name, "started"), code, resources=resources)

    def file(self, name: str, suffix: str) -> Path:
        """A file in the shared directory that belongs to a job."""
        return self.shared / f"{name}.{suffix}"

    def release(self, spec: JobSpec) -> None:
        """Let a holder end."""
        self.file(spec.name, "release").touch()

    def starts(self, spec: JobSpec) -> int:
        """How often the job was started."""
        try:
            return len(self.file(spec.name, "started").read_text("ascii").splitlines())
        except FileNotFoundError:
            return 0

    def submit(self, *specs: JobSpec) -> list[Submission]:
        """Submit jobs, all of which must be accepted."""
        answers = list(self.scheduler.submit(specs))
        assert [answer.name for answer in answers] == [spec.name for spec in specs]
        for answer in answers:
            assert answer.job_id, f"not accepted: {answer}"
            assert not answer.refused
            assert not answer.busy
        return answers

    def find(self, name: str) -> Job | None:
        """The job in a fresh complete poll, or None."""
        poll = self.scheduler.poll()
        assert poll.complete
        found = [job for job in poll.jobs if job.name == name]
        assert len(found) <= 1, f"listed twice: {found}"
        return found[0] if found else None

    def end(self, spec: JobSpec) -> End:
        """Wait for the end of a job: from the listing, or when it left that, from `look_up`."""
        ends: list[End] = []

        def ended() -> bool:
            job = self.find(spec.name)
            if job is None:
                ends.extend(self.scheduler.look_up([spec.name]).values())
            elif job.state is JobState.ENDED:
                assert job.end is not None
                ends.append(job.end)
            return bool(ends)

        self.until(ended, f"{spec.argv[2]} job {spec.name} to end")
        return ends[0]

    def started(self, spec: JobSpec) -> None:
        """Wait until a job has started and the scheduler says so."""

        def running() -> bool:
            job = self.find(spec.name)
            return self.starts(spec) > 0 and job is not None and job.state is JobState.RUNNING

        self.until(running, f"{spec.argv[2]} job {spec.name} to run")

    def waiting(self, spec: JobSpec) -> Job:
        """The job, which must be waiting."""
        self.until(lambda: self.find(spec.name) is not None, f"{spec.name} to be listed")
        job = self.find(spec.name)
        assert job is not None
        assert job.state is JobState.WAITING
        assert self.starts(spec) == 0
        return job

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition, within the patience."""
        deadline = time.monotonic() + self._patience
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {self._patience:g} s for {what}; {self.scheduler.poll()}")
            self._settle()

    def fill(self) -> list[JobSpec]:
        """Occupy every node with a holder."""
        return self.fill_nodes(self.scheduler.nodes())

    def fill_nodes(self, nodes: Iterable[Node]) -> list[JobSpec]:
        """Occupy these nodes; no others may be free that could take their holders."""
        # Who runs anywhere (in any partition, on any kind of node), or is small, would take a place that others need.
        ordered = sorted(
            nodes, key=lambda node: (node.preemptible, not node.partitions, -node.total.cores)
        )
        holders = [
            # Scratch space comes and goes with whatever else uses the disk.
            replace(
                self.holder(replace(node.total, scratch_bytes=0)),
                partitions=node.partitions,
                preemptible=node.preemptible,
            )
            for node in ordered
        ]
        for holder in holders:
            self.submit(holder)
            self.started(holder)
        return holders

    def whole_node(self) -> Resources:
        """The size of the largest node that takes any job, without scratch space."""
        nodes = [node for node in self.scheduler.nodes() if not node.preemptible]
        return replace(max(nodes, key=lambda n: n.total.cores).total, scratch_bytes=0)

    def node_of(self, spec: JobSpec) -> str:
        """Where a job runs or ran."""
        job = self.find(spec.name)
        assert job is not None, "it is not listed any more"
        return job.node


class SchedulerConformance:
    """See the module's docstring. Flags say what the scheduler can do; set those that differ."""

    patience: float = 30.0
    """Seconds that anything may take."""
    pause: float = 0.01
    """Seconds between two looks at a condition."""
    python: str = sys.executable
    """A Python 3.11 or newer on the nodes."""
    exclusive: bool = True
    """Nobody else uses the scheduler, so the suite may fill it."""
    reprioritises: bool = True
    """The priority of a waiting job can be changed."""
    keeps_urgency: bool = True
    """Of waiting jobs the most urgent one, or the oldest of equals, starts first, whatever was tried before."""
    keeps_order: bool = True
    """Jobs that are equal and submitted in one go start in their order."""
    drains: bool = True
    """Nodes can be drained and resumed."""
    forgets: bool = True
    """`forget` removes a job from listing and accounting."""
    tells: bool = False
    """`listen` does something."""
    reports_signals: bool = True
    """A death by signal is told apart from an exit with 128 + number."""
    refuses_too_big: bool = True
    """A job larger than every node is refused when it is submitted; otherwise it waits for a larger node."""
    grows: bool = False
    """`grow` makes a node. Needs `refuses_too_big` to be False."""
    shares_nodes: bool = True
    """Several jobs run on one node, unless one wants it to itself."""
    enforces_ram: bool = True
    shortest_time_limit: int = 1
    """The smallest time limit in seconds that is enforced as such; 0 if none is."""

    def settle(self) -> None:
        """Called while waiting. A scheduler whose time does not pass by itself makes it pass here."""
        time.sleep(self.pause)

    def grow(self, resources: Resources) -> None:
        """To be defined by a subclass that `grows`: let a node of that size come, open to all jobs."""
        raise NotImplementedError

    @pytest.fixture
    def connect(self) -> Connect:
        """To be defined by the subclass: makes an instance of the module for a cluster id."""
        raise NotImplementedError

    @pytest.fixture
    def shared(self, tmp_path: Path) -> Path:
        """A directory that nodes see too."""
        shared = tmp_path / "shared"
        shared.mkdir()
        return shared

    @pytest.fixture
    def bench(self, connect: Connect, shared: Path) -> Iterator[Bench]:
        """A fresh instance; whatever a test leaves is cancelled and forgotten."""
        bench = Bench(connect, shared, self.python, self.patience, self.settle)
        yield bench
        bench.restart()
        if self.drains:
            for node in bench.scheduler.nodes():
                bench.scheduler.resume(node.name)
        names = [job.name for job in bench.scheduler.poll().jobs]
        bench.scheduler.cancel(names)
        bench.until(
            lambda: all(job.state is JobState.ENDED for job in bench.scheduler.poll().jobs),
            "the jobs a test left to end",
        )
        bench.scheduler.forget(names)
        bench.scheduler.close()

    def _need(self, capability: bool, what: str) -> None:
        if not capability:
            pytest.skip(f"this scheduler does not {what}")

    # Looking.

    def test_check_finds_nothing_wrong(self, bench: Bench) -> None:
        """A scheduler that works passes its own check."""
        findings = bench.scheduler.check()
        assert findings
        assert [finding for finding in findings if finding.problem] == []

    def test_nodes_have_names_and_room(self, bench: Bench) -> None:
        """Free is never more than total."""
        nodes = bench.scheduler.nodes()
        assert nodes
        for node in nodes:
            assert node.name
            assert node.total.cores >= 1
            assert node.total.ram_bytes > 0
            assert 0 <= node.free.cores <= node.total.cores
            assert 0 <= node.free.ram_bytes <= node.total.ram_bytes

    def test_a_new_cluster_has_no_jobs(self, bench: Bench) -> None:
        """An empty listing is complete."""
        poll = bench.restart(NOBODY).poll()
        assert poll.complete
        assert poll.jobs == ()

    # Running.

    @pytest.mark.parametrize("code", [0, 1, 3, 75, 255])
    def test_an_exit_status_comes_back(self, bench: Bench, code: int) -> None:
        """Exactly as the command gave it."""
        spec = bench.finisher(code)
        bench.submit(spec)
        end = bench.end(spec)
        assert (end.kind, end.code) == (EndKind.EXITED, code)
        assert bench.starts(spec) == 1

    def test_a_death_by_signal_comes_back(self, bench: Bench) -> None:
        """SEGV, not TERM or KILL, which schedulers use themselves."""
        name = new_uuid(OURS, "container")
        number = int(signal.SIGSEGV)
        spec = bench.named(name, "die", bench.file(name, "started"), number)
        bench.submit(spec)
        end = bench.end(spec)
        if self.reports_signals:
            assert (end.kind, end.code) == (EndKind.SIGNALLED, number)
        else:
            assert end.kind in (EndKind.SIGNALLED, EndKind.EXITED)
            assert end.code in (number, 128 + number)

    def test_a_command_that_does_not_exist_is_no_success(self, bench: Bench) -> None:
        """Whatever the scheduler calls it."""
        spec = replace(bench.finisher(), argv=(str(bench.shared / "no such command"), "x", "exit"))
        bench.submit(spec)
        end = bench.end(spec)
        assert end.kind in (EndKind.EXITED, EndKind.SCHEDULER_ERROR)
        assert (end.kind, end.code) != (EndKind.EXITED, 0)

    def test_a_running_job_says_where(self, bench: Bench) -> None:
        """And has the id its submission was answered with."""
        spec = bench.holder()
        answer = bench.submit(spec)[0]
        bench.started(spec)
        job = bench.find(spec.name)
        assert job is not None
        assert job.job_id == answer.job_id
        assert job.node in {node.name for node in bench.scheduler.nodes()}
        node = next(node for node in bench.scheduler.nodes() if node.name == job.node)
        assert node.state is NodeState.BUSY
        assert node.free.cores < node.total.cores
        bench.release(spec)
        assert bench.end(spec) == End(EndKind.EXITED, 0)

    def test_many_jobs_all_run(self, bench: Bench) -> None:
        """In one batch, answered in order, each started once, all in the very next poll."""
        specs = [bench.finisher(n % 3) for n in range(20)]
        bench.submit(*specs)
        listed = {job.name for job in bench.scheduler.poll().jobs}
        assert listed >= {spec.name for spec in specs}
        for number, spec in enumerate(specs):
            assert bench.end(spec) == End(EndKind.EXITED, number % 3)
            assert bench.starts(spec) == 1

    # What the job is given.

    def _recorded(self, bench: Bench, spec: JobSpec) -> dict[str, object]:
        bench.submit(spec)
        assert bench.end(spec) == End(EndKind.EXITED, 0)
        target = Path(spec.argv[3])
        bench.until(target.exists, "the job's record")
        content: dict[str, object] = json.loads(target.read_text("utf-8"))
        return content

    def test_arguments_arrive_unchanged(self, bench: Bench) -> None:
        """Quotes, newlines, `$(...)`, non-ASCII: nothing is read by a shell."""
        spec = bench.spec("record", bench.shared / "record.json", *ODD_ARGUMENTS)
        recorded = self._recorded(bench, spec)["arguments"]
        assert recorded == [argument.encode().hex() for argument in ODD_ARGUMENTS]
        assert not list(bench.shared.glob("**/oops"))

    @pytest.mark.parametrize("size", [0, 1, 200_000])
    def test_stdin_arrives_exactly(self, bench: Bench, size: int) -> None:
        """Every byte value, no newline added."""
        stdin = (bytes(range(256)) * (size // 256 + 1))[:size]
        spec = bench.spec("record", bench.shared / "record.json")
        assert self._recorded(bench, replace(spec, stdin=stdin))["stdin"] == stdin.hex()

    def test_stdin_is_private(self, bench: Bench) -> None:
        """Not in any command line or environment, and not in a file that others can read."""
        secret = f"secret-{new_uuid(OURS, 'container')}"
        target = bench.shared / "record.json"
        spec = replace(bench.spec("record", target), stdin=secret.encode())
        holder = replace(bench.holder(), stdin=secret.encode())
        bench.submit(holder, spec)
        bench.started(holder)
        assert _seen_by_others(secret, bench.scheduler.context.state_dir) == []
        assert bench.end(spec) == End(EndKind.EXITED, 0)
        environment = json.loads(target.read_text("utf-8"))["environment"]
        assert secret not in json.dumps(environment)
        bench.release(holder)
        bench.end(holder)
        bench.scheduler.forget([holder.name, spec.name])
        assert _files_with(secret, bench.scheduler.context.state_dir) == []

    # Waiting.

    def test_jobs_wait_when_all_is_full(self, bench: Bench) -> None:
        """And say why, and run when there is room."""
        self._need(self.exclusive, "let us fill it")
        holders = bench.fill()
        spec = bench.finisher()
        bench.submit(spec)
        job = bench.waiting(spec)
        assert job.reason
        assert job.waits_for is None or job.waits_for.token in FOR_ROOM
        bench.release(holders[0])
        assert bench.end(spec) == End(EndKind.EXITED, 0)
        for holder in holders:
            bench.release(holder)

    def _order(self, bench: Bench, priorities: Sequence[int], change: dict[int, int]) -> list[int]:
        """Indexes of waiting jobs in the order in which they were started, one at a time."""
        self._need(self.exclusive, "let us fill it")
        holders = bench.fill()
        size = bench.whole_node()
        specs = [replace(bench.finisher(resources=size), priority=p) for p in priorities]
        for together in [specs] if self.keeps_order else [[spec] for spec in specs]:
            bench.submit(*together)
        for spec in specs:
            bench.waiting(spec)
        if change:
            bench.scheduler.prioritise({specs[index].name: p for index, p in change.items()})
        largest = next(h for h in holders if h.resources.cores == size.cores)
        bench.release(largest)
        for spec in specs:
            assert bench.end(spec) == End(EndKind.EXITED, 0)
        for holder in holders:
            bench.release(holder)
        moments = {
            index: bench.file(spec.name, "started").stat().st_mtime_ns
            for index, spec in enumerate(specs)
        }
        return sorted(moments, key=lambda index: moments[index])

    def test_urgent_jobs_start_first(self, bench: Bench) -> None:
        """A larger priority is more urgent."""
        self._need(self.keeps_urgency, "start the most urgent first")
        assert self._order(bench, [1, 900, 50], {}) == [1, 2, 0]

    def test_equal_jobs_start_in_order(self, bench: Bench) -> None:
        """First come, first served."""
        self._need(self.keeps_urgency, "start the most urgent first")
        assert self._order(bench, [5, 5, 5], {}) == [0, 1, 2]

    def test_a_priority_can_change_while_waiting(self, bench: Bench) -> None:
        """The last becomes the first."""
        self._need(self.reprioritises, "change priorities")
        assert self._order(bench, [900, 50, 1], {2: 999}) == [2, 0, 1]

    def test_priorities_of_other_jobs_are_passed_over(self, bench: Bench) -> None:
        """Unknown, running and ended ones."""
        self._need(self.reprioritises, "change priorities")
        holder, ended = bench.holder(), bench.finisher()
        bench.submit(holder, ended)
        bench.started(holder)
        bench.end(ended)
        unknown = new_uuid(OURS, "container")
        bench.scheduler.prioritise({holder.name: 7, ended.name: 7, unknown: 7})
        assert bench.find(unknown) is None
        bench.release(holder)
        assert bench.end(holder) == End(EndKind.EXITED, 0)

    # Ending.

    def test_a_waiting_job_can_be_cancelled(self, bench: Bench) -> None:
        """It never starts."""
        self._need(self.exclusive, "let us fill it")
        holders = bench.fill()
        spec = bench.finisher()
        bench.submit(spec)
        bench.waiting(spec)
        bench.scheduler.cancel([spec.name])
        assert bench.end(spec).kind is EndKind.CANCELLED
        for holder in holders:
            bench.release(holder)
            assert bench.end(holder) == End(EndKind.EXITED, 0)
        assert bench.starts(spec) == 0

    def test_a_running_job_gets_term(self, bench: Bench) -> None:
        """And time to end well; that is a cancellation all the same."""
        name = new_uuid(OURS, "container")
        spec = bench.named(name, "polite", bench.file(name, "started"), bench.file(name, "termed"))
        bench.submit(spec)
        bench.started(spec)
        bench.scheduler.cancel([name])
        assert bench.end(spec).kind is EndKind.CANCELLED
        bench.until(bench.file(name, "termed").exists, "the job to note its TERM")

    def test_a_job_that_ignores_term_is_killed(self, bench: Bench) -> None:
        """After the scheduler's grace."""
        name = new_uuid(OURS, "container")
        spec = bench.named(name, "stubborn", bench.file(name, "started"))
        bench.submit(spec)
        bench.started(spec)
        bench.scheduler.cancel([name])
        assert bench.end(spec).kind is EndKind.CANCELLED

    def test_a_job_can_be_cancelled_while_it_starts(self, bench: Bench) -> None:
        """At whatever moment between submission and first instruction."""
        specs = [bench.holder() for _ in range(6)]
        for spec in specs:
            bench.submit(spec)
            bench.scheduler.cancel([spec.name])
        for spec in specs:
            assert bench.end(spec).kind is EndKind.CANCELLED

    def test_an_ended_job_cannot_be_cancelled(self, bench: Bench) -> None:
        """Its end stays what it was; unknown names are passed over."""
        spec = bench.finisher(3)
        bench.submit(spec)
        end = bench.end(spec)
        bench.scheduler.cancel([spec.name, new_uuid(OURS, "container")])
        assert bench.end(spec) == end == End(EndKind.EXITED, 3)

    def test_a_job_that_runs_too_long_is_stopped(self, bench: Bench) -> None:
        """With what it asked for and its limit in seconds."""
        limit = self.shortest_time_limit
        self._need(limit > 0, "enforce time limits")
        spec = replace(bench.holder(), max_run_seconds=limit)
        bench.submit(spec)
        end = bench.end(spec)
        assert end.kind is EndKind.TIME_LIMIT
        assert end.asked == limit
        assert end.limit >= limit

    def test_a_job_that_uses_too_much_ram_is_killed(self, bench: Bench) -> None:
        """With what it asked for and its limit in bytes."""
        self._need(self.enforces_ram, "enforce RAM limits")
        name = new_uuid(OURS, "container")
        asked = Resources(1, 32 << 20)
        eaten = 256 << 20
        spec = bench.named(name, "eat", bench.file(name, "started"), eaten, resources=asked)
        bench.submit(spec)
        end = bench.end(spec)
        assert end.kind is EndKind.OUT_OF_MEMORY
        assert end.asked == asked.ram_bytes
        assert asked.ram_bytes <= end.limit < eaten

    # Names.

    def test_a_name_is_run_once(self, bench: Bench) -> None:
        """However often it is submitted: in one batch, while it runs, after its end, after a restart."""
        spec = bench.holder()
        first = bench.submit(spec, spec)
        assert first[0] == first[1]
        assert bench.submit(spec) == first[:1]
        bench.started(spec)
        assert bench.submit(spec) == first[:1]
        bench.release(spec)
        assert bench.end(spec) == End(EndKind.EXITED, 0)
        assert bench.submit(spec) == first[:1]
        bench.restart()
        assert bench.submit(spec) == first[:1]
        other = bench.finisher()
        bench.submit(other)
        bench.end(other)
        assert bench.starts(spec) == 1

    def test_jobs_of_others_are_never_touched(self, bench: Bench) -> None:
        """Not listed, not looked up, not cancelled, not forgotten."""
        theirs = bench.holder()
        name = new_uuid(THEIRS, "container")
        started, released = bench.file(name, "started"), bench.file(name, "release")
        theirs = bench.named(name, "hold", started, released)
        bench.restart(THEIRS)
        bench.submit(theirs)
        bench.started(theirs)
        ours = bench.restart(OURS)
        assert name not in {job.name for job in ours.poll().jobs}
        ours.cancel([name])
        ours.prioritise({name: 1000})
        ours.forget([name])
        assert ours.look_up([name]) == {}
        bench.restart(THEIRS)
        assert bench.find(name) is not None
        bench.release(theirs)
        assert bench.end(theirs) == End(EndKind.EXITED, 0)
        ours = bench.restart(OURS)
        assert ours.look_up([name]) == {}
        bench.restart(THEIRS).forget([name])

    def test_a_name_of_others_is_refused(self, bench: Bench) -> None:
        """We would never see such a job again."""
        spec = bench.named(new_uuid(THEIRS, "container"), "exit", bench.shared / "x.started", 0)
        answer = bench.scheduler.submit([spec])[0]
        assert answer.refused
        assert not answer.job_id

    def test_ends_can_be_looked_up(self, bench: Bench) -> None:
        """Those of ended jobs; live and unknown ones are absent."""
        ended, live = bench.finisher(3), bench.holder()
        bench.submit(ended, live)
        bench.end(ended)
        unknown = new_uuid(OURS, "container")
        found = bench.scheduler.look_up([ended.name, live.name, unknown])
        assert found == {ended.name: End(EndKind.EXITED, 3)}
        bench.release(live)

    def test_an_ended_job_can_be_forgotten(self, bench: Bench) -> None:
        """A live one cannot."""
        ended, live = bench.finisher(), bench.holder()
        bench.submit(ended, live)
        bench.end(ended)
        bench.started(live)
        bench.scheduler.forget([ended.name, live.name, new_uuid(OURS, "container")])
        assert bench.find(live.name) is not None
        if self.forgets:
            assert bench.find(ended.name) is None
            assert bench.scheduler.look_up([ended.name]) == {}
        bench.release(live)
        assert bench.end(live) == End(EndKind.EXITED, 0)

    def test_a_job_no_node_can_hold_is_refused(self, bench: Bench) -> None:
        """For good and with a reason, beside others that are accepted."""
        self._need(self.refuses_too_big, "refuse what never fits")
        nodes = bench.scheduler.nodes()
        cores = max(node.total.cores for node in nodes) + 1
        too_big = bench.finisher(resources=Resources(cores, 1 << 20))
        good = bench.finisher()
        answers = bench.scheduler.submit([too_big, good])
        assert answers[0].refused
        assert not answers[0].job_id
        assert answers[1].job_id
        assert bench.end(good) == End(EndKind.EXITED, 0)
        assert bench.find(too_big.name) is None

    # Restarts.

    def test_everything_survives_a_restart(self, bench: Bench) -> None:
        """Ended, running and waiting jobs are all seen to their ends by the next daemon."""
        self._need(self.exclusive, "let us fill it")
        ended = bench.finisher(7)
        bench.submit(ended)
        bench.end(ended)
        holders = bench.fill()
        waiting = bench.finisher(5)
        bench.submit(waiting)
        bench.waiting(waiting)
        bench.restart()
        assert bench.end(ended) == End(EndKind.EXITED, 7)
        bench.waiting(waiting)
        for holder in holders:
            job = bench.find(holder.name)
            assert job is not None
            assert job.state is JobState.RUNNING
            bench.release(holder)
        for holder in holders:
            assert bench.end(holder) == End(EndKind.EXITED, 0)
            assert bench.starts(holder) == 1
        assert bench.end(waiting) == End(EndKind.EXITED, 5)
        assert bench.starts(waiting) == 1

    def test_somebody_else_may_look_meanwhile(self, bench: Bench) -> None:
        """Another module object, which does not own anything, observes what `poll` and `nodes` tell."""
        self._need(self.exclusive, "let us fill it")
        holders = bench.fill()
        waiting = bench.finisher()
        bench.submit(waiting)
        bench.waiting(waiting)
        onlooker = bench.onlooker()
        try:
            seen = onlooker.observe()
            jobs = {job.name: job.state for job in bench.scheduler.poll().jobs}
            nodes = {node.name: (node.state, node.free) for node in bench.scheduler.nodes()}
            assert seen.poll.complete
            assert {job.name: job.state for job in seen.poll.jobs} == jobs
            assert {node.name: (node.state, node.free) for node in seen.nodes} == nodes
        finally:
            onlooker.close()
        for holder in holders:
            bench.release(holder)
        assert bench.end(waiting) == End(EndKind.EXITED, 0)

    def test_a_job_that_ends_between_daemons_is_not_lost(self, bench: Bench) -> None:
        """Its end is there when the next one asks."""
        spec = bench.holder()
        bench.submit(spec)
        bench.started(spec)
        bench.scheduler.close()
        bench.release(spec)
        bench.restart()
        assert bench.end(spec) == End(EndKind.EXITED, 0)
        assert bench.starts(spec) == 1

    def test_an_adopted_job_can_be_cancelled(self, bench: Bench) -> None:
        """By a daemon that did not start it."""
        spec = bench.holder()
        bench.submit(spec)
        bench.started(spec)
        bench.restart()
        bench.scheduler.cancel([spec.name])
        assert bench.end(spec).kind is EndKind.CANCELLED

    # Nodes.

    def test_a_drained_node_finishes_what_it_has(self, bench: Bench) -> None:
        """And takes nothing new until it is resumed, over a restart."""
        self._need(self.drains and self.exclusive, "drain nodes")
        holder, late = bench.holder(), bench.finisher()
        bench.submit(holder)
        bench.started(holder)
        for node in bench.scheduler.nodes():
            bench.scheduler.drain(node.name, "a test needs it")
        states = {node.state for node in bench.scheduler.nodes()}
        assert states <= {NodeState.DRAINING, NodeState.DRAINED}
        assert NodeState.DRAINING in states
        bench.submit(late)
        bench.release(holder)
        assert bench.end(holder) == End(EndKind.EXITED, 0)
        bench.restart()
        bench.waiting(late)
        bench.until(
            lambda: {n.state for n in bench.scheduler.nodes()} == {NodeState.DRAINED},
            "all nodes to be drained",
        )
        assert all("a test needs it" in node.reason for node in bench.scheduler.nodes())
        for node in bench.scheduler.nodes():
            bench.scheduler.resume(node.name)
        assert bench.end(late) == End(EndKind.EXITED, 0)

    def test_a_drained_node_gets_no_job(self, bench: Bench) -> None:
        """While others do."""
        self._need(self.drains and self.exclusive, "drain nodes")
        nodes = [node for node in bench.scheduler.nodes() if not node.preemptible]
        if len(nodes) < 2:
            pytest.skip("there is but one node that takes any job")
        for drained in nodes:
            bench.scheduler.drain(drained.name, "a test needs it")
            specs = [bench.finisher() for _ in range(2 * sum(node.total.cores for node in nodes))]
            bench.submit(*specs)
            for spec in specs:
                assert bench.end(spec) == End(EndKind.EXITED, 0)
                assert bench.node_of(spec) != drained.name
            bench.scheduler.resume(drained.name)

    def test_a_job_runs_in_its_partition(self, bench: Bench) -> None:
        """And waits for it while others are free."""
        self._need(self.exclusive, "let us fill it")
        nodes = [node for node in bench.scheduler.nodes() if not node.preemptible]
        inside: list[Node] = []
        for name in sorted({name for node in nodes for name in node.partitions}):
            inside = [node for node in nodes if not node.partitions or name in node.partitions]
            if len(inside) < len(nodes):
                break
        else:
            pytest.skip("no partition here lacks a node")
        specs = [replace(bench.finisher(), partitions=(name,)) for _ in range(6)]
        bench.submit(*specs)
        for spec in specs:
            assert bench.end(spec) == End(EndKind.EXITED, 0)
            assert bench.node_of(spec) in {node.name for node in inside}
        holders = bench.fill_nodes(replace(node, partitions=(name,)) for node in inside)
        waiting = replace(bench.finisher(), partitions=(name,))
        elsewhere = bench.finisher()
        bench.submit(waiting, elsewhere)
        assert bench.end(elsewhere) == End(EndKind.EXITED, 0)
        assert bench.waiting(waiting).reason
        bench.release(holders[0])
        assert bench.end(waiting) == End(EndKind.EXITED, 0)
        for holder in holders:
            bench.release(holder)

    def test_only_who_bears_it_runs_on_a_preemptible_node(self, bench: Bench) -> None:
        """Others wait, whatever is free there."""
        self._need(self.exclusive, "let us fill it")
        nodes = bench.scheduler.nodes()
        spot = {node.name for node in nodes if node.preemptible}
        if not spot:
            pytest.skip("there is no preemptible node")
        holders = bench.fill_nodes(node for node in nodes if not node.preemptible)
        bears, waits = replace(bench.finisher(), preemptible=True), bench.finisher()
        bench.submit(waits, bears)
        assert bench.end(bears) == End(EndKind.EXITED, 0)
        assert bench.node_of(bears) in spot
        bench.waiting(waits)
        for holder in holders:
            bench.release(holder)
        assert bench.end(waits) == End(EndKind.EXITED, 0)
        assert bench.node_of(waits) not in spot

    def test_who_wants_a_node_to_itself_shares_it_with_nobody(self, bench: Bench) -> None:
        """It waits until one is empty, and nobody joins it there."""
        self._need(self.exclusive and self.shares_nodes, "share nodes")
        size = bench.whole_node()
        if size.cores < 2:
            pytest.skip("no node has room for two jobs")
        roomy = []
        for node in bench.scheduler.nodes():
            if node.total.cores == size.cores and not node.preemptible:
                roomy.append(node)
            elif not node.preemptible:
                self._need(self.drains, "drain nodes")
                bench.scheduler.drain(node.name, "a test needs it")
        full = bench.fill_nodes(roomy[1:])
        before, alone, after = bench.holder(), bench.holder(), bench.finisher()
        alone = replace(alone, exclusive=True)
        bench.submit(before)
        bench.started(before)
        bench.submit(alone)
        assert bench.waiting(alone).reason
        bench.release(before)
        bench.started(alone)
        node = next(n for n in bench.scheduler.nodes() if n.name == bench.node_of(alone))
        assert node.free.cores == 0, "what nobody can have is not free"
        bench.submit(after)
        bench.waiting(after)
        bench.release(alone)
        assert bench.end(alone) == End(EndKind.EXITED, 0)
        assert bench.end(after) == End(EndKind.EXITED, 0)
        for holder in full:
            bench.release(holder)

    def test_a_job_waits_for_a_node_that_can_still_come(self, bench: Bench) -> None:
        """Holding up nobody meanwhile."""
        self._need(self.grows and not self.refuses_too_big, "get nodes while it runs")
        cores = max((node.total.cores for node in bench.scheduler.nodes()), default=0) + 1
        size = Resources(cores, SMALL.ram_bytes)
        large = replace(bench.finisher(resources=size), priority=1000)
        small = bench.finisher()
        bench.submit(large, small)
        assert bench.end(small) == End(EndKind.EXITED, 0)
        assert bench.waiting(large).reason
        present = {node.name for node in bench.scheduler.nodes()}
        self.grow(size)
        assert bench.end(large) == End(EndKind.EXITED, 0)
        assert bench.node_of(large) not in present

    def test_listeners_hear_of_an_end(self, bench: Bench) -> None:
        """So that nobody has to wait for the next poll."""
        self._need(self.tells, "tell of changes")
        heard: list[float] = []
        bench.scheduler.listen(lambda: heard.append(math.nan))
        spec = bench.holder()
        bench.submit(spec)
        bench.started(spec)
        bench.until(lambda: bool(heard), "the start to be told")
        heard.clear()
        bench.release(spec)
        bench.until(lambda: bool(heard), "the end to be told")
        assert bench.end(spec) == End(EndKind.EXITED, 0)


def _files_with(secret: str, directory: Path) -> list[Path]:
    found = []
    for path in directory.rglob("*"):
        try:
            if path.is_file() and secret.encode() in path.read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


def _seen_by_others(secret: str, directory: Path) -> list[str]:
    """Where other users of this machine could read the secret."""
    seen = []
    for path in _files_with(secret, directory):
        around = [path, *(parent for parent in path.parents if parent.is_relative_to(directory))]
        if all(part.stat().st_mode & 0o007 for part in around):
            seen.append(str(path))
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        for file in ("cmdline", "environ"):
            try:
                if secret.encode() in (process / file).read_bytes():
                    seen.append(str(process / file))
            except OSError:
                continue
    return seen
