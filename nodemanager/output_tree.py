"""What a command left under its `output_path`: looked at before it is stored.

Links that stay inside are kept, others and special files are refused by name. A link to an absolute
path of the container, inside the output, is made relative, because the output moves.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodemanager.mount_plan import RequestFaultError


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the output; `path` is relative to it."""

    path: str
    kind: str
    """``file``, ``directory`` or ``link``."""


def check_output(directory: Path, output_path: str) -> list[Entry]:
    """Everything below `directory`, parents first, made readable and with links made relative.

    `output_path` is the name of `directory` in the container. Raises `RequestFaultError` naming the
    first thing that cannot be kept.
    """
    if directory.is_symlink() or not directory.is_dir():
        raise RequestFaultError(f"output_path {output_path}: the command replaced the directory")
    return list(_walk(directory, directory.resolve(), output_path, ""))


def _walk(directory: Path, root: Path, output_path: str, prefix: str) -> Iterator[Entry]:
    directory.chmod(stat.S_IMODE(directory.stat().st_mode) & 0o777 | 0o700)
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda e: e.name)
    for entry in entries:
        path, relative = Path(entry.path), f"{prefix}{entry.name}"
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            _check_link(path, root, output_path, relative)
            yield Entry(relative, "link")
        elif stat.S_ISDIR(mode):
            yield Entry(relative, "directory")
            yield from _walk(path, root, output_path, f"{relative}/")
        elif stat.S_ISREG(mode):
            if mode & 0o7400 != 0o400:
                path.chmod(stat.S_IMODE(mode) & 0o777 | 0o400)
            yield Entry(relative, "file")
        else:
            kind = _SPECIAL.get(stat.S_IFMT(mode), "special file")
            raise RequestFaultError(f"output {relative}: a {kind} cannot be kept")


_SPECIAL = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def _check_link(path: Path, root: Path, output_path: str, relative: str) -> None:
    target = os.readlink(path)  # noqa: PTH115 (a Path would lose a trailing slash and ./)
    inside = _relative_target(target, path, root, output_path)
    here = path.parent.resolve()
    if inside is None or not (here / inside).resolve().is_relative_to(root):
        raise RequestFaultError(f"output {relative}: links to {target}, outside the output")
    if inside != target:
        path.unlink()
        path.symlink_to(inside)


def _relative_target(target: str, path: Path, root: Path, output_path: str) -> str | None:
    """`target` as a relative link; None for an absolute one that is not inside."""
    if not target.startswith("/"):
        return target
    for base in (str(root), output_path):
        if target == base or target.startswith(base + "/"):
            within = root / target[len(base) :].lstrip("/")
            return os.path.relpath(within, path.parent.resolve())
    return None
