"""The `[Scheduler]` options of the Grid Engine module."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodemanager.config.kinds import Bool, Bytes, Choice, Integer, Kind, Pattern, Seconds
from nodemanager.config.module_options import read_options
from nodemanager.errors import ConfigError
from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.sge.dialects import Dialect
from nodemanager.schedulers.templates import Arguments, ArgumentsKind

DEBIAN_COMMANDS = Path("/usr/lib/gridengine")
"""What Debian has in /usr/bin are shell scripts around these that cost 60 ms and more a call."""

_PASSED_ON = (
    "SGE_ROOT",
    "SGE_CELL",
    "SGE_QMASTER_PORT",
    "SGE_EXECD_PORT",
    "SGE_CLUSTER_NAME",
    "LD_LIBRARY_PATH",
)


class NodeOrigin(StrEnum):
    """Where the nodes come from that are booted for us."""

    FIXED = "fixed"
    """None are: the cell has all the hosts there will be."""
    DYNAMIC = "dynamic"
    """Hosts are added to the cell before they are booted, and taken out of it afterwards."""


class MemoryPer(StrEnum):
    """What an amount of the memory resource is for."""

    SLOT = "slot"
    JOB = "job"


OPTIONS: Mapping[str, Kind] = {
    "commands": Kind(),
    "sge_root": Kind(),
    "sge_cell": Kind(),
    "sge_qmaster_port": Integer(1, 65535),
    "sge_execd_port": Integer(1, 65535),
    "spool": Kind(),
    "log_dir": Pattern(r"/[^\s:$,]*", "an absolute path without blanks, colons, commas and $"),
    "accounting_file": Kind(),
    "accounting_delay": Seconds(0),
    "users": Kind(),
    "queue": Kind(),
    "preemptible_queues": Kind(),
    "project": Kind(),
    "pe": Kind(),
    "memory_resource": Kind(),
    "memory_per": Choice(tuple(MemoryPer)),
    "reserve_ram": Bytes(0),
    "scratch_resource": Kind(),
    "scratch": Bytes(0),
    "gpu_resource": Kind(),
    "exclusive_resource": Kind(),
    "size_resource": Kind(),
    "qsub_arguments": ArgumentsKind(),
    "arrays": Bool(),
    "submit_at_once": Integer(1, 64),
    "force_after": Seconds(0),
    "lost_after": Seconds(0),
    "explained_jobs": Integer(0, 1000),
    "nodes": Choice(tuple(NodeOrigin)),
    "node_names": Kind(),
    "hostgroup": Pattern(r"@[A-Za-z0-9._-]+", "the name of a host group, which begins with @"),
}


@dataclass(frozen=True, slots=True)
class SgeOptions:
    """What an operator can set."""

    commands: Path | None
    """The directory of qsub and the others. Default: that of Debian's real programs if they are there,
    otherwise PATH."""
    environment: Mapping[str, str]
    """`sge_root`, `sge_cell`, `sge_qmaster_port` and `sge_execd_port` for the commands; default: what the daemon's
    own environment says."""
    spool: Path
    """What jobs read. Nodes must see it under the same path. Default: `jobs` in the state directory."""
    log_dir: str
    """Where jobs' own output goes, a file each; empty: nowhere. Nodes must see it under the same path."""
    accounting_file: str
    """Default, with a slash at its end: the directory in which the dialect has it. Empty (``none``): how jobs ended
    is not known."""
    accounting_delay: float
    """For so many seconds after a job has left the queue its record is waited for. Default 20 s: Grid Engine
    writes them every 15 s unless told otherwise (`accounting_flush_time`)."""
    users: tuple[str, ...]
    """Whose jobs can be ours; ``*`` for anybody's. Default: the user this process runs as."""
    queues: tuple[str, ...]
    """For jobs that ask for no partition; and when given, all that counts of a node. Default: any."""
    preemptible_queues: tuple[str, ...]
    """Their nodes can be taken away; only jobs that bear that get there."""
    project: str
    """Of every job; empty: the user's default."""
    pe: str
    """The parallel environment in which all slots of a job are on one host. Default smp."""
    memory_resource: str
    """Default h_vmem, which limits a job as well; empty: memory is not asked for."""
    memory_per: MemoryPer
    """Default slot, as for every consumable that is not defined as JOB."""
    reserve_ram: int
    """Bytes added to what a job asks for: the runner itself. Default 0."""
    scratch_resource: str
    """Default: none, scratch space is not asked for."""
    scratch: int
    """Bytes every node is taken to have where there is no `scratch_resource`. Default 1 TiB."""
    gpu_resource: str
    """Default gpu. Has to be a consumable per job (JOB)."""
    exclusive_resource: str
    """For jobs that want a node to themselves. Default: none, such jobs are refused."""
    size_resource: str
    """A string resource that is set to the name of its size on each host that is added. Default: none."""
    arguments: Arguments
    """Added to every qsub."""
    arrays: bool
    """Jobs that are alike are submitted as one array. Default yes."""
    submit_at_once: int
    """How many qsub run at a time. Default 1: with more, jobs of one priority start in an order of chance, and not
    twice as many are accepted in a second."""
    force_after: float
    """So many seconds after its cancellation a job that is still there is deleted by force. Default 300 s."""
    lost_after: float
    """So long after its host was last heard of a job counts as lost. Default 300 s."""
    explained_jobs: int
    """Of so many waiting jobs Grid Engine is asked at a time why they wait. Default 20."""
    nodes: NodeOrigin
    """Default fixed."""
    node_names: tuple[str, ...]
    """With dynamic nodes: the names that can be resolved. Default: those of the machines themselves."""
    hostgroup: str
    """With dynamic nodes: the host group that marks them. Default @nodemanager."""

    @classmethod
    def of(cls, context: SchedulerContext) -> SgeOptions:
        """Read the options; `ConfigError` names the one that is wrong or unknown."""
        values = read_options(context.section, "the Grid Engine module", context.options, OPTIONS)
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        for name in ("sge_root", "sge_cell", "sge_qmaster_port", "sge_execd_port"):
            if name in values:
                environment[name.upper()] = str(values[name])
        root, cell = environment.get("SGE_ROOT", ""), environment.get("SGE_CELL", "default")
        accounting = values.get("accounting_file") or f"{root}/{cell}/common/"
        commands = values.get("commands")
        return cls(
            commands=Path(commands) if commands else _debian_commands(),
            environment=environment,
            spool=context.state_dir / values.get("spool", "jobs"),
            log_dir=values.get("log_dir", ""),
            accounting_file="" if accounting == "none" else accounting,
            accounting_delay=values.get("accounting_delay", 20.0),
            users=_users(values.get("users", getpass.getuser())),
            queues=_names("queue", values.get("queue", "")),
            preemptible_queues=_names("preemptible_queues", values.get("preemptible_queues", "")),
            project=values.get("project", ""),
            pe=values.get("pe", "smp"),
            memory_resource=values.get("memory_resource", "h_vmem"),
            memory_per=MemoryPer(values.get("memory_per", MemoryPer.SLOT)),
            reserve_ram=values.get("reserve_ram", 0),
            scratch_resource=values.get("scratch_resource", ""),
            scratch=values.get("scratch", 1 << 40),
            gpu_resource=values.get("gpu_resource", "gpu"),
            exclusive_resource=values.get("exclusive_resource", ""),
            size_resource=values.get("size_resource", ""),
            arguments=values.get("qsub_arguments", Arguments()),
            arrays=values.get("arrays", True),
            submit_at_once=values.get("submit_at_once", 1),
            force_after=values.get("force_after", 300.0),
            lost_after=values.get("lost_after", 300.0),
            explained_jobs=values.get("explained_jobs", 20),
            nodes=NodeOrigin(values.get("nodes", NodeOrigin.FIXED)),
            node_names=expand_names(values.get("node_names", "")),
            hostgroup=values.get("hostgroup", "@nodemanager"),
        )

    def command(self, name: str) -> str:
        """The path of one of Grid Engine's programs, or its name for PATH."""
        return name if self.commands is None else str(self.commands / name)

    def accounting_path(self, dialect: Dialect) -> Path:
        """The accounting file, where one is used."""
        given = self.accounting_file
        return Path(given + dialect.accounting_name if given.endswith("/") else given)

    def named_resources(self) -> tuple[str, ...]:
        """Those that hosts are asked about."""
        names = (
            "slots",
            self.memory_resource,
            self.scratch_resource,
            self.gpu_resource,
            self.exclusive_resource,
        )
        return tuple(name for name in names if name)


def expand_names(text: str) -> tuple[str, ...]:
    """``n[08-10], gpu1`` are n08, n09, n10 and gpu1. Raises `ConfigError`."""
    names: list[str] = []
    for word in text.replace(",", " ").split():
        head, bracket, rest = word.partition("[")
        if not bracket:
            names.append(word)
            continue
        span, closing, tail = rest.partition("]")
        first, _, last = span.partition("-")
        if not closing or not first.isdecimal() or not last.isdecimal() or "[" in tail:
            raise ConfigError(
                f"[Scheduler] node_names: {word!r} is no list of names; write n[1-20]"
            )
        numbers = range(int(first), int(last) + 1)
        names += [f"{head}{number:0{len(first)}d}{tail}" for number in numbers]
    return tuple(names)


def _names(option: str, text: str) -> tuple[str, ...]:
    names = tuple(text.replace(",", " ").split())
    for name in names:
        if not all(character.isalnum() or character in "._-" for character in name):
            raise ConfigError(f"[Scheduler] {option}: {name!r} is no name")
    return names


def _users(text: str) -> tuple[str, ...]:
    return ("*",) if text.strip() == "*" else _names("users", text)


def _debian_commands() -> Path | None:
    return DEBIAN_COMMANDS if shutil.which(DEBIAN_COMMANDS / "qstat") else None
