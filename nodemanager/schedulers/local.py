"""A real little batch scheduler for one machine: the cores and RAM of the machine are its slots.

Jobs wait in priority order (`slots.py`), run as sessions of their own under limits that a supervisor process
per job enforces (`supervise.py`), and go on when the daemon stops or is killed: the next one finds
everything in the spool, whose files and their order are described in `spool.py`.

All state is in memory; the files are its log, and are read once, at the first call. One thread starts jobs and
is woken by the end of any supervisor, whoever started that, so nothing is polled.

A job finds its standard input, PATH, HOME, LANG and a few more variables of the daemon's, umask 077, and
its spool directory as its working directory; what it prints goes to `job.out` there.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nodemanager.errors import SchedulerError
from nodemanager.fit import fits
from nodemanager.model import JobState, Node, NodeState, Resources, format_bytes
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers import leftovers, supervise
from nodemanager.schedulers.base import (
    Finding,
    Job,
    JobSpec,
    Poll,
    Scheduler,
    SchedulerContext,
    Submission,
)
from nodemanager.schedulers.machine import LocalOptions, job_environment, node_name
from nodemanager.schedulers.slots import Line, shortage
from nodemanager.schedulers.spool import Limits, Spool, StoredJob

log = logging.getLogger(__name__)

ATTEND_SECONDS = 0.05
"""Between two looks at a job that cannot be watched: its supervisor has not said who it is, or the
kernel has no pidfd_open."""
RETRY_SECONDS = 1.0
"""After a supervisor could not be started."""
START_ATTEMPTS = 5
KILL_SECONDS = 2.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


@dataclass(slots=True)
class _Job:
    name: str
    number: int
    resources: Resources
    priority: int
    state: JobState = JobState.WAITING
    end: End | None = None
    cancelled: bool = False
    supervisor: int = 0
    """Process id, once known."""
    pidfd: int = -1
    failed_starts: int = 0


class LocalScheduler(Scheduler):
    """See the module's docstring, and `LocalOptions` for the options."""

    name = "local"
    in_process = True

    def __init__(self, context: SchedulerContext) -> None:
        super().__init__(context)
        self._options = LocalOptions.of(context)
        self._limits = Limits(self._options.ram_allowance, self._options.kill_grace)
        self._spool = Spool(self._options.spool)
        self._node = node_name()
        self._prefix = f"{context.cluster_id}-"
        self._mutex = threading.Lock()
        self._opened = self._closed = False
        self._total = Resources(0, 0)
        self._used = Resources(0, 0)
        self._drained: str | None = None
        self._jobs: dict[str, _Job] = {}
        self._line = Line(self._options.pass_for)
        self._last_number = 0
        self._unwatched: set[str] = set()
        self._start_after = 0.0
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = -1, -1
        self._thread: threading.Thread | None = None
        self._listeners: list[Callable[[], None]] = []
        self._changed = False

    # What the daemon asks; from any thread.

    def check(self) -> Sequence[Finding]:
        """Look at the machine and the spool, also while another daemon uses it."""
        total = self._options.total()
        return (
            Finding(
                "machine",
                f"{self._node}: {total.cores} cores, {format_bytes(total.ram_bytes)} of RAM and "
                f"{format_bytes(total.scratch_bytes)} of scratch space to share out",
            ),
            Finding("spool", str(self._spool.root), _spool_problem(self._spool.root)),
            Finding("supervisor", sys.executable, _supervisor_problem()),
        )

    def submit(self, jobs: Sequence[JobSpec]) -> Sequence[Submission]:
        """Accept jobs durably; they are started by the thread."""
        with self._use():
            answers: dict[str, Submission] = {}
            fresh: list[tuple[JobSpec, int]] = []
            for spec in jobs:
                known = self._jobs.get(spec.name)
                if known is not None:
                    answers[spec.name] = Submission(spec.name, job_id=str(known.number))
                elif spec.name not in answers:
                    spec_to_run = replace(spec, resources=_slots(spec.resources))
                    refused = self._refuse(spec_to_run)
                    number = 0 if refused else self._next_number()
                    answers[spec.name] = Submission(
                        spec.name, job_id=str(number or ""), refused=refused
                    )
                    if number:
                        fresh.append((spec_to_run, number))
            if fresh:
                self._spool.store(fresh, self._limits)
            for spec, number in fresh:
                self._jobs[spec.name] = _Job(spec.name, number, spec.resources, spec.priority)
                self._line.add(spec.name, number, spec.priority, spec.resources)
            self._wake()
            return [answers[spec.name] for spec in jobs]

    def poll(self) -> Poll:
        """Always complete."""
        with self._use():
            return Poll(tuple(self._show(job) for job in self._jobs.values()))

    def look_up(self, names: Sequence[str]) -> Mapping[str, End]:
        """The recorded ends of jobs that were not forgotten."""
        with self._use():
            found = ((name, self._jobs.get(name)) for name in names)
            return {name: job.end for name, job in found if job is not None and job.end is not None}

    def cancel(self, names: Sequence[str]) -> None:
        """A waiting job ends at once; a running one gets TERM and, after `kill_grace`, KILL."""
        with self._use():
            for name in names:
                job = self._jobs.get(name)
                if job is None or job.state is JobState.ENDED or job.cancelled:
                    continue
                with self._trouble(f"cannot cancel {name}"):
                    if job.state is JobState.WAITING:
                        self._spool.record_end(name, End(EndKind.CANCELLED))
                        self._line.remove(name)
                        self._conclude(job, End(EndKind.CANCELLED))
                    else:
                        self._spool.record_cancel(name)
                        job.cancelled = True
                        _tell_supervisor(job)
            self._wake()

    def prioritise(self, priorities: Mapping[str, int]) -> None:
        """Change the places of waiting jobs, also for the next daemon."""
        with self._use():
            for name, priority in priorities.items():
                job = self._jobs.get(name)
                if job is not None and job.state is JobState.WAITING and job.priority != priority:
                    with self._trouble(f"cannot change the priority of {name}"):
                        self._spool.record_priority(name, priority)
                    job.priority = priority
                    self._line.prioritise(name, priority)
            self._wake()

    def forget(self, names: Sequence[str]) -> None:
        """Remove the directories of ended jobs."""
        with self._use():
            ended = [n for n in names if n in self._jobs and self._jobs[n].state is JobState.ENDED]
            for name in ended:
                del self._jobs[name]
            with self._trouble("cannot remove ended jobs"):
                self._spool.remove(ended)

    def nodes(self) -> Sequence[Node]:
        """The one node: this machine."""
        with self._use():
            left = self._total - self._used
            free = Resources(max(left.cores, 0), max(left.ram_bytes, 0), max(left.scratch_bytes, 0))
            busy = any(job.state is JobState.RUNNING for job in self._jobs.values())
            if self._drained is None:
                state = NodeState.BUSY if busy else NodeState.IDLE
            else:
                state = NodeState.DRAINING if busy else NodeState.DRAINED
            return (Node(self._node, state, self._total, free, reason=self._drained or ""),)

    def drain(self, node: str, reason: str) -> None:
        """Start no more jobs, also after a restart."""
        self._set_drain(node, reason)

    def resume(self, node: str) -> None:
        """Start jobs again."""
        self._set_drain(node, None)

    def listen(self, changed: Callable[[], None]) -> None:
        """`changed` is called from the scheduler's own thread, with no lock held."""
        self._listeners.append(changed)

    def close(self) -> None:
        """Stop the thread and let another daemon have the spool; jobs go on."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
            self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        for job in self._jobs.values():
            self._unwatch(job)
        self._selector.close()
        for descriptor in (self._wake_read, self._wake_write):
            if descriptor >= 0:
                os.close(descriptor)
        self._wake_read = self._wake_write = -1
        self._spool.close()

    # Opening: with the mutex held.

    @contextmanager
    def _use(self) -> Iterator[None]:
        with self._mutex:
            if self._closed:
                raise SchedulerError("local: the scheduler was closed")
            if not self._opened:
                self._open()
            yield

    def _open(self) -> None:
        self._spool.open()
        try:
            self._total = self._options.total()
            self._drained = self._spool.drain_reason()
            for stored in self._spool.load(self._prefix):
                self._take_over(stored)
        except BaseException as error:
            self._jobs.clear()
            self._line = Line(self._options.pass_for)
            self._used = Resources(0, 0)
            self._unwatched.clear()
            self._spool.close()
            if isinstance(error, OSError):
                raise SchedulerError(f"local: cannot read the spool: {error}") from error
            raise
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="local-scheduler", daemon=True)
        self._opened = True
        self._thread.start()
        self._wake()

    def _take_over(self, stored: StoredJob) -> None:
        """A job that an earlier daemon accepted."""
        job = _Job(
            stored.name,
            stored.number,
            stored.resources,
            stored.priority,
            end=stored.end,
            cancelled=stored.cancelled,
        )
        self._jobs[job.name] = job
        self._last_number = max(self._last_number, job.number)
        if job.end is not None:
            self._spool.consume_stdin(job.name)
            job.state = JobState.ENDED
            return
        lock = self._spool.lock(job.name)
        if lock is not None:
            os.close(lock)
            if self._spool.start(job.name) is None and not job.cancelled:
                if fits(job.resources, self._total):
                    self._line.add(job.name, job.number, job.priority, job.resources)
                else:
                    words = shortage(job.resources, self._total)
                    end = End(EndKind.GIVEN_BACK, detail=f"no longer fits this machine: {words}")
                    self._spool.record_end(job.name, end)
                    job.state, job.end = JobState.ENDED, end
                return
        self._occupy(job)
        self._unwatched.add(job.name)

    # The thread.

    def _run(self) -> None:
        while True:
            ready = {key.data for key, _ in self._selector.select(self._patience())}
            with self._mutex:
                if self._closed:
                    return
                self._drain_wakeups()
                for name in ready - {None}:
                    self._unwatch(self._jobs[name])
                    self._unwatched.add(name)
                for name in tuple(self._unwatched):
                    with self._trouble(f"cannot look after {name}", retry=True):
                        self._attend(self._jobs[name])
            while self._start_one():
                pass
            self._tell_listeners()

    def _patience(self) -> float | None:
        if self._unwatched:
            return ATTEND_SECONDS
        until = self._start_after - time.monotonic()
        return until if until > 0 else None

    def _attend(self, job: _Job) -> None:
        """Who is in charge of a job that runs, or did? A supervisor is watched; nobody means it is over."""
        if not self._spool.directory(job.name).exists():
            self._used -= job.resources
            self._conclude(job, End(EndKind.VANISHED, detail="its directory was removed"))
            return
        lock = self._spool.lock(job.name)
        if lock is None:
            pid = self._spool.supervisor(job.name)
            if pid and self._watch(job, pid):
                self._unwatched.discard(job.name)
            return
        try:
            _reap(job)
            end = self._spool.end(job.name) or self._judge(job)
            if end is None:
                return
        finally:
            os.close(lock)
        self._spool.consume_stdin(job.name)
        self._used -= job.resources
        self._conclude(job, end)

    def _judge(self, job: _Job) -> End | None:
        """Record the end of a job whose supervisor left none; None when it is not over. Its lock is held."""
        start = self._spool.start(job.name)
        if start is None:
            end = self._judge_unstarted(job)
            if end is None:
                return None
        elif start.boot_id != leftovers.boot_id():
            end = End(EndKind.NODE_LOST, detail="the machine was restarted while it ran")
        elif leftovers.kill_leftovers(job.name, start, KILL_SECONDS):
            end = End(EndKind.SCHEDULER_ERROR, detail="its supervisor was killed")
        else:
            log.warning("%s: its processes cannot be killed", job.name, extra={"action": "kill"})
            return None
        if job.cancelled:
            end = End(EndKind.CANCELLED)
        self._spool.record_end(job.name, end)
        return end

    def _judge_unstarted(self, job: _Job) -> End | None:
        """The supervisor died before the job began: it goes back in line, unless that happens every time."""
        if job.cancelled:
            return End(EndKind.CANCELLED)
        words = self._spool.supervisor_error(job.name) or "its supervisor was killed as it began"
        return self._put_back(job, words)

    def _start_one(self) -> bool:
        """Start the next job that may start; False when there is none."""
        with self._mutex:
            now = time.monotonic()
            if self._closed or self._drained is not None or now < self._start_after:
                return False
            name = self._line.choose(self._total - self._used, now)
            if name is None:
                return False
            job = self._jobs[name]
            self._line.remove(name)
            self._occupy(job)
            try:
                lock = self._spool.lock(name)
                if lock is None:
                    self._unwatched.add(name)
                    return True
                try:
                    job.supervisor = _spawn(self._spool.directory(name), name, lock)
                finally:
                    os.close(lock)
            except OSError as error:
                if self._put_back(job, str(error)) is not None:
                    # Looked after by the thread, which records the end as soon as that is possible.
                    self._unwatched.add(name)
                return False
            if not self._watch(job, job.supervisor):
                self._unwatched.add(name)
            self._changed = True
            return True

    def _put_back(self, job: _Job, words: str) -> End | None:
        """Back in line, and a pause before anything is started; or, after several times, the job's end."""
        log.warning("%s was not started: %s", job.name, words, extra={"action": "start_failed"})
        self._start_after = time.monotonic() + RETRY_SECONDS
        job.failed_starts += 1
        if job.failed_starts >= START_ATTEMPTS:
            return End(EndKind.SCHEDULER_ERROR, detail=f"cannot be started: {words}")
        self._used -= job.resources
        self._unwatched.discard(job.name)
        job.state, job.supervisor = JobState.WAITING, 0
        self._line.add(job.name, job.number, job.priority, job.resources)
        self._changed = True
        return None

    def _occupy(self, job: _Job) -> None:
        job.state = JobState.RUNNING
        self._used += job.resources

    def _conclude(self, job: _Job, end: End) -> None:
        self._unwatched.discard(job.name)
        job.state, job.end = JobState.ENDED, end
        self._changed = True

    def _watch(self, job: _Job, pid: int) -> bool:
        """Be woken when the supervisor ends; False when that cannot be had."""
        try:
            pidfd = _open_process(pid)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                job.supervisor = pid
                if job.cancelled:
                    os.kill(pid, signal.SIGUSR1)
            return False
        lock = self._spool.lock(job.name)
        if lock is not None:
            # It ended meanwhile, and the number may be somebody else's.
            os.close(lock)
            os.close(pidfd)
            return False
        job.supervisor, job.pidfd = pid, pidfd
        self._selector.register(pidfd, selectors.EVENT_READ, job.name)
        if job.cancelled:
            _tell_supervisor(job)
        return True

    def _unwatch(self, job: _Job) -> None:
        if job.pidfd >= 0:
            self._selector.unregister(job.pidfd)
            os.close(job.pidfd)
            job.pidfd = -1

    # Small parts.

    def _refuse(self, spec: JobSpec) -> str:
        """Why a job can never be accepted; empty when it can."""
        if not spec.name.startswith(self._prefix) or not _NAME.fullmatch(spec.name):
            return f"a job's name is {self._prefix} and letters, digits, dots, dashes"
        if not spec.argv or any("\0" in argument for argument in spec.argv):
            return "its command is empty or contains a NUL"
        words = shortage(spec.resources, self._total)
        return f"larger than this machine: {words}" if words else ""

    def _next_number(self) -> int:
        """Grows with each job, also over restarts after which no job is left."""
        self._last_number = max(self._last_number + 1, time.time_ns() // 1000)
        return self._last_number

    def _show(self, job: _Job) -> Job:
        waits = job.state is JobState.WAITING
        return Job(
            job.name,
            job.state,
            str(job.number),
            "" if waits else self._node,
            self._waits_for(job) if waits else "",
            job.end,
        )

    def _waits_for(self, job: _Job) -> str:
        if self._drained is not None:
            return f"the node is drained: {self._drained}"
        words = shortage(job.resources, self._total - self._used)
        return f"waits for {words}" if words else "waits behind a more urgent job"

    def _set_drain(self, node: str, reason: str | None) -> None:
        with self._use():
            if node != self._node:
                raise SchedulerError(f"local: there is no node {node!r}, only {self._node!r}")
            try:
                self._spool.record_drain(reason)
            except OSError as error:
                raise SchedulerError(f"local: cannot write to the spool: {error}") from error
            self._drained = reason
            self._changed = True
            self._wake()

    @contextmanager
    def _trouble(self, words: str, *, retry: bool = False) -> Iterator[None]:
        """What the disk refuses is an error of the scheduler, or, in the thread, tried again."""
        try:
            yield
        except OSError as error:
            if not retry:
                raise SchedulerError(f"local: {words}: {error}") from error
            log.warning("%s: %s", words, error, extra={"action": "retry"})

    def _wake(self) -> None:
        if self._wake_write >= 0:
            with suppress(BlockingIOError):
                os.write(self._wake_write, b"w")

    def _drain_wakeups(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass

    def _tell_listeners(self) -> None:
        with self._mutex:
            changed, self._changed = self._changed, False
        if changed:
            for listener in tuple(self._listeners):
                try:
                    listener()
                except Exception:
                    log.exception("a listener failed", extra={"action": "listen"})


def _slots(resources: Resources) -> Resources:
    """Every job takes a core."""
    return replace(resources, cores=max(resources.cores, 1))


def _open_process(pid: int) -> int:
    """A descriptor that is readable when the process has ended. Linux before 5.3 has none: `ENOSYS`."""
    return os.pidfd_open(pid)


def _spawn(directory: Path, name: str, lock: int) -> int:
    """Start a supervisor that inherits the lock; its process id. Raises `OSError`."""
    errors = str(directory / "supervisor.err")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", supervise.__file__, str(directory)],
        {**job_environment(), leftovers.MARK: name},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, lock, supervise.LOCK_FD),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, errors, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=supervise.SIGNALS,
        setsigdef=(*supervise.SIGNALS, signal.SIGPIPE, signal.SIGXFSZ),
    )


def _reap(job: _Job) -> None:
    """Collect a supervisor that has let go of its lock, if this process is its parent."""
    if job.supervisor:
        with suppress(ChildProcessError):
            os.waitpid(job.supervisor, 0)
        job.supervisor = 0


def _tell_supervisor(job: _Job) -> None:
    """Make it look for `cancel`; one that is not known yet, or is gone, will be seen by the thread."""
    if job.pidfd >= 0:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(job.pidfd, signal.SIGUSR1)


def _spool_problem(root: Path) -> str:
    parent = root
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        return f"{parent} is not a directory"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"{parent} is not writable for this user"
    return ""


def _supervisor_problem() -> str:
    if not os.access(sys.executable or "", os.X_OK):
        return "sys.executable is not a program that can be run"
    if not Path("/proc/self/stat").exists():
        return "/proc is not mounted: RAM limits and left-over processes need it"
    return ""
