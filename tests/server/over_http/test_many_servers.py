"""Several server processes on one database: SQLite beside each other on one machine, PostgreSQL anywhere."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodemanager.api.connection import call, connect
from nodemanager.errors import ApiError
from tests.clusters.postgresql import PostgresqlMissing, postgres_cluster

pytestmark = pytest.mark.processes

ROOT = "root-token-of-many-servers"
PATIENCE = 20.0
NODE = {"cores": 8, "ram_bytes": 2**34, "scratch_bytes": 2**40}


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    url: str
    ca_file: Path


class Cluster:
    """Servers on one database, and Arvados clients of each."""

    def __init__(self, directory: Path, database: str, ending: ExitStack) -> None:
        self._directory = directory
        self._database = database
        self._ending = ending
        self.servers: dict[int, Server] = {}
        self._numbers = itertools.count()

    def start(self, **options: str) -> int:
        """Start another server; its number."""
        number = next(self._numbers)
        state = self._directory / f"state{number}"
        state.mkdir()
        config = state / "nodemanager.cfg"
        lines = {"database": self._database, "root_token": ROOT, **options}
        api = "\n".join(f"{name} = {value}" for name, value in lines.items())
        config.write_text(
            f"[Daemon]\nstate_dir = {state}\n[Dispatch]\nping_interval = 1 s\n[Api]\n{api}\n"
        )
        config.chmod(0o600)
        with (state / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "nodemanager.server.main", "--config", str(config)],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._ending.callback(self._end, process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (state / "log").read_text()
        ready = json.loads(line)
        self.servers[number] = Server(process, ready["url"], Path(ready["ca_file"]))
        return number

    def client(self, number: int, token: str = ROOT) -> Any:
        server = self.servers[number]
        client = connect(server.url, token, ca_file=server.ca_file, timeout=PATIENCE)
        self._ending.callback(client.close)
        return client

    def dispatcher(self, number: int, name: str) -> dict[str, Any]:
        attributes = {"name": name, "scheduler": "fake", "capabilities": {"largest": [NODE]}}
        made = call(self.client(number).dispatchers().create(body={"dispatcher": attributes}))
        return {"dispatcher": made["uuid"], "epoch": made["epoch"]}

    def commit(self, number: int) -> str:
        attributes = {
            "state": "Committed",
            "command": ["true"],
            "output_path": "/out",
            "mounts": {"/out": {"kind": "tmp"}},
            "runtime_constraints": {"vcpus": 1, "ram": 1},
            "use_existing": False,
        }
        body = {"container_request": attributes}
        return str(
            call(self.client(number).container_requests().create(body=body))["container_uuid"]
        )

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def cluster(tmp_path: Path, any_url: Callable[[], str]) -> Iterator[Cluster]:
    with ExitStack() as ending:
        yield Cluster(tmp_path, any_url(), ending)


def wait_for(condition: Callable[[], Any]) -> Any:
    """What `condition` returns, once that is true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE} s")


def test_no_container_is_claimed_twice(cluster: Cluster) -> None:
    numbers = [cluster.start(), cluster.start()]
    committed = [cluster.commit(n % 2) for n in range(60)]
    claimed: dict[str, list[str]] = {}

    def claim(name: str, number: int) -> None:
        me = cluster.dispatcher(number, name)
        client = cluster.client(number)
        found = claimed.setdefault(name, [])
        while True:
            body = {**me, "limit": 3, "claim_id": f"{name}-{len(found)}"}
            items = call(client.containers().claim(body=body))["items"]
            if not items:
                return
            found += [item["uuid"] for item in items]

    threads = [
        threading.Thread(target=claim, args=(f"d{n}{k}", n)) for n in numbers for k in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    everything = [uuid for found in claimed.values() for uuid in found]
    assert sorted(everything) == sorted(committed)


def test_a_claim_held_at_one_server_hears_of_a_commit_at_another(cluster: Cluster) -> None:
    here, there = cluster.start(), cluster.start()
    me = cluster.dispatcher(here, "elm")
    waiting = cluster.client(here)
    answers: list[tuple[float, Any]] = []

    def hold() -> None:
        body = {**me, "limit": 1, "wait": 15.0}
        items = call(waiting.containers().claim(body=body))["items"]
        answers.append((time.monotonic(), items))

    thread = threading.Thread(target=hold)
    thread.start()
    # It has looked once, in vain, when its turn is noted.
    wait_for(
        lambda: call(cluster.client(there).dispatchers().get(uuid=me["dispatcher"]))["last_turn_at"]
    )
    uuid = cluster.commit(there)
    committed_at = time.monotonic()
    thread.join(PATIENCE)
    ((answered_at, items),) = answers
    assert [item["uuid"] for item in items] == [uuid]
    # Without news it would look again after five seconds.
    assert answered_at - committed_at < 3


def test_a_server_that_is_killed_holds_nobody_up(cluster: Cluster) -> None:
    first, second = cluster.start(), cluster.start()
    uuid = cluster.commit(first)
    os.kill(cluster.servers[first].process.pid, signal.SIGKILL)
    me = cluster.dispatcher(second, "elm")
    items = call(cluster.client(second).containers().claim(body={**me, "limit": 1}))["items"]
    assert [item["uuid"] for item in items] == [uuid]
    # News to the dead one go nowhere, and do no harm.
    assert cluster.commit(second)


def test_a_dispatcher_is_lost_once_and_its_work_tried_again_once(cluster: Cluster) -> None:
    quick = {"ping_timeout": "3 s", "sweep_interval": "0.2 s"}
    numbers = [cluster.start(**quick) for _ in range(3)]
    me = cluster.dispatcher(numbers[0], "elm")
    uuid = cluster.commit(numbers[1])
    body = {**me, "limit": 1}
    assert call(cluster.client(numbers[0]).containers().claim(body=body))["items"]
    api = cluster.client(numbers[2])
    wait_for(lambda: call(api.containers().get(uuid=uuid))["state"] == "TempFail")
    following = call(api.containers().list(filters=[["previous_uuid", "=", uuid]]))
    assert following["items_available"] == 1
    assert call(api.dispatchers().get(uuid=me["dispatcher"]))["state"] == "lost"


def test_tables_are_made_once_by_servers_that_start_together(cluster: Cluster) -> None:
    threads = [threading.Thread(target=cluster.start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for number in cluster.servers:
        assert cluster.commit(number)
    assert len(cluster.servers) == 3


def test_a_database_that_was_away_is_used_again(tmp_path: Path) -> None:
    try:
        running = postgres_cluster(durable=False)
        with running as server, ExitStack() as ending:
            cluster = Cluster(tmp_path, server.fresh_database(), ending)
            number = cluster.start()
            uuid = cluster.commit(number)
            api = cluster.client(number)
            server.stop()
            with pytest.raises(ApiError, match="database did not do its part"):
                call(api.containers().get(uuid=uuid))
            server.start()
            assert call(api.containers().get(uuid=uuid))["state"] == "Queued"
            me = cluster.dispatcher(number, "elm")
            # News travel again, too: the server listens on a new connection.
            claim = {**me, "limit": 1, "wait": 5.0}
            assert call(api.containers().claim(body=claim))["items"]
            assert cluster.servers[number].process.poll() is None
    except PostgresqlMissing as error:
        pytest.skip(str(error))
