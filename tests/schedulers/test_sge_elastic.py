"""Hosts that join a real Grid Engine and leave it: network namespaces, where root may make them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodemanager.errors import SchedulerError
from nodemanager.model import Node, NodeSize, NodeState, Resources
from nodemanager.outcome import EndKind
from nodemanager.schedulers.base import Newcomer, SchedulerContext
from nodemanager.schedulers.sge.scheduler import GridEngineScheduler
from tests.clusters.gridengine import (
    GridEngineCell,
    GridEngineMissing,
    GridEngineSettings,
    GridQueue,
)
from tests.clusters.hosts import NamespacesMissing
from tests.clusters.processes import ClusterFailed
from tests.schedulers.test_sge import Desk

pytestmark = pytest.mark.processes

GIB = 1 << 30
SMALL = NodeSize("small", Resources(2, 4 * GIB, 10 * GIB), 0.1)
LARGE = NodeSize("large", Resources(8, 16 * GIB, 10 * GIB, 2), 0.9)
SPOT = NodeSize("spot", Resources(2, 4 * GIB, 10 * GIB), 0.05, preemptible=True)
OPTIONS = {
    "nodes": "dynamic",
    "memory_resource": "ram",
    "scratch_resource": "scratch",
    "size_resource": "size",
    "preemptible_queues": "spot.q",
    "queue": "all.q",
}


@pytest.fixture(scope="module")
def cell() -> Iterator[GridEngineCell]:
    """A cell without an exec host."""
    settings = GridEngineSettings(
        queues=(
            GridQueue("all.q", 1, ("NONE",), (("notify", "0:0:1"),)),
            GridQueue("spot.q", 1, ("NONE",)),
        ),
        complexes=(
            "ram ram MEMORY <= YES YES 0 0",
            "scratch scratch MEMORY <= YES YES 0 0",
            "gpu gpu INT <= YES JOB 0 0",
            "size size RESTRING == YES NO NONE 0",
        ),
        scheduler=(("queue_sort_method", "seqno"),),
        hosts=(),
    )
    try:
        running = GridEngineCell(settings).__enter__()
    except (GridEngineMissing, NamespacesMissing) as error:
        pytest.skip(str(error))
    yield running
    running.__exit__()


@pytest.fixture
def desk(cell: GridEngineCell, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(cell, tmp_path)
    desk.options |= OPTIONS
    context = SchedulerContext(
        "3zzzz", tmp_path / "state", desk.options, sizes=(SPOT, SMALL, LARGE)
    )
    desk.scheduler.close()
    desk.scheduler = GridEngineScheduler(context)
    yield desk
    for node in desk.scheduler.nodes():
        desk.until(lambda name=node.name: removed(desk, name), "the host to be removed")  # type: ignore[misc]
    desk.close()
    assert listed(desk, "-sel") == ""


def listed(desk: Desk, *words: str) -> str:
    """What qconf shows, which is an error when there is nothing."""
    try:
        return desk.cell.run("qconf", *words)
    except ClusterFailed:
        return ""


def node(desk: Desk, name: str) -> Node | None:
    return {node.name: node for node in desk.scheduler.nodes()}.get(name)


def boot(desk: Desk, name: str) -> None:
    """The machine comes, and is accepted."""
    desk.cell.add_host(name, admit=False)

    def is_up() -> bool:
        found = node(desk, name)
        return found is not None and found.state is NodeState.IDLE

    desk.until(is_up, "the node to join")


def test_a_node_comes_works_and_goes(desk: Desk) -> None:
    assert desk.scheduler.admits
    assert desk.scheduler.admit(Newcomer("h1", LARGE)) == "h1"
    expected = node(desk, "h1")
    assert expected is not None
    assert (expected.state, expected.admitted) == (NodeState.DOWN, True)
    boot(desk, "h1")
    there = node(desk, "h1")
    assert there is not None
    assert (there.total, there.partitions) == (LARGE.resources, ("all.q",))
    assert "hf:size=large" in desk.cell.run("qhost", "-F", "size")
    job = desk.spec("", resources=Resources(8, 16 * GIB, gpus=2))
    desk.submit(job)
    assert desk.end(job).kind is EndKind.EXITED
    desk.scheduler.drain("h1", "it was idle")
    drained = node(desk, "h1")
    assert drained is not None
    assert (drained.state, drained.reason) == (NodeState.DRAINED, "it was idle")
    desk.cell.drop_host("h1")
    desk.scheduler.remove("h1")
    assert_no_trace(desk, "h1")
    desk.scheduler.remove("h1")


def removed(desk: Desk, host: str) -> bool:
    """Try once more, as the scheduler actor does."""
    try:
        desk.scheduler.remove(host)
    except SchedulerError:
        return False
    return True


def assert_no_trace(desk: Desk, host: str) -> None:
    """Of a host in the cell."""
    for words in ("-sel", "-sh", "-ss", "-sq all.q", "-sq spot.q", "-shgrp @nodemanager"):
        said = listed(desk, *words.split())
        assert host not in said.split()
        assert f"[{host}=" not in said
    assert node(desk, host) is None


def test_a_job_is_kept_while_its_queue_has_no_host(desk: Desk) -> None:
    job = desk.spec("")
    assert "unknown queue" in desk.scheduler.submit([job])[0].unplaced
    desk.scheduler.admit(Newcomer("h1", SMALL))
    boot(desk, "h1")
    desk.submit(job)
    assert desk.end(job).kind is EndKind.EXITED
    desk.cell.drop_host("h1")


def test_a_machine_that_never_came_leaves_nothing(desk: Desk) -> None:
    desk.scheduler.admit(Newcomer("h2", SMALL))
    desk.scheduler.remove("h2")
    assert_no_trace(desk, "h2")


def test_an_admission_can_be_repeated_and_changed(desk: Desk) -> None:
    for size in (SMALL, SMALL, LARGE):
        assert desk.scheduler.admit(Newcomer("h3", size)) == "h3"
    boot(desk, "h3")
    there = node(desk, "h3")
    assert there is not None
    assert there.total == LARGE.resources
    desk.cell.drop_host("h3")


def test_a_node_goes_with_its_jobs(desk: Desk) -> None:
    desk.scheduler.admit(Newcomer("h4", SMALL))
    boot(desk, "h4")
    lost = desk.holder()
    desk.submit(lost)
    desk.running(lost)
    desk.cell.drop_host("h4")
    with pytest.raises(SchedulerError, match="has not noticed yet and has 1 jobs there"):
        desk.scheduler.remove("h4")
    desk.until(lambda: removed(desk, "h4"), "the host to be missed")
    end = desk.end(lost)
    assert (end.kind, end.detail) == (EndKind.NODE_LOST, "h4 was removed")
    assert_no_trace(desk, "h4")


def test_the_cheapest_node_is_filled_first(desk: Desk) -> None:
    for name, size in (("h5", LARGE), ("h6", SMALL)):
        desk.scheduler.admit(Newcomer(name, size))
        boot(desk, name)
    for place in ("h6", "h6", "h5"):
        job = desk.holder()
        desk.submit(job)
        desk.running(job)
        found = desk.find(job)
        assert found is not None
        assert found.node == place
    desk.clear()
    for name in ("h5", "h6"):
        desk.cell.drop_host(name)


def test_only_who_bears_it_gets_on_a_spot_node(desk: Desk) -> None:
    desk.scheduler.admit(Newcomer("h7", SPOT))
    boot(desk, "h7")
    there = node(desk, "h7")
    assert there is not None
    assert (there.preemptible, there.partitions) == (True, ("spot.q",))
    bears, waits = desk.holder(preemptible=True), desk.holder()
    assert desk.scheduler.submit([waits])[0].unplaced
    desk.submit(bears)
    desk.running(bears)
    desk.clear()
    desk.cell.drop_host("h7")


def test_names_come_from_the_site_s_list(desk: Desk) -> None:
    desk.connect(node_names="h[8-9]")
    assert desk.scheduler.admit(Newcomer("cloud-1", SMALL)) == "h8"
    assert desk.scheduler.admit(Newcomer("h8", SMALL)) == "h8"
    assert desk.scheduler.admit(Newcomer("cloud-2", SMALL, frozenset({"h8"}))) == "h9"
    with pytest.raises(SchedulerError, match=r"all 2 names of \[Scheduler\] node_names are taken"):
        desk.scheduler.admit(Newcomer("cloud-3", SMALL, frozenset({"h8", "h9"})))


def test_a_name_without_an_address_is_said_to_have_none(desk: Desk) -> None:
    with pytest.raises(SchedulerError, match=r"names can be resolved: see node_names"):
        desk.scheduler.admit(Newcomer("cloud-without-address", SMALL))


def test_a_host_of_the_site_is_never_removed(desk: Desk) -> None:
    desk.cell.run("qconf", "-ah", "h10")
    desk.scheduler.remove("h10")
    assert "h10" in desk.cell.run("qconf", "-sh").split()
    desk.cell.run("qconf", "-dh", "h10")
