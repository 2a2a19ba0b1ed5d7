"""On which nodes a pod may run: what the container and the operator ask for, in the words of a pod's spec."""

# ruff: noqa: D102 -- what each method does is said once, in `Kind`

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.config.kinds import Kind, found
from nodemanager.schedulers.kubernetes.names import CLUSTER_LABEL
from nodemanager.schedulers.kubernetes.podnodes import Toleration
from nodemanager.schedulers.kubernetes.syntax import is_label_key, is_label_value

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_HOSTNAME = "kubernetes.io/hostname"


@dataclass(frozen=True)
class Labels(Kind):
    """``disk=ssd, zone=a``; the value is a mapping."""

    @property
    def word(self) -> str:
        return "labels and values"

    def parse(self, text: str) -> Mapping[str, str]:
        labels: dict[str, str] = {}
        for part in _parts(text):
            key, equals, value = part.partition("=")
            if not equals or not is_label_key(key) or not is_label_value(value):
                raise ValueError(f"expected a label such as disk=ssd, found {found(part)}")
            if key in labels:
                raise ValueError(f"expected each label once, found {key} twice")
            labels[key] = value
        return labels

    def show(self, value: Any) -> str:
        return ", ".join(f"{key}={text}" for key, text in value.items())


@dataclass(frozen=True)
class LabelKey(Kind):
    """The key of a label; with `valued` its value may follow, as in ``lifecycle=spot``."""

    valued: bool = False

    @property
    def word(self) -> str:
        return "label, or label=value" if self.valued else "label"

    def parse(self, text: str) -> str:
        key, equals, value = text.partition("=")
        wrong = not is_label_key(key) or not is_label_value(value) or (equals and not self.valued)
        if text and wrong:
            raise ValueError(f"expected a {self.word}, found {found(text)}")
        return text


@dataclass(frozen=True)
class Tolerations(Kind):
    """``dedicated=arvados:NoSchedule, gpu``, as `kubectl taint` writes taints; a tuple of `Toleration`.

    A key without value tolerates any value, and without effect any effect.
    """

    @property
    def word(self) -> str:
        return "taints"

    def parse(self, text: str) -> tuple[Toleration, ...]:
        tolerations = []
        for part in _parts(text):
            taint, colon, effect = part.partition(":")
            key, equals, value = taint.partition("=")
            wrong_effect = effect not in _EFFECTS if colon else False
            if not is_label_key(key) or not is_label_value(value) or wrong_effect:
                raise ValueError(
                    f"expected a taint such as dedicated=arvados:NoSchedule, found {found(part)}"
                )
            tolerations.append(Toleration(key, "Equal" if equals else "Exists", value, effect))
        return tuple(tolerations)

    def show(self, value: Any) -> str:
        return ", ".join(map(_shown, value))


LOST = ("not-ready", "unreachable")
"""What Kubernetes calls a node that is lost, in the taints with which it drives its pods away."""


def lost_toleration(trouble: str, seconds: int) -> dict[str, Any]:
    """How long a pod bears that its node is lost; without a word of its own it would be five minutes."""
    return {
        "key": f"node.kubernetes.io/{trouble}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": seconds,
    }


def toleration_json(toleration: Toleration) -> dict[str, str]:
    """As a pod's spec has it."""
    value = {"key": toleration.key, "operator": toleration.operator, "effect": toleration.effect}
    if toleration.operator == "Equal":
        value["value"] = toleration.value
    return {key: text for key, text in value.items() if text or key == "value"}


def node_terms(
    partition_label: str, partitions: Sequence[str], preemptible_label: str, *, preemptible: bool
) -> list[dict[str, Any]]:
    """Of which a node has to meet one, for node affinity; none when any node will do.

    Like elsewhere, a node in no partition takes containers of all.
    """
    common = []
    if preemptible_label and not preemptible:
        key, equals, value = preemptible_label.partition("=")
        # A node without the label is not in, either.
        common.append(_requirement(key, "NotIn", value) if equals else _without(key))
    if not partitions:
        return [{"matchExpressions": common}] if common else []
    return [
        {"matchExpressions": [_requirement(partition_label, "In", *partitions), *common]},
        {"matchExpressions": [_without(partition_label), *common]},
    ]


def with_node_terms(
    affinity: Mapping[str, Any], terms: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The affinity of a template, and besides what it says a node has to meet one of `terms`.

    Terms are alternatives to each other: for both to hold each of the template's is joined with each of ours.
    """
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    node = affinity.get("nodeAffinity") or {}
    given = (node.get(field) or {}).get("nodeSelectorTerms") or [{}]
    joined = [_joined(its, ours) for its in given for ours in terms]
    if not joined:
        return dict(affinity)
    required = {**(node.get(field) or {}), "nodeSelectorTerms": joined}
    return {**affinity, "nodeAffinity": {**node, field: required}}


def alone(affinity: Mapping[str, Any], cluster_id: str) -> dict[str, Any]:
    """The affinity, and besides to be on no node with any other pod of the cluster.

    Kubernetes heeds it both ways: nor does another pod get onto that node afterwards.
    """
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    apart = affinity.get("podAntiAffinity") or {}
    term = {
        "labelSelector": {"matchLabels": {CLUSTER_LABEL: cluster_id}},
        "topologyKey": _HOSTNAME,
    }
    return {**affinity, "podAntiAffinity": {**apart, field: [*(apart.get(field) or []), term]}}


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _shown(toleration: Toleration) -> str:
    text = toleration.key
    if toleration.operator == "Equal":
        text += f"={toleration.value}"
    return f"{text}:{toleration.effect}" if toleration.effect else text


def _requirement(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def _without(key: str) -> dict[str, Any]:
    return {"key": key, "operator": "DoesNotExist"}


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {
        field: [*(one.get(field) or []), *(other.get(field) or [])]
        for field in ("matchExpressions", "matchFields")
        if one.get(field) or other.get(field)
    }
