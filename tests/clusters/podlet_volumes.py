"""What a pod's container is on this machine: its command, environment and mounts, below a directory of its own.

There is no image and no change of root. A mount at /work/x is to be found at <root>/work/x, unless it is the same
directory of the host; paths at or below a mount are put right in the command and in the environment.
"""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.clusters.podlet_api import Api, ApiFailed, Object
from tests.clusters.podlet_process import Command
from tests.clusters.podlet_quantity import number
from tests.clusters.podlet_status import Waiting

_CREATING = Waiting()
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NotYet(Exception):
    """It cannot be started now; `waiting` is what the kubelet says meanwhile."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting.reason)
        self.waiting = waiting


@dataclass(frozen=True, slots=True)
class Home:
    """A pod's own directory."""

    path: Path

    @property
    def root(self) -> Path:
        """What stands for the container's root directory."""
        return self.path / "root"

    @property
    def volumes(self) -> Path:
        """Contents of the volumes that live as long as the pod."""
        return self.path / "volumes"

    @property
    def log(self) -> Path:
        """What the container said."""
        return self.path / "log"

    def make(self) -> None:
        """For nobody else to look into."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.mkdir(exist_ok=True)
        self.volumes.mkdir(exist_ok=True)

    def remove(self) -> None:
        """With everything in it; not with what links in it lead to."""
        shutil.rmtree(self.path, ignore_errors=True)


def prepare(api: Api, pod: Object, home: Home) -> Command:
    """Mount everything; raises `NotYet`, and `ApiFailed` when the server cannot say."""
    container = pod["spec"]["containers"][0]
    home.make()
    mounts = _mount(api, pod, container, home)
    given = _environment(api, pod, container)
    argv = [_expand(word, given) for key in ("command", "args") for word in container.get(key, ())]
    limits = container.get("resources", {}).get("limits", {})
    return Command(
        argv=[_localised(word, mounts, home.root) for word in argv],
        env={name: _localised(value, mounts, home.root) for name, value in given.items()},
        directory=_working_directory(container.get("workingDir", ""), mounts, home.root),
        log=home.log,
        ram_bytes=int(number(limits.get("memory", "0"))),
    )


def _mount(api: Api, pod: Object, container: Object, home: Home) -> Mapping[str, Path]:
    """Where the mounts lead, by their paths in the container."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
    places: dict[str, Path] = {}
    for mount in sorted(container.get("volumeMounts", ()), key=lambda mount: mount["mountPath"]):
        volume = volumes[mount["name"]]
        source = _source(api, pod["metadata"]["namespace"], volume, home.volumes / volume["name"])
        below = mount.get("subPath", "")
        place = source / below if below else source
        if below and not place.exists():
            if "secret" in volume or "configMap" in volume:
                raise NotYet(_CREATING)
            place.mkdir(parents=True)
        path = mount["mountPath"].rstrip("/")
        places[path] = place
        if str(place) != path:
            _link(home.root / path.lstrip("/"), place)
    return places


def _link(link: Path, place: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() or link.is_file():
        link.unlink()
    if not link.exists():
        link.symlink_to(place)


def _source(api: Api, namespace: str, volume: Object, own: Path) -> Path:
    """The directory or file behind a volume."""
    match volume:
        case {"emptyDir": _}:
            own.mkdir(exist_ok=True)
            return own
        case {"secret": {"secretName": name} as wanted}:
            found = _fetched(api, f"/api/v1/namespaces/{namespace}/secrets/{name}", wanted)
            return _files(own, found, wanted)
        case {"configMap": {"name": name} as wanted}:
            found = _fetched(api, f"/api/v1/namespaces/{namespace}/configmaps/{name}", wanted)
            return _files(own, found, wanted)
        case {"persistentVolumeClaim": {"claimName": name}}:
            claim = _fetched(api, f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
            behind = claim["spec"].get("volumeName", "")
            if not behind:
                raise NotYet(_CREATING)
            path = _fetched(api, f"/api/v1/persistentvolumes/{behind}")["spec"]["hostPath"]["path"]
            Path(path).mkdir(parents=True, exist_ok=True)
            return Path(path)
        case {"hostPath": {"path": path, **rest}}:
            if rest.get("type") == "DirectoryOrCreate":
                Path(path).mkdir(parents=True, exist_ok=True)
            elif rest.get("type") and not Path(path).exists():
                raise NotYet(_CREATING)
            return Path(path)
        case _:
            raise NotYet(Waiting(message=f"a podlet has no volumes like {volume}"))


def _fetched(api: Api, path: str, wanted: Object | None = None) -> Object:
    try:
        return api.get(path)
    except ApiFailed as error:
        if error.status != 404:
            raise
        if wanted and wanted.get("optional"):
            return {}
        raise NotYet(_CREATING) from error


def _contents(source: Object) -> dict[str, bytes]:
    """Of a Secret or a ConfigMap."""
    coded = {"binaryData": source.get("binaryData") or {}}
    plain: Object = {}
    if source.get("kind") == "Secret":
        coded["data"] = source.get("data") or {}
    else:
        plain = source.get("data") or {}
    return {
        **{key: value.encode() for key, value in plain.items()},
        **{key: base64.b64decode(text) for part in coded.values() for key, text in part.items()},
    }


def _files(own: Path, source: Object, wanted: Object) -> Path:
    contents = _contents(source)
    items = wanted.get("items") or [{"key": key, "path": key} for key in contents]
    own.mkdir(exist_ok=True)
    for item in items:
        if item["key"] not in contents:
            if wanted.get("optional"):
                continue
            raise NotYet(_CREATING)
        file = own / item["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_bytes(contents[item["key"]])
        file.chmod(item.get("mode", wanted.get("defaultMode", 0o644)))
    return own


def _environment(api: Api, pod: Object, container: Object) -> dict[str, str]:
    values = {"PATH": _PATH, "HOSTNAME": pod["metadata"]["name"], "HOME": "/root"}
    for variable in container.get("env", ()):
        if "valueFrom" not in variable:
            values[variable["name"]] = _expand(variable.get("value", ""), values)
            continue
        value = _value_from(api, pod, variable["valueFrom"])
        if value is not None:
            values[variable["name"]] = value
    return values


def _value_from(api: Api, pod: Object, origin: Object) -> str | None:
    match origin:
        case {"fieldRef": {"fieldPath": path}}:
            value: object = pod
            for step in path.split("."):
                value = value.get(step, "") if isinstance(value, dict) else ""
            return str(value)
        case {"secretKeyRef": wanted}:
            kind, resource = "Secret", "secrets"
        case {"configMapKeyRef": wanted}:
            kind, resource = "ConfigMap", "configmaps"
        case _:
            raise NotYet(_config_error(f"a podlet has no values from {origin}"))
    namespace = pod["metadata"]["namespace"]
    try:
        source = api.get(f"/api/v1/namespaces/{namespace}/{resource}/{wanted['name']}")
    except ApiFailed as error:
        if error.status != 404:
            raise
        if wanted.get("optional"):
            return None
        raise NotYet(_config_error(f'{kind.lower()} "{wanted["name"]}" not found')) from error
    contents = _contents(source)
    if wanted["key"] in contents:
        return contents[wanted["key"]].decode("utf-8", "surrogateescape")
    if wanted.get("optional"):
        return None
    where = f"{kind} {namespace}/{wanted['name']}"
    raise NotYet(_config_error(f"couldn't find key {wanted['key']} in {where}"))


def _config_error(message: str) -> Waiting:
    return Waiting("CreateContainerConfigError", message)


def _expand(text: str, values: Mapping[str, str]) -> str:
    """As the kubelet does: $(NAME) of a variable that is set, and $$ for a dollar."""

    def replaced(found: re.Match[str]) -> str:
        name = found.group(1)
        return "$" if name is None else values.get(name, found.group())

    return re.sub(r"\$(?:\$|\(([^)]*)\))", replaced, text)


def _localised(text: str, mounts: Mapping[str, Path], root: Path) -> str:
    """The same with paths into mounts as they are on this machine."""
    moved = [path for path, place in mounts.items() if str(place) != path]
    if not moved:
        return text
    choice = "|".join(re.escape(path) for path in sorted(moved, key=len, reverse=True))

    def replaced(found: re.Match[str]) -> str:
        here = Path(f"{root}{found.group()}")
        # A mount may hide much of what the host has there, which is what is meant then.
        return found.group() if Path(found.group()).exists() and not here.exists() else str(here)

    pattern = rf"(?<![\w./-])(?:{choice})(?![\w.-])(?:/[^\s'\"<>|&;:,()]*)?"
    return re.sub(pattern, replaced, text)


def _working_directory(path: str, mounts: Mapping[str, Path], root: Path) -> Path:
    if not path:
        return root
    here = root / path.strip("/")
    place = mounts.get(path.rstrip("/"))
    if place is not None and str(place) == path.rstrip("/"):
        return place
    if here.is_dir():
        return here
    if Path(path).is_dir():
        return Path(path)
    here.mkdir(parents=True)  # as a container runtime does
    return here
