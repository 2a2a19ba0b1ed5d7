"""An operator's pod template, and how two pods are merged into one.

Merging is Kubernetes' strategic merge, as `kubectl patch` does it: maps are merged key by key; lists of objects that
have a key of their own are merged by that; of other lists the patch's replaces what was there; null removes.
Tolerations alone differ: Kubernetes would replace the template's, here they are added to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nodemanager.errors import ConfigError
from nodemanager.schedulers.kubernetes.names import CONTAINER
from nodemanager.schedulers.kubernetes.volumes import VOLUME_PREFIX

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""The lists of a pod whose objects are merged, and by what; no other list of a pod has such a name."""
_UNITED = frozenset({"finalizers", "tolerations"})
"""Lists to which the patch adds."""

_PARTS = ("metadata", "spec")
_OUR_PREFIX = "arvados.org/"
_OUR_FIELDS: Mapping[str, str] = {
    "activeDeadlineSeconds": "it comes from the container's max_run_time",
    "ephemeralContainers": "they are for debugging pods that run",
    "nodeName": "the scheduler chooses the node; write a nodeSelector",
    "terminationGracePeriodSeconds": "set the option grace",
}
_OUR_CONTAINER_FIELDS = ("image", "command", "args", "workingDir", "stdin", "stdinOnce", "tty")


def read_template(path: Path) -> dict[str, Any]:
    """The pod that the file describes, with nothing but `metadata` and `spec`.

    Raises `ConfigError` that names the file and the field.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"[Scheduler] template: {path}: cannot be read: {error}") from error
    return parse_template(text, str(path))


def parse_template(text: str, path: str) -> dict[str, Any]:
    """Like `read_template`, for the text of a file; `path` is what errors refer to."""
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: is not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    problems = list(_problems(document))
    if problems:
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
    pod = document.get("template") or {} if document.get("kind") == "PodTemplate" else document
    return {field: pod[field] for field in _PARTS if pod.get(field)}


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`patch` over `base`, as the module says; neither is changed."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            given = merged.get(key)
            merged[key] = merge(given if isinstance(given, Mapping) else {}, value)
        elif isinstance(value, list):
            merged[key] = _merged_list(key, merged.get(key) or [], value)
        else:
            merged[key] = value
    return merged


def _merged_list(name: str, base: Sequence[Any], patch: Sequence[Any]) -> list[Any]:
    if name in _UNITED:
        return [*base, *(each for each in patch if each not in base)]
    key = MERGE_KEYS.get(name)
    if key is None or not all(isinstance(each, Mapping) for each in patch):
        return [merge({}, each) if isinstance(each, Mapping) else each for each in patch]
    merged = {each.get(key): each for each in base}
    for each in patch:
        merged[each.get(key)] = merge(merged.get(each.get(key)) or {}, each)
    return list(merged.values())


# What a template may say.


def _problems(document: Any) -> Iterator[str]:
    if not isinstance(document, Mapping):
        yield "expected a pod template: a Pod, a PodTemplate, or only metadata and spec"
        return
    kind, version = document.get("kind"), document.get("apiVersion")
    if kind not in (None, "Pod", "PodTemplate"):
        yield f"kind: expected Pod or PodTemplate, found {kind!r}"
        return
    if version not in (None, "v1"):
        yield f"apiVersion: expected v1, found {version!r}"
    if kind != "PodTemplate":
        yield from _pod_problems(document, "", ("apiVersion", "kind", *_PARTS))
        return
    for field in document:
        if field not in ("apiVersion", "kind", "metadata", "template"):
            yield f"{field}: expected metadata and template, nothing else"
    yield from _pod_problems(document.get("template"), "template", _PARTS)


def _pod_problems(pod: Any, where: str, known: Sequence[str]) -> Iterator[str]:
    if not isinstance(pod, Mapping):
        yield f"{where}: expected metadata and spec"
        return
    prefix = f"{where}." if where else ""
    yield from (f"{prefix}{field}: not known here" for field in pod if field not in known)
    for field, look in (("metadata", _metadata_problems), ("spec", _spec_problems)):
        value = pod.get(field)
        if isinstance(value, Mapping):
            yield from (f"{prefix}{field}.{problem}" for problem in look(value))
        elif value is not None:
            yield f"{prefix}{field}: expected an object"


def _metadata_problems(metadata: Mapping[str, Any]) -> Iterator[str]:
    for field, value in metadata.items():
        if field == "finalizers":
            if not isinstance(value, list):
                yield f"{field}: expected a list"
        elif field not in ("annotations", "labels"):
            yield f"{field}: the pod's own; a template may have annotations, finalizers and labels"
        elif not isinstance(value, Mapping):
            yield f"{field}: expected an object"
        else:
            for name, text in value.items():
                if not isinstance(text, str):
                    yield f"{field}.{name}: expected a text, found {text!r}; put it in quotes"
                elif str(name).startswith(_OUR_PREFIX):
                    yield f"{field}.{name}: names with {_OUR_PREFIX} are the node manager's own"


def _spec_problems(spec: Mapping[str, Any]) -> Iterator[str]:
    for field, why in _OUR_FIELDS.items():
        if field in spec:
            yield f"{field}: leave it out; {why}"
    if spec.get("restartPolicy", "Never") != "Never":
        yield f"restartPolicy: expected Never, found {spec['restartPolicy']!r}: nothing is run twice"
    wrong = list(_list_problems(spec))
    for field in ("containers", "initContainers"):
        if not wrong:
            for number, container in enumerate(spec.get(field) or ()):
                wrong += [f"{field}[{number}].{problem}" for problem in _list_problems(container)]
    yield from wrong
    if wrong:
        return
    containers = spec.get("containers") or ()
    if containers and not any(each["name"] == CONTAINER for each in containers):
        yield f"containers: none is named {CONTAINER}; that one runs the command, others run beside it"
    for number, container in enumerate(containers):
        for field in _OUR_CONTAINER_FIELDS if container["name"] == CONTAINER else ():
            if field in container:
                yield f"containers[{number}].{field}: leave it out; the container says that"
    for number, volume in enumerate(spec.get("volumes") or ()):
        if volume["name"].startswith(VOLUME_PREFIX):
            yield f"volumes[{number}].name: names with {VOLUME_PREFIX} are the node manager's own"


def _list_problems(value: Mapping[str, Any]) -> Iterator[str]:
    """Of lists that are merged: each object needs its key, and a name only one can have."""
    for field in (*MERGE_KEYS, "tolerations"):
        key, objects = MERGE_KEYS.get(field), value.get(field)
        if objects is None:
            continue
        if not isinstance(objects, list) or not all(isinstance(each, Mapping) for each in objects):
            yield f"{field}: expected a list of objects"
            continue
        seen: list[Any] = []
        for number, each in enumerate(objects):
            if key is None:
                continue
            own = each.get(key)
            if own is None or (key == "name" and not isinstance(own, str)):
                yield f"{field}[{number}].{key}: expected a {key}, found {own!r}"
            elif key == "name" and own in seen:
                yield f"{field}[{number}].{key}: {own} is there twice"
            seen.append(own)
