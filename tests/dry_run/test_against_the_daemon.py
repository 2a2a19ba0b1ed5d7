"""The forecast, and what the daemon's own actors then do with the same queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nodemanager.clouds.base import CloudContext
from nodemanager.clouds.fake import FakeCloud, FakeSky
from nodemanager.dry_run.forecast import forecast
from nodemanager.dry_run.outcome import Forecast
from nodemanager.dry_run.queue import look_at_queue
from nodemanager.dry_run.sight import CloudSight, SchedulerSight, Sight
from nodemanager.model import Node, NodeSize, NodeState, Resources
from nodemanager.nodes.order import host_of
from nodemanager.nodes.policy import NodePolicy
from nodemanager.testing import CLUSTER_ID, GIB, Harness, MemoryResource, Program

SMALL = NodeSize("small", Resources(2, 4 * GIB, GIB), 0.1)
LARGE = NodeSize("large", Resources(8, 16 * GIB, GIB), 0.35)
_NOWHERE = Path("/nonexistent")
FOUR_CORES = Resources(4, 8 * GIB, GIB)


def node(name: str) -> Node:
    return Node(name, NodeState.IDLE, FOUR_CORES, FOUR_CORES)


def wants(cores: int, **more: Any) -> Mapping[str, Any]:
    return {"runtime_constraints": {"vcpus": cores, "ram": cores << 28}, **more}


@dataclass(frozen=True)
class Case:
    """A queue, and who waits for it."""

    queue: tuple[Mapping[str, Any], ...]
    nodes: tuple[Node, ...] = ()
    sizes: tuple[NodeSize, ...] = ()
    policy: NodePolicy = field(default_factory=NodePolicy)
    max_claimed: int = 0
    before: tuple[Mapping[str, Any], ...] = ()
    """What another process of the daemon has claimed already."""


MIXED = (
    *(wants(1) for _ in range(5)),
    *(wants(2, priority=900) for _ in range(3)),
    wants(64),
    wants(1, run_after="2100-01-01T00:00:00Z"),
    wants(8, priority=1),
)
CASES = {
    "fixed nodes": Case(MIXED, nodes=(node("n1"), node("n2"))),
    "more than fits": Case(tuple(wants(1) for _ in range(40)), nodes=(node("n1"),)),
    "a limit of claims": Case(MIXED, nodes=(node("n1"),), max_claimed=4),
    "nodes for all": Case(MIXED, sizes=(SMALL, LARGE), policy=NodePolicy(max_nodes=9)),
    "too few nodes": Case(MIXED * 3, sizes=(SMALL, LARGE), policy=NodePolicy(max_nodes=2)),
    "too little money": Case(
        tuple(wants(8) for _ in range(4)),
        sizes=(SMALL, LARGE),
        policy=NodePolicy(max_nodes=9, max_total_price=0.8),
    ),
    "one each": Case(
        MIXED, sizes=(SMALL, LARGE), policy=NodePolicy(max_nodes=20, one_per_node=True)
    ),
    "fixed nodes and others": Case(
        MIXED, nodes=(node("n1"),), sizes=(SMALL, LARGE), policy=NodePolicy(max_nodes=4)
    ),
    "some are kept": Case((), sizes=(SMALL, LARGE), policy=NodePolicy(max_nodes=5, min_nodes=3)),
    "work goes on": Case(
        MIXED, sizes=(SMALL, LARGE), policy=NodePolicy(max_nodes=5), before=tuple(MIXED[:3])
    ),
    "work goes on there": Case(MIXED, nodes=(node("n1"), node("n2")), before=tuple(MIXED[:6])),
}


def seen(world: Harness, case: Case) -> Sight:
    """What somebody sees who only looks."""
    site, now = world.site, world.clock.wall()
    observed = site.scheduler.observe()
    client = MemoryResource(world.service, site.token, site.wire)
    jobs = [job.name for job in observed.poll.jobs]
    return Sight(
        now,
        case.max_claimed,
        (SchedulerSight("", "fake", jobs=observed.poll.jobs, nodes=observed.nodes),),
        look_at_queue(client, site.name, site.token, jobs),
        None if site.sky is None else _seen_cloud(site.sky, case),
    )


def _seen_cloud(sky: FakeSky, case: Case) -> CloudSight:
    machines = tuple(FakeCloud(CloudContext(CLUSTER_ID, _NOWHERE), sky).observe())
    hosts = {machine.cloud_id: host_of(machine) for machine in machines}
    return CloudSight(case.sizes, case.policy, machines, hosts)


def everything(world: Harness) -> str:
    """All records of the API, and all machines."""
    sky = world.site.sky
    tables = ("containers", "container_requests", "dispatchers", "links", "logs", "nodes")
    records = [world.call(table, "list", limit=1000)["items"] for table in tables]
    return repr((records, None if sky is None else sorted(sky.machines)))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_daemon_does_what_was_said(case: Case) -> None:
    with Harness(
        nodes=case.nodes,
        sizes=case.sizes,
        node_policy=case.policy,
        max_claimed=case.max_claimed,
        program=lambda _record: Program(seconds=None),
    ) as world:
        for request in case.before:
            world.submit(**request)
        if case.before:
            world.advance(300)
        world.kill(world.site)
        queue = [world.container_of(world.submit(**request))["uuid"] for request in case.queue]
        old = everything(world)
        made = forecast(seen(world, case))
        assert everything(world) == old, "looking changes nothing"
        machines = _machines(world)

        world.start(world.site)
        world.advance(20)
        booted = _machines(world) - machines
        assert _claimed(world, queue) == made.claimed
        assert booted == Counter({boot.size.name: boot.count for boot in made.boots})
        assert _left(world) == _foreseen(made)


def _machines(world: Harness) -> Counter[str]:
    sky = world.site.sky
    nodes = () if sky is None else [machine.node for machine in sky.machines.values()]
    return Counter(each.instance_type for each in nodes)


def _claimed(world: Harness, queue: list[str]) -> int:
    records = world.call("containers", "list", filters=[["uuid", "in", queue]])["items"]
    return sum(record["state"] != "Queued" for record in records)


def _left(world: Harness) -> Counter[tuple[str, str]]:
    reasons = [each.reason for each in world.status().queued]
    return Counter((each.token.value, each.sentence) for each in reasons if each is not None)


def _foreseen(made: Forecast) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for group in made.unclaimed:
        counts[group.reason.token.value, group.reason.sentence] += group.count
    return counts


def test_a_pause_is_known_before_the_daemon_runs_again() -> None:
    case = Case((), nodes=(node("n1"),))
    with Harness(nodes=case.nodes) as world:
        world.call("dispatchers", "pause_all", body={"reason": "a backup"})
        world.kill(world.site)
        world.submit(**wants(1))
        made = forecast(seen(world, case))
        assert made.claimed == 0
        [group] = made.unclaimed
        world.start(world.site)
        world.advance(20)
        assert set(_left(world)) == {(group.reason.token.value, group.reason.sentence)}
