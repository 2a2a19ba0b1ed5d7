"""What a container finds in its file system, as volumes of a pod.

Directories are empty ones that end with the pod, texts are files of one secret per container, and files come from
the persistent volumes that the operator has named. Nothing is ever taken from the node.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodemanager.model import STORE_PREFIX, format_bytes
from nodemanager.mount_plan import Mount, MountPlan, is_below
from nodemanager.schedulers.kubernetes.options import KubernetesOptions

SECRET_BYTES = 1 << 20
"""What the API takes of one secret at most."""

_SECRET_VOLUME = "inputs"  # noqa: S105 (a volume's name)
_READABLE = 0o444


@dataclass(slots=True)
class Volumes:
    """The volumes of one pod, and the data of its secret."""

    uuid: str
    store: Path | None
    options: KubernetesOptions
    data: dict[str, bytes] = field(default_factory=dict, repr=False)
    """Of the secret, by key."""
    _mounts: list[dict[str, Any]] = field(default_factory=list)
    _volumes: list[dict[str, Any]] = field(default_factory=list)
    _claims: dict[str, str] = field(default_factory=dict)
    """Names of volumes by claim."""

    def add_plan(self, plan: MountPlan) -> None:
        """All mounts of a container, and where its output goes. `refusal` has nothing against them."""
        output = self._output_claim()
        for mount in plan.mounts:
            if mount.kind == "tmp":
                if output is None or mount.target != plan.output_path:
                    self._add_empty(mount)
            elif mount.kind == "file":
                self.add_input(mount, mount.target)
            else:
                self.add_file(mount.target, mount.content)
        if output is not None:
            self._add_claim(*output, plan.output_path, writable=True)

    def add_input(self, mount: Mount, target: str) -> None:
        """The file of a mount of kind file, at `target`."""
        claim, inside = _place(mount, self.store, self.options) or ("", "")
        self._add_claim(claim, inside, target, writable=False)

    def add_file(self, target: str, content: bytes) -> None:
        """A file of the secret at `target`. Whoever is in the pod may read it: an image need not run as root."""
        key = f"file-{len(self.data)}"
        self.data[key] = content
        mount = {"name": _SECRET_VOLUME, "mountPath": target, "subPath": key, "readOnly": True}
        self._mounts.append(mount)

    def add_value(self, key: str, value: str) -> None:
        """A value of the secret that is not a file: for a variable."""
        self.data[key] = value.encode()

    def mounts(self) -> list[dict[str, Any]]:
        """For the container; what lies in another comes after it."""
        return sorted(self._mounts, key=lambda mount: str(mount["mountPath"]))

    def volumes(self, secret_name: str) -> list[dict[str, Any]]:
        """For the pod."""
        if not any(mount["name"] == _SECRET_VOLUME for mount in self._mounts):
            return self._volumes
        secret = {"secretName": secret_name, "defaultMode": _READABLE}
        return [*self._volumes, {"name": _SECRET_VOLUME, "secret": secret}]

    def encoded(self) -> dict[str, str]:
        """The secret's data as the API takes it."""
        return {key: b64encode(value).decode() for key, value in self.data.items()}

    def _output_claim(self) -> tuple[str, str] | None:
        """The claim that the command writes its output to, and where in it."""
        if not self.options.keep_output or self.store is None:
            return None
        return self.options.claim_of(self.store / self.uuid / "output")

    def _add_empty(self, mount: Mount) -> None:
        name = f"tmp-{len(self._volumes)}"
        limit = {"sizeLimit": str(mount.capacity)} if mount.capacity else {}
        self._volumes.append({"name": name, "emptyDir": limit})
        self._mounts.append({"name": name, "mountPath": mount.target})

    def _add_claim(self, claim: str, inside: str, target: str, *, writable: bool) -> None:
        name = self._claims.get(claim)
        if name is None:
            name = self._claims[claim] = f"claim-{len(self._claims)}"
            source = {"claimName": claim}
            self._volumes.append({"name": name, "persistentVolumeClaim": source})
        mount: dict[str, Any] = {"name": name, "mountPath": target}
        if inside:
            mount["subPath"] = inside
        if not writable:
            mount["readOnly"] = True
        self._mounts.append(mount)


def refusal(plan: MountPlan, store: Path | None, options: KubernetesOptions) -> str:
    """Why a pod cannot have this; empty when it can."""
    for mount in plan.mounts:
        if mount.kind == "file" and _place(mount, store, options) is None:
            return f"mount {mount.target}: {mount.source} is in no directory of `claims`, and pods see no files of nodes"
        below = mount.target != plan.output_path and is_below(mount.target, plan.output_path)
        if options.keep_output and mount.kind != "tmp" and below:
            # What is mounted there would leave an empty file in the output.
            return f"mount {mount.target}: it lies in the output, which a pod writes into the store"
    if plan.stdin is not None and plan.stdin.kind == "file":
        known = is_inside(plan.stdin.source, plan) or _place(plan.stdin, store, options)
        if not known:
            return f"mount stdin: {plan.stdin.source} is in no directory of `claims`"
    total = sum(len(mount.content) for mount in plan.mounts)
    total += len(plan.stdin.content) if plan.stdin else 0
    if total > SECRET_BYTES:
        return f"its texts to mount are {format_bytes(total)} together; Kubernetes takes {format_bytes(SECRET_BYTES)}"
    return ""


def is_inside(path: str, plan: MountPlan) -> bool:
    """Whether a path of the container is at or below one of its mounts."""
    return any(is_below(path, mount.target) for mount in plan.mounts)


def _place(mount: Mount, store: Path | None, options: KubernetesOptions) -> tuple[str, str] | None:
    if not mount.source.startswith(STORE_PREFIX):
        return options.claim_of(Path(mount.source))
    if store is None:
        return None
    uuid, _, path = mount.source.removeprefix(STORE_PREFIX).partition("/")
    return options.claim_of(store / uuid / path)
