"""The local scheduler passes the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.conformance import Connect, SchedulerConformance
from nodemanager.schedulers.local import LocalScheduler

OPTIONS = {"cores": "2", "ram": "1 GiB", "scratch": "1 GiB", "kill_grace": "500 ms"}


@pytest.mark.processes
class TestLocal(SchedulerConformance):
    tells = True

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda cluster_id: LocalScheduler(
            SchedulerContext(cluster_id, tmp_path / "state", {**OPTIONS, "ram_allowance": "16 MiB"})
        )
