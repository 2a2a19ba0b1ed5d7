"""The local scheduler passes the suite, with the machine as one node and as several."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nodemanager.model import Resources
from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.conformance import Connect, SchedulerConformance
from nodemanager.schedulers.local import LocalScheduler
from nodemanager.schedulers.shares import Share, Shares

OPTIONS = {
    "cores": "4",
    "ram": "1 GiB",
    "scratch": "1 GiB",
    "kill_grace": "500 ms",
    "ram_allowance": "16 MiB",
}
ONE = Resources(cores=1, ram_bytes=256 << 20)
TWO = Resources(cores=2, ram_bytes=512 << 20)


@pytest.mark.processes
class TestLocal(SchedulerConformance):
    tells = True

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda cluster_id: LocalScheduler(
            SchedulerContext(cluster_id, tmp_path / "state", {**OPTIONS, "cores": "2"})
        )


@pytest.mark.processes
class TestLocalWithShares(SchedulerConformance):
    tells = True
    refuses_too_big = False
    grows = True

    @pytest.fixture
    def shares(self, tmp_path: Path) -> Shares:
        self.made = Shares(tmp_path / "machines")
        self.made.make_directory()
        self.add(Share("a", "1", "node-a", "small", ONE, ("alpha",)))
        self.add(Share("b", "2", "node-b", "large", TWO, ("alpha", "beta")))
        self.add(Share("c", "3", "node-c", "small", ONE, preemptible=True))
        return self.made

    def add(self, share: Share) -> None:
        self.made.write(share)

    def grow(self, resources: Resources) -> None:
        self.add(Share("d", "4", "node-d", "huge", resources, joins_at=time.time() + 0.1))

    @pytest.fixture
    def connect(self, tmp_path: Path, shares: Shares) -> Connect:
        options = {**OPTIONS, "machines": str(shares.directory)}
        return lambda cluster_id: LocalScheduler(
            SchedulerContext(cluster_id, tmp_path / "state", options)
        )
