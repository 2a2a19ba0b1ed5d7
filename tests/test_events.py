"""docs/reference/events.md is what the code logs: every action, its levels and its fields."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import nodemanager

PACKAGE = Path(nodemanager.__file__).parent
PAGE = Path(__file__).parents[1] / "docs/reference/events.md"

METHODS = ("debug", "info", "warning", "error", "exception", "critical", "log")
SPREAD = {"self._who": {"container", "attempt", "dispatcher"}, "_prefixed(numbers)": {"plan_..."}}
"""What stands behind fields that are not written out."""
TAKEN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "time", "level", "logger"}
"""Names that logging refuses, or that our JSON has already."""


@dataclass(frozen=True)
class Logged:
    """One call that logs."""

    where: str
    levels: frozenset[str]
    action: str
    fields: frozenset[str]


def logged() -> Iterator[Logged]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.is_relative_to(PACKAGE / "runner"):
            # A program of its own, whose log is a file beside the container's.
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in METHODS
                and ast.unparse(node.func.value) in ("log", "logger", "_log", "logging")
            ):
                yield read(node, node.func.attr, f"{path.relative_to(PACKAGE)}:{node.lineno}")


def read(call: ast.Call, method: str, where: str) -> Logged:
    if method == "log":
        found = set(re.findall(r"logging\.([A-Z]+)", ast.unparse(call.args[0])))
        levels = frozenset(level.lower() for level in found)
    else:
        levels = frozenset({"error" if method == "exception" else method})
    extra = next((k.value for k in call.keywords if k.arg == "extra"), None)
    assert isinstance(extra, ast.Dict), f"{where}: no extra={{...}}"
    fields: set[str] = set()
    action = ""
    for key, value in zip(extra.keys, extra.values, strict=True):
        if key is None:
            fields |= SPREAD[ast.unparse(value)]
        elif ast.literal_eval(key) == "action":
            action = ast.literal_eval(value)
        else:
            fields.add(ast.literal_eval(key))
    return Logged(where, levels, action, frozenset(fields))


CALLS = list(logged())


@dataclass(frozen=True)
class Described:
    levels: frozenset[str]
    fields: frozenset[str]


def described() -> dict[str, Described]:
    """The rows of all tables of the page; each action stands there once."""
    found: dict[str, Described] = {}
    rows = re.findall(
        r"^\| `(\w+)` \| ([\w, ]+) \|([^|]*)\| [^|]+ \|$", PAGE.read_text(), re.MULTILINE
    )
    for row in rows:
        action, levels, fields = row
        assert action not in found, f"{action} stands there twice"
        found[action] = Described(
            frozenset(levels.split(", ")), frozenset(re.findall(r"`([\w.]+)`", fields))
        )
    return found


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_every_line_of_the_log_has_an_action_in_words(call: Logged) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", call.action), call.where
    assert not call.fields & TAKEN, call.where


def test_the_page_lists_what_the_code_logs() -> None:
    page = described()
    assert page.keys() == {call.action for call in CALLS}
    for action, row in page.items():
        calls = [call for call in CALLS if call.action == action]
        assert row.levels == frozenset().union(*(call.levels for call in calls)), action
        assert row.fields == frozenset().union(*(call.fields for call in calls)), action


def test_actions_stand_in_order() -> None:
    """Within each table, so that one is found."""
    for section in PAGE.read_text().split("\n## ")[1:]:
        actions = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        assert actions == sorted(actions), section.partition("\n")[0]


def test_what_is_about_a_container_names_it() -> None:
    """With its attempt and its dispatcher, where these are known."""
    for call in CALLS:
        if call.action.startswith("container_") and call.action != "container_actor_crashed":
            assert {"container", "attempt", "dispatcher"} <= call.fields, call.where
        if call.where.startswith("dispatch/dispatcher"):
            assert "dispatcher" in call.fields, call.where
