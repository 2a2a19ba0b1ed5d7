"""What `--check` says of what came back, and of what did not."""

from __future__ import annotations

import pytest

from nodemanager.model import Finding
from nodemanager.outcome import End, EndKind
from nodemanager.probe.findings import Return, Told, findings
from nodemanager.runner.report import Check, Line, Report

TOLD = Told(command="/opt/runner --now", store="/srv/store")
UPLOADS = Told(command="/opt/runner --now", store="")
WELL = Report("n1", (Line(Check.API, "it answers"), Line(Check.STORE, "written")))
ILL = Report("n1", (Line(Check.API, "it answers"), Line(Check.STORE, problem="not mounted")))


def exited(
    code: int = 0, posted: Report | None = None, stored: Report | None = None, node: str = "n1"
) -> Return:
    return Return(node, End(EndKind.EXITED, code), posted, stored)


def test_a_report_is_told_line_by_line_with_the_node() -> None:
    assert list(findings(exited(posted=WELL, stored=WELL), TOLD)) == [
        Finding("API on n1", "it answers"),
        Finding("store on n1", "written"),
    ]


def test_the_node_is_called_what_the_scheduler_calls_it() -> None:
    [first, _] = findings(exited(stored=WELL, node="share-7"), TOLD)
    assert first.subject == "API on share-7"
    [first, _] = findings(exited(stored=WELL, node=""), TOLD)
    assert first.subject == "API on n1"


def test_a_store_that_is_not_the_same_here_and_there() -> None:
    *lines, last = findings(exited(posted=WELL), TOLD)
    assert len(lines) == 2
    assert last.subject == "store on n1"
    assert "/srv/store there does not appear here" in last.problem
    [last] = findings(exited(), TOLD)
    assert "/srv/store there does not appear here" in last.problem


@pytest.mark.parametrize("back", [exited(86, posted=ILL), exited(posted=WELL, stored=WELL)])
def test_it_is_not_said_of_one_that_could_not_be_written_or_was_seen(back: Return) -> None:
    assert not any("does not appear" in finding.problem for finding in findings(back, TOLD))


def test_without_a_store_a_posted_report_is_all_there_is() -> None:
    assert len(list(findings(exited(posted=WELL), UPLOADS))) == 2


@pytest.mark.parametrize("check", list(Check))
def test_without_a_report_the_exit_status_names_the_check(check: Check) -> None:
    [finding] = findings(exited(check.value), TOLD)
    assert finding.subject == f"{check.subject} on n1"
    assert "no report came back" in finding.problem


def test_an_exit_with_0_is_enough_where_no_report_can_come() -> None:
    [finding] = findings(exited(), UPLOADS)
    assert (finding.subject, finding.problem) == ("probe on n1", "")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (127, "not found"),
        (126, "cannot be executed"),
        (64, "another version"),
        (1, "exited with 1 and reported nothing"),
    ],
)
def test_other_exits_are_explained_and_the_command_is_named(code: int, words: str) -> None:
    [finding] = findings(exited(code), TOLD)
    assert words in finding.problem
    assert "[Runner] command = /opt/runner --now" in finding.problem


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End(EndKind.NODE_LOST), "its node was lost"),
        (End(EndKind.SIGNALLED, 9), "killed by SIGKILL"),
        (End(EndKind.SCHEDULER_ERROR, detail="refused: no such queue"), "no such queue"),
        (End(EndKind.VANISHED), "is gone"),
        (End(EndKind.OPERATOR_DELETED), "was deleted"),
    ],
)
def test_ends_that_are_no_exits(end: End, words: str) -> None:
    [finding] = findings(Return("", end, None, None), TOLD)
    assert finding.subject == "probe"
    assert words in finding.problem
