"""From a job to what is sent to the API server: a pod, and a Secret with what only that pod may see.

What the operator's template says is the base; over it comes what the options say, and over that what the container
asked for. Nothing of a pod depends on anything but the job, the options and the template.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodemanager.model import Resources
from nodemanager.mount_plan import RequestFaultError
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.kubernetes.names import (
    ASKED,
    CONTAINER,
    EXCLUSIVE,
    FINALIZER,
    RUNS,
    Asked,
    labels_of,
)
from nodemanager.schedulers.kubernetes.options import KubernetesOptions, Run
from nodemanager.schedulers.kubernetes.placement import (
    LOST,
    alone,
    lost_toleration,
    node_terms,
    toleration_json,
    with_node_terms,
)
from nodemanager.schedulers.kubernetes.podnodes import NodeRules, Toleration
from nodemanager.schedulers.kubernetes.priorities import class_name
from nodemanager.schedulers.kubernetes.program import Program, command_of, literal, runner_of
from nodemanager.schedulers.kubernetes.quantities import requests_of
from nodemanager.schedulers.kubernetes.syntax import is_label_value, is_object_name
from nodemanager.schedulers.kubernetes.template import merge
from nodemanager.schedulers.kubernetes.volumes import MAX_SECRET_BYTES, Volumes

_MAX_SECONDS = (1 << 31) - 1

_DEFAULTS: Mapping[str, Any] = {
    "spec": {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [
            {"name": CONTAINER, "securityContext": {"allowPrivilegeEscalation": False}},
        ],
    },
}
"""What a template may change."""


@dataclass(frozen=True, slots=True)
class PodParts:
    """What is sent for one job."""

    pod: dict[str, Any]
    secret: dict[str, Any] | None = field(default=None, repr=False)
    """Of the same name; to be owned by the pod. None when the pod needs none."""


class Manifests:
    """Pods for the jobs of one cluster. `template` is what `read_template` gave; empty for none."""

    def __init__(
        self,
        options: KubernetesOptions,
        context: SchedulerContext,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        self._options = options
        self._cluster_id = context.cluster_id
        dispatcher = context.dispatcher if is_label_value(context.dispatcher) else ""
        self._labels = dict(labels_of(context.cluster_id, dispatcher))
        self._base = merge(merge(_DEFAULTS, template or {}), self._site())

    @property
    def runs_commands(self) -> bool:
        """Whether pods are the containers themselves."""
        return self._options.run is Run.POD

    @property
    def cluster_id(self) -> str:
        """Whose pods these are."""
        return self._cluster_id

    @property
    def node_rules(self) -> NodeRules:
        """On which nodes these pods may run, template and options taken together."""
        spec = self._base["spec"]
        return NodeRules(
            node_selector=spec.get("nodeSelector") or {},
            tolerations=tuple(map(Toleration.from_dict, spec.get("tolerations") or ())),
            partition_label=self._options.partition_label,
            preemptible_label=self._options.preemptible_label,
        )

    def parts(self, spec: JobSpec) -> PodParts:
        """The pod of a job, and its Secret.

        With `run = pod` the pod runs the job's `work`; where there is none, as for a probe, and with `run = runner` it
        runs the job's `argv` in `runner_image`. Raises `RequestFaultError` for a job that no pod could ever run.
        """
        self._check(spec)
        volumes = Volumes(spec.name)
        if self._options.run is Run.POD and spec.work is not None:
            program = command_of(spec.name, spec.work, self._options, volumes)
        else:
            program = runner_of(spec, self._options, volumes)
        secret = self._secret(spec.name, volumes.secret)
        base = _without(self._base, volumes, program)
        return PodParts(merge(base, self._pod(spec, program, volumes)), secret)

    def folder(self, spec: JobSpec) -> Path | None:
        """The container's own directory in the store, for its log and perhaps its output; None for a runner's pod."""
        store = self._options.store
        is_command = self.runs_commands and spec.work is not None
        return Path(store) / spec.name if is_command and store else None

    def requests_for(self, spec: JobSpec) -> int:
        """How many requests it takes to make pod and Secret; cheaper to tell than by making them."""
        work = spec.work if self.runs_commands else None
        if work is None:
            has_secret = bool(spec.stdin)
        else:
            mounts = (*work.plan.mounts, *([work.plan.stdin] if work.plan.stdin else ()))
            texts = any(mount.kind in ("text", "json") for mount in mounts)
            has_secret = texts or work.api is not None
        return 3 if has_secret else 1

    def refusal(self, spec: JobSpec) -> str:
        """Why no pod could ever run the job; empty when one can."""
        try:
            self.parts(spec)
        except RequestFaultError as error:
            return str(error)
        return ""

    def size(self, resources: Resources) -> Resources:
        """What the pod of a container that asks for `resources` keeps of its node."""
        container = {"name": CONTAINER, "resources": self._resources(resources)}
        pod = merge(self._base, {"spec": {"containers": [container]}})
        amounts = requests_of(pod["spec"], (self._options.gpu_resource,))
        cores = -(-amounts.milli_cores // 1000)
        return Resources(cores, amounts.ram_bytes, amounts.scratch_bytes, amounts.gpus)

    # What is the same for all.

    def _site(self) -> dict[str, Any]:
        options = self._options
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": options.grace_seconds,
        }
        if options.service_account:
            spec["serviceAccountName"] = options.service_account
        if options.node_selector:
            spec["nodeSelector"] = dict(options.node_selector)
        spec["tolerations"] = [
            *map(toleration_json, options.tolerations),
            *(lost_toleration(trouble, options.lost_seconds) for trouble in LOST),
        ]
        if options.image_pull_policy:
            main = {"name": CONTAINER, "imagePullPolicy": options.image_pull_policy}
            spec["containers"] = [main]
        metadata = {"labels": self._labels, "finalizers": [FINALIZER]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    # What is a job's own.

    def _check(self, spec: JobSpec) -> None:
        if not spec.name.startswith(f"{self._cluster_id}-") or not is_object_name(spec.name):
            raise RequestFaultError(
                f"{spec.name!r} is no name of a container of {self._cluster_id}"
            )
        if spec.partitions and not self._options.partition_label:
            raise RequestFaultError(
                "it asks for a partition, and this cluster has none; the operator can name the label of nodes that says "
                "theirs in the option partition_label of [Scheduler]"
            )
        for partition in spec.partitions:
            if not partition or not is_label_value(partition):
                raise RequestFaultError(f"partition {partition!r} can be no node's: not a label")

    def _pod(self, spec: JobSpec, program: Program, volumes: Volumes) -> dict[str, Any]:
        annotations = {
            ASKED: Asked(spec.resources.ram_bytes, program.asked_seconds).as_annotation(),
            RUNS: program.runs,
        }
        if spec.exclusive:
            annotations[EXCLUSIVE] = "yes"
        return {
            "metadata": {"name": spec.name, "annotations": annotations},
            "spec": self._spec(spec, program, volumes),
        }

    def _spec(self, spec: JobSpec, program: Program, volumes: Volumes) -> dict[str, Any]:
        container: dict[str, Any] = {
            "name": CONTAINER,
            "image": program.image,
            "command": [literal(word) for word in program.command],
            "env": list(program.environment),
            "workingDir": program.directory,
            "resources": self._resources(spec.resources),
            "volumeMounts": volumes.mounts_as_json(),
        }
        own = {
            "containers": [_filled(container)],
            "volumes": volumes.as_json(),
            "activeDeadlineSeconds": min(program.run_seconds, _MAX_SECONDS),
            "priorityClassName": class_name(self._options.priority_classes, spec.priority),
            "affinity": self._affinity(spec),
        }
        return _filled(own)

    def _affinity(self, spec: JobSpec) -> dict[str, Any]:
        options = self._options
        terms = node_terms(
            options.partition_label,
            spec.partitions,
            options.preemptible_label,
            preemptible=spec.preemptible,
        )
        affinity = with_node_terms(self._base["spec"].get("affinity") or {}, terms)
        return alone(affinity, self._cluster_id) if spec.exclusive else affinity

    def _resources(self, resources: Resources) -> dict[str, Any]:
        """Memory and scratch are limits, too: what goes beyond them would be others' on the node."""
        options = self._options
        milli_cores = resources.cores * 1000 + options.reserve_milli_cores
        cpu = str(milli_cores // 1000) if milli_cores % 1000 == 0 else f"{milli_cores}m"
        amounts = {
            "memory": resources.ram_bytes + options.reserve_ram,
            "ephemeral-storage": resources.scratch_bytes,
            options.gpu_resource: resources.gpus,
        }
        limits = {name: str(amount) for name, amount in amounts.items() if amount}
        requests = {"cpu": cpu, **limits} if milli_cores else dict(limits)
        if options.cpu_limit and milli_cores:
            limits = {"cpu": cpu, **limits}
        return {"requests": requests, "limits": limits}

    def _secret(self, name: str, contents: Mapping[str, bytes]) -> dict[str, Any] | None:
        if not contents:
            return None
        total = sum(map(len, contents.values()))
        if total > MAX_SECRET_BYTES:
            raise RequestFaultError(
                f"its text and json mounts have {total} bytes; a pod can be given {MAX_SECRET_BYTES} in all, what is "
                "larger has to be mounted as a file"
            )
        data = {key: base64.b64encode(value).decode() for key, value in contents.items()}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": dict(self._labels)},
            "type": "Opaque",
            "immutable": True,
            "data": data,
        }


def _filled(value: Mapping[str, Any]) -> dict[str, Any]:
    """Without fields that say nothing, so that the template's hold."""
    return {key: each for key, each in value.items() if each}


def _without(base: Mapping[str, Any], volumes: Volumes, program: Program) -> dict[str, Any]:
    """The base without what the template mounts, or sets, where the container has something of its own.

    Merged, they would be half the one and half the other.
    """
    taken = {
        "volumeMounts": {each["mountPath"] for each in volumes.mounts_as_json()},
        "env": {each["name"] for each in program.environment},
    }
    keys = {"volumeMounts": "mountPath", "env": "name"}
    spec = base["spec"]
    containers = [
        {
            name: [each for each in value if str(each[keys[name]]).rstrip("/") not in taken[name]]
            if name in keys and container["name"] == CONTAINER
            else value
            for name, value in container.items()
        }
        for container in spec["containers"]
    ]
    return {**base, "spec": {**spec, "containers": containers}}
