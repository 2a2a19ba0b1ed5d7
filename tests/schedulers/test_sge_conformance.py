"""The Grid Engine module passes the suite, on a real Grid Engine: on several hosts where root may make them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.conformance import Connect, SchedulerConformance
from nodemanager.schedulers.sge.scheduler import GridEngineScheduler
from tests.clusters.gridengine import (
    H_VMEM_CONSUMABLE,
    GridEngineCell,
    GridEngineMissing,
    GridEngineSettings,
    GridQueue,
)
from tests.clusters.hosts import NamespacesMissing

QUICK = (("notify", "0:0:2"),)
COMPLEXES = (
    H_VMEM_CONSUMABLE,
    "ram ram MEMORY <= YES YES 0 0",
    "scratch scratch MEMORY <= YES YES 0 0",
    "exclusive excl BOOL EXCL YES YES 0 1000",
)
VALUES = ("slots=3", "ram=4G", "scratch=10G", "exclusive=true")


def options_of(cell: GridEngineCell, **more: str) -> Mapping[str, str]:
    """What the module is told about a cell of the tests."""
    return {
        "commands": cell.env["PATH"].partition(":")[0],
        "sge_root": cell.env["SGE_ROOT"],
        "sge_cell": cell.env["SGE_CELL"],
        "sge_qmaster_port": cell.env["SGE_QMASTER_PORT"],
        "memory_resource": "ram",
        "scratch_resource": "scratch",
        "exclusive_resource": "exclusive",
        **more,
    }


QUEUES = {"all.q": ("h1", "h2"), "large.q": ("h2",), "spot.q": ("h3",)}


@pytest.fixture(scope="module")
def cell() -> Iterator[GridEngineCell]:
    """Three hosts, of which one is in another queue too and one can be taken away; or this machine alone."""
    common = GridEngineSettings(complexes=COMPLEXES, host_values=VALUES)
    queues = tuple(GridQueue(name, 3, ("NONE",), QUICK) for name in QUEUES)
    several = replace(common, queues=queues, hosts=("h1", "h2", "h3"))
    single = replace(common, queues=(GridQueue("all.q", 3, options=QUICK),))
    try:
        running = GridEngineCell(several).__enter__()
    except NamespacesMissing:
        running = GridEngineCell(single).__enter__()
    except GridEngineMissing as error:
        pytest.skip(str(error))
    if running.settings is several:
        for queue, hosts in QUEUES.items():
            for host in hosts:
                running.run("qconf", "-aattr", "queue", "hostlist", host, queue)
        running.wait_for_queues(4)
    yield running
    running.__exit__()


@pytest.mark.processes
class TestGridEngine(SchedulerConformance):
    reports_signals = False
    refuses_too_big = False
    enforces_ram = False
    pause = 0.05

    @pytest.fixture
    def connect(self, cell: GridEngineCell, tmp_path: Path) -> Connect:
        options = options_of(cell, preemptible_queues="spot.q", accounting_delay="3 s")
        return lambda cluster_id: GridEngineScheduler(
            SchedulerContext(cluster_id, tmp_path / "state", options)
        )
