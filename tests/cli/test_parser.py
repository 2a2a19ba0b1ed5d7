"""The command line, and the page that is made from it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from nodemanager.cli.command import PROG, Command, CommandGroup
from nodemanager.cli.commands import COMMANDS
from nodemanager.cli.parser import make_parser, parse
from nodemanager.cli.reference import page

REPOSITORY = Path(__file__).parents[2]
ALL = [
    command
    for entry in COMMANDS
    for command in (entry.commands if isinstance(entry, CommandGroup) else (entry,))
]


def test_the_page_is_up_to_date() -> None:
    there = (REPOSITORY / "docs/reference/command-line.md").read_text()
    assert there == page(), "make docs writes it anew"


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_every_command_has_an_example_that_is_understood(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.examples
    for example in command.examples:
        # What a shell would make of the rest is its affair.
        words = shlex.split(example.partition(" | ")[0].partition(" > ")[0].partition("$(")[0])
        if words[-1:] == ["watch"]:
            words.append("zzzzz-xvhdp-0123456789abcde")
        flags = parse(words)
        assert flags.command is command or flags.command.name == "watch"
    with pytest.raises(SystemExit) as caught:
        parse([*command.name.split(), "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"  {PROG} {command.examples[0]}\n" in shown


def test_the_config_file_may_stand_on_either_side() -> None:
    for words in (["--config", "f", "nodes", "list"], ["nodes", "list", "--config", "f"]):
        assert parse(words).config == Path("f")
    assert parse(["nodes"]).config is None
    assert parse(["--config", "f", "nodes"]).command.name == "nodes list"


@pytest.mark.parametrize("flag", ["--check", "--run=x", "--dry-run", "--json"])
def test_the_daemons_flags_go_with_no_subcommand(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([flag, "status"])
    assert caught.value.code == 2
    assert "goes before no subcommand" in capsys.readouterr().err


def test_help_fits_a_terminal() -> None:
    for line in make_parser().format_help().splitlines():
        assert len(line) <= 120
