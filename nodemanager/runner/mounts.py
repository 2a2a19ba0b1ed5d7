"""A plan of mounts made real below the scratch directory. A target ``/work/x`` is made at ``<root>/work/x``: with the
`none` engine the command sees it there, the other engines bind it to its target.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from nodemanager.model import STORE_PREFIX, format_bytes
from nodemanager.mount_plan import Mount, MountPlan, RequestFaultError, is_below
from nodemanager.runner.copying import copy_file

_MISTAKES = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EACCES,
)


class Inputs(Protocol):
    """Where files that other containers left in the store come from."""

    def input_file(self, container_uuid: str, path: str, into: Path) -> Path:
        """A readable local path of it, which may be `into`, fetched; raises `RequestFaultError`."""
        ...


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
    if any(m.writable and is_below(plan.cwd, m.target) for m in plan.mounts) or not bind:
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
        elif any(is_below(mount.source, m.target) for m in plan.mounts):
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
    elif bind and not is_below(mount.target, plan.output_path):
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


def _write_new(path: Path, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(content)
