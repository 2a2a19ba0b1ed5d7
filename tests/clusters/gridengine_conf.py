"""The objects of a private Grid Engine, as its programs want them described: lines of names and values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

H_VMEM_CONSUMABLE = "h_vmem h_vmem MEMORY <= YES YES 1G 0"
"""For `GridEngineSettings.complexes`: memory that is used up, by each slot. With the usual default, 0, a job that
does not ask for any is killed at once: 0 is its limit then."""


@dataclass(frozen=True)
class GridQueue:
    """A cluster queue."""

    name: str = "all.q"
    slots: int = 4
    """On each host."""
    hosts: tuple[str, ...] = ("@allhosts",)
    options: tuple[tuple[str, str], ...] = ()
    """Attributes as `qconf -sq` shows them, for instance ("terminate_method", "SIGTERM")."""


@dataclass(frozen=True)
class GridEngineSettings:
    """What a cell is to be."""

    queues: tuple[GridQueue, ...] = (GridQueue(),)
    complexes: tuple[str, ...] = ()
    """Lines as `qconf -sc` shows them; they replace those of the same name."""
    host_values: tuple[str, ...] = ()
    """How much of a consumable each exec host has, for instance h_vmem=4000M."""
    managers: tuple[str, ...] = ()
    """Users beside the one who starts it, who is one."""
    configuration: tuple[tuple[str, str], ...] = ()
    """Of the cell, as `qconf -sconf` shows it."""
    scheduler: tuple[tuple[str, str], ...] = ()
    """As `qconf -ssconf` shows it."""
    hosts: tuple[str, ...] | None = None
    """Not this machine is the exec host but these, in network namespaces; none at first is fine (see `add_host`)."""


def configuration_text(settings: GridEngineSettings, default: str, spool: Path) -> str:
    """Of the cell, from the default that comes with the package."""
    ours = {"execd_spool_dir": str(spool), **_CONFIGURATION, **dict(settings.configuration)}
    return changed(default, ours.items())


def scheduler_text(settings: GridEngineSettings, default: str) -> str:
    """Of the scheduler, from what `qconf -ssconf` shows."""
    return changed(default, {**_SCHEDULER, **dict(settings.scheduler)}.items())


def complexes_text(settings: GridEngineSettings, default: str) -> str:
    """Of all complexes, from what `qconf -sc` shows."""
    lines = (line.split(None, 1) for line in settings.complexes)
    return changed(default, ((name, rest) for name, rest in lines))


def queue_text(queue: GridQueue, template: str, tmpdir: Path) -> str:
    """Of a queue, from what `qconf -sq` shows."""
    ours = {
        "qname": queue.name,
        "hostlist": " ".join(queue.hosts),
        "slots": str(queue.slots),
        # A busy machine takes jobs all the same.
        "load_thresholds": "NONE",
        "pe_list": "smp",
        # Not /tmp: two cells would want the same names there.
        "tmpdir": str(tmpdir),
        "shell_start_mode": "unix_behavior",
        **dict(queue.options),
    }
    return changed(template, ours.items())


def host_text(settings: GridEngineSettings, name: str) -> str:
    """Of an exec host."""
    values = ",".join(settings.host_values) or "NONE"
    nothing = dict.fromkeys(_HOST_LISTS, "NONE")
    return changed("", {"hostname": name, **nothing, "complex_values": values}.items())


def changed(text: str, changes: Iterable[tuple[str, str]]) -> str:
    """Lines `name value` with other values for some names."""
    lines: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        name = line.split(None, 1)[0] if line.strip() else ""
        if name and not name.startswith("#"):
            lines[name] = line
    lines |= {name: f"{name} {value}" for name, value in changes}
    return "".join(f"{line}\n" for line in lines.values())


_CONFIGURATION = {
    "mailer": "/bin/true",
    # Root may submit too.
    "min_uid": "0",
    "min_gid": "0",
    "load_report_time": "00:00:02",
    "max_unheard": "00:00:10",
    "reschedule_unknown": "00:00:00",
    "finished_jobs": "1000",
    "loglevel": "log_info",
    "gid_range": "20000-20200",
    # Or qacct knows of an end 15 seconds later.
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 "
    "accounting_flush_time=00:00:00 joblog=false sharelog=00:00:00",
}

_SCHEDULER = {
    "schedule_interval": "0:0:1",
    "flush_submit_sec": "1",
    "flush_finish_sec": "1",
    "schedd_job_info": "true",
    "job_load_adjustments": "NONE",
    "load_adjustment_decay_time": "0:0:0",
    "weight_waiting_time": "0.0",
    "weight_urgency": "0.1",
    "weight_ticket": "0.01",
    "weight_priority": "1.0",
}

_HOST_LISTS = (
    "load_scaling",
    "complex_values",
    "user_lists",
    "xuser_lists",
    "projects",
    "xprojects",
    "usage_scaling",
    "report_variables",
)
