"""The page about Grid Engine says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from nodemanager.schedulers.sge.dialects import DIALECTS, dialect_of
from nodemanager.schedulers.sge.options import OPTIONS
from nodemanager.schedulers.sge.pending import OBSTACLES, Obstacle
from nodemanager.schedulers.sge.states import FAILED, JOB_LETTERS, Failed
from nodemanager.schedulers.templates import Arguments, ArgumentsKind

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "sge.md").read_text()


def section(title: str) -> str:
    return re.split(r"^##+ ", PAGE.split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the table in a section."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def numbers(cell: str) -> set[int]:
    spans = (re.findall(r"\d+", part) for part in cell.split(","))
    return {n for span in spans if span for n in range(int(span[0]), int(span[-1]) + 1)}


def test_every_option_is_there() -> None:
    written = [
        name for row in rows("Options of `[Scheduler]`") for name in re.findall(r"`(\w+)`", row[0])
    ]
    assert written == list(OPTIONS)


def test_every_letter_is_explained() -> None:
    letters = set(re.findall(r"`([A-Za-z])`", section("States").split("**In error")[0]))
    assert letters == set(JOB_LETTERS)


def test_every_code_is_in_its_row() -> None:
    known = [(numbers(row[0]), row[2]) for row in rows("How a job ended")]
    meaning = {
        Failed.NOT: "its exit status",
        Failed.AFTER: "its exit status",
        Failed.START: "scheduler error",
        Failed.NODE: "node lost",
        Failed.AGAIN: "not an end",
        Failed.LIMIT: "time limit",
        Failed.KILLED: "KILL",
    }
    for code, (kind, _) in FAILED.items():
        (ends,) = [text for codes, text in known if code in codes]
        assert ends.startswith(meaning[kind]), code


def test_every_dialect_is_there() -> None:
    table = rows("Dialects")
    assert [row[0] for row in table] == [dialect.name for dialect in DIALECTS]
    for row, dialect in zip(table, DIALECTS, strict=True):
        assert dialect_of(row[1].strip("`")) is dialect
        assert f"`{dialect.accounting_name}`" in row[2]
        assert row[3] == {1: "s", 1000: "ms", 1_000_000: "us"}[dialect.ticks_per_second]
        assert row[4].startswith("yes" if dialect.ran else "no")


def test_every_letter_of_templates_is_there() -> None:
    for letter in re.findall(r"`%(.)`", section("Options of `[Scheduler]`")):
        arguments: Arguments = ArgumentsKind().parse(f"-x %{letter}")
        assert arguments.words == ("-x", f"%{letter}")


def test_every_obstacle_is_told_as_on_the_page() -> None:
    told = {row[0].strip("`"): row[1:] for row in rows("Why a job waits") if len(row) == 5}
    told.pop("in the facts", None)
    assert told == {name: cells_of(obstacle) for name, obstacle in OBSTACLES.items()}


def cells_of(obstacle: Obstacle) -> list[str]:
    whose = obstacle.token.knob if obstacle.whose is None else obstacle.whose
    words = obstacle.sentence.replace("{n}", "N").replace("{what}", "...")
    return [words, f"`{obstacle.token}`", f"`{whose}`", obstacle.advice]
