"""The page about the server's command names everything that its parser knows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from nodemanager.server import main as api_server
from tests.docs.pages import DOCS

PAGE = DOCS / "reference" / "api-server.md"


def known(parser: argparse.ArgumentParser, verb: str = "") -> Iterator[str]:
    """The verbs in full, and the options."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from known(inner, f"{verb} {name}".strip())
        elif action.option_strings and action.dest != "help":
            yield action.option_strings[-1]
    if " " in verb:
        yield verb


def test_nothing_is_left_out() -> None:
    page = PAGE.read_text()
    for words in known(api_server._parser()):
        assert f"`{words}" in page or f" {words} " in page, words
