"""The Grid Engine module: which commands are run when. `docs/reference/sge.md` is the page for operators."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

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
from nodemanager.schedulers.script import refusal as script_refusal
from nodemanager.schedulers.sge.accounting import AccountingFile
from nodemanager.schedulers.sge.answers import Details, job_details, job_rows, submitted
from nodemanager.schedulers.sge.checks import find_dialect, findings
from nodemanager.schedulers.sge.elastic import ElasticHosts
from nodemanager.schedulers.sge.hosts import Hosts
from nodemanager.schedulers.sge.notes import NoteKind, Notes
from nodemanager.schedulers.sge.options import NodeOrigin, SgeOptions
from nodemanager.schedulers.sge.roster import Live, Roster
from nodemanager.schedulers.sge.submission import (
    NAME_PREFIX,
    Verdict,
    groups,
    qsub,
    refusal,
    sge_priority,
    verdict,
)

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
        self._made: Roster | None = None
        self._accounting: AccountingFile | None = None
        self._is_fresh = False
        """The roster knows of every job that may have been accepted."""
        self._waits: dict[int, str] = {}
        self._explained_at = float("-inf")

    @property
    def commands_run(self) -> int:
        """See the base class."""
        return self._commands.count

    def check(self) -> Sequence[Finding]:
        """Look at the commands, the cell and the files; change nothing."""
        return findings(self._commands, self._options, self.context.cluster_id)

    # Jobs.

    def submit(self, jobs: Sequence[JobSpec]) -> Sequence[Submission]:
        """One qsub for each job or, where several are alike, for an array of them."""
        roster = self._fresh_roster()
        answers: dict[str, Submission] = {}
        fresh: dict[str, JobSpec] = {}
        for spec in jobs:
            if spec.name in answers or spec.name in fresh:
                continue
            answer = self._known(spec, roster)
            if answer is None:
                fresh[spec.name] = spec
            else:
                answers[spec.name] = answer
        if fresh:
            answers |= self._submit(list(fresh.values()), roster)
        return [answers[spec.name] for spec in jobs]

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
        roster.refresh()
        found = ((name, roster.end(name)) for name in names if name.startswith(self._prefix))
        return {name: end for name, end in found if end is not None}

    def cancel(self, names: Sequence[str]) -> None:
        """One qdel for all; by force for those that were cancelled long ago."""
        roster = self._fresh_roster()
        gentle: list[Live] = []
        forced: list[Live] = []
        wall = self._clock.wall()
        for name in names:
            live = roster.live.get(name)
            if live is None:
                continue
            since = self._notes.get(NoteKind.CANCELLED, name)
            if since is None:
                self._notes.write(NoteKind.CANCELLED, name, f"{wall:.0f}")
                gentle.append(live)
            elif wall - float(since) < self._options.force_after:
                gentle.append(live)
            else:
                log.warning("%s is deleted by force", live.place.job_id, extra={"action": "cancel"})
                forced.append(live)
        self._delete(gentle)
        self._delete(forced, "-f")

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
        self._delete([live for live in left if not live.letters.is_in_error], "-f")
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

    # Inside: submission.

    def _known(self, spec: JobSpec, roster: Roster) -> Submission | None:
        """What can be answered without a qsub."""
        words = script_refusal(spec, self._prefix) or refusal(
            spec, self._options, self.context.sizes
        )
        if words:
            return Submission(spec.name, refused=words)
        job_id = roster.job_id(spec.name)
        if job_id:
            return Submission(spec.name, job_id=job_id)
        if roster.is_in_doubt(spec.name):
            return Submission(spec.name, busy="an earlier try may have been accepted")
        return None

    def _submit(self, specs: Sequence[JobSpec], roster: Roster) -> dict[str, Submission]:
        lots = groups(specs, self._options)
        arrays = [self._array_name() if len(lot) > 1 else "" for lot in lots]
        for lot, array in zip(lots, arrays, strict=True):
            roster.expect(lot, array)
        sizes = self.context.sizes
        # Until each is answered, any of them may be there.
        self._is_fresh = False
        calls = [
            qsub(lot, array, self._files, self._options, sizes)
            for lot, array in zip(lots, arrays, strict=True)
        ]
        said = self._commands.run_all(calls, self._options.submit_at_once)
        answers: dict[str, Submission] = {}
        doubts: list[str] = []
        for lot, array, answer in zip(lots, arrays, said, strict=True):
            if isinstance(answer, SchedulerError):
                doubts.append(str(answer))
                continue
            kind = verdict(answer, len(lot), self._options.nodes)
            if kind is Verdict.DOUBTFUL:
                doubts.append(f"qsub: {answer.words}")
            else:
                answers |= self._settle(lot, array, kind, answer, roster)
        if doubts:
            # What was accepted is in the roster, and answers when it is asked for again.
            raise SchedulerError(f"sge: {len(doubts)} of {len(lots)} submissions: {doubts[0]}")
        self._is_fresh = True
        return answers

    def _settle(
        self, lot: Sequence[JobSpec], array: str, kind: Verdict, answer: Answer, roster: Roster
    ) -> dict[str, Submission]:
        """What an answer that leaves no doubt means for each job of a lot."""
        if kind is Verdict.ACCEPTED:
            found = submitted(answer.output)
            if found is None:
                raise AssertionError(answer)
            roster.accepted(lot, found[0], array)
            return {s.name: Submission(s.name, roster.job_id(s.name)) for s in lot}
        names = [spec.name for spec in lot]
        roster.forget(names)
        match kind:
            case Verdict.BUSY:
                nothing = Submission("", busy=answer.words)
            case Verdict.UNPLACED:
                nothing = Submission("", unplaced=answer.words)
            case _:
                nothing = Submission("", refused=answer.words)
        return {name: replace(nothing, name=name) for name in names}

    def _array_name(self) -> str:
        return f"{self._prefix}array-{secrets.token_hex(8)}"

    # Inside: the queue.

    def _roster(self) -> Roster:
        """Made at the first call: to make a module costs nothing."""
        if self._made is None:
            options = self._options
            if options.accounting_file:
                dialect = find_dialect(self._commands, options)
                path = options.accounting_path(dialect)
                self._accounting = AccountingFile(path, NAME_PREFIX + self._prefix, dialect)
            self._made = Roster(
                self.context.cluster_id,
                self._files,
                self._notes,
                self._clock,
                accounting=self._accounting,
                delay_seconds=options.accounting_delay,
            )
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

    def _why_waiting(self, roster: Roster) -> Mapping[int, str]:
        """Reasons of some jobs that wait; at most one command, and none while those that are known are fresh."""
        waiting = {
            live.place.number: None
            for live in roster.live.values()
            if live.letters.state is JobState.WAITING and not live.letters.is_in_error
        }
        numbers = list(waiting)[: self._options.explained_jobs]
        now = self._clock.elapsed()
        if now - self._explained_at < _EXPLAIN_SECONDS and self._waits.keys() >= set(numbers):
            return self._waits
        self._waits = dict.fromkeys(numbers, "")
        if numbers:
            self._explained_at = now
            try:
                self._waits |= self._ask(numbers).waits
            except SchedulerError as error:
                log.info("nobody says why jobs wait: %s", error, extra={"action": "poll"})
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

    def _heed(self, answer: Answer, command: str) -> None:
        """A failure that is not about jobs that have just ended is worth a word."""
        if answer.status == 0:
            return
        said = f"{answer.output}\n{answer.complaint}".splitlines()
        odd = [line for line in said if "denied" in line and "does not exist" not in line]
        if any("commlib error" in line or "to qmaster" in line for line in said):
            raise SchedulerError(f"sge: {command}: {answer.words}")
        for line in odd[:3]:
            log.warning("%s: %s", command, line.strip(), extra={"action": command})

    def _run(self, command: str, *words: str) -> Answer:
        return self._commands.run(self._options.command(command), *words)


def job_words(lives: Iterable[Live]) -> list[str]:
    """The jobs as qdel is told of them: 7, 8.2-4."""
    tasks: dict[int, list[int]] = {}
    for live in lives:
        tasks.setdefault(live.place.number, []).append(live.place.task)
    words = []
    for number, mine in tasks.items():
        for first, last in _spans(sorted(mine)):
            span = str(first) if first == last else f"{first}-{last}"
            words.append(f"{number}.{span}" if first else str(number))
    return words


def _spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of numbers that follow each other."""
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1] = spans[-1][0], number
        else:
            spans.append((number, number))
    return spans


def _parts(words: Sequence[str]) -> list[Sequence[str]]:
    return [words[at : at + _IDS_PER_COMMAND] for at in range(0, len(words), _IDS_PER_COMMAND)]
