"""The `[Scheduler]` options of the Slurm module."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodemanager.config.kinds import Bool, Bytes, Choice, Integer, Kind
from nodemanager.config.module_options import read_options
from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.templates import Arguments, ArgumentsKind

DEFAULT_ARGUMENTS = "--ntasks=1 --cpus-per-task=%C --mem=%M --tmp=%T --partition=%P --time=%W"
DEFAULT_GPU_ARGUMENTS = "--gres=gpu:%G"


class NodeOrigin(StrEnum):
    """Where the nodes come from that are booted for us."""

    FIXED = "fixed"
    """None are: slurm.conf has all there will be, or Slurm boots them itself."""
    PREDEFINED = "predefined"
    """slurm.conf has lines with State=FUTURE (or CLOUD), of which machines take a free one."""
    DYNAMIC = "dynamic"
    """They register by themselves: `slurmd -Z`."""


OPTIONS: Mapping[str, Kind] = {
    "commands": Kind(),
    "conf": Kind(),
    "spool": Kind(),
    "log_dir": Kind(),
    "users": Kind(),
    "partition": Kind(),
    "preemptible_partitions": Kind(),
    "constraint": Kind(),
    "reserve_ram": Bytes(0),
    "sbatch_arguments": ArgumentsKind(),
    "sbatch_gpu_arguments": ArgumentsKind(),
    "priority_spread": Integer(1, 1_000_000),
    "arrays": Bool(),
    "submit_at_once": Integer(1, 64),
    "rest_socket": Kind(),
    "nodes": Choice(tuple(NodeOrigin)),
}


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """What an operator can set."""

    commands: str
    """A directory that is searched before PATH for sbatch and the others; empty for none."""
    conf: str
    """slurm.conf, when it is not where Slurm looks for it."""
    spool: Path
    """What jobs read. Nodes must see it under the same path. Default: `jobs` in the state directory."""
    log_dir: str
    """Where jobs' own output goes, a file each; empty: nowhere. Nodes must see it under the same path."""
    users: tuple[str, ...]
    """Whose jobs can be ours. Default: the user this process runs as."""
    partition: tuple[str, ...]
    """For jobs that ask for none; empty: Slurm's default."""
    preemptible_partitions: tuple[str, ...]
    """Their nodes can be taken away; only jobs that bear that get there."""
    constraint: str
    """`--constraint` of every job."""
    reserve_ram: int
    """Bytes added to what a job asks for: the runner itself. Default 0."""
    arguments: Arguments
    """`sbatch_arguments`, with letters for what a job asks for. Default: `DEFAULT_ARGUMENTS`."""
    gpu_arguments: Arguments
    """`sbatch_gpu_arguments`: added for a job that asks for GPUs. Default: `DEFAULT_GPU_ARGUMENTS`."""
    priority_spread: int
    """How far apart two of the 1000 user priorities are in nice. Default 10."""
    arrays: bool
    """Jobs that are alike are submitted as one array. Default yes."""
    submit_at_once: int
    """How many sbatch run at a time. Default 4."""
    rest_socket: Path | None
    """slurmrestd's unix socket. Default: sbatch is used."""
    nodes: NodeOrigin
    """Default fixed."""

    @classmethod
    def of(cls, context: SchedulerContext) -> SlurmOptions:
        """Read the options; `ConfigError` names the one that is wrong or unknown."""
        values = read_options(context.section, "the slurm scheduler", context.options, OPTIONS)
        socket = values.get("rest_socket")
        return cls(
            commands=values.get("commands", ""),
            conf=values.get("conf", ""),
            spool=context.state_dir / values.get("spool", "jobs"),
            log_dir=values.get("log_dir", ""),
            users=_words(values.get("users", "")) or (getpass.getuser(),),
            partition=_words(values.get("partition", "")),
            preemptible_partitions=_words(values.get("preemptible_partitions", "")),
            constraint=values.get("constraint", ""),
            reserve_ram=values.get("reserve_ram", 0),
            arguments=_without_names(values.get("sbatch_arguments") or _parsed(DEFAULT_ARGUMENTS)),
            gpu_arguments=_without_names(
                values.get("sbatch_gpu_arguments") or _parsed(DEFAULT_GPU_ARGUMENTS)
            ),
            priority_spread=values.get("priority_spread", 10),
            arrays=values.get("arrays", True),
            submit_at_once=values.get("submit_at_once", 4),
            rest_socket=context.state_dir / socket if socket else None,
            nodes=NodeOrigin(values.get("nodes", NodeOrigin.FIXED)),
        )


def _parsed(text: str) -> Arguments:
    parsed: Arguments = ArgumentsKind().parse(text)
    return parsed


def _without_names(arguments: Arguments) -> Arguments:
    """Arvados' list names each job, which we do anyway; left in, it would forbid arrays."""
    return Arguments(tuple(word for word in arguments.words if word != "--job-name=%U"))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())
