"""The example file and the reference page are what the options say, and the example works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nodemanager.config import load, parse
from nodemanager.config.pages import example, reference
from nodemanager.config.tree import SECTIONS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "etc" / "nodemanager.cfg.example"


@pytest.mark.parametrize(
    ("page", "text", "flag"),
    [
        (EXAMPLE, example(), "--example"),
        (ROOT / "docs" / "reference" / "configuration.md", reference(), "--reference"),
    ],
)
def test_the_committed_page_is_up_to_date(page: Path, text: str, flag: str) -> None:
    advice = f"run: python -m nodemanager.config {flag} > {page.relative_to(ROOT)}"
    assert page.read_text() == text, advice


def test_the_command_prints_the_page() -> None:
    command = [sys.executable, "-m", "nodemanager.config", "--example"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == example()


def test_the_example_loads_as_it_is() -> None:
    config = load(EXAMPLE, {})
    assert config.is_embedded
    assert config.daemon.state_dir == ROOT / "state"
    assert config.runner.input_dirs == (ROOT / "etc" / "examples",)
    assert config.warnings == ()
    assert config.cloud.provider == "loopback"
    assert config.sizes["worker"].cores == 2
    given = {section for section, _ in config.origins}
    assert given == {"Daemon", "Runner", "Cloud", "Size worker"}


def test_every_option_is_in_the_example() -> None:
    lines = example().splitlines()
    for part in SECTIONS:
        for made in part.options():
            assert any(re.match(rf"#?{made.name} =", line) for line in lines), made.name


def test_removing_the_hash_of_a_default_changes_nothing() -> None:
    """Each commented option, by itself, gives the very value it had as a comment."""
    plain = load(EXAMPLE, {})
    lines = example().splitlines()
    tried = 0
    for index, line in enumerate(lines):
        if re.match(r"#[A-Za-z_]+ =", line) and "Size" not in _section_of(lines, index):
            header = _section_of(lines, index)
            if header.startswith("#"):
                # A section that is not there: several schedulers.
                continue
            section = header.strip("[]")
            part = next(part for part in SECTIONS if part.name == section)
            if line.removeprefix("#").split(" =")[0].lower() not in {o.key for o in part.options()}:
                continue
            text = "\n".join([*lines[:index], line[1:], *lines[index + 1 :]])
            config = parse(text, EXAMPLE)
            assert getattr(config, part.attribute) == getattr(plain, part.attribute)
            tried += 1
    assert tried > 60


def _section_of(lines: list[str], index: int) -> str:
    return next(line for line in reversed(lines[:index]) if re.match(r"#?\[", line))


def test_the_example_size_loads_when_its_lines_are_uncommented() -> None:
    lines = example().splitlines()
    start = lines.index("[Size worker]")
    text = "\n".join(re.sub(r"^#(?=[a-z])", "", line) for line in lines[start:])
    size = parse(text, EXAMPLE).sizes["worker"]
    assert (size.cores, size.price, size.gpus, size.preemptible) == (2, 0.10, 0, False)
    assert size.partitions == ()


def test_lines_are_not_too_long_to_read() -> None:
    assert max(len(line) for line in example().splitlines()) <= 88
