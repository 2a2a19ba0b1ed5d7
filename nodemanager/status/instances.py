"""Containers and nodes in the form of Arvados' own cloud dispatcher, for the tools of its operators.

Pure. Keys of theirs come first and have the meaning they have there, as far as we know it; ours follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodemanager.dispatch.messages import HeldContainer, Status
from nodemanager.model import NodeState
from nodemanager.nodes.messages import NodeStanding
from nodemanager.nodes.states import NodePhase
from nodemanager.status.look import DaemonLook, shown_time

WORKER_STATES: Mapping[NodePhase, str] = {
    NodePhase.ASKED: "booting",
    NodePhase.BOOTING: "booting",
    NodePhase.IDLE: "idle",
    NodePhase.BUSY: "running",
    NodePhase.DRAINING: "idle",
    NodePhase.FAILED: "unknown",
    NodePhase.LOST: "unknown",
    NodePhase.DESTROYING: "shutdown",
    NodePhase.GONE: "shutdown",
}
"""The words for a node that does not work; whether a draining one does is for the scheduler to say."""

_WORKS = frozenset({NodeState.BUSY, NodeState.DRAINING})


def containers(status: Status, now: float) -> list[dict[str, Any]]:
    """Every container that this dispatcher holds, in the order in which it took them up."""
    return [_container(held, now) for held in status.containers]


def find_container(status: Status, uuid: str, now: float) -> dict[str, Any] | None:
    """One of them, if it is among them."""
    found = (held for held in status.containers if held.container.uuid == uuid)
    return next((_container(held, now) for held in found), None)


def instances(look: DaemonLook) -> list[dict[str, Any]]:
    """Every node of ours, booting ones included."""
    if look.nodes is None:
        return []
    running = running_on(look.dispatcher)
    now = shown_time(look.taken_at)
    return [_instance(node, running.get(node.host, []), now) for node in look.nodes.nodes]


def running_on(status: Status | None) -> Mapping[str, list[str]]:
    """The containers on each node, by its name in the scheduler, in the order in which they were taken up."""
    running: dict[str, list[str]] = {}
    for held in () if status is None else status.containers:
        if held.node:
            running.setdefault(held.node, []).append(held.container.uuid)
    return running


def find_node(look: DaemonLook, instance_id: str) -> NodeStanding | None:
    """The node that an operator means, by the cloud's identifier or by our name."""
    nodes = () if look.nodes is None else look.nodes.nodes
    by_id = (node for node in nodes if node.cloud_id == instance_id)
    by_name = (node for node in nodes if node.name == instance_id)
    return next(by_id, None) or next(by_name, None)


def _container(held: HeldContainer, now: float) -> dict[str, Any]:
    return {
        "container": {"uuid": held.container.uuid, "state": held.container.state.value},
        "instance_types": [],
        "first_seen_at": None,
        "scheduling_status": "" if held.reason is None else held.reason.line(now),
        "host": held.node,
    }


def _instance(node: NodeStanding, running: list[str], now: str | None) -> dict[str, Any]:
    works = node.phase is NodePhase.BUSY or (
        node.phase is NodePhase.DRAINING and node.node is not None and node.node.state in _WORKS
    )
    return {
        "instance": node.cloud_id,
        "address": node.host,
        "price": node.price,
        "arvados_instance_type": "" if node.size is None else node.size.name,
        "provider_instance_type": "" if node.size is None else node.size.cloud_name,
        "last_container_uuid": running[-1] if running else "",
        "last_busy": now if works else None,
        "worker_state": "running" if works else WORKER_STATES[node.phase],
        "idle_behavior": node.behaviour.value,
        "name": node.name,
        "host": node.host,
        "phase": node.phase.value,
        "leaving": node.leaving,
        "not_ready": node.not_ready,
        "ordered_at": shown_time(node.ordered_at),
        "containers": running,
    }
