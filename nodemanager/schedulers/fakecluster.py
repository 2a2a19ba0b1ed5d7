"""The batch system behind `FakeScheduler`: nodes, a queue and jobs that only pretend to run.

It outlives the scheduler modules that talk to it, as a real one does, so that a test can restart the
daemon or let two of them share it. Nothing happens by itself: `run_due` lets everything happen that is due by
the clock, and every call of a module does so first. No cost grows with the number of jobs per job: 100,000
are fine.

The queue is strict: on a node that could hold a job if it were empty, nothing starts that is less urgent than the
job. One that no node which takes work could hold waits for another node, and holds up nothing.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from typing import TypeAlias

from nodemanager.clock import Clock, SystemClock
from nodemanager.fit import fits, shares_partition
from nodemanager.model import JobState, Node, NodeSize, NodeState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.reason import Reason
from nodemanager.schedulers.base import Job, JobSpec, Newcomer

SUCCESS = End(EndKind.EXITED)

BIG = Resources(1_000_000, 1 << 60, 1 << 60, 1_000_000)
"""The default node: room for everything."""
NONE = Resources(0, 0)


@dataclass(frozen=True, slots=True)
class Script:
    """What a job does once it has a node.

    `seconds` None means that it runs until `FakeCluster.finish` (or a cancellation) ends it. A cancelled job
    ends `term_seconds` after its TERM; None means that it ignores TERM and is killed after `kill_grace`.
    """

    seconds: float | None = 0.0
    end: End = SUCCESS
    term_seconds: float | None = 0.0


@dataclass(slots=True)
class FakeJob:
    """One job of the pretended batch system."""

    spec: JobSpec
    job_id: str
    script: Script
    priority: int
    state: JobState = JobState.WAITING
    node: str = ""
    end: End | None = None
    listed: bool = True
    """False: the listing no longer has it, only accounting (`look_up`) does."""

    def as_job(self, waits_for: Reason | None = None) -> Job:
        """As a poll shows it; `waits_for` is what a module would make of its scheduler's words."""
        spec, waits = self.spec, self.state is JobState.WAITING
        if not waits:
            return Job(spec.name, self.state, self.job_id, self.node, end=self.end)
        return Job(spec.name, self.state, self.job_id, reason="Resources", waits_for=waits_for)


class _Event(Enum):
    ENDS = "ends by its script"
    DIES = "ends because it was cancelled"


@dataclass(slots=True)
class _Machine:
    node: Node
    jobs: dict[str, Resources] = field(default_factory=dict)
    """What each job there has taken: all, if it wanted the node to itself."""
    hangs: bool = False
    """Nothing ends there by itself."""

    @property
    def has_room(self) -> bool:
        """Whether there is a core for a job."""
        return self.node.state in (NodeState.IDLE, NodeState.BUSY) and self.node.free.cores > 0

    def could_hold(self, spec: JobSpec) -> bool:
        """Whether the job could run there if the node were empty."""
        node = self.node
        return (
            node.state in (NodeState.IDLE, NodeState.BUSY)
            and (spec.preemptible or not node.preemptible)
            and shares_partition(spec.partitions, node.partitions)
            and fits(spec.resources, node.total)
        )

    def holds(self, spec: JobSpec) -> bool:
        """Whether the job can start there now."""
        is_free = fits(spec.resources, self.node.free) and not (spec.exclusive and self.jobs)
        return is_free and self.could_hold(spec)


_Place: TypeAlias = tuple[int, int, str]
"""A job's place in the queue: minus priority, number, name."""
_Kind: TypeAlias = tuple[tuple[str, ...], bool, bool, Resources]
"""What decides where a job could run: partitions, preemptible, exclusive, resources."""


class FakeCluster:
    """See the module's docstring. All attributes below may be changed at any time.

    `on_start(name, stdin)`, `on_term(name)` and `on_end(name, end)` let a harness play the runner; they are
    called from whatever thread made things happen, with no lock held. `starts` counts how often each name was
    started.
    """

    def __init__(self, clock: Clock | None = None, nodes: Iterable[Node] | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.script: Callable[[JobSpec], Script] = lambda _spec: Script()
        self.on_start: Callable[[str, bytes], None] | None = None
        self.on_term: Callable[[str], None] | None = None
        self.on_end: Callable[[str, End], None] | None = None
        self.kill_grace = 10.0
        self.keeps_ended = True
        """Whether ended jobs stay in the listing; otherwise only `look_up` knows them."""
        self.refuses_too_big = True
        """Whether a job that fits no node is refused; otherwise it waits for a larger node."""
        self.leaves_unplaced = False
        """Whether a job that no node could hold is neither refused nor queued, but left with whoever submits."""
        self.admits = False
        """Whether a node joins only after it was announced, and stays as a lost one until it is removed."""
        self.places: Sequence[str] = ()
        """With `admits`: the names that the site has defined; without any, each joins under its own."""
        self.admitted: dict[str, NodeSize] = {}
        """By name: what was announced and not removed."""
        self.unannounced: list[str] = []
        """Nodes that wanted to join and had not been admitted."""
        self.runs_commands = False
        """Whether its jobs are the containers' commands themselves."""
        self.hopeless: dict[str, str] = {}
        """Of waiting jobs by name: why they will never start."""
        self.waits_for: Reason | None = None
        """What is made of the words of jobs that wait; None: nothing, the words are shown as they are."""
        self.starts: Counter[str] = Counter()
        self._jobs: dict[str, FakeJob] = {}
        self._queues: dict[_Kind, list[_Place]] = {}
        """Heaps, none of them empty."""
        self._heads: list[tuple[_Place, _Kind]] = []
        """A heap of what is, or was, the first of each queue."""
        self._events: list[tuple[float, int, str, _Event]] = []
        self._machines: dict[str, _Machine] = {}
        self._live = 0
        self._serial = count(1)
        self._lock = threading.RLock()
        self._depth = 0
        self._notices: list[Callable[[], None]] = []
        self._listeners: list[Callable[[], None]] = []
        self._news = False
        for node in (Node("fake", NodeState.IDLE, BIG, BIG),) if nodes is None else nodes:
            self.add_node(node)

    # What a harness does.

    def run_due(self) -> None:
        """Let everything happen that is due by the clock."""
        with self.turn():
            pass

    def next_event_at(self) -> float | None:
        """The `clock.elapsed` at which something will happen by itself; None if nothing will."""
        with self._lock:
            return self._events[0][0] if self._events else None

    def finish(self, name: str, end: End = SUCCESS) -> None:
        """The job ends now, in this way, as a runner of the harness decided."""
        with self.turn():
            job = self._jobs.get(name)
            if job is not None and job.state is not JobState.ENDED:
                self._end(job, end)

    def lose(self, name: str) -> None:
        """The job vanishes: no listing, no accounting, no end."""
        with self.turn():
            job = self._jobs.pop(name, None)
            if job is not None and job.state is not JobState.ENDED:
                self._let_go(job)

    def delete(self, name: str) -> None:
        """An operator deletes the job in the scheduler: it leaves the listing, accounting says why."""
        with self.turn():
            job = self._jobs.get(name)
            if job is not None and job.state is not JobState.ENDED:
                self._end(job, End(EndKind.OPERATOR_DELETED, detail="deleted by root"))
                job.listed = False

    def add_node(self, node: Node) -> None:
        """A node joins (or is replaced by) the one of that name, all of it free."""
        with self.turn():
            if self.admits and node.name not in self.admitted:
                self.unannounced.append(node.name)
                return
            joined = replace(node, free=node.total, admitted=self.admits)
            self._machines[node.name] = _Machine(joined)

    def fail_node(self, name: str) -> None:
        """The node goes down and every job on it is lost."""
        with self.turn():
            machine = self._machines[name]
            machine.node = replace(machine.node, state=NodeState.DOWN, reason="Not responding")
            for job_name in sorted(machine.jobs):
                self._end(self._jobs[job_name], End(EndKind.NODE_LOST, detail="NODE_FAIL"))

    def hang_node(self, name: str) -> None:
        """No job ends there any more by itself, and nobody notices."""
        with self.turn():
            machine = self._machines.get(name)
            if machine is not None:
                machine.hangs = True

    def remove_node(self, name: str) -> None:
        """The node leaves; every job on it is lost."""
        with self.turn():
            if name in self._machines:
                self.fail_node(name)
                if not self.admits:
                    del self._machines[name]

    def job(self, name: str) -> FakeJob | None:
        """The job of that name, also after its end; None if it was never accepted, lost or forgotten."""
        with self._lock:
            return self._jobs.get(name)

    @property
    def live_count(self) -> int:
        """How many jobs wait or run."""
        return self._live

    # What a module does; each inside a `turn`.

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Everything due happens, then the body, then what that made possible; then callbacks are called."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth == 1:
                    self._settle()
                yield
                if self._depth == 1:
                    self._settle()
            finally:
                self._depth -= 1
            outermost = self._depth == 0
        if outermost:
            self._notify()

    def admit(self, newcomer: Newcomer) -> str | None:
        """The name under which it may join; None when there is no place. As in a real one, a defined name on
        which nothing has joined does not show whether it was given out: `newcomer.taken` says that."""
        host = newcomer.host
        if self.places and host not in self.admitted:
            free = (name for name in self.places if name not in newcomer.taken)
            found = next(free, None)
            if found is None:
                return None
            host = found
        self.admitted[host] = newcomer.size
        return host

    def forget_node(self, name: str) -> None:
        """Nothing of the node is left; one that is not known is none."""
        self.admitted.pop(name, None)
        if name in self._machines:
            self.fail_node(name)
            del self._machines[name]

    def has_node_for(self, spec: JobSpec) -> bool:
        """Whether the job could run on some node if that were empty."""
        return any(machine.could_hold(spec) for machine in self._machines.values())

    def is_too_big(self, resources: Resources) -> bool:
        """Whether a job of that size is to be refused."""
        return self.refuses_too_big and not any(
            fits(resources, machine.node.total) for machine in self._machines.values()
        )

    def accept(self, spec: JobSpec) -> FakeJob:
        """Queue a job; one whose name is known already is returned as it is."""
        known = self._jobs.get(spec.name)
        if known is not None:
            return known
        job = FakeJob(spec, str(next(self._serial)), self.script(spec), spec.priority)
        self._jobs[spec.name] = job
        self._live += 1
        self._enqueue(job)
        return job

    def jobs(self) -> Iterable[FakeJob]:
        """All jobs that are known, in the order of their submission."""
        return self._jobs.values()

    def cancel(self, name: str) -> None:
        """TERM, then KILL after `kill_grace`."""
        job = self._jobs.get(name)
        if job is None or job.state is JobState.ENDED:
            return
        if job.state is JobState.WAITING:
            self._end(job, End(EndKind.CANCELLED))
            return
        wait = job.script.term_seconds
        grace = self.kill_grace if wait is None else min(wait, self.kill_grace)
        self._at(self.clock.elapsed() + grace, name, _Event.DIES)
        self._say_term(name)

    def prioritise(self, name: str, priority: int) -> None:
        """Change a waiting job's place."""
        job = self._jobs.get(name)
        if job is not None and job.state is JobState.WAITING and job.priority != priority:
            job.priority = priority
            self._enqueue(job)

    def forget(self, name: str) -> None:
        """An ended job leaves listing and accounting."""
        job = self._jobs.get(name)
        if job is not None and job.state is JobState.ENDED:
            del self._jobs[name]

    def nodes(self) -> list[Node]:
        """All nodes, with what is free on each; with them those that were created when they were admitted, and
        have not joined."""
        expected = [] if self.places else [n for n in self.admitted if n not in self._machines]
        return [
            *(machine.node for machine in self._machines.values()),
            *(Node(n, NodeState.DOWN, NONE, NONE, admitted=True) for n in expected),
        ]

    def set_drain(self, name: str, reason: str | None) -> bool:
        """Drain a node (a reason) or resume it (None); False when there is no such node."""
        machine = self._machines.get(name)
        if machine is None:
            return False
        if machine.node.state is not NodeState.DOWN:
            state = NodeState.IDLE if reason is None else NodeState.DRAINED
            machine.node = replace(machine.node, state=state, reason=reason or "")
            self._restate(machine)
        return True

    def listen(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever a job or node has changed."""
        self._listeners.append(changed)

    # Inside.

    def _settle(self) -> None:
        now = self.clock.elapsed()
        self._start_waiting()
        while self._events and self._events[0][0] <= now:
            _, _, name, event = heapq.heappop(self._events)
            job = self._jobs.get(name)
            if job is None or job.state is not JobState.RUNNING:
                continue
            if event is _Event.ENDS and self._machines[job.node].hangs:
                continue
            end = End(EndKind.CANCELLED) if event is _Event.DIES else job.script.end
            self._end(job, end)
            self._start_waiting()

    def _start_waiting(self) -> None:
        blocked: list[tuple[_Place, _Kind]] = []
        machines = [machine for machine in self._machines.values() if machine.has_room]
        while self._heads and machines:
            place, kind = heapq.heappop(self._heads)
            queue = self._queues.get(kind)
            if not queue or queue[0] != place:
                # It is first no more; whatever is has an entry of its own.
                continue
            job = self._jobs.get(place[2])
            if job is None or not self._still_waits(job, place):
                self._next_in_line(kind)
                continue
            spec = job.spec
            chosen = next((machine for machine in machines if machine.holds(spec)), None)
            if chosen is None:
                # What could hold it is kept for it.
                machines = [machine for machine in machines if not machine.could_hold(spec)]
                blocked.append((place, kind))
                continue
            self._next_in_line(kind)
            self._start(job, chosen)
            if not chosen.has_room:
                machines.remove(chosen)
        for entry in blocked:
            heapq.heappush(self._heads, entry)

    def _next_in_line(self, kind: _Kind) -> None:
        """The first job of that kind waits no more."""
        queue = self._queues[kind]
        heapq.heappop(queue)
        if queue:
            heapq.heappush(self._heads, (queue[0], kind))
        else:
            del self._queues[kind]

    @staticmethod
    def _still_waits(job: FakeJob, place: _Place) -> bool:
        """Whether it waits, and nobody has given it another priority since it was put there."""
        return job.state is JobState.WAITING and (-job.priority, int(job.job_id)) == place[:2]

    def _start(self, job: FakeJob, machine: _Machine) -> None:
        name = job.spec.name
        job.state, job.node = JobState.RUNNING, machine.node.name
        taken = machine.node.total if job.spec.exclusive else job.spec.resources
        machine.jobs[name] = taken
        machine.node = replace(machine.node, free=machine.node.free - taken)
        self._restate(machine)
        self.starts[name] += 1
        if job.script.seconds is not None:
            self._at(self.clock.elapsed() + job.script.seconds, name, _Event.ENDS)
        self._news = True
        if self.on_start is not None:
            hook, stdin = self.on_start, job.spec.stdin
            self._notices.append(lambda: hook(name, stdin))

    def _end(self, job: FakeJob, end: End) -> None:
        self._let_go(job)
        job.state, job.end, job.listed = JobState.ENDED, end, self.keeps_ended
        if self.on_end is not None:
            hook, name = self.on_end, job.spec.name
            self._notices.append(lambda: hook(name, end))

    def _let_go(self, job: FakeJob) -> None:
        self._live -= 1
        self._news = True
        machine = self._machines.get(job.node)
        if machine is not None and job.spec.name in machine.jobs:
            taken = machine.jobs.pop(job.spec.name)
            machine.node = replace(machine.node, free=machine.node.free + taken)
            self._restate(machine)

    @staticmethod
    def _restate(machine: _Machine) -> None:
        busy = bool(machine.jobs)
        match machine.node.state:
            case NodeState.IDLE | NodeState.BUSY:
                state = NodeState.BUSY if busy else NodeState.IDLE
            case NodeState.DRAINED | NodeState.DRAINING:
                state = NodeState.DRAINING if busy else NodeState.DRAINED
            case other:
                state = other
        machine.node = replace(machine.node, state=state)

    def _enqueue(self, job: FakeJob) -> None:
        spec = job.spec
        kind = (spec.partitions, spec.preemptible, spec.exclusive, spec.resources)
        queue = self._queues.setdefault(kind, [])
        place = (-job.priority, int(job.job_id), spec.name)
        heapq.heappush(queue, place)
        if queue[0] == place:
            heapq.heappush(self._heads, (place, kind))

    def _at(self, when: float, name: str, event: _Event) -> None:
        heapq.heappush(self._events, (when, next(self._serial), name, event))

    def _say_term(self, name: str) -> None:
        if self.on_term is not None:
            hook = self.on_term
            self._notices.append(lambda: hook(name))

    def _notify(self) -> None:
        """Callbacks may call back; what they make happen is told in its turn."""
        while True:
            with self._lock:
                notices, self._notices = self._notices, []
                news, self._news = self._news, False
            if not notices and not news:
                return
            for notice in notices:
                notice()
            if news:
                for listener in tuple(self._listeners):
                    listener()
