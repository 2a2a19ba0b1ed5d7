"""The nodes of a Kubernetes cluster: which of them our pods may use, and what is free there."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodemanager.model import Node, NodeState
from nodemanager.schedulers.kubernetes.names import DRAINED
from nodemanager.schedulers.kubernetes.quantities import (
    GPU_RESOURCES,
    NOTHING,
    Amounts,
    amounts_of,
    requests_of,
)

_REPELS = frozenset({"NoSchedule", "NoExecute"})
_STATE_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""How the keys of taints begin that say how a node is, not whom it is for: Kubernetes sets and removes them itself."""
FIXED_OWNERS = frozenset({"DaemonSet", "Node"})
"""Kinds whose pods belong to their node and never leave it."""


@dataclass(frozen=True, slots=True)
class Taint:
    """Keeps pods off a node that do not tolerate it."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Toleration:
    """Of a pod, as its spec says it; what is empty matches anything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Toleration:
        """One of a spec's `tolerations`."""
        return cls(
            value.get("key") or "",
            value.get("operator") or "Equal",
            value.get("value") or "",
            value.get("effect") or "",
        )

    def tolerates(self, taint: Taint) -> bool:
        """Whether a pod with this may run in spite of the taint."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        if self.operator == "Exists":
            return True
        return bool(self.key) and self.value == taint.value


@dataclass(frozen=True, slots=True)
class NodeRules:
    """Which nodes our pods may use, and what labels say about them."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels that every node of ours has: those of the pods' template."""
    tolerations: tuple[Toleration, ...] = ()
    """Those of the pods' template."""
    partition_label: str = ""
    """The key of the label whose value is a node's partition; empty where there are no partitions."""
    preemptible_label: str = ""
    """A key, or ``key=value``, of nodes that can be taken away."""

    def allow(self, node: KubeNode) -> bool:
        """Whether pods of ours may run there when it is well."""
        selected = all(node.labels.get(key) == value for key, value in self.node_selector.items())
        return selected and not any(
            self.is_kept_off_by(taint)
            for taint in node.taints
            if not taint.key.startswith(_STATE_TAINTS)
        )

    def is_kept_off_by(self, taint: Taint) -> bool:
        """Whether the taint keeps our pods off."""
        return taint.effect in _REPELS and not any(t.tolerates(taint) for t in self.tolerations)

    def partitions_of(self, node: KubeNode) -> tuple[str, ...]:
        """The partition that the node is in, if any."""
        value = node.labels.get(self.partition_label, "")
        return (value,) if value else ()

    def is_preemptible(self, node: KubeNode) -> bool:
        """Whether the node can be taken away."""
        key, equals, value = self.preemptible_label.partition("=")
        return node.labels.get(key) == value if equals else key in node.labels


@dataclass(frozen=True, slots=True)
class Tenant:
    """A pod of somebody else: what it keeps of its node."""

    uid: str
    node: str
    requests: Amounts
    fixed: bool
    """It belongs to the node: while that is there, what it keeps is nobody else's."""


@dataclass(frozen=True, slots=True)
class Load:
    """What all pods bound to a node keep of it."""

    requests: Amounts = NOTHING
    fixed: Amounts = NOTHING
    """Of `requests`, what will not become free."""
    ours: int = 0
    """How many of the pods are ours."""
    exclusive: bool = False
    """One of ours has it to itself."""

    def with_tenant(self, tenant: Tenant) -> Load:
        """And this pod of somebody else."""
        fixed = self.fixed + tenant.requests if tenant.fixed else self.fixed
        return Load(self.requests + tenant.requests, fixed, self.ours, self.exclusive)

    def with_ours(self, requests: Amounts, *, exclusive: bool) -> Load:
        """And this pod of ours."""
        total = self.requests + requests
        return Load(total, self.fixed, self.ours + 1, self.exclusive or exclusive)


EMPTY = Load()


@dataclass(frozen=True, slots=True)
class KubeNode:
    """As much of a node as is needed here."""

    name: str
    uid: str
    version: str = field(compare=False)
    """Of the object; changes with every heartbeat."""
    provider_id: str
    """The cloud's name for the machine, such as ``aws:///us-east-1a/i-0abc``; empty where no cloud has told."""
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Amounts
    ready: bool | None
    """None: its kubelet has never said."""
    ready_words: str = ""
    """Why it is not ready."""
    unschedulable: bool = False
    drained: str = ""
    """Who of us cordoned it and why; empty when it was somebody else."""

    def takes_no_work(self, rules: NodeRules) -> str:
        """Why, in words; empty when it does."""
        if self.unschedulable:
            return self.drained or "cordoned"
        repelling = [
            taint.key
            for taint in self.taints
            if taint.key.startswith(_STATE_TAINTS) and rules.is_kept_off_by(taint)
        ]
        return f"tainted: {', '.join(repelling)}" if repelling else ""

    def as_node(self, load: Load, rules: NodeRules) -> Node | None:
        """For everybody else; None for a node that is not ours to use.

        What its own pods (of DaemonSets, static ones) keep is not counted as the node's: no job will ever get that.
        """
        if not rules.allow(self):
            return None
        closed = self.takes_no_work(rules)
        busy = load.ours > 0
        if self.ready is not True:
            state = NodeState.UNKNOWN if self.ready is None else NodeState.DOWN
        elif closed:
            state = NodeState.DRAINING if busy else NodeState.DRAINED
        else:
            state = NodeState.BUSY if busy else NodeState.IDLE
        nothing_free = load.exclusive
        return Node(
            name=self.name,
            state=state,
            total=(self.allocatable - load.fixed).as_resources(),
            free=(NOTHING if nothing_free else self.allocatable - load.requests).as_resources(),
            partitions=rules.partitions_of(self),
            reason=closed if self.ready else self.ready_words,
            preemptible=rules.is_preemptible(self),
            machine=self.provider_id.rpartition("/")[2],
        )


def parse_node(value: Mapping[str, Any], gpu_resources: Sequence[str] = GPU_RESOURCES) -> KubeNode:
    """Read a node as the API gives it."""
    metadata, spec = value["metadata"], value.get("spec") or {}
    status = value.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready")
    is_ready = None if ready is None else ready.get("status") == "True"
    words = "" if is_ready or ready is None else ready.get("message") or ready.get("reason") or ""
    annotations = metadata.get("annotations") or {}
    return KubeNode(
        name=sys.intern(metadata["name"]),
        uid=metadata.get("uid", ""),
        version=metadata.get("resourceVersion", ""),
        provider_id=spec.get("providerID") or "",
        labels=metadata.get("labels") or {},
        taints=tuple(
            Taint(t.get("key", ""), t.get("value") or "", t.get("effect", ""))
            for t in spec.get("taints") or ()
        ),
        allocatable=amounts_of(status.get("allocatable") or {}, gpu_resources),
        ready=is_ready,
        ready_words=words,
        unschedulable=bool(spec.get("unschedulable")),
        drained=annotations.get(DRAINED, ""),
    )


def parse_tenant(value: Mapping[str, Any], gpu_resources: Sequence[str] = GPU_RESOURCES) -> Tenant:
    """Read somebody else's pod as the API gives it."""
    metadata, spec = value["metadata"], value["spec"]
    owners = metadata.get("ownerReferences") or ()
    return Tenant(
        uid=metadata["uid"],
        node=sys.intern(spec.get("nodeName") or ""),
        requests=requests_of(spec, gpu_resources),
        fixed=any(owner.get("kind") in FIXED_OWNERS for owner in owners),
    )
