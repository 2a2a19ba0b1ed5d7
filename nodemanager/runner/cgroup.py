"""Was something of this job killed for want of memory? Asked of the job's own cgroup.

Batch schedulers put a job under a memory limit by a cgroup; its counter of kills tells such a KILL from
one that came from outside. A node without cgroups answers "no".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SYSTEM = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """The counter of kills, and the limit in bytes (0: none)."""

    kills: int = 0
    limit_bytes: int = 0


def read_memory(system: Path = _SYSTEM, membership: Path = _MEMBERSHIP) -> MemoryReading:
    """What the cgroup says now, version 2 or 1."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return MemoryReading()
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            directory = system / "memory" / path.lstrip("/")
            return _read(directory, "memory.oom_control", "memory.limit_in_bytes", system)
    for line in lines:
        if line.startswith("0::"):
            directory = system / line[3:].lstrip("/")
            return _read(directory, "memory.events", "memory.max", system)
    return MemoryReading()


def _read(directory: Path, events: str, limit: str, top: Path) -> MemoryReading:
    kills = 0
    for line in _text(directory / events).splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            kills = int(value)
    limits = []
    for level in (directory, *directory.parents):
        text = _text(level / limit).strip()
        # Version 1 writes "no limit" as a number near 2**63.
        if text.isdigit() and int(text) < 1 << 62:
            limits.append(int(text))
        if level == top:
            break
    return MemoryReading(kills, min(limits, default=0))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
