"""From a job to its pod, and to the secret that the pod needs where it has texts to mount or a token.

Free of I/O but for the operator's template, which is read once. A job without a container's command (a probe, or one
of the conformance suite) is a pod that runs the job's own argv, like a runner.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodemanager.model import NODE_VARIABLE
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.batches import priority_class
from nodemanager.schedulers.kubernetes import volumes
from nodemanager.schedulers.kubernetes.names import (
    ASKED,
    CLUSTER_LABEL,
    COMMAND,
    CONTAINER,
    EXCLUSIVE,
    FINALIZER,
    RUNS,
    Asked,
    labels_of,
)
from nodemanager.schedulers.kubernetes.options import KubernetesOptions, Run
from nodemanager.schedulers.kubernetes.podnodes import NodeRules, Toleration
from nodemanager.schedulers.kubernetes.template import merge, read_template
from nodemanager.schedulers.kubernetes.volumes import Volumes
from nodemanager.schedulers.script import JOB_VARIABLE
from nodemanager.work import TOKEN_VARIABLE, Work, api_environment

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_TOKEN_KEY = "api-token"  # noqa: S105 (a key's name)
_PRIVATE_DIRECTORY = "/run/arvados-node-manager"
_STDIN = f"{_PRIVATE_DIRECTORY}/stdin"
_AUTHORITY = f"{_PRIVATE_DIRECTORY}/ca.pem"

NO_IMAGE = "none"
"""What requests say that want no image, as for an engine that needs none."""

FEED = 'exec "$@" < "$0"'
"""A script that gives a command its standard input; nothing of the container is ever part of a script."""

REDIRECT = """\
in=$0 out=$1 err=$2; shift 2
for path in "$out" "$err"; do case $path in */*) mkdir -p "${path%/*}";; esac; done
if [ "$out" ]; then exec >> "$out"; fi
if [ "$err" ] && [ "$err" = "$out" ]; then exec 2>&1; elif [ "$err" ]; then exec 2>> "$err"; fi
exec "$@" < "$in"
"""
"""The same, with standard output and standard error going to files where these are named."""


@dataclass(frozen=True, slots=True)
class PodParts:
    """What is to be made for one job."""

    pod: dict[str, Any] = field(repr=False)
    secret: dict[str, Any] | None = field(default=None, repr=False)
    """To be made before the pod."""


class Manifests:
    """Makes pods as the operator's options and template have it. Raises `ConfigError` for a bad template."""

    def __init__(self, context: SchedulerContext, options: KubernetesOptions) -> None:
        self.cluster_id = context.cluster_id
        self.template: Mapping[str, Any] = (
            read_template(options.template) if options.template else {"metadata": {}, "spec": {}}
        )
        self._context = context
        self._options = options
        self._prefix = f"{context.cluster_id}-"

    @property
    def runs_commands(self) -> bool:
        """Whether pods are the containers themselves."""
        return self._options.run is Run.POD

    def template_rules(self) -> NodeRules:
        """What the template says of nodes."""
        spec = self.template["spec"]
        tolerations = map(Toleration.from_dict, spec.get("tolerations") or ())
        return NodeRules(spec.get("nodeSelector") or {}, tuple(tolerations))

    def refusal(self, spec: JobSpec) -> str:
        """Why a job can never be a pod; empty when it can."""
        if not spec.name.startswith(self._prefix) or not _NAME.fullmatch(spec.name):
            return f"a pod's name is {self._prefix} and small letters, digits, dashes"
        if spec.partitions and not self._options.partition_label:
            return (
                f"partitions {', '.join(spec.partitions)}: no partition_label is set for Kubernetes"
            )
        work = self._work(spec)
        command = spec.argv if work is None else work.command
        if not command or not command[0] or any("\0" in word for word in command):
            return "its command is empty or contains a NUL"
        if work is None and len(spec.stdin) > volumes.SECRET_BYTES:
            return "its standard input is larger than a secret can be"
        if not self._image(work):
            return "it names no image, and no `image` is set for Kubernetes"
        return volumes.refusal(work.plan, self._context.store, self._options) if work else ""

    def requests_for(self, spec: JobSpec) -> int:
        """How many requests it takes to make it all."""
        work = self._work(spec)
        if work is None:
            has_secret = bool(spec.stdin)
        else:
            texts = any(mount.kind in ("text", "json") for mount in work.plan.mounts)
            has_secret = texts or work.api is not None or work.plan.stdin is not None
        return 3 if has_secret else 1

    def parts(self, spec: JobSpec) -> PodParts:
        """The pod and its secret; `refusal` has nothing against the job."""
        work = self._work(spec)
        found = Volumes(spec.name, self._context.store, self._options)
        container = self._runner(spec, found) if work is None else self._command(work, found)
        container |= {
            "name": CONTAINER,
            "image": self._image(work),
            "resources": self._resources(spec),
            "volumeMounts": found.mounts(),
        }
        if self._options.image_pull_policy:
            container["imagePullPolicy"] = self._options.image_pull_policy
        limit = spec.max_run_seconds if work is None else work.max_run_seconds
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": self._metadata(spec, limit, is_command=work is not None),
            "spec": self._spec(spec, limit) | {
                "containers": [container],
                "volumes": found.volumes(spec.name),
            },
        }  # fmt: skip
        merged: dict[str, Any] = merge(merge(_DEFAULTS, self.template), pod)
        return PodParts(merged, self._secret(spec, found) if found.data else None)

    # Inside.

    def _work(self, spec: JobSpec) -> Work | None:
        return spec.work if self.runs_commands else None

    def _image(self, work: Work | None) -> str:
        asked = work.image if work is not None else NO_IMAGE
        return self._options.image if asked in ("", NO_IMAGE) else asked

    def _command(self, work: Work, found: Volumes) -> dict[str, Any]:
        """The container that is the command."""
        plan = work.plan
        found.add_plan(plan)
        environment = dict(work.environment)
        env: list[dict[str, Any]] = []
        if work.api is not None:
            ca_file = _AUTHORITY if work.api.authority else ""
            if ca_file:
                found.add_file(_AUTHORITY, work.api.authority)
            environment |= api_environment(
                work.api.host, ca_file=ca_file, insecure=work.api.insecure
            )
            environment.pop(TOKEN_VARIABLE, None)
            found.add_value(_TOKEN_KEY, work.api.token)
            source = {"secretKeyRef": {"name": found.uuid, "key": _TOKEN_KEY}}
            env.append({"name": TOKEN_VARIABLE, "valueFrom": source})
        env += [
            {"name": name, "value": _literal(value)} for name, value in sorted(environment.items())
        ]
        container: dict[str, Any] = {"command": self._argv(work, found), "env": env}
        if plan.cwd:
            container["workingDir"] = plan.cwd
        return container

    def _argv(self, work: Work, found: Volumes) -> list[str]:
        """The command, behind a shell where its streams are redirected."""
        plan = work.plan
        argv = [_literal(word) for word in work.command]
        stdin = "/dev/null"
        if plan.stdin is not None:
            stdin = self._stdin(work, found)
        if plan.stdout or plan.stderr:
            streams = (stdin, plan.stdout, plan.stderr)
            return [self._options.shell, "-c", REDIRECT, *map(_literal, streams), *argv]
        return [self._options.shell, "-c", FEED, stdin, *argv] if plan.stdin is not None else argv

    def _stdin(self, work: Work, found: Volumes) -> str:
        """The path in the container from which standard input is read."""
        mount = work.plan.stdin
        assert mount is not None  # noqa: S101 (for the type checker)
        if mount.kind != "file":
            found.add_file(_STDIN, mount.content)
        elif volumes.is_inside(mount.source, work.plan):
            return mount.source
        else:
            found.add_input(mount, _STDIN)
        return _STDIN

    def _runner(self, spec: JobSpec, found: Volumes) -> dict[str, Any]:
        """A container that runs the job's own argv."""
        argv = [_literal(word) for word in spec.argv]
        node = {"fieldRef": {"fieldPath": "spec.nodeName"}}
        env = [
            {"name": NODE_VARIABLE, "valueFrom": node},
            {"name": JOB_VARIABLE, "value": spec.name},
        ]
        if not spec.stdin:
            return {"command": argv, "env": env}
        found.add_file(_STDIN, spec.stdin)
        return {"command": [self._options.shell, "-c", FEED, _STDIN, *argv], "env": env}

    def _resources(self, spec: JobSpec) -> dict[str, Any]:
        """What it asks for is what it gets, but for cores: those that nobody else wants may be used."""
        asked = spec.resources
        fixed = {"memory": str(asked.ram_bytes + self._options.reserve_ram)}
        if asked.scratch_bytes:
            fixed["ephemeral-storage"] = str(asked.scratch_bytes)
        if asked.gpus:
            fixed[self._options.gpu_resource] = str(asked.gpus)
        cores = {"cpu": str(asked.cores)}
        return {
            "requests": cores | fixed,
            "limits": (cores if self._options.cpu_limit else {}) | fixed,
        }

    def _metadata(self, spec: JobSpec, limit: int, *, is_command: bool) -> dict[str, Any]:
        annotations = {
            ASKED: Asked(spec.resources.ram_bytes, limit).as_annotation(),
            RUNS: COMMAND if is_command else "runner",
        }
        if spec.exclusive:
            annotations[EXCLUSIVE] = "yes"
        return {
            "name": spec.name,
            "namespace": self._options.namespace,
            "labels": dict(labels_of(self.cluster_id, _label(self._context.dispatcher))),
            "annotations": annotations,
            "finalizers": [FINALIZER],
        }

    def _spec(self, spec: JobSpec, limit: int) -> dict[str, Any]:
        options = self._options
        found: dict[str, Any] = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": options.grace_seconds,
        }
        if limit:
            found["activeDeadlineSeconds"] = limit
        if options.service_account:
            found["serviceAccountName"] = options.service_account
        if name := options.priority_class(priority_class(spec.priority)):
            found["priorityClassName"] = name
        if options.node_selector:
            found["nodeSelector"] = dict(options.node_selector)
        found["tolerations"] = [
            *map(_toleration, options.tolerations),
            *(
                {
                    "key": f"node.kubernetes.io/{trouble}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": options.lost_seconds,
                }
                for trouble in ("not-ready", "unreachable")
            ),
        ]
        if affinity := self._affinity(spec):
            found["affinity"] = affinity
        return found

    def _affinity(self, spec: JobSpec) -> dict[str, Any]:
        """Which nodes it may have, and next to whom."""
        every: list[dict[str, Any]] = []
        if self._options.preemptible_label and not spec.preemptible:
            key, _, value = self._options.preemptible_label.partition("=")
            every.append({"key": key, "operator": "NotIn", "values": [value]})
        terms = [every]
        if spec.partitions:
            # A node without the label takes any job.
            label = self._options.partition_label
            inside = {"key": label, "operator": "In", "values": list(spec.partitions)}
            terms = [[*every, inside], [*every, {"key": label, "operator": "DoesNotExist"}]]
        affinity: dict[str, Any] = {}
        if terms != [[]]:
            selectors = [{"matchExpressions": term} for term in terms]
            required = {"nodeSelectorTerms": selectors}
            affinity["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": required}
        if spec.exclusive:
            # Kubernetes keeps it in both directions: nobody of ours joins it either.
            term = {
                "labelSelector": {"matchLabels": {CLUSTER_LABEL: self.cluster_id}},
                "topologyKey": "kubernetes.io/hostname",
            }
            affinity["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        return affinity

    def _secret(self, spec: JobSpec, found: Volumes) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": spec.name,
                "namespace": self._options.namespace,
                "labels": dict(labels_of(self.cluster_id, _label(self._context.dispatcher))),
            },
            "type": "Opaque",
            # Nothing about it changes, so that no kubelet has to look.
            "immutable": True,
            "data": found.encoded(),
        }


_DEFAULTS: Mapping[str, Any] = {
    "metadata": {},
    "spec": {
        # A template may say otherwise.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [{"name": CONTAINER, "securityContext": {"allowPrivilegeEscalation": False}}],
    },
}


def _toleration(value: Toleration) -> dict[str, str]:
    found = {"key": value.key, "operator": value.operator, "value": value.value}
    return {name: each for name, each in (found | {"effect": value.effect}).items() if each}


def _literal(text: str) -> str:
    """`text` where Kubernetes would put the values of variables in: it takes two dollars for one."""
    return text.replace("$", "$$")


def _label(text: str) -> str:
    """`text` as the value of a label: itself, or where that cannot be what tells it apart."""
    if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", text) or not text:
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:16]
