"""A scheduler that only pretends, for tests and benchmarks: scripted jobs, settable faults, a journal.

Time comes from the clock of its `FakeCluster`; with a `ManualClock` a test of a whole dispatch needs no
waiting::

    clock = ManualClock()
    cluster = FakeCluster(clock)
    cluster.script = lambda spec: Script(seconds=30, end=End(EndKind.EXITED, 3))
    scheduler = FakeScheduler(context, cluster)
    scheduler.submit([spec])
    clock.advance(30)
    cluster.run_due()       # not needed before a call of the scheduler: every call does it

A second `FakeScheduler` on the same cluster is a restarted daemon, or another one beside the first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from nodemanager.errors import SchedulerError
from nodemanager.model import Finding, JobState, Node
from nodemanager.outcome import End
from nodemanager.schedulers.base import (
    Job,
    JobSpec,
    Newcomer,
    Poll,
    Scheduler,
    SchedulerContext,
    Submission,
)
from nodemanager.schedulers.fakecluster import FakeCluster, FakeJob, Script

__all__ = ["Call", "FakeCluster", "FakeJob", "FakeScheduler", "Fault", "Faults", "Script"]


class Fault(Enum):
    """What can go wrong with the next calls of one kind."""

    SUBMIT = "submit raises, and nothing was accepted"
    SUBMIT_AFTER = "submit raises although everything was accepted, as a timeout does"
    SUBMIT_HALFWAY = "submit raises after the first half was accepted"
    POLL = "poll raises"
    PARTIAL_POLL = "poll shows every second job, and says that it is not complete"
    LOOK_UP = "look_up raises"
    CANCEL = "cancel raises, and nothing was cancelled"
    PRIORITISE = "prioritise raises"
    NODES = "nodes raises"
    DRAIN = "drain raises, and the node still takes work"
    ADMIT = "admit raises, and nothing was admitted"
    REMOVE = "remove raises, and nothing was removed"
    LOG = "fetch_log raises"
    LOSS = "an accepted job (not call) vanishes at once without a trace"


@dataclass(slots=True)
class Faults:
    """What goes wrong; everything can be combined and changed at any time."""

    upcoming: Counter[Fault] = field(default_factory=Counter)
    """How many of the next calls each fault spoils: ``faults.upcoming[Fault.SUBMIT_AFTER] = 2``."""
    hidden: set[str] = field(default_factory=set)
    """Live jobs that polls leave out while calling themselves complete: a scheduler that lies."""
    unknown: set[str] = field(default_factory=set)
    """Jobs shown in a state that has no translation."""
    max_jobs: int | None = None
    """A site limit on jobs that wait or run; more are answered `busy`."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Names that are refused for good, with the scheduler's words."""
    call_seconds: float = 0.0
    """How long each call takes."""
    sleep: Callable[[float], None] = time.sleep
    """How `call_seconds` are spent; with a `ManualClock`, its `advance`."""

    def strikes(self, fault: Fault) -> bool:
        """Whether this call is spoilt; counts the fault down."""
        if self.upcoming[fault] <= 0:
            return False
        self.upcoming[fault] -= 1
        return True


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the journal. `names` are the jobs concerned, or the node; empty for polls."""

    at: float
    method: str
    names: tuple[str, ...] = ()


class FakeScheduler(Scheduler):
    """See the module's docstring."""

    name = "fake"
    in_process = True
    on_this_machine = True

    def __init__(self, context: SchedulerContext, cluster: FakeCluster | None = None) -> None:
        super().__init__(context)
        self.cluster = cluster or FakeCluster()
        self.faults = Faults()
        self.journal: list[Call] = []

    def calls(self, method: str) -> list[Call]:
        """The journal's lines of one method."""
        return [call for call in self.journal if call.method == method]

    def check(self) -> Sequence[Finding]:
        """Nothing can be wrong with it."""
        self._begin("check")
        return (Finding("fake scheduler", f"{len(self.cluster.nodes())} pretended nodes"),)

    def submit(self, jobs: Sequence[JobSpec]) -> Sequence[Submission]:
        """See the base class; `faults` decide what goes wrong."""
        self._begin("submit", tuple(spec.name for spec in jobs))
        self._spoil(Fault.SUBMIT)
        with self.cluster.turn():
            if self.faults.strikes(Fault.SUBMIT_HALFWAY):
                for spec in jobs[: len(jobs) // 2]:
                    self._submit_one(spec)
                raise SchedulerError(f"fake: {Fault.SUBMIT_HALFWAY.value}")
            answers = [self._submit_one(spec) for spec in jobs]
        self._spoil(Fault.SUBMIT_AFTER)
        return answers

    def poll(self) -> Poll:
        """See the base class; `faults` decide what goes wrong."""
        self._begin("poll")
        self._spoil(Fault.POLL)
        with self.cluster.turn():
            jobs = [self._show(job) for job in self.cluster.jobs() if self._is_shown(job)]
        if self.faults.strikes(Fault.PARTIAL_POLL):
            return Poll(tuple(jobs[::2]), complete=False)
        return Poll(tuple(jobs))

    def look_up(self, names: Sequence[str]) -> Mapping[str, End]:
        """See the base class."""
        self._begin("look_up", tuple(names))
        self._spoil(Fault.LOOK_UP)
        ends = {}
        with self.cluster.turn():
            for name in names:
                job = self.cluster.job(name)
                if job is not None and job.end is not None and self._is_ours(name):
                    ends[name] = job.end
        return ends

    def cancel(self, names: Sequence[str]) -> None:
        """See the base class."""
        self._begin("cancel", tuple(names))
        self._spoil(Fault.CANCEL)
        with self.cluster.turn():
            for name in filter(self._is_ours, names):
                self.cluster.cancel(name)

    def prioritise(self, priorities: Mapping[str, int]) -> None:
        """See the base class."""
        self._begin("prioritise", tuple(priorities))
        self._spoil(Fault.PRIORITISE)
        with self.cluster.turn():
            for name, priority in priorities.items():
                if self._is_ours(name):
                    self.cluster.prioritise(name, priority)

    def forget(self, names: Sequence[str]) -> None:
        """Ended jobs leave listing and accounting."""
        self._begin("forget", tuple(names))
        with self.cluster.turn():
            for name in filter(self._is_ours, names):
                self.cluster.forget(name)

    def nodes(self) -> Sequence[Node]:
        """See the base class."""
        self._begin("nodes")
        self._spoil(Fault.NODES)
        with self.cluster.turn():
            return self.cluster.nodes()

    def drain(self, node: str, reason: str) -> None:
        """See the base class. A node that does not exist raises `SchedulerError`."""
        self._begin("drain", (node,))
        self._spoil(Fault.DRAIN)
        self._set_drain(node, reason)

    def resume(self, node: str) -> None:
        """See the base class. A node that does not exist raises `SchedulerError`."""
        self._begin("resume", (node,))
        self._set_drain(node, None)

    @property
    def runs_commands(self) -> bool:
        """See `FakeCluster.runs_commands`."""
        return self.cluster.runs_commands

    def fetch_log(self, name: str, write: Callable[[bytes], object]) -> None:
        """A line for a job that was started and is not forgotten."""
        self._begin("fetch_log", (name,))
        self._spoil(Fault.LOG)
        with self.cluster.turn():
            job = self.cluster.job(name)
        if job is None or not job.node:
            raise LookupError(f"fake: there is no log of {name}")
        write(f"the log of {name}\n".encode())

    @property
    def admits(self) -> bool:
        """See `FakeCluster.admits`."""
        return self.cluster.admits

    def admit(self, newcomer: Newcomer) -> str:
        """See the base class."""
        self._begin("admit", (newcomer.host,))
        self._spoil(Fault.ADMIT)
        with self.cluster.turn():
            host = self.cluster.admit(newcomer)
        if host is None:
            names = ", ".join(self.cluster.places)
            raise SchedulerError(f"fake: none of the nodes that are defined is left: {names}")
        return host

    def remove(self, host: str) -> None:
        """See the base class."""
        self._begin("remove", (host,))
        self._spoil(Fault.REMOVE)
        with self.cluster.turn():
            self.cluster.forget_node(host)

    def listen(self, changed: Callable[[], None]) -> None:
        """`changed` is called from the thread that made something happen."""
        self.cluster.listen(changed)

    # Inside.

    def _begin(self, method: str, names: tuple[str, ...] = ()) -> None:
        self.journal.append(Call(self.cluster.clock.elapsed(), method, names))
        if self.faults.call_seconds > 0:
            self.faults.sleep(self.faults.call_seconds)

    def _spoil(self, fault: Fault) -> None:
        if self.faults.strikes(fault):
            raise SchedulerError(f"fake: {fault.value}")

    def _submit_one(self, spec: JobSpec) -> Submission:
        known = self.cluster.job(spec.name)
        if known is not None:
            return Submission(spec.name, job_id=known.job_id)
        if not self._is_ours(spec.name):
            return Submission(
                spec.name, refused=f"does not begin with {self.context.cluster_id}-, so is not ours"
            )
        if spec.name in self.faults.refused:
            return Submission(spec.name, refused=self.faults.refused[spec.name])
        if self.cluster.leaves_unplaced and not self.cluster.has_node_for(spec):
            return Submission(spec.name, unplaced="no node there is could hold it")
        if self.cluster.is_too_big(spec.resources):
            return Submission(spec.name, refused="no node is large enough")
        limit = self.faults.max_jobs
        if limit is not None and self.cluster.live_count >= limit:
            return Submission(spec.name, busy=f"at most {limit} jobs at a time")
        job = self.cluster.accept(spec)
        if self.faults.strikes(Fault.LOSS):
            self.cluster.lose(spec.name)
        return Submission(spec.name, job_id=job.job_id)

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"{self.context.cluster_id}-")

    def _is_shown(self, job: FakeJob) -> bool:
        name = job.spec.name
        return job.listed and self._is_ours(name) and name not in self.faults.hidden

    def _show(self, job: FakeJob) -> Job:
        if job.spec.name in self.faults.unknown:
            return Job(job.spec.name, JobState.UNKNOWN, job.job_id, reason="FAKE_STATE")
        shown = job.as_job(self.cluster.waits_for)
        if job.state is JobState.WAITING:
            return replace(shown, hopeless=self.cluster.hopeless.get(job.spec.name, ""))
        if self.cluster.runs_commands and job.node:
            return replace(shown, runner_id=f"fake-{job.job_id}")
        return shown

    def _set_drain(self, node: str, reason: str | None) -> None:
        with self.cluster.turn():
            found = self.cluster.set_drain(node, reason)
        if not found:
            raise SchedulerError(f"fake: there is no node {node!r}")
