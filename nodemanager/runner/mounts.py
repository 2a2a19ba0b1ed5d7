"""What a container finds in its file system, and where its standard streams go.

`plan_mounts` reads the record and touches nothing; whatever it refuses is the request's fault. `place`
makes it real below the scratch directory. A target ``/work/x`` is made at ``<root>/work/x``: with the
`none` engine the command sees it there, the other engines bind it to its target.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from nodemanager.model import STORE_PREFIX, format_bytes, stored_output
from nodemanager.runner.copying import copy_file

KINDS_OF_CRUNCH_RUN = ("keep", "collection", "git_tree")
_STREAMS = ("stdin", "stdout", "stderr")
_MISTAKES = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EACCES,
)


class RequestFaultError(Exception):
    """The container cannot be run as it was asked for; another try would be no different."""


class Inputs(Protocol):
    """Where files that other containers left in the store come from."""

    def input_file(self, container_uuid: str, path: str, into: Path) -> Path:
        """A readable local path of it, which may be `into`, fetched; raises `RequestFaultError`."""
        ...


@dataclass(frozen=True, slots=True)
class Mount:
    """One target, its content or source, and whether the command may write there."""

    target: str
    kind: str
    content: bytes = b""
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
    if not any(m.writable and _is_below(output_path, m.target) for m in mounts.values()):
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


def place(
    plan: MountPlan, root: Path, inputs: Inputs, input_dirs: Sequence[str], *, bind: bool
) -> MountPlan:
    """Make the mounts below `root`, in order; with `bind`, input files are bound instead of copied.

    What lies under `output_path` is always copied, because it is part of the output. Raises
    `RequestFaultError` naming the target, or `OSError` when the node is at fault (no space).
    """
    placed = []
    for mount in plan.mounts:
        try:
            placed.append(_place_one(mount, plan, root, inputs, input_dirs, bind=bind))
        except OSError as error:
            if error.errno not in _MISTAKES:
                raise
            raise RequestFaultError(f"mount {mount.target}: {error}") from error
    make_directory(root, plan.output_path, "output_path")
    if any(m.writable and _is_below(plan.cwd, m.target) for m in plan.mounts) or not bind:
        make_directory(root, plan.cwd, "cwd")
    return replace(plan, mounts=tuple(placed))


def make_directory(root: Path, path_in_container: str, field: str) -> None:
    """Make a directory of the container that need not be a mount; `field` is named when it cannot be."""
    try:
        (root / path_in_container.lstrip("/")).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in _MISTAKES:
            raise
        raise RequestFaultError(f"{field}: {error}") from error


def open_stdin(plan: MountPlan, root: Path, inputs: Inputs, input_dirs: Sequence[str]) -> int:
    """A file descriptor to read standard input from."""
    mount = plan.stdin
    if mount is None:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    private = root.with_suffix(".stdin")
    try:
        if mount.kind != "file":
            _write_new(private, mount.content, 0o600)
            path = private
        elif any(_is_below(mount.source, m.target) for m in plan.mounts):
            path = _host_path(plan, root, mount.source)
        else:
            path = _find_source(mount, private, inputs, input_dirs)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if path == private:
            private.unlink()
    except OSError as error:
        if error.errno not in _MISTAKES:
            raise
        raise RequestFaultError(f"mount stdin: {error}") from error
    return descriptor


def open_stream(path_in_container: str, root: Path, name: str) -> int:
    """A file descriptor for a redirected `stdout` or `stderr`."""
    path = root / path_in_container.lstrip("/")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in _MISTAKES:
            raise
        raise RequestFaultError(f"mount {name}: {error}") from error


def describe(mount: Mount) -> str:
    """One line for the log; never the content."""
    words = f"{mount.target}: {mount.kind}"
    if mount.secret:
        words += ", secret"
    if mount.source:
        words += f", from {mount.source}"
    if mount.capacity:
        words += f", capacity {format_bytes(mount.capacity)} (not enforced)"
    return words


def _sorted(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    return tuple(sorted(mounts, key=lambda m: PurePosixPath(m.target).parts))


def _place_one(
    mount: Mount,
    plan: MountPlan,
    root: Path,
    inputs: Inputs,
    input_dirs: Sequence[str],
    *,
    bind: bool,
) -> Mount:
    path = root / mount.target.lstrip("/")
    if mount.kind == "tmp":
        path.mkdir(parents=True, exist_ok=True)
        return mount
    path.parent.mkdir(parents=True, exist_ok=True)
    if mount.kind != "file":
        # Content is made for this run: the command may do with its own copy as it likes.
        _write_new(path, mount.content, 0o600 if mount.secret else 0o644)
        return mount
    source = _find_source(mount, path, inputs, input_dirs)
    if source == path:
        path.chmod(0o444)
    elif bind and not _is_below(mount.target, plan.output_path):
        return replace(mount, bind_from=str(source))
    else:
        copy_file(source, path)
        path.chmod(0o555 if os.access(source, os.X_OK) else 0o444)
    return mount


def _find_source(mount: Mount, into: Path, inputs: Inputs, input_dirs: Sequence[str]) -> Path:
    """The real local file that `mount.source` names, after looking where it really lies."""
    if mount.source.startswith(STORE_PREFIX):
        uuid, _, path = mount.source.removeprefix(STORE_PREFIX).partition("/")
        try:
            return inputs.input_file(uuid, path, into)
        except RequestFaultError as error:
            raise RequestFaultError(f"mount {mount.target}: {error}") from error
    real = Path(mount.source).resolve()
    if not any(real.is_relative_to(Path(d).resolve()) for d in input_dirs):
        allowed = " or ".join(input_dirs) or "none is configured"
        raise RequestFaultError(
            f"mount {mount.target}: {mount.source} does not lie in a directory for inputs ({allowed})"
        )
    if not stat.S_ISREG(real.stat().st_mode):
        raise RequestFaultError(f"mount {mount.target}: {mount.source} is not a regular file")
    return real


def _host_path(plan: MountPlan, root: Path, path_in_container: str) -> Path:
    """Where a path of the container lies on the node, bound inputs included."""
    for mount in plan.mounts:
        if mount.bind_from and mount.target == path_in_container:
            return Path(mount.bind_from)
    return root / path_in_container.lstrip("/")


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
    if path == output_path or not _is_below(path, output_path):
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


def _is_below(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or lies below it."""
    return path == directory or path.startswith(directory + "/")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(content)
