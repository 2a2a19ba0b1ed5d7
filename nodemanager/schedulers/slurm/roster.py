"""Which jobs of ours Slurm has, how it calls them, and how they are or ended: what squeue lists, and what is remembered.

A job is called by its name, the container's UUID; tasks of arrays are named by the array's script (`memory`). That a job
was cancelled by us, and not by somebody else, is a note of our own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job, Poll
from nodemanager.schedulers.notes import NoteKind, Notes
from nodemanager.schedulers.script import names_in
from nodemanager.schedulers.slurm import listing
from nodemanager.schedulers.slurm.accounting import ended
from nodemanager.schedulers.slurm.controller import Controller
from nodemanager.schedulers.slurm.listing import Row, end_of
from nodemanager.schedulers.slurm.memory import SWEEP_AFTER_SECONDS, ArrayNames
from nodemanager.schedulers.slurm.submit import array_name
from nodemanager.schedulers.slurm.words import Reader

log = logging.getLogger(__name__)


class Roster:
    """See the module's docstring."""

    def __init__(
        self,
        prefix: str,
        users: Sequence[str],
        controller: Controller,
        notes: Notes,
        arrays: ArrayNames,
    ) -> None:
        self._prefix = prefix
        self._users = users
        self._controller = controller
        self._notes = notes
        self._arrays = arrays
        self._reader = Reader()
        self._ids: dict[str, tuple[str, ...]] | None = None
        """How Slurm calls each job it is known to have: from the last listing, and submissions since."""
        self._polled_at = float("-inf")
        self._waits: frozenset[str] = frozenset()
        """Who waited at the last poll."""
        self._waited: frozenset[str] = frozenset()
        """Who waited at the one before."""
        self._held: tuple[str, ...] = ()
        """How Slurm calls those that it held at the last listing because no node had what they ask for."""
        self._seen_arrays: frozenset[str] = frozenset()
        """Arrays of which the last listing had anything, by name."""

    def ids(self) -> dict[str, tuple[str, ...]]:
        """How Slurm calls each job that it is known to have; more than one after a doubtful submission."""
        if self._ids is None:
            self._list()
        if self._ids is None:
            raise SchedulerError("squeue does not tell which jobs there are")
        return self._ids

    def accepted(self, name: str, job_id: str) -> None:
        """Slurm has taken it since the last listing."""
        self.ids().setdefault(name, (job_id,))

    def poll(self) -> Poll:
        """One squeue. It is complete when every line was understood and every task could be named."""
        listed, complete = self._list()
        jobs: dict[str, Job] = {}
        for name, row in listed:
            job = self._job(name, row)
            # Of two by one name, which only a doubtful submission can make, the live one counts.
            if name not in jobs or jobs[name].state is JobState.ENDED:
                jobs[name] = job
        self._note_waiting(jobs.values())
        return Poll(tuple(jobs.values()), complete)

    def held(self) -> tuple[str, ...]:
        """How Slurm calls the jobs that it held, at the last listing, for want of a node that could take them."""
        return self._held

    def look_up(self, names: Sequence[str]) -> Mapping[str, End]:
        """From what the controller still has, else from the accounting or the completion log."""
        listed, _ = self._list()
        wanted = {name for name in names if name.startswith(self._prefix)}
        live = {name for name, row in listed if self._end(name, row) is None}
        found = self._ends(listed, wanted)
        missing = sorted(wanted - found.keys() - live)
        if missing:
            asked = {self._arrays.array_of(name) or name for name in missing}
            rows = ended(self._controller, sorted(asked), self._users)
            found |= self._ends(((self._name(row), row) for row in rows), set(missing))
        for name in missing:
            end = None if name in found else self._taken_out(name)
            if end is not None:
                found[name] = end
        return found

    def will_cancel(self, names: Iterable[str]) -> None:
        """Note that these end because we want it; to be called before Slurm is told."""
        for name in names:
            if not self._was_cancelled(name):
                self._notes.write(NoteKind.CANCELLED, name, "")

    def forget(self, names: Sequence[str]) -> None:
        """Nobody asks about these any more."""
        self._notes.remove_all(NoteKind.CANCELLED, names)
        self._arrays.forget(names)

    def sweep(self, known: frozenset[str]) -> None:
        """What is remembered of jobs that Slurm does not list and nobody asked about for long goes."""
        old = self._notes.older(NoteKind.CANCELLED, SWEEP_AFTER_SECONDS)
        self._notes.remove_all(NoteKind.CANCELLED, set(old) - known)
        self._arrays.sweep(known)

    # Listing.

    def _list(self) -> tuple[list[tuple[str, Row]], bool]:
        """The jobs of this cluster by name, and whether these are all."""
        output = self._controller.order(
            "squeue", "-a", "-r", "-t", "all", "-u", ",".join(self._users), "-O", listing.FORMAT
        )
        result = listing.parse(output, self._prefix)
        if result.strange:
            log.warning(
                "squeue printed %d lines that are not understood, such as %r",
                len(result.strange),
                result.strange[0][:200],
                extra={"action": "strange_listing"},
            )
        unnamed = self._learn_arrays(result.rows)
        arrays = array_name(self._prefix, "")
        self._seen_arrays = frozenset(r.name for r in result.rows if r.name.startswith(arrays))
        named = [(name, row) for row in result.rows if (name := self._name(row))]
        self._held = tuple(row.job_id for _, row in named if row.is_held_for_a_node)
        complete = not result.strange and not unnamed
        if complete or self._ids is not None:
            self._note_ids(named, complete=complete)
        return named, complete

    def _note_ids(self, named: Iterable[tuple[str, Row]], *, complete: bool) -> None:
        ids: dict[str, tuple[str, ...]] = {}
        for name, row in named:
            ids[name] = (*ids.get(name, ()), row.job_id)
        self._ids = ids if complete else {**(self._ids or {}), **ids}

    def _learn_arrays(self, rows: Iterable[Row]) -> bool:
        """Ask Slurm for the scripts of arrays that are not remembered; True when one cannot be had."""
        unknown = {
            row.name: row.array_id
            for row in rows
            if row.array_id and not self._arrays.get(row.name)
        }
        missing = False
        for array, job_id in unknown.items():
            answer = self._controller.ask("scontrol", "write", "batch_script", job_id, "-")
            names = names_in(answer.output) if answer.status == 0 else ()
            if names:
                self._arrays.found(array, names)
            else:
                missing = True
                log.warning(
                    "which jobs array %s (%s) has cannot be read: %s",
                    array,
                    job_id,
                    answer.words,
                    extra={"action": "array_unread"},
                )
        return missing

    def _name(self, row: Row) -> str:
        if not row.array_id:
            # An array whose tasks were all cancelled one by one is left without any.
            return "" if row.name in self._seen_arrays else row.name
        names = self._arrays.get(row.name)
        return names[row.task] if row.task < len(names) else ""

    def _job(self, name: str, row: Row) -> Job:
        state = self._reader.state(row.state).state
        end = self._end(name, row) if state is JobState.ENDED else None
        if state is not JobState.WAITING:
            return Job(name, state, row.job_id, row.node, end=end)
        words, known = self._reader.reason(row.reason), self._reader.waits_for(row.reason)
        return Job(name, state, row.job_id, row.node, words, waits_for=known)

    # Ends.

    def _end(self, name: str, row: Row) -> End | None:
        return end_of(row, self._reader, cancelled=self._was_cancelled(name))

    def _ends(self, rows: Iterable[tuple[str, Row]], wanted: set[str]) -> dict[str, End]:
        ends = ((name, self._end(name, row)) for name, row in rows if name in wanted)
        return {name: end for name, end in ends if end is not None}

    def _was_cancelled(self, name: str) -> bool:
        """Whether we have asked for its end; Slurm does not tell who did."""
        return self._notes.get(NoteKind.CANCELLED, name) is not None

    def _note_waiting(self, jobs: Iterable[Job]) -> None:
        """Keep in mind who waited at the poll before this one, unless that was so long ago that they may have run
        and been forgotten since."""
        now = time.monotonic()
        remembers = now - self._polled_at < self._controller.number("MinJobAge", 0)
        self._waited = self._waits if remembers else frozenset()
        self._waits = frozenset(job.name for job in jobs if job.state is JobState.WAITING)
        self._polled_at = now

    def _taken_out(self, name: str) -> End | None:
        """A task that is cancelled while it waits leaves no trace: it is taken out of its array, which stays."""
        if self._was_cancelled(name):
            return End(EndKind.CANCELLED)
        array = self._arrays.array_of(name)
        if array and array in self._seen_arrays and name in self._waited:
            return End(EndKind.OPERATOR_DELETED, detail=f"Slurm: taken out of its array {array}")
        return None
