"""A part of this machine's control groups that is removed afterwards, or by whoever comes next."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_BASE = Path("/sys/fs/cgroup")
_OURS = re.compile(r"arvados-node-manager-test-(\d+)-.*")


class CgroupsMissing(Exception):
    """They are not as a kubelet of 2021 needs them."""


class Cgroups:
    """One group in each hierarchy, named after this process; raises `CgroupsMissing`.

    Of processes that are no more, the groups are removed first: only a kubelet removes what it makes there, and it may
    have been killed.
    """

    def __init__(self, name: str) -> None:
        if not (_BASE / "memory" / "cgroup.procs").exists():
            raise CgroupsMissing(
                f"{_BASE}/memory is no control group of version 1, which is what this was tried with: boot with "
                "systemd.unified_cgroup_hierarchy=0"
            )
        for hierarchy in _hierarchies():
            for group in hierarchy.iterdir():
                owner = _OURS.fullmatch(group.name)
                if owner and not Path("/proc", owner[1]).exists():
                    _remove(group)
        self.path = f"/arvados-node-manager-test-{os.getpid()}-{name}"
        self._groups = [hierarchy / self.path.lstrip("/") for hierarchy in _hierarchies()]
        for group in self._groups:
            group.mkdir()

    def is_removed(self) -> bool:
        """Remove what has no process; the kernel may take a moment to bury them."""
        for group in self._groups:
            _remove(group)
        return not any(group.exists() for group in self._groups)


def _hierarchies() -> Iterator[Path]:
    for path in _BASE.iterdir():
        # Some are there twice, under an alias.
        if (path / "cgroup.procs").exists() and not path.is_symlink():
            yield path


def _remove(group: Path) -> None:
    for directory, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(directory).rmdir()
