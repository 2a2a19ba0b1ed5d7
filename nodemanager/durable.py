"""Files that are there whole or not at all, also after kill -9 or a power cut; and locks that die with
their process. Shared by whoever keeps state in a directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def write_private(path: Path, text: str, *, durable: bool = True) -> None:
    """Put `text` into `path`, readable by its owner only; readers see the old content or the new.

    Without `durable` it survives the end of the process and not that of the machine. Raises `OSError`.
    """
    draft = path.with_name(f"{path.name}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
    if durable:
        sync_directory(path.parent)


def nearest_directory(path: Path) -> Path:
    """`path`, or the nearest above it that exists: there it would be made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def write_problem(path: Path) -> str:
    """Why this user cannot write into the directory `path`, or make it; empty when that should work."""
    nearest = nearest_directory(path)
    if not nearest.is_dir():
        return f"{nearest} is not a directory"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} cannot be written by this user"
    return ""


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_path(path: Path) -> None:
    """Wait until a file's content, or a directory's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the kernel's lock of an open file, if nobody has it; it ends with the descriptor.

    That is: with the last copy of it. A child that was forked and has not come to its exec holds one, so
    whoever lets go of a lock that somebody waits for calls `unlock` first.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Let go of the lock at once, whoever has copies of the descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
