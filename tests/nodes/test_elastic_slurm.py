"""The whole daemon with a real Slurm that has no nodes: they are booted for what waits, and go when nothing does."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.daemons import BOUND_SECONDS, Site, create, state_of, wait_for
from tests.clusters.slurm import NodeKind, SlurmCluster, SlurmMissing, SlurmNode, SlurmSettings

pytestmark = pytest.mark.processes

NODES = 4
CORES, RAM_MB = 4, 2048


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """Its nodes are defined, and not to be seen until a machine comes."""
    nodes = tuple(
        SlurmNode(f"cloud{n}", CORES, RAM_MB, tmp_mb=10_000, kind=NodeKind.FUTURE)
        for n in range(1, NODES + 1)
    )
    try:
        with SlurmCluster(SlurmSettings(nodes)) as cluster:
            monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
            monkeypatch.setenv("PATH", cluster.env["PATH"])
            yield cluster
    except SlurmMissing as error:
        pytest.skip(str(error))


class Elastic:
    """A daemon that boots slurmds on this machine."""

    def __init__(self, site: Site, slurm: SlurmCluster) -> None:
        self.site, self.slurm = site, slurm
        self.ledger = site.folder / "ledger"
        self.ledger.mkdir()
        site.write(
            f"""\
[Cloud]
provider = loopback
shutdown_windows = 0, 999999
turn_time = 200 ms
[Cloud Create]
start = slurmd -D -b -N %h
boot_time = 200 ms
cores = {NODES * CORES}
ram = {NODES * RAM_MB} MiB
[Size worker]
cores = {CORES}
ram = {RAM_MB}
scratch = 10000
price = 0.1
"""
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        # As if an earlier start had chosen it: now it can be told to the runners.
        api = site.state / "api"
        api.mkdir(mode=0o700, parents=True)
        (api / "port").write_text(f"{port}\n")
        text = site.config.read_text()
        for section, more in (
            ("Daemon", f"max_nodes = {NODES}\ncloudlist_poll_time = 1 s"),
            ("Dispatch", "scheduler = slurm"),
            ("Api", f"advertise_url = https://127.0.0.1:{port}"),
            ("Scheduler", f"conf = {slurm.conf}\nnodes = predefined\npoll_time = 500 ms"),
        ):
            text = text.replace(f"[{section}]\n", f"[{section}]\n{more}\n", 1)
        # That one is of the local scheduler.
        site.config.write_text(
            text.replace("poll_time = 500 ms\ncores = 4\n", "poll_time = 500 ms\n")
        )
        site.config.chmod(0o600)

    def create(self, api: Any, count: int, seconds: float) -> list[str]:
        """So many containers, each of which notes every start of its command."""
        return [create(api, f"echo x >> {self.ledger}/{n}; sleep {seconds}") for n in range(count)]

    def machines(self) -> list[dict[str, Any]]:
        found = []
        for path in (self.site.state / "cloud").glob("*.json"):
            try:
                found.append(json.loads(path.read_text()))
            except FileNotFoundError:
                continue
        return found

    def daemons(self) -> list[int]:
        """The slurmds of this Slurm, and the processes of its jobs."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue
                ours = str(self.slurm.conf).encode() in environment
                if ours and re.search(rb"slurmd|slurmstepd|nodemanager\.runner", words):
                    found.append(int(entry.name))
        return [pid for pid in found if pid != os.getpid()]

    def runs_dry(self, api: Any, uuids: list[str], most_seconds: float) -> None:
        """All complete, each command ran once, and nothing is left of the nodes."""

        def states() -> Counter[str]:
            return Counter(state_of(api, uuid) for uuid in uuids)

        wait_for(lambda: states() == {"Complete": len(uuids)}, "all complete", most_seconds)
        assert {path.read_text() for path in self.ledger.iterdir()} == {"x\n"}
        assert len(list(self.ledger.iterdir())) == len(uuids)
        wait_for(lambda: not self.machines(), "the machines have gone", most_seconds)
        wait_for(lambda: not self.slurm.node_states(), "Slurm has forgotten them", most_seconds)
        assert not self.daemons()


@pytest.fixture
def elastic(site: Site, slurm: SlurmCluster) -> Iterator[Elastic]:
    elastic = Elastic(site, slurm)
    yield elastic
    for pid in elastic.daemons():
        os.kill(pid, signal.SIGKILL)


def test_thirty_containers_and_no_nodes(elastic: Elastic) -> None:
    slurm, site = elastic.slurm, elastic.site
    assert not slurm.node_states()
    daemon = site.start()
    api = site.serving()
    uuids = elastic.create(api, 30, seconds=0.5)
    seen: set[str] = set()

    def several() -> bool:
        seen.update(slurm.node_states())
        return len(seen) > 1

    wait_for(several, "nodes join")
    elastic.runs_dry(api, uuids, BOUND_SECONDS)
    daemon.terminate()
    assert daemon.wait(timeout=BOUND_SECONDS) == 0


def test_a_daemon_that_is_killed_in_the_middle(elastic: Elastic) -> None:
    site = elastic.site
    daemon = site.start()
    api = site.serving()
    uuids = elastic.create(api, 12, seconds=2)
    wait_for(lambda: list(elastic.ledger.iterdir()), "the first commands run")
    before = {machine["cloud_id"] for machine in elastic.machines()}
    site.kill(daemon)
    daemon = site.start()
    api = site.serving()
    wait_for(lambda: before & {m["cloud_id"] for m in elastic.machines()}, "its nodes are kept")
    elastic.runs_dry(api, uuids, BOUND_SECONDS)
    daemon.terminate()
    assert daemon.wait(timeout=BOUND_SECONDS) == 0
