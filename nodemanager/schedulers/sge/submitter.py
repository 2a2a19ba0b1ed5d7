"""Handing jobs to qsub, and telling what became of each."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from nodemanager.errors import SchedulerError
from nodemanager.schedulers.base import JobSpec, SchedulerContext, Submission
from nodemanager.schedulers.commands import Answer, Commands
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.script import refusal as script_refusal
from nodemanager.schedulers.sge.answers import submitted
from nodemanager.schedulers.sge.options import SgeOptions
from nodemanager.schedulers.sge.roster import Roster
from nodemanager.schedulers.sge.submission import Verdict, groups, qsub, refusal, verdict


class Submitter:
    """See the module's docstring."""

    def __init__(
        self,
        commands: Commands,
        options: SgeOptions,
        files: JobFiles,
        context: SchedulerContext,
    ) -> None:
        self._commands = commands
        self._options = options
        self._files = files
        self._prefix = f"{context.cluster_id}-"
        self._sizes = context.sizes

    def submit(self, jobs: Sequence[JobSpec], roster: Roster) -> list[Submission]:
        """Submit those that `roster`, which is up to date, does not know; the answer for each, in order.

        Raises `SchedulerError` when one of them may or may not have been accepted; those that were are in the
        roster then.
        """
        answers: dict[str, Submission] = {}
        fresh: dict[str, JobSpec] = {}
        for spec in jobs:
            answer = self._known(spec, roster)
            if answer is not None:
                answers[spec.name] = answer
            else:
                fresh.setdefault(spec.name, spec)
        if fresh:
            answers |= self._hand_over(list(fresh.values()), roster)
        return [answers[spec.name] for spec in jobs]

    def _known(self, spec: JobSpec, roster: Roster) -> Submission | None:
        """What can be answered without a qsub."""
        words = script_refusal(spec, self._prefix) or refusal(spec, self._options, self._sizes)
        if words:
            return Submission(spec.name, refused=words)
        job_id = roster.job_id(spec.name)
        if job_id:
            return Submission(spec.name, job_id=job_id)
        if roster.ends.is_in_doubt(spec.name):
            return Submission(spec.name, busy="an earlier try may have been accepted")
        return None

    def _hand_over(self, specs: Sequence[JobSpec], roster: Roster) -> dict[str, Submission]:
        lots = groups(specs, self._options)
        arrays = [self._array_name() if len(lot) > 1 else "" for lot in lots]
        for lot, array in zip(lots, arrays, strict=True):
            roster.ends.expect(lot, array)
        calls = [
            qsub(lot, array, self._files, self._options, self._sizes)
            for lot, array in zip(lots, arrays, strict=True)
        ]
        said = self._commands.run_all(calls, self._options.submit_at_once)
        answers: dict[str, Submission] = {}
        doubts: list[str] = []
        for lot, array, answer in zip(lots, arrays, said, strict=True):
            if isinstance(answer, SchedulerError):
                doubts.append(str(answer))
                continue
            meaning = verdict(answer, len(lot), self._options.nodes)
            if meaning is Verdict.DOUBTFUL:
                doubts.append(f"qsub: {answer.words}")
            else:
                answers |= _settle(lot, array, meaning, answer, roster)
        if doubts:
            raise SchedulerError(f"sge: {len(doubts)} of {len(lots)} submissions: {doubts[0]}")
        return answers

    def _array_name(self) -> str:
        return f"{self._prefix}array-{secrets.token_hex(8)}"


def _settle(
    lot: Sequence[JobSpec], array: str, meaning: Verdict, answer: Answer, roster: Roster
) -> dict[str, Submission]:
    """What an answer that leaves no doubt means for each job of a lot."""
    names = [spec.name for spec in lot]
    found = submitted(answer.output)
    if meaning is Verdict.ACCEPTED and found is not None:
        roster.accepted(lot, found[0], array)
        return {name: Submission(name, job_id=roster.job_id(name)) for name in names}
    roster.forget(names)
    match meaning:
        case Verdict.BUSY:
            return {name: Submission(name, busy=answer.words) for name in names}
        case Verdict.UNPLACED:
            return {name: Submission(name, unplaced=answer.words) for name in names}
        case _:
            return {name: Submission(name, refused=answer.words) for name in names}
