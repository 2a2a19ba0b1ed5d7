"""Machines of the loopback cloud that are processes: a command that runs as long as the machine exists.

For a scheduler with daemons on its nodes the command is that daemon, as a machine's boot would start it. It gets a
session of its own and none of our open files, so it outlives this process as a machine does. What it starts may leave
that session, clear its environment and lose its parent, as jobs of a slurmd do: all of it descends from the machine's first
process (`loopback_init`) as long as that is there, and that is known by its number and by a mark in its environment.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodemanager.clouds import loopback_init
from nodemanager.clouds.errors import CloudError, Denied
from nodemanager.config.composite import Command
from nodemanager.schedulers.leftovers import boot_id, kill_leftovers, leftovers
from nodemanager.schedulers.machine import job_environment
from nodemanager.schedulers.shares import Share
from nodemanager.schedulers.spool import Start
from nodemanager.schedulers.supervise import send, stat_fields

MARK = "NODEMANAGER_MACHINE"
"""The environment variable that names the machine, by its cloud id."""
KILL_SECONDS = 10.0
"""A process that is there so long after its KILL hangs in the kernel."""

_HANDED_ON = (
    *("SLURM_CONF", "SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME"),
    *("SGE_QMASTER_PORT", "SGE_EXECD_PORT", "LD_LIBRARY_PATH"),
)
"""What tells a scheduler's daemon where its cluster is."""
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where daemons are, and which is in the PATH of few users."""

_PLACEHOLDERS = "%h (the host name), %c (cores), %m (RAM in MiB), %% (a percent sign)"
_PLACEHOLDER = re.compile("%(.?)", re.DOTALL)

_children: set[int] = set()
"""First processes of machines that were started here and not reaped."""


@dataclass(frozen=True)
class StartCommand(Command):
    """A command in whose words placeholders stand for what is known of the machine."""

    def parse(self, text: str) -> tuple[str, ...]:
        """See `Kind`."""
        words = super().parse(text)
        _fill(words, {"h": "", "c": "", "m": ""})
        return words


def _fill(words: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
    known = {**values, "%": "%"}

    def value(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise ValueError(f"expected none but {_PLACEHOLDERS}, found {match[0]!r}")
        return known[match[1]]

    return tuple(_PLACEHOLDER.sub(value, word) for word in words)


def find_program(words: Sequence[str]) -> str:
    """Where the program of a command is. Raises `Denied`, which says that it is nowhere."""
    found = shutil.which(words[0], path=_environment("")["PATH"])
    if found is None:
        raise Denied(f"loopback: [Cloud Create] start: there is no program {words[0]!r} here")
    return found


def start(words: Sequence[str], share: Share, output: Path, boot_seconds: float) -> Start:
    """Let the machine boot, and run the command in `boot_seconds`; it writes to the file `output`.

    Raises `Denied` when there is no such program, `OSError` when no process can be had.
    """
    resources = share.resources
    ram = str(resources.ram_bytes >> 20)
    filled = _fill(words, {"h": share.host, "c": str(resources.cores), "m": ram})
    command = (find_program(filled), *filled[1:])
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", loopback_init.__file__, f"{boot_seconds:f}", *command],
        _environment(share.cloud_id),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            # Python opens nothing that is inherited, but whoever started us may have left us such files.
            *((os.POSIX_SPAWN_CLOSE, number) for number in _inherited_files()),
        ],
        setsid=True,
        setsigmask=(),
    )
    _children.add(pid)
    return Start(boot_id(), pid, int(stat_fields(pid)[19]))


def is_there(share: Share) -> bool:
    """Whether any process of the machine is alive."""
    process = _known(share)
    if process is not None:
        # Mostly it is, and then there is no need to look at every process there is.
        with suppress(OSError, ValueError):
            fields = stat_fields(process.leader)
            if int(fields[19]) == process.leader_born and fields[0] not in (b"Z", b"X"):
                return True
    return bool(_processes(share))


def end(share: Share) -> None:
    """KILL every process of the machine. Raises `CloudError` if one does not go."""
    stopped: set[int] = set()
    # What is stopped starts nothing more, so that none gets away between the look and the KILL.
    while fresh := set(_processes(share)) - stopped:
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        stopped |= fresh
    gone = kill_leftovers(share.cloud_id, _known(share), KILL_SECONDS, MARK)
    reap()
    if not gone:
        raise CloudError(f"loopback: a process of {share.name} does not go within {KILL_SECONDS} s")


def reap() -> None:
    """Bury those of our children that have ended."""
    for pid in tuple(_children):
        ended = pid
        with suppress(ChildProcessError):
            ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended:
            _children.discard(pid)


def _processes(share: Share) -> list[int]:
    return leftovers(share.cloud_id, _known(share), MARK)


def _known(share: Share) -> Start | None:
    """The process that was started, if that was since this machine's own boot and was written down in time."""
    process = share.process
    return process if process is not None and process.boot_id == boot_id() else None


def _inherited_files() -> list[int]:
    """What a child would have open beside its standard files."""
    found = []
    for number in sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir()):
        with suppress(OSError):
            if number > 2 and os.get_inheritable(number):
                found.append(number)
    return found


def _environment(cloud_id: str) -> dict[str, str]:
    handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    plain = job_environment()
    return {**plain, **handed_on, "PATH": f"{plain['PATH']}:{_SYSTEM_PATH}", MARK: cloud_id}
