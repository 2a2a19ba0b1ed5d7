"""Which jobs are ours, and how they are: what qstat lists, together with what `ends` knows of those that left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job, JobSpec
from nodemanager.schedulers.notes import NoteKind, Notes
from nodemanager.schedulers.sge.answers import Details, JobRow
from nodemanager.schedulers.sge.ends import Ends
from nodemanager.schedulers.sge.pending import Waits, reason_of
from nodemanager.schedulers.sge.places import Live, Place
from nodemanager.schedulers.sge.states import JobLetters
from nodemanager.schedulers.sge.submission import NAME_PREFIX

log = logging.getLogger(__name__)

Ask = Callable[[Collection[int]], Details]
"""Ask Grid Engine about these jobs; raises `SchedulerError`."""


class Roster:
    """See the module's docstring. Serves one thread."""

    def __init__(self, cluster_id: str, notes: Notes, ends: Ends) -> None:
        self._prefix = f"{cluster_id}-"
        self._notes = notes
        self.ends = ends
        self.live: dict[str, Live] = {}
        """By name, as of the last listing and with what was accepted since."""
        self._arrays: dict[int, tuple[str, ...]] = {}
        """The names of an array's tasks; none if it is not ours in spite of its name."""
        self._errors: dict[str, End] = {}
        """Jobs that Grid Engine cannot start, which are over for us."""
        self._odd: set[str] = set()
        """What was wondered at aloud."""

    # What is done to jobs.

    def accepted(self, specs: Sequence[JobSpec], number: int, array: str) -> None:
        """They are one job, or the tasks of an array, in the queue now."""
        if array:
            self._arrays[number] = tuple(spec.name for spec in specs)
        for task, spec in enumerate(specs, start=1):
            place = Place(number, task if array else 0)
            self.live[spec.name] = Live(place, JobLetters("qw"))
            self.ends.note_queued(spec.name, waits=True)

    def forget(self, names: Iterable[str]) -> None:
        """Their containers are final. Those that are in the queue are kept, unless they are over for us."""
        over = [name for name in names if name not in self.live or self.is_over(name)]
        gone = [name for name in over if name not in self.live]
        self.ends.drop(gone, left=True)
        self.ends.drop([name for name in over if name in self.live], left=False)
        for name in gone:
            self._errors.pop(name, None)

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
                else:
                    live[name] = Live(Place(row.number, task), JobLetters(row.letters), row.host)
        self.live = live
        for name, job in live.items():
            state = job.letters.state
            self.ends.note_queued(name, waits=state is JobState.WAITING)
            if state is JobState.UNKNOWN:
                letters = job.letters.letters
                self._say_once(letters, "job %s is in a state nobody knows: %r", name, letters)
        self._learn_errors(ask)
        self.ends.refresh()
        if complete:
            self.ends.sweep(live.keys())
        return complete

    def jobs(self, waits: Waits) -> list[Job]:
        """All jobs of ours, as of the last listing; `waits`: why some of them wait."""
        jobs = [self._live_job(name, live, waits) for name, live in self.live.items()]
        for name in sorted(self.ends.kept() - self.live.keys()):
            job = self._gone_job(name)
            if job is not None:
                jobs.append(job)
        return jobs

    def job_id(self, name: str) -> str:
        """Of a job that is in the queue or has a record; empty for any other."""
        return self.live[name].place.job_id if name in self.live else self.ends.job_id(name)

    def end(self, name: str) -> End | None:
        """How a job ended that has left the queue; None if nothing tells."""
        if name in self.live:
            return None
        return self._errors.get(name) or self.ends.end(name)

    # Inside.

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
            row.number
            for row in rows
            if row.tasks and row.name.startswith(NAME_PREFIX + self._prefix)
        }
        for number in self._arrays.keys() - there:
            del self._arrays[number]
        unknown = there - self._arrays.keys()
        if not unknown:
            return True
        try:
            details = ask(unknown)
        except SchedulerError as error:
            log.warning(
                "arrays of ours cannot be read: %s", error, extra={"action": "array_unread"}
            )
            return False
        for detail in details.jobs:
            names = detail.names
            ours = all(name.startswith(self._prefix) for name in names)
            self._arrays[detail.number] = names if ours else ()
        # What ended between the two commands is in no listing any more.
        return True

    def _learn_errors(self, ask: Ask) -> None:
        """Have Grid Engine say why jobs cannot be started."""
        for name in self._errors.keys() - self.live.keys() - self.ends.kept():
            del self._errors[name]
        new = {
            name: live.place
            for name, live in self.live.items()
            if live.letters.is_in_error and name not in self._errors
        }
        if not new:
            return
        said: dict[tuple[int, int], str] = {}
        try:
            for detail in ask({place.number for place in new.values()}).jobs:
                said |= {(detail.number, task): words for task, words in detail.errors}
        except SchedulerError as error:
            log.warning(
                "errors of jobs cannot be read: %s", error, extra={"action": "errors_unread"}
            )
        for name, place in new.items():
            words = said.get((place.number, place.task or 1), "it does not say why")
            self._errors[name] = End(EndKind.SCHEDULER_ERROR, detail=words)

    def _live_job(self, name: str, live: Live, waits: Waits) -> Job:
        place, letters = live.place, live.letters
        lost = self._notes.get(NoteKind.LOST, name)
        if lost is not None:
            end = End(EndKind.NODE_LOST, detail=lost)
            return Job(name, JobState.ENDED, place.job_id, live.host, end=end)
        if name in self._errors:
            return Job(name, JobState.ENDED, place.job_id, end=self._errors[name])
        if letters.state is JobState.RUNNING:
            return Job(name, JobState.RUNNING, place.job_id, live.host)
        if letters.state is not JobState.WAITING:
            return Job(name, letters.state, place.job_id, live.host, letters.words)
        said = waits.of(place.number)
        words = "; ".join(said) or letters.words
        known = reason_of(said, letters)
        return Job(name, letters.state, place.job_id, live.host, words, waits_for=known)

    def _gone_job(self, name: str) -> Job | None:
        if name in self._errors:
            return Job(name, JobState.ENDED, self.ends.job_id(name), end=self._errors[name])
        return self.ends.job(name)

    def _say_once(self, what: str, message: str, *values: object) -> None:
        if what not in self._odd:
            self._odd.add(what)
            log.warning(message, *values, extra={"action": "strange_listing"})
