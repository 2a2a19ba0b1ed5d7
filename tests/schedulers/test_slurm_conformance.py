"""The suite of all schedulers on a real Slurm: jobs one by one, and as arrays."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodemanager.schedulers.base import Scheduler, SchedulerContext
from nodemanager.schedulers.conformance import Connect, SchedulerConformance
from nodemanager.schedulers.slurm.scheduler import SlurmScheduler
from tests.clusters.slurm import SlurmCluster


class TestSlurm(SchedulerConformance):
    patience = 30.0
    pause = 0.05
    enforces_ram = False
    """Without cgroups Slurm counts memory and does not limit it."""
    shortest_time_limit = 0
    """Slurm's are minutes, and looked at every 30 s: too slow for a suite; see test_slurm_ends."""
    keeps_order = False
    """Of an array of Slurm's the last task may go before another one that was looked at in vain."""
    forgets = False
    """MinJobAge does that."""

    @pytest.fixture
    def connect(self, tmp_path: Path, slurm: SlurmCluster) -> Connect:
        slurm.run("sinfo")

        def connect(cluster_id: str) -> Scheduler:
            state_dir = tmp_path / cluster_id
            options = {"conf": str(slurm.conf), "preemptible_partitions": "spot"}
            return SlurmScheduler(SchedulerContext(cluster_id, state_dir, options, 30))

        return connect
