"""The `[Scheduler]` options of the Kubernetes module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from nodemanager.config.kinds import Bool, Bytes, Choice, Float, Integer, Kind, Pattern, Seconds
from nodemanager.config.module_options import read_options
from nodemanager.errors import ConfigError
from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.kubernetes.claims import Claim, Claims, find_place
from nodemanager.schedulers.kubernetes.placement import LabelKey, Labels, Tolerations
from nodemanager.schedulers.kubernetes.podnodes import NodeRules, Toleration
from nodemanager.schedulers.kubernetes.priorities import PriorityRange, PriorityRanges
from nodemanager.schedulers.kubernetes.quantities import GPU_RESOURCES
from nodemanager.schedulers.kubernetes.reflector import Pace
from nodemanager.schedulers.kubernetes.syntax import LABEL_KEY, NAMESPACE, OBJECT_NAME
from nodemanager.schedulers.kubernetes.view import ViewRules
from nodemanager.schedulers.kubernetes.waits import Patience


class Run(StrEnum):
    """What a pod runs."""

    POD = "pod"
    """The container's own command, in its own image: the pod is the container."""
    RUNNER = "runner"
    """A runner in an image of ours, which runs the container and reports for itself."""


class NodeOrigin(StrEnum):
    """Where the nodes come from that are booted for us."""

    FIXED = "fixed"
    """None are: the cluster has all nodes there will be, or an autoscaler of its own."""
    JOINING = "joining"
    """Machines that we boot join the cluster."""


_PATH = Pattern(r"/.*", "an absolute path")

OPTIONS: Mapping[str, Kind] = {
    "kubeconfig": Kind(),
    "context": Kind(),
    "namespace": Pattern(NAMESPACE, "the name of a namespace"),
    "run": Choice(tuple(Run)),
    "image": Kind(),
    "runner_image": Kind(),
    "template": Kind(),
    "claims": Claims(),
    "keep_output": Bool(),
    "shell": _PATH,
    "image_pull_policy": Choice(("Always", "IfNotPresent", "Never")),
    "service_account": Pattern(OBJECT_NAME, "the name of a service account"),
    "priority_classes": PriorityRanges(),
    "node_selector": Labels(),
    "tolerations": Tolerations(),
    "partition_label": LabelKey(),
    "preemptible_label": LabelKey(valued=True),
    "gpu_resource": Pattern(LABEL_KEY, "the name of a resource"),
    "reserve_cpu": Float(0, 1024),
    "reserve_ram": Bytes(0),
    "cpu_limit": Bool(),
    "grace": Seconds(1, 86400),
    "lost_after": Seconds(0, 86400),
    "concurrency": Integer(1, 64),
    "image_patience": Seconds(0),
    "relist_time": Seconds(1),
    "nodes": Choice(tuple(NodeOrigin)),
}


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """What an operator can set."""

    kubeconfig: Path | None
    """Default: the service account when the daemon runs in a pod, else `KUBECONFIG` or ``~/.kube/config``."""
    context: str
    """Of the kubeconfig; empty for its current one."""
    namespace: str
    """Of the pods. Default: ``default``."""
    run: Run
    """Default pod."""
    image: str
    """For containers that name none. Default: such containers are refused."""
    runner_image: str
    """Of pods that run a runner, or a probe: with `run = runner` it has to be given. Default: `image`."""
    template: Path | None
    """A pod template in YAML, to which everything else is added."""
    claims: tuple[Claim, ...]
    """By which pods reach the store and the directories for inputs."""
    keep_output: bool
    """Default yes: the command writes its output straight into the claim that covers `[Runner] store`."""
    store: PurePosixPath | None
    """`[Runner] store`, from the context."""
    input_dirs: tuple[PurePosixPath, ...]
    """`[Runner] input_dirs`, from the context."""
    shell: str
    """In the images: starts only commands whose streams are redirected, or whose output begins with files that
    were mounted into it. Default /bin/sh."""
    image_pull_policy: str
    """Empty: Kubernetes decides by the image's tag."""
    service_account: str
    """Empty: the namespace's default one. Its token is not mounted in any case, unless the template says so."""
    priority_classes: tuple[PriorityRange, ...]
    """Default: none, and so the cluster's default class."""
    node_selector: Mapping[str, str]
    """Labels that a node must have."""
    tolerations: tuple[Toleration, ...]
    """For nodes that are kept for containers by a taint."""
    partition_label: str
    """The key whose value is a node's partition. Default: there are no partitions, and what asks for one is refused."""
    preemptible_label: str
    """Of nodes that can be taken away: only containers that bear that get there."""
    gpu_resource: str
    """What is asked for as GPUs. Default nvidia.com/gpu."""
    reserve_milli_cores: int
    """`reserve_cpu`, in thousandths of a core: added to what a container asks for. Default 0."""
    reserve_ram: int
    """Bytes added to what a container asks for. Default 0."""
    cpu_limit: bool
    """Whether the cores asked for are a limit, too. Default no: a limit stops all threads of a command that used its
    share of a tenth of a second, also where cores are idle; without it a busy node shares them by requests."""
    grace_seconds: int
    """`grace`: between TERM and KILL. Default 30 s."""
    lost_seconds: int
    """`lost_after`: how long a node may be silent or not ready before its pods are given up. Default 5 min, as
    Kubernetes has it."""
    concurrency: int
    """How many requests are made at a time. Default 8."""
    image_patience: float
    """For so many seconds a registry that does not answer is waited for. Default 15 min."""
    relist_seconds: float
    """`relist_time`: every so many seconds everything is listed anew, whatever the watches told. Default 10 min."""
    nodes: NodeOrigin
    """Default fixed."""

    @classmethod
    def of(cls, context: SchedulerContext) -> KubernetesOptions:
        """Read the options; `ConfigError` names the one that is wrong or unknown."""
        values = read_options(context.section, "the kubernetes scheduler", context.options, OPTIONS)
        kubeconfig, template = values.get("kubeconfig"), values.get("template")
        options = cls(
            kubeconfig=_path(context, kubeconfig),
            context=values.get("context", ""),
            namespace=values.get("namespace", "default"),
            run=Run(values.get("run", Run.POD)),
            image=values.get("image", ""),
            runner_image=values.get("runner_image") or values.get("image", ""),
            template=_path(context, template),
            claims=values.get("claims", ()),
            keep_output=values.get("keep_output", True),
            store=None if context.store is None else PurePosixPath(context.store),
            input_dirs=tuple(map(PurePosixPath, context.input_dirs)),
            shell=values.get("shell", "/bin/sh"),
            image_pull_policy=values.get("image_pull_policy", ""),
            service_account=values.get("service_account", ""),
            priority_classes=values.get("priority_classes", ()),
            node_selector=values.get("node_selector", {}),
            tolerations=values.get("tolerations", ()),
            partition_label=values.get("partition_label", ""),
            preemptible_label=values.get("preemptible_label", ""),
            gpu_resource=values.get("gpu_resource", GPU_RESOURCES[0]),
            reserve_milli_cores=math.ceil(round(values.get("reserve_cpu", 0.0) * 1000, 3)),
            reserve_ram=values.get("reserve_ram", 0),
            cpu_limit=values.get("cpu_limit", False),
            grace_seconds=math.ceil(values.get("grace", 30.0)),
            lost_seconds=math.ceil(values.get("lost_after", 300.0)),
            concurrency=values.get("concurrency", 8),
            image_patience=values.get("image_patience", Patience().registry_seconds),
            relist_seconds=values.get("relist_time", Pace().relist_seconds),
            nodes=NodeOrigin(values.get("nodes", NodeOrigin.FIXED)),
        )
        options._check(context.section)
        return options

    def view_rules(self, nodes: NodeRules) -> ViewRules:
        """What is seen. `nodes` says which nodes pods may use, the template included."""
        return ViewRules(
            nodes=nodes,
            gpu_resources=(self.gpu_resource,),
            patience=Patience(registry_seconds=self.image_patience),
            pace=Pace(relist_seconds=self.relist_seconds),
        )

    def _check(self, section: str) -> None:
        """What no option can tell for itself; raises `ConfigError`."""
        if self.run is Run.RUNNER:
            if not self.runner_image:
                raise ConfigError(
                    f"[{section}] runner_image: missing; with run = runner pods run in an image that has "
                    "arvados-container-runner"
                )
            return
        ours = [path for path in (self.store, *self.input_dirs) if path is not None]
        for claim in self.claims:
            directory = claim.directory
            if not any(p.is_relative_to(directory) or directory.is_relative_to(p) for p in ours):
                raise ConfigError(
                    f"[{section}] claims: {directory} has nothing to do with [Runner] store or input_dirs "
                    f"({', '.join(map(str, ours)) or 'none is set'}); write the directory as it is written there"
                )
        if self.keep_output and (self.store is None or not find_place(self.claims, self.store)):
            where = f"claims: none covers [Runner] store ({self.store})"
            raise ConfigError(
                f"[{section}] {where if self.store else 'keep_output: [Runner] store is not a directory'}, so what "
                "commands write could not be kept; name the store and the PersistentVolumeClaim that holds it in "
                "`claims`, or set keep_output = no, or run = runner"
            )


def _path(context: SchedulerContext, text: str | None) -> Path | None:
    """Relative ones are those of the state directory, as with all modules."""
    return context.state_dir / Path(text).expanduser() if text else None
