"""Every command that the documentation tells people to type is one."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodemanager.cli.parser import make_parser
from nodemanager.server import main as api_server
from tests.docs.pages import DOCS, PAGES, name_of

PARSERS = {"arvados-node-manager": make_parser, "arvados-dispatch-api": api_server._parser}
_PROGRAM = rf"(?:{'|'.join(PARSERS)})"
_SPAN = re.compile(rf"`({_PROGRAM} [^`]+)`")
_LINE = re.compile(rf"^(?: {{4,}}|\$ )({_PROGRAM} (?:[^\n]*\\\n)*[^\n]+)", re.MULTILINE)
_SHELL = re.compile(r" (?:[|&>#]|-- \\).*| &$")


@dataclass(frozen=True, slots=True)
class Typed:
    """What somebody is told to type."""

    page: Path
    text: str
    is_named: bool
    """It stands in a sentence."""

    def __str__(self) -> str:
        return f"{name_of(self.page)}: {self.text}"

    @property
    def words(self) -> list[str]:
        """The words that the command gets, with something in the place of what others print."""
        text = re.sub(r"\$\([^)]*\)", "UUID", self.text.replace("\\\n", " "))
        return shlex.split(_SHELL.sub("", text.replace("...", "")))


def typed() -> Iterator[Typed]:
    for page in PAGES:
        # That one is made of the parser.
        if page != DOCS / "reference" / "command-line.md":
            for pattern in (_SPAN, _LINE):
                for text in dict.fromkeys(pattern.findall(page.read_text())):
                    # What has brackets tells of many.
                    if "[" not in text:
                        yield Typed(page, text, is_named=pattern is _SPAN)


@pytest.mark.parametrize("typed", [*typed()], ids=str)
def test_it_can_be_typed(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    program, *words = typed.words
    parser: argparse.ArgumentParser = PARSERS[program]()
    with suppress(SystemExit):
        parser.parse_args(words)
    said = capsys.readouterr().err
    # In a sentence a command may be named without what it takes.
    assert not said or (typed.is_named and "required" in said), said
