"""What ended long ago is removed, with its folders, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nodemanager.cli import prune as prune_module
from nodemanager.testing import Harness
from tests.cli.conftest import Shell, memory_site

PAUSE_SECONDS = 60.0


@pytest.fixture
def shell(harness: Harness, tmp_path: Path) -> Shell:
    return Shell(memory_site(harness.root, tmp_path), harness)


def ended(harness: Harness, store: Path, number: int = 1) -> list[str]:
    """The containers of so many requests that ended just now, each with a folder."""
    requests = [harness.submit() for _ in range(number)]
    harness.advance(15)
    containers = [harness.container_of(uuid)["uuid"] for uuid in requests]
    for uuid in containers:
        (store / uuid / "log").mkdir(parents=True)
        (store / uuid / "log" / "stdout.txt").write_text("x")
    return containers


def test_old_ones_go_with_their_folders_and_young_ones_stay(
    shell: Shell, harness: Harness, tmp_path: Path
) -> None:
    old = ended(harness, tmp_path, 3)
    harness.advance(PAUSE_SECONDS)
    young = ended(harness, tmp_path, 2)
    (tmp_path / "something-else").mkdir()
    assert shell.run("prune", "--older-than", "40s") == 0
    assert shell.out.startswith("removed 3 requests, 3 containers that ended more than 40 s ago\n")
    assert "removed 3 folders" in shell.out
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*young, "something-else"}
    known = {record["uuid"] for record in harness.call("containers", "list")["items"]}
    assert known == set(young)
    assert not set(old) & known


def test_a_dry_run_only_counts(shell: Shell, harness: Harness, tmp_path: Path) -> None:
    old = ended(harness, tmp_path, 3)
    harness.advance(PAUSE_SECONDS)
    assert shell.run("prune", "--older-than", "40s", "--dry-run") == 0
    assert "would remove 3 requests, 3 containers" in shell.out
    assert {path.name for path in tmp_path.iterdir()} == set(old)
    assert len(harness.call("containers", "list")["items"]) == 3


def test_many_go_batch_by_batch(
    shell: Shell, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune_module, "BATCH", 2)
    ended(harness, tmp_path, 5)
    harness.advance(PAUSE_SECONDS)
    assert shell.run("prune", "--older-than", "40s", "--json") == 0
    document = json.loads(shell.out)
    assert (document["container_requests"], document["containers"], document["folders"]) == (
        5,
        5,
        5,
    )
    assert list(tmp_path.iterdir()) == []


def test_the_input_of_what_has_not_ended_stays(
    shell: Shell, harness: Harness, tmp_path: Path
) -> None:
    first, second = ended(harness, tmp_path, 2)
    harness.advance(PAUSE_SECONDS)
    mounts = {
        "/work/out": {"kind": "tmp", "capacity": 1 << 20},
        "/work/in": {"kind": "file", "path": f"store:{first}/output/a"},
    }
    harness.submit(mounts=mounts, run_after="2100-01-01T00:00:00Z")
    assert shell.run("prune", "--older-than", "40s") == 0
    assert shell.out.startswith("removed 2 requests, 1 container ")
    assert {path.name for path in tmp_path.iterdir()} == {first}
    assert not (tmp_path / second).exists()


def test_a_folder_that_cannot_be_removed_is_told(
    shell: Shell, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [uuid] = ended(harness, tmp_path)
    harness.advance(PAUSE_SECONDS)

    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert shell.run("prune", "--older-than", "40s") == 1
    assert shell.err == f"could not be removed: {tmp_path / uuid}: Permission denied\n"
