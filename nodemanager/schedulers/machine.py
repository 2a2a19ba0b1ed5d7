"""What there is of this machine to share out, and the options of the local scheduler that say otherwise."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodemanager.config.kinds import Bytes, Integer, Kind, Seconds
from nodemanager.config.module_options import read_options
from nodemanager.model import Resources
from nodemanager.schedulers.base import SchedulerContext

RAM_SHARE = 0.9
"""Of the machine's RAM, when `ram` is not given: the rest is for the daemon and the system."""

OPTIONS: Mapping[str, Kind] = {
    "cores": Integer(1),
    "ram": Bytes(1),
    "scratch": Bytes(0),
    "ram_allowance": Bytes(0),
    "kill_grace": Seconds(0),
    "pass_for": Seconds(0),
    "spool": Kind(),
    "machines": Kind(),
}


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """The `[Scheduler]` options of the local scheduler."""

    cores: int | None
    """Default: the cores this process may run on."""
    ram: int | None
    """Bytes; default: `RAM_SHARE` of what this process may use."""
    scratch: int | None
    """Bytes; default: what is free in the spool's file system when the daemon starts."""
    ram_allowance: int
    """Bytes above what a job asked for before it is killed: the runner itself. Default 64 MiB."""
    kill_grace: float
    """Seconds between TERM and KILL. Default 10 s."""
    pass_for: float
    """For how many seconds smaller jobs may pass the first in line. Default 60 s."""
    spool: Path
    """Default: `spool` in the scheduler's state directory. Must be on a local file system."""
    machines: Path | None
    """A directory of `shares`, whose machines are the nodes. Default: one node, which is this machine."""

    @classmethod
    def of(cls, context: SchedulerContext) -> LocalOptions:
        """Read the options; `ConfigError` names the one that is wrong or unknown."""
        values = read_options(context.section, "the local scheduler", context.options, OPTIONS)
        return cls(
            cores=values.get("cores"),
            ram=values.get("ram"),
            scratch=values.get("scratch"),
            ram_allowance=values.get("ram_allowance", 64 << 20),
            kill_grace=values.get("kill_grace", 10.0),
            pass_for=values.get("pass_for", 60.0),
            spool=context.state_dir / values.get("spool", "spool"),
            machines=context.state_dir / values["machines"] if values.get("machines") else None,
        )

    def total(self) -> Resources:
        """What there is to share out, now. The GPUs of the machine are not managed: 0."""
        whole = this_machine(self.spool)
        return Resources(
            cores=self.cores or whole.cores,
            ram_bytes=self.ram or whole.ram_bytes,
            scratch_bytes=whole.scratch_bytes if self.scratch is None else self.scratch,
        )


def node_name() -> str:
    """The name of this machine."""
    return socket.gethostname()


def this_machine(disk: Path) -> Resources:
    """What this machine can give to jobs; scratch space is what is free now in the file system of `disk`."""
    return Resources(
        cores=len(os.sched_getaffinity(0)),
        ram_bytes=int(RAM_SHARE * usable_ram()),
        scratch_bytes=_free_disk(disk),
    )


def usable_ram() -> int:
    """Bytes of RAM this process may use: the machine's, or less if a control group (v2) says so."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")]
    root = Path("/sys/fs/cgroup")
    for group in _control_groups(root):
        try:
            text = (group / "memory.max").read_text("ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def _control_groups(root: Path) -> list[Path]:
    """The control group of this process and those around it."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return []
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    inner = root / path.lstrip("/")
    return [group for group in (inner, *inner.parents) if group.is_relative_to(root)]


def _free_disk(path: Path) -> int:
    """Bytes free in the file system that holds `path`, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def job_environment() -> dict[str, str]:
    """All a job finds in its environment besides the mark: nothing of the daemon's that could be secret."""
    kept = {
        name: os.environ[name]
        for name in ("HOME", "TMPDIR", "USER", "LOGNAME")
        if name in os.environ
    }
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        **kept,
    }
