"""A real little batch scheduler for one machine: the cores and RAM of the machine are its slots.

The machine is one node, or, when the option `machines` names a directory, as many as share it there (`shares`);
then a job that fits none of them waits for one that is larger, as long as the machine itself is large enough. A
share that is gone or broken takes its jobs with it.

Jobs wait in priority order (`slots`), run as sessions of their own under limits that a supervisor process
per job enforces (`supervise`), and go on when the daemon stops or is killed: the next one finds
everything in the spool. Which files there are, and in what order they are written so that no crash loses a job or
starts one twice, is described in `spool`; what is done about each job is in `localjobs`.

All state is in memory, the files are its log and are read once, at the first call. One thread starts jobs and
is woken by the end of any supervisor, whoever started that, so nothing is polled.

A job finds its standard input; of the environment only PATH, HOME, USER, LOGNAME, LANG and TMPDIR of the
daemon, the mark `NODEMANAGER_JOB` and, on one of several nodes, that node in `NODEMANAGER_NODE`; umask 077; and its spool directory as its working directory. What it prints
goes to `job.out` there.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nodemanager.clock import Clock, SystemClock
from nodemanager.durable import write_problem
from nodemanager.errors import SchedulerError
from nodemanager.model import Finding, JobState, Node, Resources, format_bytes
from nodemanager.outcome import End
from nodemanager.reason import Reason
from nodemanager.schedulers.base import (
    Job,
    JobSpec,
    Observation,
    Poll,
    Scheduler,
    SchedulerContext,
    Submission,
)
from nodemanager.schedulers.localjobs import LocalJob, LocalJobs
from nodemanager.schedulers.localnodes import LocalNodes, OneNode, ShareNodes, in_queue
from nodemanager.schedulers.localsight import observe
from nodemanager.schedulers.machine import LocalOptions, node_name
from nodemanager.schedulers.shares import Shares
from nodemanager.schedulers.slots import Need, shortage
from nodemanager.schedulers.spool import Limits, Spool
from nodemanager.schedulers.supervisors import Supervisors

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


class LocalScheduler(Scheduler):
    """See the module's docstring, and `LocalOptions` for the options."""

    name = "local"
    in_process = True
    on_this_machine = True

    def __init__(self, context: SchedulerContext, clock: Clock | None = None) -> None:
        super().__init__(context)
        self._options = LocalOptions.of(context)
        self._clock = clock or SystemClock()
        self._spool = Spool(self._options.spool)
        self._prefix = f"{context.cluster_id}-"
        self._mutex = threading.Lock()
        self._closed = False
        self._failure = ""
        """Why the thread has stopped, which it never should."""
        self._blind = False
        """It is not known which nodes there are, which was logged."""
        self._shop: _Shop | None = None
        self._listeners: list[Callable[[], None]] = []

    def check(self) -> Sequence[Finding]:
        """Look at the machine and the spool, also while another daemon uses it."""
        total = self._options.total()
        machines = self._options.machines
        return (
            Finding(
                "machine",
                f"{node_name()}: {total.cores} cores, {format_bytes(total.ram_bytes)} of RAM and "
                f"{format_bytes(total.scratch_bytes)} of scratch space to share out",
            ),
            Finding("spool", str(self._spool.root), write_problem(self._spool.root)),
            *(
                [Finding("machines", str(machines), write_problem(machines))]
                if machines is not None
                else []
            ),
            Finding("supervisor", sys.executable, _supervisor_problem()),
        )

    def submit(self, jobs: Sequence[JobSpec]) -> Sequence[Submission]:
        """Accept jobs durably; the thread starts them."""
        with self._use() as shop:
            refused: dict[str, str] = {}
            fresh: dict[str, JobSpec] = {}
            for spec in jobs:
                # Every job takes a core.
                cores = max(spec.resources.cores, 1)
                wanted = replace(spec, resources=replace(spec.resources, cores=cores))
                if spec.name in shop.jobs.jobs:
                    continue
                words = self._refuse(wanted, shop.jobs.whole)
                if words:
                    refused[spec.name] = words
                else:
                    fresh[spec.name] = wanted
            if fresh:
                limits = Limits(self._options.ram_allowance, self._options.kill_grace)
                shop.jobs.accept(list(fresh.values()), limits)
            shop.supervisors.wake()
            return [
                Submission(spec.name, refused=refused[spec.name])
                if spec.name in refused
                else Submission(spec.name, job_id=str(shop.jobs.jobs[spec.name].number))
                for spec in jobs
            ]

    def poll(self) -> Poll:
        """Always complete."""
        with self._use() as shop:
            shop.look()
            reasons: dict[Need, Reason] = {}
            jobs = shop.jobs
            return Poll(tuple(_show(job, jobs.nodes, reasons) for job in jobs.jobs.values()))

    def look_up(self, names: Sequence[str]) -> Mapping[str, End]:
        """The recorded ends of jobs that were not forgotten."""
        with self._use() as shop:
            found = ((name, shop.jobs.jobs.get(name)) for name in names)
            return {name: job.end for name, job in found if job is not None and job.end is not None}

    def cancel(self, names: Sequence[str]) -> None:
        """A waiting job ends at once; a running one gets TERM and, after `kill_grace`, KILL."""
        with self._use("cannot cancel a job") as shop:
            for name in names:
                job = shop.jobs.jobs.get(name)
                if job is not None and not job.cancelled:
                    shop.jobs.cancel(job)
            shop.supervisors.wake()

    def prioritise(self, priorities: Mapping[str, int]) -> None:
        """Change the places of waiting jobs, also for the next daemon."""
        with self._use("cannot change a priority") as shop:
            for name, priority in priorities.items():
                job = shop.jobs.jobs.get(name)
                if job is not None and job.state is JobState.WAITING and job.priority != priority:
                    shop.jobs.prioritise(job, priority)
            shop.supervisors.wake()

    def forget(self, names: Sequence[str]) -> None:
        """Remove the directories of ended jobs."""
        with self._use("cannot remove ended jobs") as shop:
            shop.jobs.forget(names)

    def nodes(self) -> Sequence[Node]:
        """The machine, or those that share it."""
        with self._use() as shop:
            shop.look()
            return tuple(node.as_node() for node in shop.jobs.nodes.listed())

    def observe(self) -> Observation:
        """From the files alone; they may be another daemon's, or not be there at all."""
        try:
            return observe(self._options, self._spool, self._prefix, self._clock.wall())
        except (OSError, ValueError) as error:
            raise SchedulerError(f"local: {error}") from error

    def drain(self, node: str, reason: str) -> None:
        """Start no more jobs there, also after a restart."""
        self._set_drain(node, reason)

    def resume(self, node: str) -> None:
        """Start jobs there again."""
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
            shop = self._shop
        if shop is not None:
            shop.supervisors.wake()
            if shop.thread is not threading.current_thread():
                shop.thread.join()
            shop.supervisors.close()
            self._spool.close()

    # Inside.

    @contextmanager
    def _use(self, words: str = "cannot use the spool") -> Iterator[_Shop]:
        """The mutex, and an open shop. What the disk refuses is an error of the scheduler."""
        with self._mutex:
            if self._closed:
                raise SchedulerError("local: the scheduler was closed")
            if self._failure:
                raise SchedulerError(f"local: it cannot go on: {self._failure}; restart the daemon")
            try:
                if self._shop is None:
                    self._shop = self._open()
                yield self._shop
            except OSError as error:
                raise SchedulerError(f"local: {words}: {error}") from error

    def _open(self) -> _Shop:
        self._spool.open()
        try:
            supervisors = Supervisors(self._spool.root / "supervise.pyc")
            try:
                total = self._options.total()
                jobs = LocalJobs(
                    self._spool,
                    supervisors,
                    self._nodes(total),
                    whole=total,
                    pass_for=self._options.pass_for,
                    clock=self._clock,
                )
                for stored in self._spool.load(self._prefix):
                    jobs.take_over(stored)
                shop = _Shop(jobs, supervisors)
                shop.look()
                shop.thread = threading.Thread(
                    target=self._run, args=(shop,), name="local-scheduler", daemon=True
                )
                shop.thread.start()
                supervisors.wake()
            except BaseException:
                supervisors.close()
                raise
        except BaseException:
            self._spool.close()
            raise
        return shop

    def _nodes(self, total: Resources) -> LocalNodes:
        if self._options.machines is None:
            return OneNode(self._spool, node_name(), total)
        shares = Shares(self._options.machines)
        shares.make_directory()
        return ShareNodes(self._spool, shares)

    def _run(self, shop: _Shop) -> None:
        """The thread. Nobody notices its silence, so what stops it makes every later call fail."""
        try:
            while self._turn(shop):
                pass
        except Exception as error:
            log.exception("the local scheduler cannot go on", extra={"action": "local_failed"})
            with self._mutex:
                self._failure = repr(error)
            self._tell_listeners()

    def _turn(self, shop: _Shop) -> bool:
        """Attend to what has ended, start what may start, tell who listens; False when closed."""
        with self._mutex:
            patience = shop.jobs.patience()
        ended = shop.supervisors.wait(patience)
        with self._mutex:
            if self._closed:
                return False
            sees = self._can_look(shop)
            shop.jobs.attend(ended)
        # One at a time, so that a poll does not wait for all of them.
        started = sees
        while started:
            with self._mutex:
                started = not self._closed and shop.jobs.start_next()
        with self._mutex:
            changed = shop.jobs.take_changed()
        if changed:
            self._tell_listeners()
        return True

    def _can_look(self, shop: _Shop) -> bool:
        """Whether it is known which nodes there are; when it is not, nothing is started."""
        try:
            shop.jobs.look()
        except (OSError, ValueError) as error:
            if not self._blind:
                log.warning("no job is started: %s", error, extra={"action": "local_start_failed"})
            self._blind = True
            return False
        self._blind = False
        return True

    def _tell_listeners(self) -> None:
        for listener in tuple(self._listeners):
            try:
                listener()
            except Exception:
                log.exception("a listener failed", extra={"action": "listener_failed"})

    def _refuse(self, spec: JobSpec, total: Resources) -> str:
        """Why a job can never be accepted; empty when it can."""
        if not spec.name.startswith(self._prefix) or not _NAME.fullmatch(spec.name):
            return f"a job's name is {self._prefix} and letters, digits, dots, dashes"
        if not spec.argv or any("\0" in argument for argument in spec.argv):
            return "its command is empty or contains a NUL"
        words = shortage(spec.resources, total)
        return f"larger than this machine: {words}" if words else ""

    def _set_drain(self, node: str, reason: str | None) -> None:
        with self._use() as shop:
            shop.look()
            shop.jobs.set_drain(node, reason)
            shop.supervisors.wake()


class _Shop:
    """What exists while the spool is open."""

    thread: threading.Thread

    def __init__(self, jobs: LocalJobs, supervisors: Supervisors) -> None:
        self.jobs = jobs
        self.supervisors = supervisors

    def look(self) -> None:
        """Find out which nodes there are, and let the thread do what follows from a change."""
        try:
            if self.jobs.look():
                self.supervisors.wake()
        except (OSError, ValueError) as error:
            raise SchedulerError(f"local: nobody knows which nodes there are: {error}") from error


def _show(job: LocalJob, nodes: LocalNodes, reasons: dict[Need, Reason]) -> Job:
    """`reasons` are those that were found for other jobs of this poll."""
    if job.state is not JobState.WAITING:
        return Job(job.name, job.state, str(job.number), job.node_name, "", job.end)
    if job.need not in reasons:
        reasons[job.need] = nodes.why_waiting(job.need)
    why = reasons[job.need]
    return Job(job.name, job.state, str(job.number), reason=why.sentence, waits_for=in_queue(why))


def _supervisor_problem() -> str:
    if not os.access(sys.executable or "", os.X_OK):
        return "sys.executable is not a program that can be run"
    if not Path("/proc/self/stat").exists():
        return "/proc is not mounted: RAM limits and left-over processes need it"
    return ""
