"""The whole daemon with two schedulers: each container runs where the rules say, also after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nodemanager.api.connection import call
from tests.clusters.daemons import Site, state_of, wait_for

pytestmark = pytest.mark.processes


@pytest.fixture
def two(site: Site) -> Site:
    """One for what is called quick, and another for everything else."""
    text = site.config.read_text()
    text = text.replace("[Scheduler]\ncores = 4\n", "")
    text = text.replace("[Dispatch]\n", "[Dispatch]\nschedulers = quick, slow\n")
    site.config.write_text(
        f"""\
{text}
[Scheduler quick]
module = local
cores = 2
accept = property.kind = quick and cores <= 2
[Scheduler slow]
module = local
cores = 3
"""
    )
    return site


def create(api: Any, script: str, cores: int = 1, kind: str = "") -> str:
    """Commit a request; the UUID of its container."""
    attributes = {
        "command": ["sh", "-c", script],
        "container_image": "none",
        "cwd": "/work",
        "output_path": "/work/out",
        "mounts": {"/work/out": {"kind": "tmp", "capacity": 1 << 20}},
        "runtime_constraints": {"vcpus": cores, "ram": 1 << 26},
        "scheduling_parameters": {"properties": {"kind": kind}} if kind else {},
        "use_existing": False,
        "state": "Committed",
    }
    record = call(api.container_requests().create(body={"container_request": attributes}))
    return str(record["container_uuid"])


def spooled(site: Site, scheduler: str) -> set[str]:
    """The jobs that a scheduler has had and not forgotten."""
    folder = site.state / "schedulers" / scheduler / "spool"
    return {path.name for path in folder.glob("*/*") if path.is_dir()} | {
        path.name for path in folder.glob("*") if path.is_dir()
    }


def finished(api: Any, *uuids: str) -> bool:
    return all(state_of(api, uuid) == "Complete" for uuid in uuids)


def test_each_container_runs_where_the_rules_say(two: Site) -> None:
    daemon = two.start()
    api = two.serving()
    ledger = two.folder / "ledger"
    script = f"echo x >> {ledger}; until [ -e {two.folder}/go ]; do sleep 0.05; done"
    quick, slow = create(api, script, kind="quick"), create(api, script)
    wide = create(api, script, cores=3, kind="quick")
    never = create(api, "true", cores=9)
    wait_for(
        lambda: quick in spooled(two, "quick") and slow in spooled(two, "slow"), "both have a job"
    )
    assert slow not in spooled(two, "quick")
    wait_for(lambda: ledger.exists() and len(ledger.read_text()) >= 4, "both run")

    # Whoever comes next finds each where it is.
    two.kill(daemon)
    daemon = two.start()
    api = two.serving()
    (two.folder / "go").touch()
    wait_for(lambda: finished(api, quick, slow, wide), "all complete")
    assert ledger.read_text() == "x\n" * 3, "each command ran once"

    def reason() -> str:
        found = call(api.links().list(filters=[["head_uuid", "=", never]]))["items"]
        return json.dumps(found[0]["properties"]) if found else ""

    wait_for(reason, "the reason of what nobody takes")
    assert (
        "tried quick (its rule wants at most 2 cores and property kind = quick), slow (" in reason()
    )
    assert state_of(api, never) == "Queued"
    daemon.terminate()
    assert daemon.wait(timeout=60) == 0


def test_check_looks_at_each(two: Site) -> None:
    status, output = two.run("--check")
    assert status == 0, output
    assert "quick: machine" in output
    assert "slow: machine" in output
    two.config.write_text(
        two.config.read_text().replace("module = local\ncores = 3", "module = no")
    )
    status, output = two.run("--check")
    assert status == 1
    assert "scheduler slow: [Dispatch] scheduler: there is no scheduler 'no'" in output


def test_names_have_to_agree(two: Site, tmp_path: Path) -> None:
    two.config.write_text(two.config.read_text().replace("quick, slow", "quick, slwo, quick"))
    status, output = two.run("--check")
    assert status == 2
    for words in (
        "names quick twice",
        "there is no section [Scheduler slwo]; did you mean [Scheduler slow]?",
        "[Scheduler slow] is there, and it is not in the list",
    ):
        assert words in output
