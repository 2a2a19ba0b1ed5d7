"""Slurm, through its own commands.

A turn costs one squeue and one `scontrol show node`, however many jobs there are. A job is called by its name, the
container's UUID; jobs that are alike are tasks of one array, and which task is which job is written in the array's
script, which Slurm keeps (`submit`, `memory`). What squeue shows is judged by the tables in `words`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from nodemanager.errors import SchedulerError
from nodemanager.model import Finding, JobState, Node, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import (
    Job,
    JobSpec,
    Newcomer,
    Poll,
    Scheduler,
    SchedulerContext,
    Submission,
)
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.notes import NoteKind, Notes
from nodemanager.schedulers.script import names_in, refusal
from nodemanager.schedulers.slurm import listing
from nodemanager.schedulers.slurm.accounting import ended
from nodemanager.schedulers.slurm.check import findings
from nodemanager.schedulers.slurm.controller import Controller
from nodemanager.schedulers.slurm.elastic import Elastic
from nodemanager.schedulers.slurm.listing import Row, end_of
from nodemanager.schedulers.slurm.memory import SWEEP_AFTER_SECONDS, ArrayNames
from nodemanager.schedulers.slurm.nodes import SlurmNode, parse_nodes, shortage
from nodemanager.schedulers.slurm.options import NodeOrigin, SlurmOptions
from nodemanager.schedulers.slurm.submit import Submitter, array_name, nice
from nodemanager.schedulers.slurm.words import Complaint, Reader, sort_out

log = logging.getLogger(__name__)

_SWEEP_EVERY_POLLS = 500


class SlurmScheduler(Scheduler):
    """See the module's docstring, and `SlurmOptions` for the options."""

    name = "slurm"

    def __init__(self, context: SchedulerContext) -> None:
        super().__init__(context)
        self._options = SlurmOptions.of(context)
        self._prefix = f"{context.cluster_id}-"
        self._controller = Controller(self._options, context.command_seconds)
        self._files = JobFiles(self._options.spool)
        self._notes = Notes(context.state_dir / "notes")
        self._arrays = ArrayNames(self._notes)
        self._submitter = Submitter(
            context, self._options, self._controller, self._files, self._arrays
        )
        self._elastic = Elastic(
            context.cluster_id, self._options.nodes, self._controller, context.state_dir / "places"
        )
        self._reader = Reader()
        self._ids: dict[str, tuple[str, ...]] | None = None
        """How Slurm calls each job it is known to have: from the last listing, and submissions since."""
        self._drain_mark = f" (by {context.cluster_id})"
        """How the reasons of our drains end."""
        self._polls = 0
        self._polled_at = float("-inf")
        self._waits: frozenset[str] = frozenset()
        """Who waited at the last poll."""
        self._waited: frozenset[str] = frozenset()
        """Who waited at the one before."""
        self._seen_arrays: frozenset[str] = frozenset()
        """Arrays of which the last listing had anything, by name."""
        self._nodes: Sequence[SlurmNode] | None = None
        """From the last look."""
        self._short_of: dict[tuple[Resources, tuple[str, ...]], str] = {}
        """Why none of them could hold a kind of job."""
        self._defaults: tuple[str, ...] | None = None
        """Slurm's default partition."""

    @property
    def commands_run(self) -> int:
        """See the base class."""
        return self._controller.commands_run

    # Jobs.

    def check(self) -> Sequence[Finding]:
        """Look at commands, versions, directories and limits."""
        return findings(self._options, self._controller)

    def submit(self, jobs: Sequence[JobSpec]) -> Sequence[Submission]:
        """As arrays where jobs are alike, through slurmrestd where there is one, else by sbatch."""
        ids = self._known_ids()
        answers: dict[str, Submission] = {}
        fresh: dict[str, JobSpec] = {}
        for spec in jobs:
            if spec.name in ids:
                answers[spec.name] = Submission(spec.name, ids[spec.name][0])
            elif spec.name not in answers and spec.name not in fresh:
                verdict = self._judge(spec)
                if verdict is None:
                    fresh[spec.name] = spec
                else:
                    answers[spec.name] = verdict
        if fresh:
            answers |= self._submitter.submit(list(fresh.values()), self._partitions)
        for answer in answers.values():
            if answer.job_id:
                ids.setdefault(answer.name, (answer.job_id,))
        return [answers[spec.name] for spec in jobs]

    def cost(self, jobs: Sequence[JobSpec]) -> int:
        """See the base class. Jobs that are answered without asking Slurm cost nothing."""
        return self._submitter.cost([spec for spec in jobs if self._judge(spec) is None])

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
        self._polls += 1
        if complete and self._polls % _SWEEP_EVERY_POLLS == 0:
            self._files.sweep(self._prefix, jobs.keys())
            old = self._notes.older(NoteKind.CANCELLED, SWEEP_AFTER_SECONDS)
            self._notes.remove_all(NoteKind.CANCELLED, set(old) - jobs.keys())
            self._arrays.sweep(jobs.keys())
        return Poll(tuple(jobs.values()), complete)

    def _note_waiting(self, jobs: Iterable[Job]) -> None:
        """Keep in mind who waited at the poll before this one, unless that was too long ago to say what became of them."""
        now = time.monotonic()
        gap = now - self._polled_at
        remembers = gap < self._controller.number("MinJobAge", 0)
        self._waited = self._waits if remembers else frozenset()
        self._waits = frozenset(job.name for job in jobs if job.state is JobState.WAITING)
        self._polled_at = now

    def look_up(self, names: Sequence[str]) -> Mapping[str, End]:
        """From what the controller still has, else from the accounting or the completion log."""
        listed, _ = self._list()
        wanted = {name for name in names if name.startswith(self._prefix)}
        live = {name for name, row in listed if self._end(name, row) is None}
        found = self._ends(listed, wanted)
        missing = sorted(wanted - found.keys() - live)
        if missing:
            asked = {self._arrays.array_of(name) or name for name in missing}
            rows = ended(self._controller, sorted(asked), self._options.users)
            found |= self._ends(((self._name(row), row) for row in rows), set(missing))
        for name in missing:
            end = None if name in found else self._taken_out(name)
            if end is not None:
                found[name] = end
        return found

    def _taken_out(self, name: str) -> End | None:
        """A task that is cancelled while it waits leaves no trace in Slurm: it is taken out of its array, which stays."""
        if self._was_cancelled(name):
            return End(EndKind.CANCELLED)
        array = self._arrays.array_of(name)
        if array and array in self._seen_arrays and name in self._waited:
            return End(EndKind.OPERATOR_DELETED, detail=f"Slurm: taken out of its array {array}")
        return None

    def cancel(self, names: Sequence[str]) -> None:
        """By one scancel: TERM, and KILL after slurm.conf's KillWait. That it was us is noted first."""
        known = self._known_ids()
        ours = [name for name in names if name in known]
        if not ours:
            return
        for name in ours:
            if not self._was_cancelled(name):
                self._notes.write(NoteKind.CANCELLED, name, "")
        answer = self._controller.ask("scancel", *(i for name in ours for i in known[name]))
        if answer.status != 0 and sort_out(answer.words) is not Complaint.NO_SUCH_JOB:
            raise SchedulerError(f"scancel: {answer.words}")

    def prioritise(self, priorities: Mapping[str, int]) -> None:
        """By one scontrol that reads its commands; those that are not waiting any more it complains about."""
        known = self._known_ids()
        groups: dict[int, list[str]] = {}
        for name, priority in priorities.items():
            groups.setdefault(nice(priority, self._options.priority_spread), []).extend(
                known.get(name, ())
            )
        lines = [f"update JobId={','.join(ids)} Nice={n}" for n, ids in groups.items() if ids]
        if lines:
            self._controller.ask("scontrol", stdin="\n".join([*lines, ""]).encode())

    def forget(self, names: Sequence[str]) -> None:
        """Slurm forgets by itself; what we keep about these goes."""
        ours = [name for name in names if name.startswith(self._prefix)]
        self._files.remove(ours)
        self._notes.remove_all(NoteKind.CANCELLED, ours)
        self._arrays.forget(ours)

    # Nodes.

    def nodes(self) -> Sequence[Node]:
        """Those that are up, or down and should not be; with fixed nodes also those that Slurm powers up itself."""
        spot = self._options.preemptible_partitions
        return tuple(
            node.as_node(spot, self._drain_mark, self._elastic.owner)
            for node in self._look_at_nodes()
        )

    def drain(self, node: str, reason: str) -> None:
        """The reason is marked as ours; Slurm adds who and when."""
        self._controller.order(
            "scontrol", "update", f"NodeName={node}", "State=DRAIN",
            f"Reason={reason}{self._drain_mark}",
        )  # fmt: skip

    def resume(self, node: str) -> None:
        """Only what we drained; Slurm calls it an error to resume what is not drained."""
        found = parse_nodes(self._controller.order("scontrol", "show", "node", "-o", node))
        if any(each.is_drained and each.reason.endswith(self._drain_mark) for each in found):
            self._controller.order("scontrol", "update", f"NodeName={node}", "State=RESUME")

    @property
    def admits(self) -> bool:
        """Unless all nodes are fixed."""
        return self._options.nodes is not NodeOrigin.FIXED

    def admit(self, newcomer: Newcomer) -> str:
        """Under the name of a node that slurm.conf defines, or of one that is created."""
        return self._elastic.admit(newcomer)

    def remove(self, host: str) -> None:
        """It is only defined again, or deleted."""
        self._elastic.remove(host)

    # Inside.

    def _list(self) -> tuple[list[tuple[str, Row]], bool]:
        """The jobs of this cluster by name, and whether these are all."""
        output = self._controller.order(
            "squeue", "-a", "-r", "-t", "all", "-u", ",".join(self._options.users),
            "-O", listing.FORMAT,
        )  # fmt: skip
        result = listing.parse(output, self._prefix)
        if result.strange:
            log.warning(
                "squeue printed %d lines that are not understood, such as %r",
                len(result.strange),
                result.strange[0][:200],
                extra={"action": "strange_listing"},
            )
        unnamed = self._learn_arrays(result.rows)
        array_prefix = array_name(self._prefix, "")
        self._seen_arrays = frozenset(
            row.name for row in result.rows if row.name.startswith(array_prefix)
        )
        named = []
        for row in result.rows:
            name = self._name(row)
            if name:
                named.append((name, row))
        complete = not result.strange and not unnamed
        if complete or self._ids is not None:
            self._note_ids(named, complete=complete)
        return named, complete

    def _note_ids(self, named: Iterable[tuple[str, Row]], *, complete: bool) -> None:
        ids: dict[str, tuple[str, ...]] = {}
        for name, row in named:
            ids[name] = (*ids.get(name, ()), row.job_id)
        self._ids = ids if complete else {**(self._ids or {}), **ids}

    def _known_ids(self) -> dict[str, tuple[str, ...]]:
        if self._ids is None:
            self._list()
        if self._ids is None:
            raise SchedulerError("squeue does not tell which jobs there are")
        return self._ids

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
                    extra={"action": "array_unreadable"},
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
        reason = self._reader.reason(row.reason) if state is JobState.WAITING else ""
        return Job(name, state, row.job_id, row.node, reason, end)

    def _end(self, name: str, row: Row) -> End | None:
        return end_of(row, self._reader, cancelled=self._was_cancelled(name))

    def _was_cancelled(self, name: str) -> bool:
        """Whether we have asked for its end; Slurm does not tell who did."""
        return self._notes.get(NoteKind.CANCELLED, name) is not None

    def _ends(self, rows: Iterable[tuple[str, Row]], wanted: set[str]) -> dict[str, End]:
        ends = ((name, self._end(name, row)) for name, row in rows if name in wanted)
        return {name: end for name, end in ends if end is not None}

    def _judge(self, spec: JobSpec) -> Submission | None:
        """What is known of a job before Slurm is asked; None when it can be submitted."""
        words = refusal(spec, self._prefix) or self._submitter.refusal(spec)
        if words:
            return Submission(spec.name, refused=words)
        partitions = self._partitions(spec)
        spot = set(self._options.preemptible_partitions)
        if spec.partitions and not partitions:
            return Submission(
                spec.name,
                refused=f"the nodes of partition {', '.join(spec.partitions)} can be taken away, and it "
                "does not bear that (scheduling_parameters.preemptible)",
            )
        nodes = self._nodes if self._nodes is not None else self._look_at_nodes()
        kind = (spec.resources, partitions)
        if kind not in self._short_of:
            everywhere = partitions or self._everywhere_but(spot, nodes)
            self._short_of[kind] = shortage(spec, everywhere, nodes)
        short = self._short_of[kind]
        if not short:
            return None
        if self.admits:
            return Submission(spec.name, unplaced=short)
        return Submission(spec.name, refused=short)

    def _everywhere_but(self, spot: set[str], nodes: Iterable[SlurmNode]) -> list[str]:
        return sorted({name for node in nodes for name in node.partitions} - spot)

    def _partitions(self, spec: JobSpec) -> tuple[str, ...]:
        """Where a job may run; empty for Slurm's default partition."""
        spot = self._options.preemptible_partitions
        wanted = spec.partitions or self._options.partition
        if not spec.preemptible:
            return tuple(name for name in wanted if name not in spot)
        if not spot:
            return wanted
        return tuple(dict.fromkeys((*(wanted or self._default_partition()), *spot)))

    def _default_partition(self) -> tuple[str, ...]:
        if self._defaults is None:
            lines = self._controller.order("sinfo", "-h", "-o", "%P").splitlines()
            self._defaults = tuple(
                line.rstrip("* ") for line in lines if line.rstrip().endswith("*")
            )
        return self._defaults

    def _look_at_nodes(self) -> Sequence[SlurmNode]:
        found: Sequence[SlurmNode] = parse_nodes(
            self._controller.order("scontrol", "-a", "show", "node", "-o")
        )
        if self.admits:
            found = self._elastic.keep(found)
        self._short_of.clear()
        self._nodes = [node for node in found if node.is_present or not self.admits]
        return found
