"""The tutorial, done from its first line to its last."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.daemons import Site, free_port
from tests.docs.console import Step, Terminal, match, steps_of
from tests.docs.pages import DOCS

PAGE = DOCS / "tutorial" / "first-elastic-cluster.md"
ASKING = tuple(f"arvados-node-manager {verb}" for verb in ("status", "queue", "why", "nodes list"))


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    # Where a clone would be: with a Makefile, whose virtual environment is that of the tests.
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "Makefile").write_text("venv:\n")
    terminal = Terminal(tmp_path, {"COLUMNS": "160"})
    yield terminal
    terminal.close()
    # If it broke off in the middle, jobs are left.
    left = Site(tmp_path)
    left.state = tmp_path / "first-cluster" / "state"
    left.end()


@pytest.mark.processes
@pytest.mark.timeout(400)
def test_a_new_user_gets_to_the_end(terminal: Terminal) -> None:
    # A machine where tests run at the same time has one such port and one such file.
    own = {"8989": str(free_port()), "/tmp/go": str(terminal.directory / "go")}
    for step in steps_of(PAGE):
        text = step.text
        for shared, ours in own.items():
            text = text.replace(shared, ours)
        terminal.do(Step(step.saved, text, step.shown), ASKING)
    assert not (terminal.directory / "first-cluster").exists()


def test_what_is_shown_may_differ_in_names_and_times() -> None:
    shown = (
        "zzzzz-xvhdp-aaaaaaaaaaaaaaa  for 3 s ...",
        "...",
        "again zzzzz-xvhdp-aaaaaaaaaaaaaaa",
    )
    name = "zzzzz-xvhdp-bbbbbbbbbbbbbbb"
    assert match(shown, [f"{name}   for 12 min, or so", "more", f"again {name}"], {}) == {
        "zzzzz-xvhdp-aaaaaaaaaaaaaaa": name
    }
    assert match(shown, [f"{name} for 1 s", "again zzzzz-xvhdp-ccccccccccccccc"], {}) is None
    assert match(("2 nodes",), ["3 nodes"], {}) is None
    assert match(("2 nodes",), ["2 nodes", "and more"], {}) is None
    assert match(("...", "2 nodes"), ["and", "", "2 nodes"], {}) == {}
