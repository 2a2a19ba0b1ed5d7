"""Sights for tests of the forecast, in few words."""

from __future__ import annotations

from itertools import count
from typing import Any

from nodemanager.clouds.base import (
    BEHAVIOUR_TAG,
    BOOTED_TAG,
    CLUSTER_TAG,
    DISPATCHER_TAG,
    HOST_TAG,
    SIZE_TAG,
    CloudNode,
    CloudState,
)
from nodemanager.dry_run.sight import CloudSight, QueueSight, SchedulerSight, Sight
from nodemanager.model import (
    Container,
    ContainerState,
    JobState,
    Node,
    NodeSize,
    NodeState,
    Resources,
)
from nodemanager.nodes.policy import NodePolicy
from nodemanager.schedulers.base import Job

NOW = 1_800_000_000.0
GIB = 1 << 30
SMALL = NodeSize("small", Resources(2, 4 * GIB, 100 * GIB), 0.1)
LARGE = NodeSize("large", Resources(8, 16 * GIB, 100 * GIB), 0.35)
DISPATCHER = "zzzzz-bmxii-000000000000001"

_numbers = count(1)


def container(cores: int = 1, **more: Any) -> Container:
    """Queued; each one younger than the one before."""
    number = next(_numbers)
    attributes: dict[str, Any] = {
        "uuid": f"zzzzz-dz642-{number:015d}",
        "state": ContainerState.QUEUED,
        "priority": 500,
        "resources": Resources(cores, cores * GIB),
        "created_at": NOW - 3600 + number / 1000,
        **more,
    }
    return Container(**attributes)


def locked(cores: int = 1, **more: Any) -> Container:
    """Claimed before."""
    return container(cores, state=ContainerState.LOCKED, dispatcher=DISPATCHER, **more)


def job(of: Container, state: JobState = JobState.WAITING, node: str = "") -> Job:
    return Job(of.uuid, state, "1", node)


def node(name: str, cores: int = 4, used: int = 0, state: NodeState | None = None) -> Node:
    total = Resources(cores, cores * 2 * GIB, 100 * GIB)
    return Node(
        name,
        state or (NodeState.BUSY if used else NodeState.IDLE),
        total,
        total - Resources(used, used * GIB),
    )


def machine(host: str, size: NodeSize = SMALL, age: float = 7200.0, **tags: str) -> CloudNode:
    """One of ours that was ordered `age` seconds ago."""
    return CloudNode(
        cloud_id=f"i-{host}",
        name=host,
        instance_type=size.name,
        state=CloudState.RUNNING,
        tags={
            CLUSTER_TAG: "zzzzz",
            DISPATCHER_TAG: "here",
            SIZE_TAG: size.name,
            HOST_TAG: host,
            BOOTED_TAG: f"{NOW - age:.0f}",
            BEHAVIOUR_TAG: "run",
            **tags,
        },
    )


def scheduler(*nodes: Node, jobs: tuple[Job, ...] = (), **more: Any) -> SchedulerSight:
    attributes = {"name": "", "title": "slurm", **more}
    return SchedulerSight(**attributes, nodes=nodes, jobs=jobs)


def cloud(*machines: CloudNode, **policy: Any) -> CloudSight:
    """Answers, and has these machines; nodes may leave whenever they are idle."""
    defaults = {"max_nodes": 10, "shutdown_windows": (0.0, 999999.0)}
    return CloudSight((SMALL, LARGE), NodePolicy(**{**defaults, **policy}), machines)


def sight(*queued: Container, held: tuple[Container, ...] = (), **more: Any) -> Sight:
    """One scheduler with nothing, no cloud, unless they are given."""
    attributes: dict[str, Any] = {
        "now": NOW,
        "max_claimed": 0,
        "schedulers": (scheduler(),),
        "queue": QueueSight(queued, held, DISPATCHER),
        **more,
    }
    return Sight(**attributes)
