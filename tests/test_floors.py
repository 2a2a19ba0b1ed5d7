"""Imports go down the house, never up: the floors of the design page, section 2."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nodemanager
from tests.docs.pages import blocks

PACKAGE = Path(nodemanager.__file__).parent

FLOORS = [
    {
        *("nodemanager", "errors", "clock", "rule", "model", "reason", "durable", "metrics"),
        *("masking", "notify"),
    },
    {
        "fit",
        "outcome",
        "container_request",
        "statedir",
        "mount_plan",
        "output_tree",
        "work",
        "pieces",
    },
    {"config", "actors"},
    {"plugins", "logs"},
    {"api", "schedulers", "clouds"},
    {"nodes"},
    {"dispatch"},
    {"elastic", "status", "reach"},
    {"runs", "daemon"},
    {"check", "probe", "serve", "herald", "reload", "dry_run"},
    {"cli"},
    {"launcher"},
]
"""From the ground up; parts of one floor may import each other if no circle comes of it."""

BESIDE = {
    "server": {
        "errors",
        "clock",
        "rule",
        "model",
        "reason",
        "fit",
        "outcome",
        "container_request",
        "config",
        "durable",
        "logs",
        "notify",
    },
    "runner": {
        "errors",
        "clock",
        "rule",
        "model",
        "reason",
        "fit",
        "outcome",
        "container_request",
        "config",
        "durable",
        "mount_plan",
        "output_tree",
        "pieces",
        "work",
    },
}
"""What stands beside the daemon: they share the ground with it and speak to it over HTTP only."""

EXCEPTIONS = {
    # The job is told what to do in the runner's own words.
    ("dispatch", "runner.spec"),
    ("daemon", "runner.spec"),
    # A probe's report is read in them, too.
    ("probe", "runner.report"),
    # The limits on what one connection may cost are the same for both servers.
    ("status", "server.protocol"),
    # The harness puts the whole house on one table.
    ("testing", "*"),
}


def test_the_page_about_the_house_has_the_same_floors() -> None:
    (block,) = blocks("text floors")
    shown = [set(line.split(", ")) for line in block.text.splitlines()]
    assert shown == [floor - {"nodemanager"} for floor in FLOORS]


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _part(module: str) -> str:
    return module.split(".")[1] if "." in module else "nodemanager"


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in found:
                as_path = PACKAGE.parent / Path(*name.split("."))
                is_module = as_path.with_suffix(".py").exists() or as_path.is_dir()
                yield name if is_module else node.module


def _floor(part: str) -> int:
    for number, parts in enumerate(FLOORS):
        if part in parts:
            return number
    raise AssertionError(f"nodemanager.{part} is on no floor: add it to FLOORS")


def _allowed(importer: str, imported: str) -> bool:
    here, there = _part(importer), _part(imported)
    if here == there or (here, "*") in EXCEPTIONS:
        return True
    if (here, imported.removeprefix("nodemanager.")) in EXCEPTIONS:
        return True
    if there in BESIDE or there == "testing":
        return False
    if here in BESIDE:
        return there in BESIDE[here] or there == "nodemanager"
    return _floor(there) <= _floor(here)


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_imports_go_down(path: Path) -> None:
    importer = _name(path)
    ours = [name for name in _imports(path) if name.split(".")[0] == "nodemanager"]
    wrong = [name for name in ours if not _allowed(importer, name)]
    assert not wrong, f"{importer} imports {wrong}"


def test_no_circles_between_parts() -> None:
    edges: dict[str, set[str]] = {}
    for path in _modules():
        here = _part(_name(path))
        for name in _imports(path):
            if name.split(".")[0] == "nodemanager" and _part(name) != here:
                edges.setdefault(here, set()).add(_part(name))
    # The runner is a program of its own; only its spec is shared.
    edges.pop("runner", None)

    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        return any(
            following == goal
            or (following not in seen and reaches(following, goal, seen | {following}))
            for following in edges.get(start, ())
        )

    circles = [part for part in edges if reaches(part, part, {part})]
    assert not circles


def test_an_upward_import_is_found() -> None:
    assert not _allowed("nodemanager.model", "nodemanager.dispatch.steps")
    assert not _allowed("nodemanager.server.app", "nodemanager.actors.pool")
    assert not _allowed("nodemanager.daemon", "nodemanager.server.service")
    assert _allowed("nodemanager.dispatch.steps", "nodemanager.model")
