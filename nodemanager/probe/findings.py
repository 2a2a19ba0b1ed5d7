"""From what came back of a probe to the lines of `--check`. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodemanager.model import Finding
from nodemanager.outcome import End, EndKind, judge_job
from nodemanager.runner.report import Check, Report

SHELL_STATUSES = (126, 127)
"""Of a shell: the command is no program, or is not there."""

RUNNER_REFUSES = 64
"""The runner cannot use its specification (`nodemanager.runner.__main__`)."""


@dataclass(frozen=True, slots=True)
class Return:
    """What came back of a probe whose job has ended."""

    node: str
    """In the scheduler's words; empty when it does not tell."""
    end: End
    posted: Report | None
    """What it posted to the API."""
    stored: Report | None
    """What it left in the store, as seen from here."""


@dataclass(frozen=True, slots=True)
class Told:
    """The configuration, as far as advice names it."""

    command: str
    """`[Runner] command`."""
    store: str
    """The directory; empty when logs and outputs are uploaded."""


def findings(back: Return, told: Told) -> Iterator[Finding]:
    """The report line by line, or what the end of the job tells instead."""
    report = back.stored or back.posted
    if report is None:
        yield from _without_report(back, told)
        return
    where = back.node or report.node
    for line in report.lines:
        yield Finding(f"{line.check.subject} on {where}", line.detail, line.problem)
    if told.store and back.stored is None and report.is_well(Check.STORE):
        yield _elsewhere(where, told.store)


def _elsewhere(where: str, store: str) -> Finding:
    return Finding(
        f"store on {where}",
        problem=f"what was written to {store} there does not appear here: it is not the same directory; mount"
        " the shared file system on both",
    )


def _without_report(back: Return, told: Told) -> Iterator[Finding]:
    where = back.node or "its node"
    subject = f"probe on {where}" if back.node else "probe"
    if back.end.kind is not EndKind.EXITED:
        words = judge_job(back.end).error
        yield Finding(subject, problem=f"{words}; [Runner] command = {told.command}")
        return
    check = Check.of_status(back.end.code)
    if check is not None:
        yield Finding(
            f"{check.subject} on {where}",
            problem="does not work there; no report came back, but the output of the job says why",
        )
    elif back.end.code == 0 and told.store:
        yield _elsewhere(where, told.store)
    elif back.end.code == 0:
        yield Finding(subject, "found no problem; it cannot report details with this token")
    elif back.end.code in SHELL_STATUSES:
        yield Finding(
            subject,
            problem=f"the runner was not found or cannot be executed there: [Runner] command ="
            f" {told.command}; install it there, or set the command as nodes find it",
        )
    elif back.end.code == RUNNER_REFUSES:
        yield Finding(
            subject,
            problem="the runner there does not understand its specification: it is of another version than"
            f" this daemon, or nothing came on its standard input; [Runner] command = {told.command}",
        )
    else:
        yield Finding(
            subject,
            problem=f"exited with {back.end.code} and reported nothing; [Runner] command = {told.command}:"
            " try it there by hand",
        )
