"""The Grid Engine module: which commands are run when. `docs/reference/sge.md` is the page for operators."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

from nodemanager.clock import Clock, SystemClock
from nodemanager.errors import SchedulerError
from nodemanager.model import Finding, JobState, Node
from nodemanager.outcome import End
from nodemanager.schedulers.base import (
    JobSpec,
    Newcomer,
    Poll,
    Scheduler,
    SchedulerContext,
    Submission,
)
from nodemanager.schedulers.commands import Answer, Commands
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.notes import NoteKind, Notes
from nodemanager.schedulers.sge.accounting import AccountingFile
from nodemanager.schedulers.sge.answers import Details, job_details, job_rows, names_listed
from nodemanager.schedulers.sge.checks import banner, find_dialect, findings
from nodemanager.schedulers.sge.elastic import ElasticHosts
from nodemanager.schedulers.sge.ends import Ends
from nodemanager.schedulers.sge.hosts import Hosts
from nodemanager.schedulers.sge.options import NodeOrigin, SgeOptions
from nodemanager.schedulers.sge.pending import Waits
from nodemanager.schedulers.sge.places import Live, job_words
from nodemanager.schedulers.sge.roster import Roster
from nodemanager.schedulers.sge.submission import NAME_PREFIX, groups, sge_priority
from nodemanager.schedulers.sge.submitter import Submitter

log = logging.getLogger(__name__)

_EXPLAIN_SECONDS = 60.0
"""Why a job waits is asked again after so long."""
_IDS_PER_COMMAND = 5000


class GridEngineScheduler(Scheduler):
    """See the module's docstring, and `SgeOptions` for the options."""

    name = "sge"

    def __init__(self, context: SchedulerContext, clock: Clock | None = None) -> None:
        super().__init__(context)
        self._options = SgeOptions.of(context)
        self._clock = clock or SystemClock()
        self._prefix = f"{context.cluster_id}-"
        self._commands = Commands(context.command_seconds, self._options.environment)
        self._files = JobFiles(self._options.spool)
        self._notes = Notes(context.state_dir / "notes")
        self._elastic = ElasticHosts(
            self._commands,
            self._options,
            self._notes,
            context.sizes,
            context.state_dir / "qconf",
        )
        self._hosts = Hosts(self._commands, self._options, self._notes, self._elastic, self._clock)
        self._submitter = Submitter(self._commands, self._options, self._files, context)
        self._made: Roster | None = None
        self._accounting: AccountingFile | None = None
        self._is_fresh = False
        """The roster knows of every job that may have been accepted."""
        self._waits = Waits()
        self._explained_at = float("-inf")
        self._may_force: bool | None = None
        """Whether the daemon's user is an operator or manager; None before somebody has asked."""

    @property
    def commands_run(self) -> int:
        """See the base class."""
        return self._commands.count

    def check(self) -> Sequence[Finding]:
        """Look at the commands, the cell and the files; change nothing."""
        return findings(self._commands, self._options, self.context.cluster_id)

    def version(self) -> str:
        """The first line of `qstat -help`."""
        return banner(self._commands, self._options)

    # Jobs.

    def submit(self, jobs: Sequence[JobSpec]) -> Sequence[Submission]:
        """One qsub for each job or, where several are alike, for an array of them."""
        roster = self._fresh_roster()
        # Until each is answered, any of them may be there.
        self._is_fresh = False
        answers = self._submitter.submit(jobs, roster)
        self._is_fresh = True
        return answers

    def cost(self, jobs: Sequence[JobSpec]) -> int:
        """A qsub for each group of jobs that are alike."""
        return len(groups(jobs, self._options)) + (0 if self._is_fresh else 1)

    def poll(self) -> Poll:
        """One qstat for all jobs; others only for arrays and errors not seen before, and for reasons to wait."""
        roster = self._roster()
        complete = self._list(roster)
        self._note_lost(roster)
        return Poll(tuple(roster.jobs(self._why_waiting(roster))), complete)

    def look_up(self, names: Sequence[str]) -> Mapping[str, End]:
        """From the accounting file, which the last poll has read."""
        roster = self._fresh_roster()
        roster.ends.refresh()
        found = ((name, roster.end(name)) for name in names if name.startswith(self._prefix))
        return {name: end for name, end in found if end is not None}

    def cancel(self, names: Sequence[str]) -> None:
        """One qdel for all; by force for those that were cancelled long ago and whose hosts are silent."""
        roster = self._fresh_roster()
        gentle: list[Live] = []
        forced: list[Live] = []
        wall, silent = self._clock.wall(), self._hosts.silent_for()
        for name in names:
            live = roster.live.get(name)
            if live is None:
                continue
            since = self._notes.get(NoteKind.CANCELLED, name)
            if since is None:
                self._notes.write(NoteKind.CANCELLED, name, f"{wall:.0f}")
                gentle.append(live)
            elif (
                wall - _seconds(since, wall) < self._options.force_after or live.host not in silent
            ):
                # Of an execd that seems to be alive the master deletes no job by force without danger.
                gentle.append(live)
            else:
                log.warning("%s is still there", live.place.job_id, extra={"action": "job_stays"})
                forced.append(live)
        self._delete(gentle)
        self._delete_by_force(forced)

    def prioritise(self, priorities: Mapping[str, int]) -> None:
        """One qalter for each priority. Tasks of one array have one: that of the most urgent."""
        roster = self._fresh_roster()
        wanted: dict[int, int] = {}
        for name, priority in priorities.items():
            live = roster.live.get(name)
            if live is not None and live.letters.state is JobState.WAITING:
                number = live.place.number
                wanted[number] = max(sge_priority(priority), wanted.get(number, -1024))
        by_priority: dict[int, list[int]] = {}
        for number, value in wanted.items():
            by_priority.setdefault(value, []).append(number)
        for value, numbers in sorted(by_priority.items()):
            for part in _parts([str(number) for number in numbers]):
                answer = self._run("qalter", "-p", str(value), *part)
                self._heed(answer, "qalter")

    def forget(self, names: Sequence[str]) -> None:
        """Remove files and notes; what Grid Engine keeps of a job whose end was told is deleted."""
        roster = self._roster()
        left = [roster.live[name] for name in names if name in roster.live and roster.is_over(name)]
        self._delete([live for live in left if live.letters.is_in_error])
        self._delete_by_force([live for live in left if not live.letters.is_in_error])
        roster.forget(names)

    # Nodes.

    def nodes(self) -> Sequence[Node]:
        """One qhost for all, and a qconf for each host that is new or was not looked at for long."""
        return self._hosts.nodes()

    def drain(self, node: str, reason: str) -> None:
        """Disable those of its queues that are not disabled yet."""
        self._hosts.drain(node, reason)

    def resume(self, node: str) -> None:
        """Enable the queues that `drain` has disabled."""
        self._hosts.resume(node)

    @property
    def admits(self) -> bool:
        """When the option `nodes` is ``dynamic``."""
        return self._options.nodes is NodeOrigin.DYNAMIC

    def admit(self, newcomer: Newcomer) -> str:
        """Make it an exec host, as yet without its execd."""
        return self._elastic.admit(newcomer)

    def remove(self, host: str) -> None:
        """Take it out of the cell; our jobs on it are lost."""
        roster = self._fresh_roster()
        for name, live in roster.live.items():
            if live.host == host and live.letters.state is JobState.RUNNING:
                roster.lose(name, f"{host} was removed")
        self._elastic.remove(host)
        self._hosts.forget(host)

    def close(self) -> None:
        """Let go of the accounting file."""
        if self._accounting is not None:
            self._accounting.close()

    # Inside: the queue.

    def _roster(self) -> Roster:
        """Made at the first call: to make a module costs nothing."""
        if self._made is None:
            options = self._options
            if options.accounting_file:
                dialect = find_dialect(self._commands, options)
                path = options.accounting_path(dialect)
                self._accounting = AccountingFile(path, NAME_PREFIX + self._prefix, dialect)
            ends = Ends(
                self.context.cluster_id,
                self._files,
                self._notes,
                self._clock,
                accounting=self._accounting,
                delay_seconds=options.accounting_delay,
            )
            self._made = Roster(self.context.cluster_id, self._notes, ends)
        return self._made

    def _fresh_roster(self) -> Roster:
        roster = self._roster()
        if not self._is_fresh and not self._list(roster):
            raise SchedulerError("sge: not all jobs can be listed")
        return roster

    def _list(self, roster: Roster) -> bool:
        answer = self._run("qstat", "-xml", "-u", ",".join(self._options.users))
        self._is_fresh = roster.listed(job_rows(answer.or_raise()), self._ask)
        return self._is_fresh

    def _ask(self, numbers: Collection[int]) -> Details:
        listed = ",".join(str(number) for number in sorted(numbers))
        return job_details(self._run("qstat", "-xml", "-j", listed).or_raise())

    def _why_waiting(self, roster: Roster) -> Waits:
        """Reasons of some jobs that wait; at most one command, and none while those that are known are fresh."""
        waiting = {
            live.place.number: None
            for live in roster.live.values()
            if live.letters.state is JobState.WAITING and not live.letters.is_in_error
        }
        numbers = list(waiting)[: self._options.explained_jobs]
        now = self._clock.elapsed()
        if now - self._explained_at < _EXPLAIN_SECONDS and self._waits.own.keys() >= set(numbers):
            return self._waits
        nothing: dict[int, tuple[str, ...]] = dict.fromkeys(numbers, ())
        self._waits = Waits(nothing)
        if numbers:
            self._explained_at = now
            try:
                details = self._ask(numbers)
                self._waits = Waits({**nothing, **details.waits}, details.general)
            except SchedulerError as error:
                log.info("nobody says why jobs wait: %s", error, extra={"action": "reasons_unread"})
        return self._waits

    def _note_lost(self, roster: Roster) -> None:
        """Jobs on hosts that nobody has heard of for long will not come back."""
        silent = self._hosts.silent_for()
        for name, live in roster.live.items():
            seconds = silent.get(live.host, 0.0)
            if (
                live.letters.state is JobState.RUNNING
                and seconds >= self._options.lost_after
                and not roster.is_over(name)
                and self._notes.get(NoteKind.CANCELLED, name) is None
            ):
                roster.lose(name, f"{live.host} was not heard of for {seconds:.0f} s")

    def _delete(self, lives: Iterable[Live], *options: str) -> None:
        for part in _parts(job_words(lives)):
            self._heed(self._run("qdel", *options, *part), "qdel")

    def _delete_by_force(self, lives: Sequence[Live]) -> None:
        """Where that is not ours to do, `qdel -f` would first wait for more than a minute."""
        if not lives:
            return
        if self._may_force is None:
            said = [self._run("qconf", option).output for option in ("-sm", "-so")]
            self._may_force = getpass.getuser() in names_listed(" ".join(said))
        if self._may_force:
            self._delete(lives, "-f")
            return
        log.warning(
            "%d jobs can only be deleted by force, for which the daemon's user has to be an "
            "operator of the cell (qconf -ao): %s",
            len(lives),
            " ".join(job_words(lives)[:10]),
            extra={"action": "force_needed", "jobs": len(lives)},
        )
        self._delete(lives)

    def _heed(self, answer: Answer, command: str) -> None:
        """A failure that is not about jobs that have just ended is worth a word."""
        if answer.status == 0:
            return
        said = f"{answer.output}\n{answer.complaint}".splitlines()
        odd = [line for line in said if "denied" in line and "does not exist" not in line]
        if any("commlib error" in line or "to qmaster" in line for line in said):
            raise SchedulerError(f"sge: {command}: {answer.words}")
        for line in odd[:3]:
            log.warning(
                "%s: %s",
                command,
                line.strip(),
                extra={"action": "command_complained", "command": command},
            )

    def _run(self, command: str, *words: str) -> Answer:
        return self._commands.run(self._options.command(command), *words)


def _seconds(note: str, otherwise: float) -> float:
    """The Unix time in a note, which a power cut may have spoilt."""
    return float(note) if note.strip().isdecimal() else otherwise


def _parts(words: Sequence[str]) -> list[Sequence[str]]:
    return [words[at : at + _IDS_PER_COMMAND] for at in range(0, len(words), _IDS_PER_COMMAND)]
