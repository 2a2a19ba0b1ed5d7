"""How jobs ended that the controller has forgotten: from the accounting, or from the completion log.

One command, or one look at a file, answers for all names. Job ids start again when a site sets Slurm up anew, so
jobs are found by their names, which are unique for ever; a task of an array by its array's name and its number.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path

from nodemanager.errors import SchedulerError
from nodemanager.schedulers.slurm.controller import Controller
from nodemanager.schedulers.slurm.listing import Row, parse_duration, parse_exit, parse_memory

_FIELDS = "JobID,State,ExitCode,NodeList,Timelimit,ReqMem,JobName"
_SINCE = "now-60days"
"""Without it sacct looks no further back than midnight."""
_LOG_BYTES = 64 << 20
"""So much of the completion log's end is read: some 100,000 jobs."""
_ENTRY = re.compile(r"(\w+)=(\S*)")
_TASK = re.compile(r"(\d+)_(\d+)")


class Source(Enum):
    """Where ended jobs are remembered."""

    ACCOUNTING = "accounting"
    COMPLETION_LOG = "completion log"
    NOWHERE = "nowhere"


def source_of(config: Mapping[str, str]) -> Source:
    """What `scontrol show config` says about it."""
    if config.get("AccountingStorageType") == "accounting_storage/slurmdbd":
        return Source.ACCOUNTING
    if config.get("JobCompType") == "jobcomp/filetxt":
        return Source.COMPLETION_LOG
    return Source.NOWHERE


def ended(controller: Controller, names: Sequence[str], users: Sequence[str]) -> Iterable[Row]:
    """What is remembered of jobs and arrays of these names; nothing where nothing is kept."""
    config = controller.config()
    match source_of(config):
        case Source.ACCOUNTING:
            output = controller.order(
                "sacct", "-X", "-P", "-n", f"--starttime={_SINCE}", f"--user={','.join(users)}",
                f"--name={','.join(names)}", f"--format={_FIELDS}",
            )  # fmt: skip
            return list(parse_accounting(output))
        case Source.COMPLETION_LOG:
            wanted = set(names)
            log = Path(config.get("JobCompLoc", ""))
            return [row for row in parse_log(_tail(log)) if row.name in wanted]
        case Source.NOWHERE:
            return ()


def parse_accounting(output: str) -> Iterator[Row]:
    """The answer of sacct; what is not understood raises `SchedulerError`."""
    for line in output.splitlines():
        try:
            job_id, state, code, node, limit, memory, name = line.split("|", 6)
            yield Row(
                *_numbers(job_id),
                state=state,
                exit_status=parse_exit(code),
                node=_where(node),
                # It may be empty.
                limit_seconds=parse_duration(limit) if limit else 0,
                ram_bytes=parse_memory(memory),
                reason="",
                name=name,
            )
        except ValueError as error:
            raise SchedulerError(f"sacct printed what is not understood: {line[:200]!r}") from error


def parse_log(text: str) -> Iterator[Row]:
    """The lines of a completion log, the oldest first. One that is cut or odd is passed over: it proves nothing."""
    for line in text.splitlines():
        entry = dict(_ENTRY.findall(line))
        try:
            array = entry.get("ArrayJobId", "")
            job_id = f"{array}_{entry['ArrayTaskId']}" if array else entry["JobId"]
            minutes = entry["TimeLimit"]
            yield Row(
                *_numbers(job_id),
                state=entry["JobState"],
                exit_status=parse_exit(entry["ExitCode"]),
                node=_where(entry["NodeList"]),
                limit_seconds=60 * int(minutes) if minutes.isdigit() else 0,
                ram_bytes=_memory_of(entry.get("Tres", "")),
                reason="",
                name=entry["Name"],
            )
        except (KeyError, ValueError):
            continue


def _numbers(job_id: str) -> tuple[str, str, int]:
    """How commands call a job, its array, and its number there."""
    task = _TASK.fullmatch(job_id)
    return (job_id, task[1], int(task[2])) if task else (job_id, "", 0)


def _where(node: str) -> str:
    return "" if node in ("(null)", "None assigned") else node


def _memory_of(tres: str) -> int:
    pairs = (pair.partition("=") for pair in tres.split(","))
    return next((parse_memory(value) for key, _, value in pairs if key == "mem"), 0)


def _tail(log: Path) -> str:
    """The end of the completion log, as far as it can be read here."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
