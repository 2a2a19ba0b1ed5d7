"""`status.json`: the names of the old node manager, and ours beside them.

Pure: a look goes in, values that JSON knows come out. Names and meanings are in docs/reference/management.md,
and a test compares the two; they are an interface that others build on. There are no secrets in a look, and
the words shown here are those of logs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from nodemanager.clouds.messages import CloudCounts
from nodemanager.dispatch.messages import Status
from nodemanager.nodes.messages import BootOutcome, NodesStatus, NodeStanding
from nodemanager.nodes.states import NodePhase
from nodemanager.status.look import DaemonLook, shown_time
from nodemanager.status.settings import ManageSettings

DECISIONS = 100
"""So many of the last decisions are shown."""
SENTENCES = 50
"""So many different reasons to wait are shown, the most frequent first."""

OLD_STATES: Mapping[NodePhase, str] = {
    NodePhase.ASKED: "booting",
    NodePhase.BOOTING: "unpaired",
    NodePhase.IDLE: "idle",
    NodePhase.BUSY: "busy",
    NodePhase.DRAINING: "shutdown",
    NodePhase.FAILED: "down",
    NodePhase.LOST: "down",
    NodePhase.DESTROYING: "shutdown",
    NodePhase.GONE: "shutdown",
}
"""In which of the old node manager's states a node counts. Its `fail` was Slurm's word for a node."""


def status_document(look: DaemonLook, settings: ManageSettings) -> dict[str, Any]:
    """Everything that `status.json` shows."""
    nodes = look.nodes
    return {
        **_old_names(look, settings),
        "taken_at": shown_time(look.taken_at),
        "actor_failures": dict(sorted(look.failures.items())),
        "dispatcher": None
        if look.dispatcher is None
        else _dispatcher(look.dispatcher, look.taken_at),
        "wishlist": None if nodes is None else _wishlist(nodes),
        "nodes": [] if nodes is None else [_node(node) for node in nodes.nodes],
        "limits": None if nodes is None else _limits(nodes, settings),
        "boots": None
        if nodes is None
        else {o.value: nodes.outcomes.get(o, 0) for o in BootOutcome},
        "history": [] if nodes is None else _history(nodes),
    }


def _old_names(look: DaemonLook, settings: ManageSettings) -> dict[str, Any]:
    counts = look.clouds or CloudCounts()
    nodes = () if look.nodes is None else look.nodes.nodes
    wishes = {} if look.nodes is None else look.nodes.wishlist
    quota = None if look.nodes is None else look.nodes.quota
    outcomes = {} if look.nodes is None else look.nodes.outcomes
    states = Counter(OLD_STATES[node.phase] for node in nodes)
    return {
        "Version": look.version,
        "list_nodes_errors": counts.list_errors,
        "create_node_errors": counts.create_errors,
        "destroy_node_errors": counts.destroy_errors,
        "cloud_errors": counts.list_errors + counts.create_errors + counts.destroy_errors,
        "boot_failures": outcomes.get(BootOutcome.FAILED, 0),
        "actor_exceptions": sum(look.failures.values()),
        **{
            f"nodes_{state}": states[state] for state in (*sorted(set(OLD_STATES.values())), "fail")
        },
        "nodes_wish": sum(wishes.values()),
        "node_quota": settings.max_nodes if quota is None else min(quota, settings.max_nodes),
        "config_max_nodes": settings.max_nodes,
        "idle_times": {
            host: round(seconds, 1)
            for host, seconds in ({} if look.nodes is None else look.nodes.idle_times).items()
        },
    }


def _dispatcher(status: Status, now: float) -> dict[str, Any]:
    states = Counter(held.container.state.value for held in status.containers)
    reasons = (held.reason.line(now) for held in status.containers if held.reason is not None)
    sentences = Counter(reasons)
    return {
        "uuid": None if status.me is None else status.me.dispatcher,
        "epoch": None if status.me is None else status.me.epoch,
        "lease_seconds": max(0.0, round(status.lease_seconds, 1)),
        "containers": dict(states),
        "reasons": [
            {"sentence": sentence, "containers": count}
            for sentence, count in sentences.most_common(SENTENCES)
        ],
        "scheduler_nodes": dict(Counter(node.state.value for node in status.nodes)),
    }


def _wishlist(nodes: NodesStatus) -> dict[str, Any]:
    return {
        "sizes": dict(nodes.wishlist),
        "waiting": nodes.waiting,
        "unplaced": nodes.unplaced,
    }


def _node(node: NodeStanding) -> dict[str, Any]:
    return {
        "name": node.name,
        "host": node.host,
        "cloud_id": node.cloud_id,
        "size": None if node.size is None else node.size.name,
        "instance_type": None if node.size is None else node.size.cloud_name,
        "preemptible": None if node.size is None else node.size.preemptible,
        "price": node.price,
        "phase": node.phase.value,
        "scheduler_state": None if node.node is None else node.node.state.value,
        "behaviour": node.behaviour.value,
        "leaving": node.leaving,
        "not_ready": node.not_ready,
        "takes_work": node.takes_work,
        "proved": node.proved,
        "ordered_at": shown_time(node.ordered_at),
        "record_uuid": node.record_uuid,
        "pinged": node.pinged,
    }


def _limits(nodes: NodesStatus, settings: ManageSettings) -> dict[str, Any]:
    return {
        "max_nodes": settings.max_nodes,
        "max_total_price": settings.max_total_price,
        "price": round(nodes.price, 6),
        "quota": nodes.quota,
        "unavailable": {size: round(seconds, 1) for size, seconds in nodes.unavailable.items()},
        "brake": nodes.brake,
        "stale": nodes.stale,
        "bootable_cores": nodes.bootable_cores,
    }


def _history(nodes: NodesStatus) -> list[dict[str, Any]]:
    """Oldest first, as in a log."""
    return [
        {"at": shown_time(made.at), "sentence": made.sentence, "numbers": dict(made.numbers)}
        for made in nodes.history[-DECISIONS:]
    ]
