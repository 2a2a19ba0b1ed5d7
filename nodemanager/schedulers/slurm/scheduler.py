"""Slurm, through its own commands.

A turn costs one squeue and one `scontrol show node`, however many jobs there are. Which jobs there are and how they
ended is known to `roster`; how they are submitted is in `submit`, where they may run in `placement`, and what nodes that
come and go need in `elastic`. The tables of Slurm's words are in `words`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nodemanager.errors import SchedulerError
from nodemanager.model import Finding, Node
from nodemanager.outcome import End
from nodemanager.schedulers.base import (
    JobSpec,
    Newcomer,
    Observation,
    Poll,
    Scheduler,
    SchedulerContext,
    Submission,
)
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.notes import Notes
from nodemanager.schedulers.script import refusal
from nodemanager.schedulers.slurm.check import findings
from nodemanager.schedulers.slurm.controller import Controller
from nodemanager.schedulers.slurm.elastic import Elastic
from nodemanager.schedulers.slurm.holds import Holds
from nodemanager.schedulers.slurm.ids import joint
from nodemanager.schedulers.slurm.memory import ArrayNames
from nodemanager.schedulers.slurm.nodes import SlurmNode, parse_nodes
from nodemanager.schedulers.slurm.options import NodeOrigin, SlurmOptions
from nodemanager.schedulers.slurm.placement import Placement
from nodemanager.schedulers.slurm.roster import Roster
from nodemanager.schedulers.slurm.submit import Submitter, nice
from nodemanager.schedulers.slurm.words import Complaint, sort_out

_SWEEP_EVERY_POLLS = 500


class SlurmScheduler(Scheduler):
    """See the module's docstring, and `SlurmOptions` for the options."""

    name = "slurm"

    def __init__(self, context: SchedulerContext) -> None:
        super().__init__(context)
        self._options = SlurmOptions.of(context)
        self._prefix = f"{context.cluster_id}-"
        self._drain_mark = f" (by {context.cluster_id})"
        """How the reasons of our drains end."""
        self._controller = Controller(self._options, context.command_seconds)
        self._files = JobFiles(self._options.spool)
        notes = Notes(context.state_dir / "notes")
        arrays = ArrayNames(notes)
        self._roster = Roster(self._prefix, self._options.users, self._controller, notes, arrays)
        self._placement = Placement(self._options, self._controller)
        self._submitter = Submitter(context, self._options, self._controller, self._files, arrays)
        self._elastic = Elastic(
            context.cluster_id, self._options.nodes, self._controller, context.state_dir / "places"
        )
        self._holds = Holds(self._controller)
        self._polls = 0
        self._has_looked = False
        """At the nodes."""

    @property
    def commands_run(self) -> int:
        """See the base class."""
        return self._controller.commands_run

    # Jobs.

    def check(self) -> Sequence[Finding]:
        """Look at commands, versions, directories and limits."""
        return findings(self._options, self._controller)

    def version(self) -> str:
        """As slurmctld says."""
        return f"Slurm {self._controller.config().get('SLURM_VERSION', 'of unknown version')}"

    def submit(self, jobs: Sequence[JobSpec]) -> Sequence[Submission]:
        """As arrays where jobs are alike, through slurmrestd where there is one, else by sbatch."""
        ids = self._roster.ids()
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
            made = self._submitter.submit(list(fresh.values()), self._placement.partitions)
            for answer in made.values():
                if answer.job_id:
                    self._roster.accepted(answer.name, answer.job_id)
            answers |= made
        return [answers[spec.name] for spec in jobs]

    def cost(self, jobs: Sequence[JobSpec]) -> int:
        """See the base class. Jobs that are answered without asking Slurm cost nothing."""
        try:
            return self._submitter.cost([spec for spec in jobs if self._judge(spec) is None])
        except SchedulerError:
            # Whoever counts has the jobs in hand; `submit` will raise it where that is expected.
            return self._submitter.cost(jobs)

    def poll(self) -> Poll:
        """One squeue."""
        poll = self._roster.poll()
        self._holds.found(self._roster.held())
        self._polls += 1
        if poll.complete and self._polls % _SWEEP_EVERY_POLLS == 0:
            known = frozenset(job.name for job in poll.jobs)
            self._files.sweep(self._prefix, known)
            self._roster.sweep(known)
        return poll

    def look_up(self, names: Sequence[str]) -> Mapping[str, End]:
        """From what the controller still has, else from the accounting or the completion log."""
        return self._roster.look_up(names)

    def cancel(self, names: Sequence[str]) -> None:
        """By one scancel: TERM, and KILL after slurm.conf's KillWait. That it was us is noted first."""
        known = self._roster.ids()
        ours = [name for name in names if name in known]
        if not ours:
            return
        self._roster.will_cancel(ours)
        answer = self._controller.ask("scancel", *joint(i for name in ours for i in known[name]))
        if answer.status != 0 and sort_out(answer.words) is not Complaint.NO_SUCH_JOB:
            raise SchedulerError(f"scancel: {answer.words}")

    def prioritise(self, priorities: Mapping[str, int]) -> None:
        """By one scontrol that reads its commands; those that are not waiting any more it complains about."""
        known = self._roster.ids()
        groups: dict[int, list[str]] = {}
        for name, priority in priorities.items():
            groups.setdefault(nice(priority, self._options.priority_spread), []).extend(
                known.get(name, ())
            )
        lines = [f"update JobId={','.join(joint(i))} Nice={n}" for n, i in groups.items() if i]
        if lines:
            self._controller.ask("scontrol", stdin="\n".join([*lines, ""]).encode())

    def forget(self, names: Sequence[str]) -> None:
        """Slurm forgets by itself; what we keep about these goes."""
        ours = [name for name in names if name.startswith(self._prefix)]
        self._files.remove(ours)
        self._roster.forget(ours)

    # Nodes.

    def nodes(self) -> Sequence[Node]:
        """Those that are up, or down and should not be; with fixed nodes also those that Slurm powers up itself."""
        spot = self._options.preemptible_partitions
        found = self._look_at_nodes()
        self._holds.look_at(found)
        return tuple(node.as_node(spot, self._drain_mark, self._elastic.owner) for node in found)

    def observe(self) -> Observation:
        """One squeue and one `scontrol show node`: no job is released, and no node dressed."""
        spot = self._options.preemptible_partitions
        nodes = (
            node.as_node(spot, self._drain_mark, self._elastic.owner)
            for node in self._list_nodes()
            if node.is_present or not self.admits
        )
        return Observation(self._roster.poll(), tuple(nodes))

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
        """Under the name of a node that slurm.conf defines, or of the machine."""
        return self._elastic.admit(newcomer)

    def remove(self, host: str) -> None:
        """It is only defined again, as slurm.conf has it, or deleted."""
        self._elastic.remove(host)

    # Inside.

    def _judge(self, spec: JobSpec) -> Submission | None:
        """What is known of a job before Slurm is asked; None when it can be submitted."""
        words = refusal(spec, self._prefix) or self._submitter.refusal(spec)
        if words:
            return Submission(spec.name, refused=words)
        if not self._has_looked:
            self._look_at_nodes()
        return self._placement.judge(spec)

    def _list_nodes(self) -> Sequence[SlurmNode]:
        output = self._controller.order("scontrol", "-a", "show", "node", "-o")
        if not output.strip():
            # Where there are none it says so; nobody may take all nodes for gone because of silence.
            raise SchedulerError("scontrol show node printed nothing")
        return parse_nodes(output)

    def _look_at_nodes(self) -> Sequence[SlurmNode]:
        found = self._list_nodes()
        if self.admits:
            found = self._elastic.keep(found)
        self._placement.saw([node for node in found if node.is_present or not self.admits])
        self._has_looked = True
        return found
