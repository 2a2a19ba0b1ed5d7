"""How jobs ended that are not in the queue any more: from accounting, and from what we have noted.

A job of ours has a file with its input as long as it is not forgotten. So one that has such a file and is not in
the queue has ended, or never got there: its record tells. Records come late, so for a while nothing is concluded from
there being none.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

from nodemanager.clock import Clock
from nodemanager.errors import SchedulerError
from nodemanager.model import JobState
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job, JobSpec
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.notes import NoteKind, Notes
from nodemanager.schedulers.sge.accounting import AccountingFile
from nodemanager.schedulers.sge.places import Place
from nodemanager.schedulers.sge.states import Record, end_of
from nodemanager.schedulers.sge.submission import sge_name

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 600.0


class Ends:
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
        self._clock = clock
        self._accounting = accounting
        self._delay_seconds = delay_seconds
        self._kept: set[str] | None = None
        self._missing: dict[str, float] = {}
        """Elapsed seconds at which a job was first seen to have left the queue."""
        self._waited: set[str] = set()
        """Those that had not started when they were last seen in the queue."""
        self._told: dict[str, Job] = {}
        """Ended jobs as they were told: later records change nothing."""
        self._tasks: dict[str, tuple[str, int]] | None = None
        self._blind = ""
        """Why the accounting file cannot be read."""
        self._swept_at = clock.elapsed()

    def kept(self) -> set[str]:
        """The names of jobs that are not forgotten."""
        if self._kept is None:
            self._kept = set(self._files.names(self._prefix))
        return self._kept

    def expect(self, specs: Sequence[JobSpec], array: str) -> None:
        """They are about to be submitted: what has to be known of them after a crash is kept."""
        names = [spec.name for spec in specs]
        self._files.write(specs)
        if array:
            self._notes.write(NoteKind.ARRAY, array, " ".join(names))
            self._places().update(_index(array, names))
        self.kept().update(names)

    def note_queued(self, name: str, *, waits: bool) -> None:
        """The job is in the queue."""
        self._missing.pop(name, None)
        if waits:
            self._waited.add(name)
        else:
            self._waited.discard(name)

    def drop(self, names: Collection[str], *, left: bool) -> None:
        """Nobody asks about these any more; with `left` they are not in the queue either."""
        self._files.remove(name for name in names if name.startswith(self._prefix))
        for name in names:
            self.kept().discard(name)
            self._missing.pop(name, None)
            self._waited.discard(name)
            self._told.pop(name, None)
            if left:
                self._notes.remove(NoteKind.CANCELLED, name)
                self._notes.remove(NoteKind.LOST, name)
                self._forget_record(name)
        self._drop_arrays(names)

    def refresh(self) -> None:
        """Read what the accounting file has got; when that fails, nothing is concluded from there being no record."""
        if self._accounting is None:
            return
        try:
            self._accounting.refresh()
        except SchedulerError as error:
            if not self._blind:
                log.warning("no end of a job is known: %s", error, extra={"action": "ends_unread"})
            self._blind = str(error)
        else:
            self._blind = ""

    def job(self, name: str) -> Job | None:
        """A kept job that is not in the queue; None if there is certainly nothing to say about it."""
        if name in self._told:
            return self._told[name]
        now = self._clock.elapsed()
        first = self._missing.setdefault(name, now)
        end = self.end(name)
        if end is None and self._accounting is not None:
            if self._blind or now - first < self._delay_seconds:
                why = self._blind or "it is not in the queue, and its accounting record is awaited"
                return Job(name, JobState.UNKNOWN, reason=why)
            if name in self._waited:
                end = End(EndKind.OPERATOR_DELETED, detail="before it started")
        if end is None:
            return None
        record = self._record(name)
        host = record.host if record else ""
        job = Job(name, JobState.ENDED, self.job_id(name), host, end=end)
        return self._told.setdefault(name, job)

    def is_in_doubt(self, name: str) -> bool:
        """It may have been in the queue, and its record is awaited."""
        return name in self._missing and self.job(name) is not None

    def end(self, name: str) -> End | None:
        """How a job ended that is not in the queue; None if nothing tells."""
        if name in self._told:
            return self._told[name].end
        lost = self._notes.get(NoteKind.LOST, name)
        if lost is not None:
            return End(EndKind.NODE_LOST, detail=lost)
        record = self._record(name)
        end = end_of(record) if record else None
        if self._notes.get(NoteKind.CANCELLED, name) is not None:
            # Who is warned dies of KILL, so an exit was the job's own.
            own = end is not None and end.kind is EndKind.EXITED
            return end if own else End(EndKind.CANCELLED)
        return end

    def job_id(self, name: str) -> str:
        """Of a job that has a record; empty for any other."""
        record = self._record(name)
        return Place(record.job_number, record.task).job_id if record else ""

    def sweep(self, queued: Collection[str]) -> None:
        """Inputs of jobs that never got into the queue, and what was noted about jobs long gone."""
        now = self._clock.elapsed()
        if now - self._swept_at < _SWEEP_SECONDS:
            return
        self._swept_at = now
        known = {*queued, *(name for name in self.kept() if self.end(name))}
        self.drop(self._files.sweep(self._prefix, known), left=True)
        for kind in (NoteKind.CANCELLED, NoteKind.LOST):
            stale = self._notes.all(kind).keys() - self.kept() - set(queued)
            for name in stale:
                self._notes.remove(kind, name)

    # Inside.

    def _record(self, name: str) -> Record | None:
        if self._accounting is None:
            return None
        record = self._accounting.find(sge_name(name), 0)
        if record is not None:
            return record
        array, task = self._places().get(name, ("", 0))
        return self._accounting.find(sge_name(array), task) if array else None

    def _forget_record(self, name: str) -> None:
        if self._accounting is not None:
            self._accounting.forget(sge_name(name), 0)
            array, task = self._places().get(name, ("", 0))
            self._accounting.forget(sge_name(array), task)

    def _places(self) -> dict[str, tuple[str, int]]:
        """The array and task of jobs that are one, from the notes."""
        if self._tasks is None:
            self._tasks = {}
            for array, text in self._notes.all(NoteKind.ARRAY).items():
                self._tasks.update(_index(array, text.split()))
        return self._tasks

    def _drop_arrays(self, names: Iterable[str]) -> None:
        """Notes of arrays none of whose jobs is asked about any more."""
        places = self._places()
        for array in {places[name][0] for name in names if name in places}:
            members = (self._notes.get(NoteKind.ARRAY, array) or "").split()
            if self.kept().isdisjoint(members):
                self._notes.remove(NoteKind.ARRAY, array)
                for name in members:
                    places.pop(name, None)


def _index(array: str, names: Sequence[str]) -> dict[str, tuple[str, int]]:
    return {name: (array, task) for task, name in enumerate(names, start=1)}
