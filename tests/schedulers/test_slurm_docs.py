"""The page about Slurm says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nodemanager.model import JobState
from nodemanager.outcome import EndKind
from nodemanager.schedulers.slurm.options import DEFAULT_ARGUMENTS, DEFAULT_GPU_ARGUMENTS, OPTIONS
from nodemanager.schedulers.slurm.pending import REASONS, Pending
from nodemanager.schedulers.slurm.words import STATES, StateMeaning
from nodemanager.schedulers.templates import Arguments, ArgumentsKind

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "slurm.md").read_text()

ENDS = {
    EndKind.EXITED: "its exit status",
    EndKind.NODE_LOST: "node lost",
    EndKind.SCHEDULER_ERROR: "scheduler error",
    EndKind.TIME_LIMIT: "time limit",
    EndKind.OUT_OF_MEMORY: "out of memory",
}


def section(title: str) -> str:
    return re.split(r"^##+ ", PAGE.split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the table in a section."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_option_is_there_with_its_default() -> None:
    table = rows("Options of `[Scheduler]`")
    assert [row[0].strip("`") for row in table] == list(OPTIONS)
    told = {row[0].strip("`"): row[1] for row in table}
    assert f"`{DEFAULT_ARGUMENTS}`" in told["sbatch_arguments"]
    assert f"`{DEFAULT_GPU_ARGUMENTS}`" in told["sbatch_gpu_arguments"]


def test_every_letter_of_templates_is_there() -> None:
    letters = re.findall(r"`%(.)`", section("Options of `[Scheduler]`"))
    assert len(letters) >= 9
    for letter in letters:
        arguments: Arguments = ArgumentsKind().parse(f"-x %{letter}")
        assert arguments.words == ("-x", f"%{letter}")


def meaning_of(word: str) -> str:
    (told,) = [row[1] for row in rows("Job states") if f"`{word}`" in row[0]]
    return told


@pytest.mark.parametrize("word", STATES)
def test_every_state_means_what_the_page_says(word: str) -> None:
    told = meaning_of(word)
    match STATES[word]:
        case StateMeaning(JobState.WAITING, None):
            assert told == "waits"
        case StateMeaning(JobState.RUNNING, None):
            assert told == "runs"
        case StateMeaning(JobState.ENDED, EndKind() as kind):
            assert told == f"ended: {ENDS[kind]}"
        case StateMeaning(JobState.ENDED, None):
            assert told.startswith("ended: ")


def test_no_other_state_is_there() -> None:
    words = [word for row in rows("Job states") for word in re.findall(r"`(\w+)`", row[0])]
    assert sorted(words) == sorted(STATES)


def test_every_reason_is_told_as_on_the_page() -> None:
    told = {row[0].strip("`"): row[1:] for row in rows("Why a job waits")}
    assert told == {word: cells_of(pending) for word, pending in REASONS.items()}


def cells_of(pending: Pending) -> list[str]:
    whose = pending.token.knob if pending.whose is None else pending.whose
    return [pending.sentence, f"`{pending.token}`", f"`{whose}`", pending.advice]
