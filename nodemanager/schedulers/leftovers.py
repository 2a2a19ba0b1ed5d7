"""Ending what is left of a job whose supervisor was killed.

While a supervisor lives it inherits every orphan of its job, so nothing gets away. When it is killed, the
kernel kills the job's leader, and the rest is adopted by init. They are found again by three marks: the session
of the leader, a variable in the environment that every job is given, and descent from a process that has one
of these. Only a process that gave up all three could survive; a container's command is looked after by its
runner's keeper besides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodemanager.schedulers.spool import Start
from nodemanager.schedulers.supervise import kill_all, stat_fields

MARK = "NODEMANAGER_JOB"
"""The environment variable that names the job."""

_PAUSE_SECONDS = 0.005


def boot_id() -> str:
    """Which boot of the machine this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def kill_leftovers(
    name: str, start: Start | None, within_seconds: float, variable: str = MARK
) -> bool:
    """KILL every process of the job; False if one is still there after `within_seconds`."""
    until = time.monotonic() + within_seconds
    while found := leftovers(name, start, variable):
        kill_all(found)
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


@dataclass(frozen=True, slots=True)
class _Process:
    alive: bool
    parent: int
    session: int
    born: int


def leftovers(name: str, start: Start | None, variable: str = MARK) -> list[int]:
    """The living processes of a job, or of whatever else bears `name` in `variable`.

    `start` has to be of this boot of the machine; None: its leader is not known.
    """
    processes = _processes()
    mark = f"{variable}={name}".encode()
    session = _session_of(start, processes)
    ours = {
        pid
        for pid, process in processes.items()
        if process.session == session or _has_mark(pid, mark)
    }
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    line = list(ours)
    while line:
        for child in children.get(line.pop(), ()):
            if child not in ours:
                ours.add(child)
                line.append(child)
    ours.discard(os.getpid())
    return [pid for pid in ours if processes[pid].alive]


def _session_of(start: Start | None, processes: Mapping[int, _Process]) -> int | None:
    """A session keeps its number as long as it has a member. So if the leader is there, it tells whose
    session this is; if it is not, the number may have been used again, and the mark decides."""
    leader = None if start is None else processes.get(start.leader)
    if start is None or leader is None or leader.born != start.leader_born:
        return None
    return start.leader


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = stat_fields(int(entry.name))
            except (OSError, ValueError):
                continue
            found[int(entry.name)] = _Process(
                alive=fields[0] not in (b"Z", b"X"),
                parent=int(fields[1]),
                session=int(fields[3]),
                born=int(fields[19]),
            )
    return found


def _has_mark(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
