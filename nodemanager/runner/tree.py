"""Directories of the runner's own on the node: made private, and removed whatever a command did to them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nodemanager.runner.store import StoreError


def make_private(path: Path) -> None:
    """A new, empty directory that nobody else may enter.

    Its name holds a container's UUID, and only one runner is ever confirmed for that: a leftover of ours
    is rubbish and removed. Anything else of that name is refused with `StoreError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = path.lstat()
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise StoreError(f"scratch {path}: something that is not ours is in the way; remove it")
        remove_tree(path)
    path.mkdir(mode=0o700)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it; links are not followed. Raises `OSError`."""
    path.chmod(0o700)
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                remove_tree(Path(entry.path))
            else:
                Path(entry.path).unlink()
    path.rmdir()
