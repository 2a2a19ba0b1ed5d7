"""Every job of the local scheduler, and what is done about each: taken over, started, attended, concluded.

In memory, with the spool as its log. Not thread-safe: `LocalScheduler` holds its mutex around each call.
Errors of the disk come as `OSError`; then the job is as it was and the same can be tried again.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nodemanager.clock import Clock
from nodemanager.fit import fits
from nodemanager.model import JobState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers import leftovers
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.localnodes import LocalNode, LocalNodes
from nodemanager.schedulers.slots import Line, Need, shortage
from nodemanager.schedulers.spool import Limits, Spool, StoredJob
from nodemanager.schedulers.supervisors import Supervisors, collect

log = logging.getLogger(__name__)

ATTEND_SECONDS = 0.05
"""Between two looks at a job that cannot be watched: its supervisor has not said who it is, the kernel has
no pidfd_open, or the disk refuses its end."""
RETRY_SECONDS = 1.0
"""After a supervisor could not be started."""
START_ATTEMPTS = 5
KILL_SECONDS = 2.0


@dataclass(slots=True)
class LocalJob:
    """One job. While it is RUNNING, some process is in charge of it, or its end has to be found out."""

    name: str
    number: int
    need: Need
    priority: int
    state: JobState = JobState.WAITING
    end: End | None = None
    node: LocalNode | None = None
    """Where it is RUNNING."""
    node_name: str = ""
    """Where it was started last."""
    cancelled: bool = False
    supervisor: int = 0
    """Process id, once known."""
    failed_starts: int = 0
    in_trouble: bool = False
    """A failure to attend to it was logged; the next ones are not."""

    @property
    def lost(self) -> str:
        """Why its node is no more; empty while that is there."""
        return self.node.lost if self.node is not None else ""

    @property
    def order(self) -> signal.Signals | None:
        """What its supervisor has to be told, if anything."""
        if self.lost:
            # Nobody on a machine that is gone gets time to end well.
            return signal.SIGKILL
        return signal.SIGUSR1 if self.cancelled else None


class LocalJobs:
    """See the module's docstring."""

    def __init__(
        self,
        spool: Spool,
        supervisors: Supervisors,
        nodes: LocalNodes,
        *,
        whole: Resources,
        pass_for: float,
        clock: Clock,
    ) -> None:
        self.jobs: dict[str, LocalJob] = {}
        self.nodes = nodes
        self.whole = whole
        """What no job can be larger than, whatever nodes may come."""
        self._spool = spool
        self._supervisors = supervisors
        self._clock = clock
        self._line = Line(pass_for)
        self._unwatched: set[str] = set()
        self._start_after = 0.0
        self._last_number = 0
        self._changed = False

    def take_changed(self) -> bool:
        """Whether a poll would show something new since the last call."""
        changed, self._changed = self._changed, False
        return changed

    # What the daemon wants.

    def take_over(self, stored: StoredJob) -> None:
        """A job that an earlier daemon accepted."""
        job = LocalJob(
            stored.name,
            stored.number,
            stored.need,
            stored.priority,
            cancelled=stored.cancelled,
            node_name=stored.node_name,
        )
        self.jobs[job.name] = job
        self._last_number = max(self._last_number, job.number)
        if stored.end is not None:
            self._spool.consume_stdin(job.name)
            job.state, job.end = JobState.ENDED, stored.end
        elif job.cancelled or not self._is_untouched(job.name):
            self._occupy(job, self.nodes.of(stored.node, stored.node_name))
            self._unwatched.add(job.name)
        elif fits(job.need.resources, self.whole):
            self._queue(job)
        else:
            words = shortage(job.need.resources, self.whole)
            self._end_waiting(
                job, End(EndKind.GIVEN_BACK, detail=f"no longer fits this machine: {words}")
            )

    def accept(self, specs: Sequence[JobSpec], limits: Limits) -> None:
        """Put new jobs in the spool and in line. Raises `SchedulerError`; then none is."""
        numbered = [(spec, self._next_number()) for spec in specs]
        self._spool.store(numbered, limits)
        for spec, number in numbered:
            need = Need(spec.resources, spec.partitions, spec.preemptible, spec.exclusive)
            self.jobs[spec.name] = LocalJob(spec.name, number, need, spec.priority)
            self._queue(self.jobs[spec.name])

    def cancel(self, job: LocalJob) -> None:
        """End a job that has not ended."""
        if job.state is JobState.WAITING:
            self._line.remove(job.name)
            try:
                self._end_waiting(job, End(EndKind.CANCELLED))
            except OSError:
                self._queue(job)
                raise
        elif job.state is JobState.RUNNING:
            self._spool.record_cancel(job.name)
            job.cancelled = True
            self._supervisors.tell(job.name, signal.SIGUSR1)

    def prioritise(self, job: LocalJob, priority: int) -> None:
        """Give a waiting job its new place, also for the next daemon."""
        self._spool.record_priority(job.name, priority)
        job.priority = priority
        self._line.prioritise(job.name, priority)

    def forget(self, names: Sequence[str]) -> None:
        """Remove ended jobs; others are passed over."""
        ended = [n for n in names if n in self.jobs and self.jobs[n].state is JobState.ENDED]
        self._spool.remove(ended)
        for name in ended:
            del self.jobs[name]

    def set_drain(self, node: str, reason: str | None) -> None:
        """Start no more jobs there, or with None start them again."""
        self.nodes.set_drain(node, reason)
        self._changed = True

    def look(self) -> bool:
        """Find out which nodes there are; jobs on those that are not any more are killed.

        Whether anything has changed. Raises `OSError` or `ValueError`; then nothing has.
        """
        has_changed = self.nodes.look(self._clock.wall())
        self.nodes.tidy()
        if not has_changed:
            return False
        self._changed = True
        for node in self.nodes.lost():
            for name in node.jobs:
                self._supervisors.tell(name, signal.SIGKILL)
        return True

    # What the thread does.

    def patience(self) -> float | None:
        """For how many seconds nothing needs to be done unless somebody wakes us."""
        if self._unwatched:
            return ATTEND_SECONDS
        look = self.nodes.next_look(self._clock.wall())
        start = self._start_after - self._clock.elapsed()
        if start <= 0:
            return look
        return start if look is None else min(start, look)

    def attend(self, ended: Iterable[str]) -> None:
        """Find out about the jobs whose supervisors have ended, and those that cannot be watched."""
        for name in ended:
            self._supervisors.unwatch(name)
            self._unwatched.add(name)
        for name in tuple(self._unwatched):
            job = self.jobs[name]
            try:
                self._attend(job)
            except (OSError, ValueError) as error:
                if not job.in_trouble:
                    log.warning(
                        "cannot look after %s, tried again: %s",
                        name,
                        error,
                        extra={"action": "job_unattended", "container": name},
                    )
                job.in_trouble = True

    def start_next(self) -> bool:
        """Start the next job that may start; False when there is none."""
        now = self._clock.elapsed()
        if now < self._start_after:
            return False
        chosen = self._line.choose(self.nodes.places(), now)
        if chosen is None:
            return False
        name, node = chosen[0], self.nodes.of(chosen[1])
        job = self.jobs[name]
        self._line.remove(name)
        self._occupy(job, node)
        try:
            if node.key:
                self._spool.record_node(name, node.key, node.name)
            lock = self._spool.lock(name)
            if lock is not None:
                try:
                    job.supervisor = self._supervisors.start(
                        self._spool.directory(name), name, lock, node.name if node.key else ""
                    )
                finally:
                    os.close(lock)
        except OSError as error:
            if self._put_back(job, str(error)) is not None:
                self._unwatched.add(name)
            return False
        if not job.supervisor or not self._watch(job, job.supervisor):
            self._unwatched.add(name)
        return True

    # How a job fares.

    def _attend(self, job: LocalJob) -> None:
        """Who is in charge of it? A supervisor is watched; nobody means that it is over, or never began."""
        if not self._spool.directory(job.name).exists():
            self._leave(job, End(EndKind.VANISHED, detail="its directory was removed"))
            return
        lock = self._spool.lock(job.name)
        if lock is None:
            pid = self._spool.supervisor(job.name)
            if pid and self._watch(job, pid):
                self._unwatched.discard(job.name)
            return
        try:
            collect(job.supervisor)
            job.supervisor = 0
            end = self._spool.end(job.name)
            if end is None:
                end = self._judge(job)
                if end is None:
                    return
                self._spool.record_end(job.name, end)
        finally:
            os.close(lock)
        self._spool.consume_stdin(job.name)
        self._leave(job, end)

    def _judge(self, job: LocalJob) -> End | None:
        """How a job ended whose supervisor is gone and recorded nothing; None when it is not over."""
        start = self._spool.start(job.name)
        if start is None:
            if job.cancelled:
                return End(EndKind.CANCELLED)
            if job.lost:
                self._return(job)
                return None
            words = self._spool.supervisor_error(job.name)
            return self._put_back(job, words or "its supervisor was killed as it began")
        if start.boot_id != leftovers.boot_id():
            end = End(EndKind.NODE_LOST, detail="the machine was restarted while it ran")
        elif leftovers.kill_leftovers(job.name, start, KILL_SECONDS):
            end = End(EndKind.SCHEDULER_ERROR, detail="its supervisor was killed")
            if job.lost:
                end = End(EndKind.NODE_LOST, detail=job.lost)
        else:
            log.warning(
                "%s: its processes cannot be killed",
                job.name,
                extra={"action": "job_unkillable", "container": job.name},
            )
            return None
        return End(EndKind.CANCELLED) if job.cancelled else end

    def _put_back(self, job: LocalJob, words: str) -> End | None:
        """Back in line, and a pause before anything is started; or, after several times, the job's end."""
        log.warning(
            "%s was not started: %s",
            job.name,
            words,
            extra={"action": "job_not_started", "container": job.name},
        )
        self._start_after = self._clock.elapsed() + RETRY_SECONDS
        job.failed_starts += 1
        if job.failed_starts >= START_ATTEMPTS:
            return End(EndKind.SCHEDULER_ERROR, detail=f"cannot be started: {words}")
        self._return(job)
        return None

    def _watch(self, job: LocalJob, pid: int) -> bool:
        """Be woken when the supervisor ends; False when that cannot be had."""
        try:
            self._supervisors.watch(job.name, pid)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                job.supervisor = pid
                if job.order is not None:
                    os.kill(pid, job.order)
            return False
        lock = self._spool.lock(job.name)
        if lock is not None:
            # It ended meanwhile, and the process that is watched may be somebody else's.
            os.close(lock)
            self._supervisors.unwatch(job.name)
            return False
        job.supervisor = pid
        if job.order is not None:
            self._supervisors.tell(job.name, job.order)
        return True

    def _is_untouched(self, name: str) -> bool:
        """Nobody is in charge of it, and it was never started."""
        lock = self._spool.lock(name)
        if lock is None:
            return False
        try:
            return self._spool.start(name) is None
        finally:
            os.close(lock)

    def _queue(self, job: LocalJob) -> None:
        self._line.add(job.name, job.number, job.priority, job.need)

    def _occupy(self, job: LocalJob, node: LocalNode) -> None:
        job.state, job.node, job.node_name = JobState.RUNNING, node, node.name
        node.jobs[job.name] = job.need
        self._changed = True

    def _return(self, job: LocalJob) -> None:
        """Back in line: it has not begun."""
        self._vacate(job)
        job.state, job.supervisor = JobState.WAITING, 0
        self._queue(job)

    def _leave(self, job: LocalJob, end: End) -> None:
        self._vacate(job)
        job.state, job.end = JobState.ENDED, end

    def _vacate(self, job: LocalJob) -> None:
        if job.node is not None:
            del job.node.jobs[job.name]
        job.node = None
        self._unwatched.discard(job.name)
        self._changed = True

    def _end_waiting(self, job: LocalJob, end: End) -> None:
        self._spool.record_end(job.name, end)
        job.state, job.end = JobState.ENDED, end
        self._changed = True

    def _next_number(self) -> int:
        """Grows with each job, also over restarts after which no job is left."""
        self._last_number = max(self._last_number + 1, time.time_ns() // 1000)
        return self._last_number
