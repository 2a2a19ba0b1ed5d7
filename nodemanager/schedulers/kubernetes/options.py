"""The `[Scheduler]` options of the Kubernetes module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodemanager.config.kinds import Bool, Bytes, Choice, Integer, Kind, Pattern, Seconds, found
from nodemanager.config.module_options import read_options
from nodemanager.errors import ConfigError
from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.batches import MAX_CLASS
from nodemanager.schedulers.kubernetes.podnodes import NodeRules, Toleration
from nodemanager.schedulers.kubernetes.quantities import GPU_RESOURCES
from nodemanager.schedulers.kubernetes.reflector import Pace
from nodemanager.schedulers.kubernetes.view import ViewRules
from nodemanager.schedulers.kubernetes.waits import Patience

_LABEL_KEY = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"


class Run(StrEnum):
    """What a pod is."""

    POD = "pod"
    """The container itself: its image runs its command, and the pod's end is the container's."""
    RUNNER = "runner"
    """A runner, which reports for itself; its image has to have our package."""


class NodeOrigin(StrEnum):
    """Where the nodes come from."""

    FIXED = "fixed"
    """They are there, or somebody else boots them."""
    JOINING = "joining"
    """Machines that are booted for us, whose kubelets join by themselves."""


@dataclass(frozen=True)
class Labels(Kind):
    """``key=value, key2=value2``."""

    def parse(self, text: str) -> dict[str, str]:
        """Raises `ValueError`."""
        labels = {}
        for word in _words(text):
            key, equals, value = word.partition("=")
            if not (equals and re.fullmatch(_LABEL_KEY, key) and re.fullmatch(_LABEL_VALUE, value)):
                raise ValueError(f"expected labels such as key=value, found {found(word)}")
            labels[key] = value
        return labels


@dataclass(frozen=True)
class Tolerations(Kind):
    """``key=value:Effect``, ``key:Effect`` or ``key``, as in kubectl taint."""

    def parse(self, text: str) -> tuple[Toleration, ...]:
        """Raises `ValueError`."""
        return tuple(_toleration(word) for word in _words(text))


@dataclass(frozen=True)
class Claims(Kind):
    """``DIRECTORY CLAIM, DIRECTORY CLAIM``."""

    def parse(self, text: str) -> tuple[Claim, ...]:
        """Longest directories first, so that the nearest is found first; raises `ValueError`."""
        claims = []
        for pair in filter(None, (part.split() for part in re.split(r"[,\n]", text))):
            if len(pair) != 2 or not pair[0].startswith("/") or not re.fullmatch(_NAME, pair[1]):
                words = found(" ".join(pair))
                raise ValueError(
                    f"expected an absolute directory and a claim's name, found {words}"
                )
            claims.append(Claim(Path(pair[0]), pair[1]))
        return tuple(sorted(claims, key=lambda claim: -len(claim.directory.parts)))


@dataclass(frozen=True)
class PriorityClasses(Kind):
    """``1 low, 500 normal, 900 high``: from which of the users' priorities on which class is meant."""

    def parse(self, text: str) -> tuple[tuple[int, str], ...]:
        """Largest numbers first; raises `ValueError`."""
        classes = {}
        for pair in filter(None, (part.split() for part in re.split(r"[,\n]", text))):
            number = int(pair[0]) if pair[0].isascii() and pair[0].isdigit() else -1
            good = len(pair) == 2 and 0 < number <= MAX_CLASS and re.fullmatch(_NAME, pair[-1])
            if not good or number in classes:
                words = found(" ".join(pair))
                raise ValueError(
                    f"expected numbers from 1 to {MAX_CLASS}, each with a PriorityClass, found {words}"
                )
            classes[number] = pair[1]
        return tuple(sorted(classes.items(), reverse=True))


@dataclass(frozen=True, slots=True)
class Claim:
    """A directory, as this configuration names it, and the PersistentVolumeClaim that has the same files."""

    directory: Path
    name: str


OPTIONS: Mapping[str, Kind] = {
    "kubeconfig": Kind(),
    "context": Kind(),
    "namespace": Pattern(_NAME, "a namespace"),
    "run": Choice(tuple(Run)),
    "image": Kind(),
    "template": Kind(),
    "claims": Claims(),
    "keep_output": Bool(),
    "shell": Kind(),
    "image_pull_policy": Choice(("Always", "IfNotPresent", "Never")),
    "service_account": Pattern(_NAME, "a service account"),
    "priority_classes": PriorityClasses(),
    "node_selector": Labels(),
    "tolerations": Tolerations(),
    "partition_label": Pattern(_LABEL_KEY, "a label's key"),
    "preemptible_label": Labels(),
    "gpu_resource": Pattern(_LABEL_KEY, "a resource's name"),
    "reserve_ram": Bytes(0),
    "cpu_limit": Bool(),
    "grace": Seconds(0),
    "lost_after": Seconds(0),
    "concurrency": Integer(1, 64),
    "image_patience": Seconds(0),
    "relist_time": Seconds(1),
    "nodes": Choice(tuple(NodeOrigin)),
}


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """What an operator can set."""

    kubeconfig: Path | None
    """Default: the service account when the daemon runs in a pod, else $KUBECONFIG or ~/.kube/config."""
    context: str
    """Of the kubeconfig. Default: its current one."""
    namespace: str
    """Of the pods. Default: ``default``."""
    run: Run
    """Default: pod."""
    image: str
    """For containers that name none; with `run = runner` that of all pods. Default: none."""
    template: Path | None
    """A YAML file with a pod that all pods are made of; what the container asks for goes over it. Default: none."""
    claims: tuple[Claim, ...]
    """Directories of this configuration, the store above all, and the PersistentVolumeClaims of the namespace that have
    the same files. Default: none."""
    keep_output: bool
    """Pods write their output into the store, for which one of `claims` is needed. Default yes."""
    shell: str
    """In containers' images: used for commands only whose standard streams are redirected. Default ``/bin/sh``."""
    image_pull_policy: str
    """Default: Kubernetes' own."""
    service_account: str
    """Of the pods; its token is not mounted. Default: the namespace's."""
    priority_classes: tuple[tuple[int, str], ...]
    """From which of the users' priorities, 1 to 1000, on which PriorityClass is taken. Default: none is."""
    node_selector: Mapping[str, str]
    """Labels of the nodes that pods may use. Default: all nodes."""
    tolerations: tuple[Toleration, ...]
    """Taints that pods bear. Default: none."""
    partition_label: str
    """The label of nodes whose value is their partition; a node without it takes any job. Default: no partitions."""
    preemptible_label: str
    """``key=value`` of nodes that can be taken away; only jobs that bear that get there. Default: none."""
    gpu_resource: str
    """What GPUs are called. Default ``nvidia.com/gpu``."""
    reserve_ram: int
    """Bytes added to what a job asks for. Default 0."""
    cpu_limit: bool
    """The cores asked for are a limit, too: no more is had even where nobody else needs it. Default no."""
    grace_seconds: int
    """Between TERM and KILL. Default 30 s."""
    lost_seconds: int
    """How long a node may be silent or not ready before its pods are given up. Default 5 min, as Kubernetes has it."""
    concurrency: int
    """How many requests are made at a time. Default 8."""
    image_patience: float
    """How long an image is waited for whose registry does not answer. Default 15 min."""
    relist_seconds: float
    """How often everything is listed anew, in case a watch has missed something. Default 10 min."""
    nodes: NodeOrigin
    """Default fixed."""

    @classmethod
    def of(cls, context: SchedulerContext) -> KubernetesOptions:
        """Read the options; `ConfigError` names the one that is wrong or unknown."""
        owner = "the kubernetes scheduler"
        values = read_options(context.section, owner, context.options, OPTIONS)
        preemptible = values.get("preemptible_label", {})
        if len(preemptible) > 1:
            raise ConfigError(f"[{context.section}] preemptible_label: expected one label")
        options = cls(
            kubeconfig=_path(context, values.get("kubeconfig")),
            context=values.get("context", ""),
            namespace=values.get("namespace", "default"),
            run=Run(values.get("run", Run.POD)),
            image=values.get("image", ""),
            template=_path(context, values.get("template")),
            claims=values.get("claims", ()),
            keep_output=values.get("keep_output", True),
            shell=values.get("shell") or "/bin/sh",
            image_pull_policy=values.get("image_pull_policy", ""),
            service_account=values.get("service_account", ""),
            priority_classes=values.get("priority_classes", ()),
            node_selector=values.get("node_selector", {}),
            tolerations=values.get("tolerations", ()),
            partition_label=values.get("partition_label", ""),
            preemptible_label="".join(f"{k}={v}" for k, v in preemptible.items()),
            gpu_resource=values.get("gpu_resource", GPU_RESOURCES[0]),
            reserve_ram=values.get("reserve_ram", 0),
            cpu_limit=values.get("cpu_limit", False),
            grace_seconds=int(values.get("grace", 30)),
            lost_seconds=int(values.get("lost_after", 300)),
            concurrency=values.get("concurrency", 8),
            image_patience=values.get("image_patience", Patience().registry_seconds),
            relist_seconds=values.get("relist_time", Pace().relist_seconds),
            nodes=NodeOrigin(values.get("nodes", NodeOrigin.FIXED)),
        )
        options._check(context)
        return options

    def _check(self, context: SchedulerContext) -> None:
        """What fits ill together."""
        if self.run is Run.RUNNER:
            return
        if self.keep_output and (context.store is None or self.claim_of(context.store) is None):
            where = "the API" if context.store is None else str(context.store)
            raise ConfigError(
                f"[{context.section}] claims: pods cannot write their output to {where}: set [Runner] store to a "
                f"directory and name the PersistentVolumeClaim with the same files here (claims = DIRECTORY "
                f"CLAIM), or set keep_output = no to run without outputs, or run = runner"
            )

    def claim_of(self, path: Path) -> tuple[str, str] | None:
        """The claim that has the file or directory, and where in it; None if none has."""
        for claim in self.claims:
            if path.is_relative_to(claim.directory):
                inside = path.relative_to(claim.directory).as_posix()
                return claim.name, "" if inside == "." else inside
        return None

    def priority_class(self, priority: int) -> str:
        """The PriorityClass of a user's priority (0 to 1000); empty for none."""
        return next((name for least, name in self.priority_classes if priority >= least), "")

    def view_rules(self, template: NodeRules) -> ViewRules:
        """What is seen; `template` is what the pods' template has of such rules."""
        return ViewRules(
            nodes=NodeRules(
                node_selector={**template.node_selector, **self.node_selector},
                tolerations=(*template.tolerations, *self.tolerations),
                partition_label=self.partition_label,
                preemptible_label=self.preemptible_label,
            ),
            gpu_resources=(self.gpu_resource,),
            patience=Patience(registry_seconds=self.image_patience),
            pace=Pace(relist_seconds=self.relist_seconds),
        )


def _path(context: SchedulerContext, text: str | None) -> Path | None:
    """Relative ones are those of the state directory, as with all modules."""
    return context.state_dir / Path(text).expanduser() if text else None


def _toleration(word: str) -> Toleration:
    rest, _, effect = word.partition(":")
    key, equals, value = rest.partition("=")
    effects = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
    good = re.fullmatch(_LABEL_KEY, key) and re.fullmatch(_LABEL_VALUE, value)
    if not good or effect not in effects:
        raise ValueError(f"expected taints such as key=value:NoSchedule, found {found(word)}")
    return Toleration(key, "Equal" if equals else "Exists", value, effect)


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()
