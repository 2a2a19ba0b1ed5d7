"""The page about modules of one's own: its example passes the suite on the real Task Spooler."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodemanager.schedulers.base import Scheduler, SchedulerContext
from nodemanager.schedulers.conformance import Connect, SchedulerConformance
from tests.clusters import packages

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-scheduler-module.md"


class TaskSpoolerMissing(Exception):
    """It is not installed, and cannot be."""


def example() -> type[Scheduler]:
    """The class on the page."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    found: type[Scheduler] = names["TaskSpooler"]
    return found


@pytest.mark.processes
class TestTaskSpooler(SchedulerConformance):
    exclusive = False
    reprioritises = False
    drains = False
    enforces_ram = False
    shortest_time_limit = 0

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Iterator[Connect]:
        try:
            packages.ensure(
                ("task-spooler",), lambda: shutil.which("tsp") is not None, TaskSpoolerMissing
            )
        except TaskSpoolerMissing as error:
            pytest.skip(str(error))
        made = example()
        yield lambda cluster_id: made(
            SchedulerContext(cluster_id, tmp_path / "tsp", {"slots": "4"})
        )
        environment = {**os.environ, "TS_SOCKET": str(tmp_path / "tsp/socket")}
        subprocess.run(["tsp", "-K"], env=environment, check=True)


def test_the_flags_on_the_page_are_those_that_pass() -> None:
    _, section = PAGE.read_text().split("## Put it to the test")
    shown = re.findall(r"^        (\w+) = (\w+)", section, re.MULTILINE)
    declared = {name: value for name, value in vars(TestTaskSpooler).items() if name in dict(shown)}
    assert {name: str(value) for name, value in declared.items()} == dict(shown)
