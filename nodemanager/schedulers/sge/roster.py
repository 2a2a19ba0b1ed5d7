"""Which jobs are ours, and how they are: what qstat lists, what accounting says, and what we have noted, put together.

A job of ours has a file with its input as long as it is not forgotten. So one that has such a file and is not in
the queue has ended, or never got there: its record tells. Records come late, so for a while nothing is concluded from
there being none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nodemanager.clock import Clock
from nodemanager.errors import SchedulerError
from nodemanager.model import JobState
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job, JobSpec
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.sge.accounting import AccountingFile
from nodemanager.schedulers.sge.answers import Details, JobRow
from nodemanager.schedulers.sge.notes import NoteKind, Notes
from nodemanager.schedulers.sge.states import JobLetters, Record, end_of
from nodemanager.schedulers.sge.submission import NAME_PREFIX, sge_name

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 600.0

Ask = Callable[[Collection[int]], Details]
"""Ask Grid Engine about these jobs; raises `SchedulerError`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is in Grid Engine."""

    number: int
    task: int = 0
    """0 for a job that is no array."""

    @property
    def job_id(self) -> str:
        """As qdel and people write it."""
        return f"{self.number}.{self.task}" if self.task else str(self.number)


@dataclass(frozen=True, slots=True)
class Live:
    """A job that is in the queue."""

    place: Place
    letters: JobLetters
    host: str = ""
    array: str = ""
    """The name of its array, if it is part of one."""


class Roster:
    """See the module's docstring. Serves one thread."""

    def __init__(
        self,
        cluster_id: str,
        files: JobFiles,
        notes: Notes,
        clock: Clock,
        *,
        accounting: AccountingFile | None,
        delay_seconds: float,
    ) -> None:
        self._prefix = f"{cluster_id}-"
        self._files = files
        self._notes = notes
        self._accounting = accounting
        self._delay_seconds = delay_seconds
        self._clock = clock
        self.live: dict[str, Live] = {}
        """By name, as of the last listing and with what was accepted since."""
        self._kept: set[str] | None = None
        """Names with an input file: not forgotten."""
        self._arrays: dict[int, tuple[str, ...]] = {}
        """The names of an array's tasks; none if it is not ours in spite of its name."""
        self._missing: dict[str, float] = {}
        """Elapsed seconds at which a job was first seen to have left the queue."""
        self._waited: set[str] = set()
        """Those that had not started when they were last seen in the queue."""
        self._errors: dict[str, End] = {}
        """Jobs that Grid Engine cannot start, which are over for us."""
        self._told: dict[str, Job] = {}
        """Ended jobs as they were told: later records change nothing."""
        self._tasks: dict[str, tuple[str, int]] | None = None
        """The array and task of jobs that are one, from the notes."""
        self._blind = ""
        """Why the accounting file cannot be read."""
        self._odd: set[str] = set()
        self._swept_at = clock.elapsed()

    # What is done to jobs.

    def expect(self, specs: Sequence[JobSpec], array: str) -> None:
        """They are about to be submitted: what has to be known of them after a crash is kept."""
        self._files.write(specs)
        if array:
            self._notes.write(NoteKind.ARRAY, array, " ".join(spec.name for spec in specs))
        for spec in specs:
            self._keep().add(spec.name)

    def accepted(self, specs: Sequence[JobSpec], number: int, array: str) -> None:
        """They are one job, or the tasks of an array, in the queue now."""
        letters = JobLetters("qw")
        if array:
            self._arrays[number] = tuple(spec.name for spec in specs)
            self._task_index().update(_index(array, self._arrays[number]))
        for task, spec in enumerate(specs, start=1):
            place = Place(number, task if array else 0)
            self.live[spec.name] = Live(place, letters, array=array)
            self._keep().add(spec.name)
            self._waited.add(spec.name)
            self._missing.pop(spec.name, None)

    def forget(self, names: Iterable[str]) -> None:
        """Their containers are final. Those that are in the queue are kept, unless they are over for us."""
        over = [name for name in names if name not in self.live or self.is_over(name)]
        self._files.remove(name for name in over if name.startswith(self._prefix))
        for name in over:
            self._keep().discard(name)
            self._missing.pop(name, None)
            self._waited.discard(name)
            self._told.pop(name, None)
            if name not in self.live:
                self._errors.pop(name, None)
                self._notes.remove(NoteKind.CANCELLED, name)
                self._notes.remove(NoteKind.LOST, name)
        arrays = {self._task_index()[name][0] for name in over if name in self._task_index()}
        for array in arrays:
            members = (self._notes.get(NoteKind.ARRAY, array) or "").split()
            if self._keep().isdisjoint(members):
                self._notes.remove(NoteKind.ARRAY, array)
                for name in members:
                    self._task_index().pop(name, None)

    def is_over(self, name: str) -> bool:
        """It is in the queue, but its end was told: whatever Grid Engine makes of it is of no interest."""
        return name in self._errors or name in self._notes.all(NoteKind.LOST)

    def lose(self, name: str, why: str) -> None:
        """The job's host is gone."""
        self._notes.write(NoteKind.LOST, name, why)

    # What is known of jobs.

    def listed(self, rows: Sequence[JobRow], ask: Ask) -> bool:
        """Take a fresh listing; whether it could be understood as a whole."""
        complete = self._learn_arrays(rows, ask)
        live: dict[str, Live] = {}
        for row in sorted(rows, key=lambda row: row.number):
            for name, task in self._names(row):
                if name in live and live[name].place.number != row.number:
                    self._say_once(
                        name, "job %s has a copy, %d, which is passed over", name, row.number
                    )
                    continue
                array = row.name.removeprefix(NAME_PREFIX) if task else ""
                live[name] = Live(Place(row.number, task), JobLetters(row.letters), row.host, array)
        for name in self._missing.keys() & live.keys():
            del self._missing[name]
        self.live = live
        self._note_waiting()
        self._learn_errors(ask)
        self.refresh()
        if complete:
            self._sweep()
        return complete

    def jobs(self, waits: Mapping[int, str]) -> list[Job]:
        """All jobs of ours, as of the last listing; `waits` has reasons of jobs by their numbers."""
        jobs = [self._live_job(name, live, waits) for name, live in self.live.items()]
        for name in sorted(self._keep() - self.live.keys()):
            job = self._gone_job(name)
            if job is not None:
                jobs.append(job)
        return jobs

    def job_id(self, name: str) -> str:
        """Of a job that is in the queue or has a record; empty for any other."""
        if name in self.live:
            return self.live[name].place.job_id
        record = self._record(name)
        return Place(record.job_number, record.task).job_id if record else ""

    def is_in_doubt(self, name: str) -> bool:
        """It may have been in the queue, and its record is awaited."""
        return name in self._missing and self._gone_job(name) is not None

    def end(self, name: str) -> End | None:
        """How a job ended that has left the queue; None if nothing tells."""
        if name in self.live:
            return None
        if name in self._told:
            return self._told[name].end
        lost = self._notes.get(NoteKind.LOST, name)
        if lost is not None:
            return End(EndKind.NODE_LOST, detail=lost)
        if name in self._errors:
            return self._errors[name]
        record = self._record(name)
        end = end_of(record) if record else None
        if self._notes.get(NoteKind.CANCELLED, name) is not None:
            # Who is warned dies of KILL, so an exit was the job's own.
            own = end is not None and end.kind is EndKind.EXITED
            return end if own else End(EndKind.CANCELLED)
        return end

    def refresh(self) -> None:
        """Read what the accounting file has got; when that fails, nothing is concluded from there being no record."""
        if self._accounting is None:
            return
        try:
            self._accounting.refresh()
        except SchedulerError as error:
            if not self._blind:
                log.warning("no end of a job is known: %s", error, extra={"action": "poll"})
            self._blind = str(error)
        else:
            self._blind = ""

    # Inside: the queue.

    def _names(self, row: JobRow) -> list[tuple[str, int]]:
        name = row.name.removeprefix(NAME_PREFIX)
        if name == row.name or not name.startswith(self._prefix):
            return []
        if not row.tasks:
            return [(name, 0)]
        names = self._arrays.get(row.number, ())
        return [(names[task - 1], task) for task in row.tasks if 0 < task <= len(names)]

    def _learn_arrays(self, rows: Sequence[JobRow], ask: Ask) -> bool:
        """Find out whose the tasks are of arrays that are not known; False if that failed."""
        there = {
            row.number: row.name
            for row in rows
            if row.tasks and row.name.startswith(NAME_PREFIX + self._prefix)
        }
        for number in self._arrays.keys() - there.keys():
            del self._arrays[number]
        unknown = there.keys() - self._arrays.keys()
        if not unknown:
            return True
        try:
            details = ask(unknown)
        except SchedulerError as error:
            log.warning("arrays of ours cannot be read: %s", error, extra={"action": "poll"})
            return False
        for detail in details.jobs:
            names = detail.names
            ours = all(name.startswith(self._prefix) for name in names)
            self._arrays[detail.number] = names if ours else ()
        # What ended between the two commands is in no listing any more.
        return True

    def _learn_errors(self, ask: Ask) -> None:
        """Have Grid Engine say why jobs cannot be started."""
        names = {
            name: live
            for name, live in self.live.items()
            if live.letters.is_in_error and name not in self._errors
        }
        for name in [n for n in self._errors if n not in self.live and n not in self._keep()]:
            del self._errors[name]
        if not names:
            return
        said: dict[tuple[int, int], str] = {}
        try:
            for detail in ask({live.place.number for live in names.values()}).jobs:
                said |= {(detail.number, task): words for task, words in detail.errors}
        except SchedulerError as error:
            log.warning("errors of jobs cannot be read: %s", error, extra={"action": "poll"})
        for name, live in names.items():
            words = said.get((live.place.number, live.place.task or 1), "it does not say why")
            self._errors[name] = End(EndKind.SCHEDULER_ERROR, detail=words)

    def _note_waiting(self) -> None:
        for name, live in self.live.items():
            if live.letters.state is JobState.WAITING:
                self._waited.add(name)
            else:
                self._waited.discard(name)
            if live.letters.state is JobState.UNKNOWN:
                letters = live.letters.letters
                self._say_once(letters, "job %s is in a state nobody knows: %r", name, letters)

    def _live_job(self, name: str, live: Live, waits: Mapping[int, str]) -> Job:
        place, letters = live.place, live.letters
        lost = self._notes.get(NoteKind.LOST, name)
        if lost is not None:
            end = End(EndKind.NODE_LOST, detail=lost)
            return Job(name, JobState.ENDED, place.job_id, live.host, end=end)
        if name in self._errors:
            return Job(name, JobState.ENDED, place.job_id, end=self._errors[name])
        if letters.state is JobState.RUNNING:
            return Job(name, JobState.RUNNING, place.job_id, live.host)
        reason = waits.get(place.number) or letters.words
        return Job(name, letters.state, place.job_id, live.host, reason)

    # Inside: what has left it.

    def _gone_job(self, name: str) -> Job | None:
        """A job that is kept and not in the queue; None if there is certainly nothing to say about it."""
        if name in self._told:
            return self._told[name]
        now = self._clock.elapsed()
        first = self._missing.setdefault(name, now)
        end = self.end(name)
        record = self._record(name)
        job_id = Place(record.job_number, record.task).job_id if record else ""
        if end is not None:
            host = record.host if record else ""
            return self._told.setdefault(name, Job(name, JobState.ENDED, job_id, host, end=end))
        if self._accounting is not None and (self._blind or now - first < self._delay_seconds):
            why = self._blind or "it is not in the queue, and its accounting record is awaited"
            return Job(name, JobState.UNKNOWN, reason=why)
        if name in self._waited and self._accounting is not None:
            end = End(EndKind.OPERATOR_DELETED, detail="before it started")
            return self._told.setdefault(name, Job(name, JobState.ENDED, end=end))
        return None

    def _record(self, name: str) -> Record | None:
        if self._accounting is None:
            return None
        record = self._accounting.find(sge_name(name), 0)
        if record is not None:
            return record
        array, task = self._task_index().get(name, ("", 0))
        return self._accounting.find(sge_name(array), task) if array else None

    def _task_index(self) -> dict[str, tuple[str, int]]:
        if self._tasks is None:
            self._tasks = {}
            for array, text in self._notes.all(NoteKind.ARRAY).items():
                self._tasks.update(_index(array, text.split()))
        return self._tasks

    def _keep(self) -> set[str]:
        if self._kept is None:
            self._kept = set(self._files.names(self._prefix))
        return self._kept

    def _sweep(self) -> None:
        """Inputs of jobs that never got into the queue, and what was noted about jobs long gone."""
        now = self._clock.elapsed()
        if now - self._swept_at < _SWEEP_SECONDS:
            return
        self._swept_at = now
        known = self.live.keys() | {name for name in self._keep() if self.end(name)}
        self._keep().difference_update(self._files.sweep(self._prefix, known))
        stale = [
            (kind, name)
            for kind in (NoteKind.CANCELLED, NoteKind.LOST)
            for name in self._notes.all(kind)
            if name not in self._keep() and name not in self.live
        ]
        for kind, name in stale:
            self._notes.remove(kind, name)

    def _say_once(self, what: str, message: str, *values: object) -> None:
        if what not in self._odd:
            self._odd.add(what)
            log.warning(message, *values, extra={"action": "poll"})


def _index(array: str, names: Sequence[str]) -> dict[str, tuple[str, int]]:
    return {name: (array, task) for task, name in enumerate(names, start=1)}
