"""The state directory: one process at a time, private to its owner."""

from __future__ import annotations

import os
from pathlib import Path

from nodemanager.durable import try_lock, unlock
from nodemanager.errors import NodeManagerError


class StateDirInUse(NodeManagerError):
    """Another process works in the state directory."""


class StateDir:
    """Holds the state directory's lock from `take` until `release` or the end of the process.

    The lock is the kernel's (flock), so one that is left behind by kill -9 does not exist; the file's
    content only tells a person who holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def take(self) -> None:
        """Make the directory if there is none, and lock it.

        Raises `StateDirInUse` naming the holder, or `NodeManagerError` when it cannot be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NodeManagerError(f"[Daemon] state_dir: {self.path}: {error.strerror}") from error
        if not try_lock(fd):
            holder = os.read(fd, 64).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StateDirInUse(
                f"{self.path} is in use by another arvados-node-manager (process {holder}): "
                "stop that one, or give this one a [Daemon] state_dir of its own"
            )
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def release(self) -> None:
        """Let the next one in."""
        if self._fd is not None:
            unlock(self._fd)
            os.close(self._fd)
            self._fd = None
