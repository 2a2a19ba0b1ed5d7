"""The command as a person runs it: beside nothing, beside a daemon, and beside what was killed."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodemanager.api.connection import call, connect
from nodemanager.api.embedded import EmbeddedServer
from nodemanager.config import load
from nodemanager.dry_run import dry_run
from tests.clusters.daemons import Site, wait_for

NODES = """\
[Cloud]
provider = loopback
shutdown_windows = 0, 999999
turn_time = 500 ms
[Size worker]
cores = 1
ram = 512
scratch = 1000
price = 0.1
"""


@pytest.fixture
def elastic(site: Site) -> Site:
    """A daemon that may boot two nodes on this machine."""
    site.write(NODES)
    text = site.config.read_text()
    daemon = "[Daemon]\nmax_nodes = 2\ncloudlist_poll_time = 1 s\n"
    text = text.replace("[Daemon]\n", daemon, 1)
    site.config.write_text(text.replace("[Scheduler]\n", "[Scheduler]\npoll_time = 1 s\n", 1))
    return site


def plan(site: Site, status: int = 0) -> Any:
    """The plan as a document."""
    output = io.StringIO()
    assert dry_run(load(site.config), Console(file=output), as_json=True) == status
    return json.loads(output.getvalue())


def looked_at(made: Any) -> dict[str, str]:
    return {each["subject"]: each["problem"] or each["detail"] for each in made["looked_at"]}


def left(made: Any) -> dict[str, int]:
    return {group["reason"]["token"]: group["count"] for group in made["unclaimed"]}


def files(folder: Path) -> dict[str, bytes]:
    """Everything below it."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def serving(site: Site) -> Iterator[Any]:
    """The API of a daemon that does not run."""
    server = EmbeddedServer(site.config, site.state)
    started = server.start()
    client = connect(started.url, started.root_token, ca_file=started.ca_file)
    try:
        yield client
    finally:
        client.close()
        server.stop()


def ask(api: Any, script: str, cores: int = 1, **more: Any) -> None:
    """Commit a request for `script`."""
    attributes = {
        "command": ["sh", "-c", script],
        "container_image": "none",
        "cwd": "/work",
        "output_path": "/work/out",
        "mounts": {"/work/out": {"kind": "tmp", "capacity": 1 << 20}},
        "runtime_constraints": {"vcpus": cores, "ram": 1 << 26},
        "priority": 500,
        "state": "Committed",
        "use_existing": False,
        **more,
    }
    call(api.container_requests().create(body={"container_request": attributes}))


@pytest.mark.processes
def test_a_site_that_was_never_started(elastic: Site) -> None:
    status, output = elastic.run("--dry-run", "--json")
    assert status == 0, output
    made = json.loads(output)
    assert (made["queued"], made["claimed"], made["nodes"]["boot"]) == (0, 0, [])
    assert looked_at(made)["API"] == "embedded, and never started: its queue is empty"
    assert not elastic.state.exists(), "nothing is written"


@pytest.mark.processes
def test_the_daemon_then_does_what_was_said(elastic: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    holds_its_node = f"until [ -e {go} ]; do sleep 0.1; done"
    with serving(elastic) as api:
        for _ in range(6):
            ask(api, holds_its_node)
        ask(api, "true", cores=64)
        ask(api, "true", run_after="2100-01-01T00:00:00Z")
    before = files(elastic.state)

    first = plan(elastic)
    assert files(elastic.state) == before, "not a byte is changed"
    assert looked_at(first)["API"] == "embedded, does not run: read from a copy of its database"
    [boot] = first["nodes"]["boot"]
    assert (boot["size"], boot["count"], first["nodes"]["price_then"]) == ("worker", 2, 0.2)
    assert left(first) == {"no-node-fits": 1, "node-limit": 6 - first["claimed"], "run-after": 1}

    daemon = elastic.start()
    elastic.serving()

    def states() -> Counter[str]:
        return Counter(row["state"] for row in elastic.containers())

    def plan_between_changes() -> Any:
        before = states()
        made = plan(elastic)
        return made if states() == before else None

    try:
        wait_for(lambda: states()["Running"] == 2, "two containers run")
        # As these start, others are claimed.
        wait_for(lambda: states()["Queued"] <= 8 - first["claimed"], "as many claimed as was said")
        assert len(list((elastic.state / "cloud").glob("*.json"))) == 2

        beside = wait_for(plan_between_changes, "a plan")
        assert "of the daemon that runs here; dispatcher" in looked_at(beside)["API"]
        assert beside["held"] == {"running": 2, "ending": 0, "unknown": 0}
        nodes = beside["nodes"]
        assert (beside["claimed"], nodes["boot"], nodes["changes"]) == (0, [], [])
        assert [work["waiting"] for work in beside["work"]] == [states()["Locked"]]
        assert daemon.poll() is None

        elastic.kill(daemon)
        before = files(elastic.state)
        after = plan(elastic)
        assert files(elastic.state) == before, "not a byte is changed"
        assert after["held"] == beside["held"]
        assert [work["waiting"] for work in after["work"]] == [states()["Locked"]]
    finally:
        go.touch()


@pytest.mark.processes
def test_what_cannot_be_found_out_is_said_and_the_rest_told(elastic: Site) -> None:
    token = elastic.folder / "token"
    token.write_text("v2/zzzzz-gj3su-000000000000000/secret-of-the-test")
    token.chmod(0o600)
    text = elastic.config.read_text()
    elastic.config.write_text(f"{text}\n[Arvados]\nhost = 127.0.0.1:1\ntoken_file = token\n")
    status, output = elastic.run("--dry-run", "--json")
    assert status == 1
    made = json.loads(output)
    told = looked_at(made)
    assert told["API"].endswith("nothing is known of any container")
    assert told["cloud loopback"] == "0 machines of ours"
    assert made["nodes"]["stale"] == "there is no news of the API yet"
    status, output = elastic.run("--dry-run")
    assert (status, "problem  API" in output) == (1, True)
    assert "secret-of-the-test" not in output


def test_a_configuration_that_is_wrong_has_a_status_of_its_own(site: Site) -> None:
    site.write("[Cloud]\nprovider = loopbakc\n")
    status, output = site.run("--dry-run")
    assert status == 2
    assert "loopback" in output


def test_a_database_that_cannot_be_read_is_no_empty_queue(elastic: Site) -> None:
    (elastic.state / "api" / "database.sqlite").mkdir(parents=True)
    made = plan(elastic, status=1)
    assert "cannot be copied" in looked_at(made)["API"]
