"""What `--check` finds out about a Kubernetes cluster, without changing anything there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nodemanager.errors import NodeManagerError
from nodemanager.model import Finding
from nodemanager.schedulers.kubernetes.client import KubeClient
from nodemanager.schedulers.kubernetes.options import KubernetesOptions, NodeOrigin, Run

EVERYWHERE = ""
"""All namespaces, or what is in none."""


@dataclass(frozen=True, slots=True)
class Right:
    """What we have to be allowed to do. etc/kubernetes grants just these."""

    resource: str
    verbs: tuple[str, ...]
    group: str = ""
    namespace: str | None = None
    """None: ours."""
    joining: bool = False
    """Only where nodes are booted for us."""


RIGHTS = (
    Right("pods", ("create", "get", "patch", "delete")),
    Right("pods/log", ("get",)),
    Right("events", ("list",)),
    Right("secrets", ("create", "patch", "delete")),
    Right("nodes", ("list", "watch"), namespace=EVERYWHERE),
    Right("pods", ("list", "watch"), namespace=EVERYWHERE),
    Right("nodes", ("patch", "delete"), namespace=EVERYWHERE, joining=True),
    Right("pods/eviction", ("create",), namespace=EVERYWHERE, joining=True),
)


def findings(client: KubeClient, options: KubernetesOptions) -> Sequence[Finding]:
    """Server, rights, and whatever the options name."""
    try:
        found = [Finding("API server", client.version())]
        found += _rights(client, options)
        found += _priority_classes(client, options)
    except NodeManagerError as error:
        # What comes next would only say the same.
        return [Finding("API server", problem=str(error))]
    return [*found, _output(options)]


def _rights(client: KubeClient, options: KubernetesOptions) -> Iterator[Finding]:
    missing = []
    for right in RIGHTS:
        if right.joining and options.nodes is not NodeOrigin.JOINING:
            continue
        for verb in right.verbs:
            if not client.may(verb, right.resource, group=right.group, namespace=right.namespace):
                where = "" if right.namespace == EVERYWHERE else f" in {options.namespace}"
                missing.append(f"{verb} {right.resource}{where}")
    detail = f"all that are needed in namespace {options.namespace}"
    problem = f"missing: {', '.join(missing)}; see etc/kubernetes" if missing else ""
    yield Finding("rights", "" if missing else detail, problem)


def _priority_classes(client: KubeClient, options: KubernetesOptions) -> Iterator[Finding]:
    if not options.priority_classes:
        return
    names = [each.name for each in options.priority_classes]
    if not client.may("list", "priorityclasses", group="scheduling.k8s.io", namespace=EVERYWHERE):
        yield Finding("priority classes", f"{', '.join(names)} (not looked for: no right to list)")
        return
    there = {each["metadata"]["name"] for each in client.priority_classes()}
    missing = [name for name in names if name not in there]
    problem = f"there is no PriorityClass {', '.join(missing)}" if missing else ""
    yield Finding("priority classes", ", ".join(names), problem)


def _output(options: KubernetesOptions) -> Finding:
    if options.run is Run.RUNNER:
        return Finding("outputs", "kept by the runners")
    if not options.keep_output:
        return Finding("outputs", "not kept (keep_output = no)")
    claims = ", ".join(f"{claim.directory} is {claim.name}" for claim in options.claims)
    return Finding("outputs", f"written by the pods into the store ({claims})")
