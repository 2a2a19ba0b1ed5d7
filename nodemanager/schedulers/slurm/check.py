"""What `--check` tells about a Slurm: commands, version, directories, and settings that jobs depend on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nodemanager.durable import write_problem
from nodemanager.errors import SchedulerError
from nodemanager.model import Finding
from nodemanager.schedulers.slurm.accounting import Source, source_of
from nodemanager.schedulers.slurm.controller import PROGRAMS, Controller
from nodemanager.schedulers.slurm.options import SlurmOptions


def findings(options: SlurmOptions, controller: Controller) -> Sequence[Finding]:
    """One for each thing looked at; nothing is changed."""
    return tuple(_findings(options, controller))


def _findings(options: SlurmOptions, controller: Controller) -> Iterator[Finding]:
    path = os.pathsep.join(filter(None, (options.commands, os.environ.get("PATH", os.defpath))))
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        yield Finding(
            "slurm commands",
            problem=f"{', '.join(missing)} not found in {path}; install Slurm's client commands, or set "
            "[Scheduler] commands to their directory",
        )
        return
    shared = f"{options.spool}: nodes must see it under the same path"
    yield Finding("jobs' input", shared, write_problem(options.spool))
    if options.log_dir:
        yield Finding(
            "jobs' output",
            f"{options.log_dir}: nodes must see it as well",
            write_problem(Path(options.log_dir)),
        )
    try:
        config = controller.config(afresh=True)
    except SchedulerError as error:
        yield Finding("slurmctld", problem=str(error))
        return
    yield Finding("slurmctld", f"Slurm {config.get('SLURM_VERSION', 'of unknown version')}")
    yield Finding(
        "ending jobs",
        f"a job that is cancelled has {config.get('KillWait', 'KillWait')} between TERM and KILL "
        "(KillWait in slurm.conf): the runner has to stop its container and save its log in that time",
    )
    yield Finding(
        "memory of ended jobs",
        f"{config.get('MinJobAge', 'MinJobAge')} in the controller (MinJobAge); later {_later(config)}",
    )
    if config.get("PriorityType") == "priority/multifactor" and not _has_weight(config):
        yield Finding(
            "priority",
            "all PriorityWeight... of slurm.conf are 0, so that every job has priority 1 and the urgent wait "
            "as long as the others; PriorityWeightPartition=1000000 gives nice something to subtract from",
        )


def _later(config: Mapping[str, str]) -> str:
    """Where the ends of jobs are found that the controller has forgotten."""
    match source_of(config):
        case Source.ACCOUNTING:
            return "from the accounting (sacct)"
        case Source.COMPLETION_LOG:
            log = config.get("JobCompLoc", "")
            unread = "" if os.access(log, os.R_OK) else ", which cannot be read here"
            return f"from the completion log {log}{unread}"
        case _:
            return (
                "nobody knows how they ended: set AccountingStorageType or JobCompType in slurm.conf, for a "
                "daemon that is down for longer than that tries such containers again"
            )


def _has_weight(config: Mapping[str, str]) -> bool:
    return any(
        key.startswith("PriorityWeight") and value not in ("0", "(null)", "")
        for key, value in config.items()
    )
