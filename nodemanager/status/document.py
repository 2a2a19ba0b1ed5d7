"""`status.json`: the names of the old node manager, and ours beside them.

Pure: a look goes in, values that JSON knows come out. Names and meanings are in docs/reference/management.md,
and a test compares the two; they are an interface that others build on. There are no secrets in a look, and
the words shown here are those of logs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodemanager.clouds.messages import CloudCounts
from nodemanager.dispatch.messages import Status
from nodemanager.model import ContainerState
from nodemanager.nodes.messages import BootOutcome, NodesStatus, NodeStanding
from nodemanager.nodes.states import NodePhase
from nodemanager.status.groups import Group, group_document
from nodemanager.status.history import Flow
from nodemanager.status.instances import running_on
from nodemanager.status.look import DaemonLook, shown_time
from nodemanager.status.settings import ManageSettings
from nodemanager.status.waits import waits_of

DECISIONS = 100
"""So many of the last decisions are shown."""
SENTENCES = 50
"""So many different reasons to wait are shown, the most frequent first."""
CONTAINERS = 20
"""So many of those that run on a node are named."""

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


@dataclass(frozen=True, slots=True)
class Beside:
    """What is told beside a look, and made of more than that."""

    groups: Sequence[Group] = ()
    """Its containers."""
    flow: Flow = field(default_factory=Flow)
    """What went through lately."""
    obstacles: Sequence[str] = ()
    """What keeps the daemon from its work."""


def status_document(
    look: DaemonLook, settings: ManageSettings, beside: Beside | None = None
) -> dict[str, Any]:
    """Everything that `status.json` shows."""
    beside = beside or Beside()
    nodes, status = look.nodes, look.dispatcher
    return {
        **_old_names(look, settings),
        "taken_at": shown_time(look.taken_at),
        "actor_failures": dict(sorted(look.failures.items())),
        "obstacles": list(beside.obstacles),
        "work": None if status is None else _work(status, look, beside.flow),
        "groups": [group_document(group, look.taken_at) for group in beside.groups],
        "dispatcher": None
        if status is None
        else {
            "name": settings.name,
            "scheduler": settings.schedulers,
            **_dispatcher(status, look.taken_at),
        },
        "wishlist": None if nodes is None else _wishlist(nodes),
        "nodes": [] if nodes is None else list(_nodes(nodes, status)),
        "sizes": [] if nodes is None else list(_sizes(nodes)),
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
        "api_heard_at": _ago(status.news.api_age_seconds, now),
        "scheduler_heard_at": _ago(status.news.scheduler_age_seconds, now),
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


def _ago(seconds: float | None, now: float) -> str | None:
    return None if seconds is None else shown_time(now - seconds)


def _work(status: Status, look: DaemonLook, flow: Flow) -> dict[str, Any]:
    waits = waits_of(status, look.taken_at)
    tokens = Counter(waits.claimed) + Counter(waits.queued)
    longest = max(waits.longest_seconds.values(), default=None)
    return {
        "queued": waits.states.get(ContainerState.QUEUED, 0),
        "waiting": waits.states.get(ContainerState.LOCKED, 0),
        "running": waits.states.get(ContainerState.RUNNING, 0),
        "tokens": dict(tokens.most_common()),
        "oldest_wait_seconds": None if longest is None else max(0.0, round(longest, 1)),
        "started": look.work.started,
        "ended": dict(look.work.ended),
        "lately": {
            "seconds": round(flow.seconds, 1),
            "started": flow.started,
            "ended": flow.ended,
        },
    }


def _nodes(nodes: NodesStatus, status: Status | None) -> Iterator[dict[str, Any]]:
    running = running_on(status)
    for node in nodes.nodes:
        uuids = running.get(node.host, [])
        idle = nodes.idle_times.get(node.host)
        yield {
            **_node(node),
            "idle_seconds": None if idle is None else round(idle, 1),
            "running": len(uuids),
            "containers": uuids[:CONTAINERS],
        }


def _sizes(nodes: NodesStatus) -> Iterator[dict[str, Any]]:
    """Each size that is configured, wanted or there."""
    known = {size.name: size for size in nodes.sizes}
    known |= {node.size.name: node.size for node in nodes.nodes if node.size is not None}
    names = [*known, *(name for name in nodes.wishlist if name not in known)]
    phases = Counter(
        (node.size.name, OLD_STATES[node.phase]) for node in nodes.nodes if node.size is not None
    )
    for name in names:
        size = known.get(name)
        away = nodes.unavailable.get(name)
        yield {
            "size": name,
            "instance_type": None if size is None else size.cloud_name,
            "preemptible": None if size is None else size.preemptible,
            "price": None if size is None else size.price,
            "cores": None if size is None else size.resources.cores,
            "ram_bytes": None if size is None else size.resources.ram_bytes,
            "wanted": nodes.wishlist.get(name, 0),
            "booting": phases[name, "booting"] + phases[name, "unpaired"],
            "here": phases[name, "idle"] + phases[name, "busy"],
            "leaving": phases[name, "shutdown"] + phases[name, "down"],
            "unavailable_seconds": None if away is None else round(away, 1),
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
