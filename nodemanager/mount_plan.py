"""What a container finds in its file system, and where its standard streams go: read from its record.

Nothing is touched here. Whatever `plan_mounts` refuses is the request's fault. The runner makes a plan real below
its scratch directory (`nodemanager.runner.mounts`), a scheduler whose jobs are the commands themselves by its own means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from nodemanager.model import STORE_PREFIX, stored_output

KINDS_OF_CRUNCH_RUN = ("keep", "collection", "git_tree")
_STREAMS = ("stdin", "stdout", "stderr")


class RequestFaultError(Exception):
    """The container cannot be run as it was asked for; another try would be no different."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One target, its content or source, and whether the command may write there."""

    target: str
    kind: str
    content: bytes = field(default=b"", repr=False)
    """Of kinds `text` and `json`; may be secret, so it is never shown."""
    source: str = ""
    """For kind `file`: an absolute path on the node, or ``store:<container uuid>/output/<path>``."""
    secret: bool = False
    capacity: int = 0
    bind_from: str = ""
    """Set by `place`: bind this path, because nothing was copied to the target."""

    @property
    def writable(self) -> bool:
        """Only directories of kind `tmp` are."""
        return self.kind == "tmp"


@dataclass(frozen=True, slots=True)
class MountPlan:
    """All mounts, parents before what lies in them; and the streams that are redirected."""

    mounts: tuple[Mount, ...]
    output_path: str
    cwd: str
    stdin: Mount | None = None
    stdout: str = ""
    """A path in the container, or empty for the log."""
    stderr: str = ""


def plan_mounts(record: Mapping[str, Any], secret_mounts: Mapping[str, Any]) -> MountPlan:
    """Read `mounts`, `secret_mounts`, `output_path` and `cwd`; raises `RequestFaultError`."""
    described = record.get("mounts") or {}
    both = sorted(set(described) & set(secret_mounts))
    if both:
        raise RequestFaultError(f"mount {both[0]}: in mounts and in secret_mounts")
    output_path = _clean_path("output_path", record.get("output_path") or "")
    mounts: dict[str, Mount] = {}
    for source, secret in ((described, False), (secret_mounts, True)):
        for name, value in source.items():
            if name in _STREAMS:
                continue
            target = _clean_path(f"mount {name}", name)
            if target in mounts:
                raise RequestFaultError(f"mount {name}: twice")
            mounts[target] = _read_mount(name, target, value, secret=secret)
    if output_path in mounts and not mounts[output_path].writable:
        raise RequestFaultError(f"output_path {output_path}: not a directory to write to")
    if not any(m.writable and is_below(output_path, m.target) for m in mounts.values()):
        mounts[output_path] = Mount(output_path, "tmp")
    cwd = record.get("cwd") or "."
    return MountPlan(
        mounts=_sorted(mounts.values()),
        output_path=output_path,
        cwd="" if cwd == "." else _clean_path("cwd", cwd),
        stdin=_read_mount("stdin", "stdin", described["stdin"]) if "stdin" in described else None,
        stdout=_read_stream("stdout", described, output_path),
        stderr=_read_stream("stderr", described, output_path),
    )


def with_mount(plan: MountPlan, mount: Mount) -> MountPlan:
    """The plan with one mount more, unless its target is taken."""
    if any(m.target == mount.target for m in plan.mounts):
        return plan
    return replace(plan, mounts=_sorted([*plan.mounts, mount]))


def _sorted(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    return tuple(sorted(mounts, key=lambda m: PurePosixPath(m.target).parts))


def _read_mount(name: str, target: str, value: Any, *, secret: bool = False) -> Mount:
    if not isinstance(value, Mapping):
        raise RequestFaultError(f"mount {name}: expected an object")
    kind = value.get("kind")
    if kind in KINDS_OF_CRUNCH_RUN:
        raise RequestFaultError(
            f"mount {name}: kind {kind} needs crunch-run; this runner has no Keep"
        )
    if kind == "text":
        content = value.get("content")
        if not isinstance(content, str):
            raise RequestFaultError(f"mount {name}: content: expected a string")
        return Mount(
            target, kind, content=content.encode("utf-8", "surrogateescape"), secret=secret
        )
    if kind == "json":
        if "content" not in value:
            raise RequestFaultError(f"mount {name}: content: missing")
        return Mount(target, kind, content=json.dumps(value["content"]).encode(), secret=secret)
    if secret or kind not in ("tmp", "file") or (kind == "tmp" and target == "stdin"):
        expected = "text or json" if secret else "tmp, text, json or file"
        raise RequestFaultError(f"mount {name}: kind: expected {expected}, found {kind!r}")
    if kind == "tmp":
        capacity = value.get("capacity") or 0
        if not isinstance(capacity, int) or capacity < 0:
            raise RequestFaultError(f"mount {name}: capacity: expected bytes, found {capacity!r}")
        return Mount(target, kind, capacity=capacity)
    return Mount(target, kind, source=_read_source(name, value.get("path")))


def _read_source(name: str, path: Any) -> str:
    if isinstance(path, str) and path.startswith(STORE_PREFIX):
        if stored_output(path) is None:
            raise RequestFaultError(
                f"mount {name}: path: expected store:<container uuid>/output/<path>, found {path!r}"
            )
        return path
    return _clean_path(f"mount {name}: path", path)


def _read_stream(name: str, described: Mapping[str, Any], output_path: str) -> str:
    value = described.get(name)
    if value is None:
        return ""
    if not isinstance(value, Mapping) or value.get("kind") != "file":
        raise RequestFaultError(f"mount {name}: kind: expected file")
    path = _clean_path(f"mount {name}: path", value.get("path"))
    if path == output_path or not is_below(path, output_path):
        raise RequestFaultError(
            f"mount {name}: path: {path} is not below output_path {output_path}"
        )
    return path


def _clean_path(what: str, value: Any) -> str:
    """An absolute path without ``..`` and doubled slashes."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise RequestFaultError(f"{what}: expected an absolute path, found {value!r}")
    parts = [p for p in value.split("/") if p not in ("", ".")]
    if ".." in parts or not parts:
        raise RequestFaultError(f"{what}: {value!r} cannot be used")
    return "/" + "/".join(parts)


def is_below(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or lies below it."""
    return path == directory or path.startswith(directory + "/")
