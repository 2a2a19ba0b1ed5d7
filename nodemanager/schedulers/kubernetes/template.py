"""An operator's pod, of which all pods are made: read from YAML, and what the container asks for merged over it.

`merge` is Kubernetes' strategic merge for the fields of a pod: objects are merged, lists of things that have a key (the
name of a container, the path of a mount) are merged by that key, other lists are replaced, and null removes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from nodemanager.errors import ConfigError
from nodemanager.schedulers.kubernetes.names import CONTAINER

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "ports": "containerPort",
    "ownerReferences": "uid",
}
"""Lists that are merged, and what tells their members apart: `x-kubernetes-patch-merge-key` of the API's description."""

UNITED = frozenset({"finalizers"})
"""Lists of plain values that are united."""

_KINDS = {"Pod": (), "PodTemplate": ("template",)}


def read_template(path: Path) -> dict[str, Any]:
    """The pod of the file: its `metadata` and `spec`. Raises `ConfigError`, naming the part that is at fault."""
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: expected one pod, with metadata and spec")
    kind = value.get("kind", "Pod")
    if kind not in _KINDS or value.get("apiVersion", "v1") != "v1":
        raise ConfigError(f"{path}: expected a v1 Pod or PodTemplate, found kind {kind!r}")
    for part in _KINDS[kind]:
        value = value.get(part) or {}
    pod = {"metadata": value.get("metadata") or {}, "spec": value.get("spec") or {}}
    _check(path, pod)
    return pod


def merge(base: Any, patch: Any, field: str = "") -> Any:
    """`patch` over `base`, of which nothing is changed; `field` is the name of what they are."""
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        merged = {name: deepcopy(value) for name, value in base.items()}
        for name, value in patch.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = merge(merged.get(name), value, name)
        return merged
    if isinstance(base, list) and isinstance(patch, list):
        if field in UNITED:
            return [*base, *(value for value in patch if value not in base)]
        if field == "tolerations":
            # Of a patch that adds some, the template's are meant to hold, too: it is about other taints.
            return [*deepcopy(base), *deepcopy(patch)]
        if field in MERGE_KEYS:
            return _merge_list(base, patch, MERGE_KEYS[field])
    return _without_nulls(patch)


def _merge_list(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    merged = [deepcopy(each) for each in base]
    places = {each.get(key): place for place, each in enumerate(merged)}
    for each in patch:
        place = places.get(each.get(key))
        if place is None:
            merged.append(_without_nulls(each))
        else:
            merged[place] = merge(merged[place], each)
    return merged


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _check(path: Path, pod: Mapping[str, Any]) -> None:
    for part in ("metadata", "spec"):
        if not isinstance(pod[part], Mapping):
            raise ConfigError(f"{path}: {part}: expected an object")
    spec = pod["spec"]
    for name in MERGE_KEYS:
        if name in spec and not isinstance(spec[name], list):
            raise ConfigError(f"{path}: spec.{name}: expected a list")
    for name in ("containers", "initContainers", "volumes"):
        for each in spec.get(name) or ():
            if not isinstance(each, Mapping) or not isinstance(each.get("name"), str):
                raise ConfigError(f"{path}: spec.{name}: expected objects with a name")
    if spec.get("restartPolicy", "Never") != "Never":
        raise ConfigError(
            f"{path}: spec.restartPolicy: {spec['restartPolicy']!r}: a container's command starts once; leave it out"
        )
    for name in ("name", "generateName", "namespace", "uid"):
        if name in pod["metadata"]:
            raise ConfigError(f"{path}: metadata.{name}: each pod gets its own; leave it out")
    main = [each for each in spec.get("containers") or () if each["name"] == CONTAINER]
    for field in ("command", "args", "workingDir"):
        if main and field in main[0]:
            raise ConfigError(
                f"{path}: spec.containers: {CONTAINER}: {field} comes from the container request; leave it out"
            )
