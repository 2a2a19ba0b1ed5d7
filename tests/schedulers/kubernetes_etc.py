"""The manifests of etc/kubernetes, read for tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ETC = Path(__file__).parents[2] / "etc" / "kubernetes"
BOOTED_NODES = ETC / "booted-nodes"
NAMESPACE = "arvados"
ACCOUNT = "arvados-node-manager"


@dataclass(frozen=True, slots=True)
class Grant:
    """One verb of one rule."""

    kind: str
    """``Role`` or ``ClusterRole``."""
    role: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.role}-{self.verb}-{self.resource}"


def documents() -> Iterator[dict[str, Any]]:
    """Every object of the manifests."""
    for path in sorted(ETC.rglob("*.yaml")):
        if path.name not in ("kustomization.yaml", "pod-template.yaml"):
            yield from yaml.safe_load_all(path.read_text())


def document(kind: str, name: str = ACCOUNT) -> dict[str, Any]:
    """One of them."""
    (found,) = (
        each for each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )
    return found


def grants() -> Iterator[Grant]:
    """Everything that the daemon is allowed to do."""
    for each in documents():
        if each["kind"] in ("Role", "ClusterRole"):
            for rule in each["rules"]:
                assert rule["apiGroups"] == [""]
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield Grant(each["kind"], each["metadata"]["name"], resource, verb)


def without(grant: Grant) -> list[dict[str, Any]]:
    """The rules of its role, but for that."""
    rules = []
    for rule in document(grant.kind, grant.role)["rules"]:
        assert len(rule["resources"]) == 1
        verbs = [
            verb
            for verb in rule["verbs"]
            if (rule["resources"][0], verb) != (grant.resource, grant.verb)
        ]
        if verbs:
            rules.append({**rule, "verbs": verbs})
    return rules
