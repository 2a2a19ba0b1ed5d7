"""The volumes of one pod, what of them is mounted where, and the contents of its Secret, as they are collected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodemanager.mount_plan import RequestFaultError

PRIVATE = "/arvados-node-manager"
"""Where our own files are in a container: no mount of its own may lie there."""
VOLUME_PREFIX = "arvados-"
"""Of the names of our volumes."""
MAX_SECRET_BYTES = 1 << 20
"""What a Secret may hold."""

_FILES = f"{VOLUME_PREFIX}files"
_READABLE = 0o444
"""By whomever the image says its command is run as; nobody else gets to see the volumes of a pod."""


class Volumes:
    """See the module's docstring. Of two mounts at one place the later one is there."""

    def __init__(self, secret_name: str) -> None:
        self._secret_name = secret_name
        self._volumes: dict[str, dict[str, Any]] = {}
        self._claims: dict[str, str] = {}
        self._mounts: dict[str, dict[str, Any]] = {}
        self._files: list[str] = []
        self.secret: dict[str, bytes] = {}

    def as_json(self) -> list[dict[str, Any]]:
        """The `volumes` of the pod's spec."""
        volumes = list(self._volumes.values())
        if self._files:
            source = {
                "secretName": self._secret_name,
                "items": [{"key": key, "path": key} for key in self._files],
                "defaultMode": _READABLE,
            }
            volumes.append({"name": _FILES, "secret": source})
        return volumes

    def mounts_as_json(self) -> list[dict[str, Any]]:
        """The `volumeMounts` of the container."""
        return list(self._mounts.values())

    def add_file(self, key: str, content: bytes, target: str) -> None:
        """A file with that content, in the Secret under `key`."""
        self.secret[key] = content
        self._files.append(key)
        self._mount(target, _FILES, key, read_only=True)

    def add_empty(self, name: str, target: str, capacity: int) -> str:
        """An empty directory of `capacity` bytes, 0 for no limit; the volume's name."""
        name = f"{VOLUME_PREFIX}{name}"
        limit = {"sizeLimit": str(capacity)} if capacity else {}
        self._volumes[name] = {"name": name, "emptyDir": limit}
        self._mount(target, name, "", read_only=False)
        return name

    def add_part(self, volume: str, path: str, target: str) -> None:
        """A directory in a volume that is there already, to be written to."""
        self._mount(target, volume, path, read_only=False)

    def add_claimed(self, claim_name: str, path: str, target: str, *, read_only: bool) -> str:
        """A file or directory of a claim; the volume's name.

        A kubelet makes a directory of what is missing, unless the whole volume is read-only: so it is wherever nothing
        is written. One claim is one volume: older kubelets never start a pod that has it twice.
        """
        name = self._claims.setdefault(claim_name, f"{VOLUME_PREFIX}claim-{len(self._claims)}")
        source: dict[str, Any] = {"claimName": claim_name}
        written = (
            name in self._volumes
            and "readOnly" not in (self._volumes[name]["persistentVolumeClaim"])
        )
        if read_only and not written:
            source["readOnly"] = True
        self._volumes[name] = {"name": name, "persistentVolumeClaim": source}
        self._mount(target, name, path, read_only=read_only)
        return name

    def _mount(self, target: str, volume: str, path: str, *, read_only: bool) -> None:
        if ":" in target:
            raise RequestFaultError(f"mount {target}: Kubernetes takes no path with a colon")
        try:
            f"{target}{path}".encode()
        except UnicodeEncodeError:
            raise RequestFaultError(
                f"mount {target!r}: it is no text that UTF-8 could hold"
            ) from None
        mount: dict[str, Any] = {"name": volume, "mountPath": target}
        if path:
            mount["subPath"] = path
        if read_only:
            mount["readOnly"] = True
        self._mounts[target] = mount


def needs_secret(pod_spec: Mapping[str, Any], name: str) -> bool:
    """Whether a pod takes files or variables from the Secret of that name."""
    volumes = pod_spec.get("volumes") or ()
    variables = [
        variable
        for container in pod_spec.get("containers") or ()
        for variable in container.get("env") or ()
    ]
    keys = [(each.get("valueFrom") or {}).get("secretKeyRef") or {} for each in variables]
    files = any((each.get("secret") or {}).get("secretName") == name for each in volumes)
    return files or any(key.get("name") == name for key in keys)
