"""What squeue prints about jobs, and what that says about each.

One squeue lists everything: no call is made per job. All is read from a format that we ask for ourselves;
its header line must come back as asked, so that an answer of something else is never taken for an empty list.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.slurm.words import Reader

# The free texts come last: a reason may be anybody's words, a name anything.
_FIELDS = (
    ("ArrayJobID", "ARRAY_JOB_ID"),
    ("ArrayTaskID", "ARRAY_TASK_ID"),
    ("JobID", "JOBID"),
    ("State", "STATE"),
    ("exit_code", "EXIT_CODE"),
    ("NodeList", "NODELIST"),
    ("TimeLimit", "TIME_LIMIT"),
    ("MinMemory", "MIN_MEMORY"),
    ("Reason", "REASON"),
    ("Name", "NAME"),
)
FORMAT = ",".join(f"{field}:|" for field, _ in _FIELDS)
"""For `squeue -O`: each field as long as it is, with a bar after it."""
HEADER = "".join(f"{title}|" for _, title in _FIELDS)

_FREE_FIELDS = 2
_NUMBER = re.compile(r"\d+")
_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)")
_DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_NO_LIMIT = ("UNLIMITED", "NOT_SET", "Partition_Limit", "INVALID")
_CORE_FLAG = 0x80
_FIRST_REAL_TIME_SIGNAL = 32


@dataclass(frozen=True, slots=True)
class Row:
    """One job or array task as squeue shows it."""

    job_id: str
    """How commands call it: `17`, or `17_3` for a task."""
    array_id: str
    """The job of the whole array; empty for a single job."""
    task: int
    """Its index in the array; 0 for a single job."""
    state: str
    exit_status: int
    """As wait(2) gives it."""
    node: str
    limit_seconds: int
    """0 for none."""
    ram_bytes: int
    reason: str
    name: str

    @property
    def is_held_for_a_node(self) -> bool:
        """Whether Slurm holds it because no node has what it asks for."""
        return self.state == "PENDING" and self.reason == "BadConstraints"


@dataclass(frozen=True, slots=True)
class Listing:
    """What one squeue told about the jobs of a cluster."""

    rows: tuple[Row, ...]
    strange: tuple[str, ...] = ()
    """Lines that were not understood."""


def parse(output: str, prefix: str) -> Listing:
    """The jobs whose names begin with `prefix`. Raises `SchedulerError` when this is no listing at all."""
    header, _, body = output.partition("\n")
    if header.strip() != HEADER:
        raise SchedulerError(f"squeue did not print what it was asked for: {header[:200]!r}")
    rows, strange = [], []
    for line in _lines(body):
        fields = _split(line)
        if fields is None:
            strange.append(line)
        elif fields[-1].startswith(prefix):
            row = _row(fields)
            rows.append(row) if row is not None else strange.append(line)
    return Listing(tuple(rows), tuple(strange))


def _lines(body: str) -> Iterable[str]:
    """The lines; those of a name that has line breaks of its own are one."""
    pending = ""
    for line in body.split("\n"):
        pending = f"{pending}\n{line}" if pending else line
        if pending.endswith("|"):
            yield pending
            pending = ""
    if pending:
        yield pending


def _split(line: str) -> list[str] | None:
    fixed = len(_FIELDS) - _FREE_FIELDS
    parts = line.split("|", fixed)
    if len(parts) != fixed + 1 or not parts[-1].endswith("|"):
        return None
    reason, bar, name = parts[-1][:-1].rpartition("|")
    return [*parts[:fixed], reason, name] if bar else None


def _row(fields: list[str]) -> Row | None:
    array_id, task, job_id, state, exit_code, node, limit, memory, reason, name = fields
    try:
        status = parse_exit(exit_code)
        limit_seconds = parse_duration(limit)
        ram_bytes = parse_memory(memory)
    except ValueError:
        return None
    if not _NUMBER.fullmatch(array_id) or not _NUMBER.fullmatch(job_id) or not state:
        return None
    if task == "N/A":
        return Row(
            job_id, "", 0, state, status, node, limit_seconds, ram_bytes, reason, name
        )  # fmt: skip
    if not _NUMBER.fullmatch(task):
        return None
    called = f"{array_id}_{task}"
    return Row(
        called, array_id, int(task), state, status, node, limit_seconds, ram_bytes, reason, name
    )


def parse_exit(text: str) -> int:
    """A wait status, from the number squeue prints or from accounting's `code:signal`."""
    code, colon, number = text.partition(":")
    if not colon:
        return int(code)
    return int(code) << 8 | int(number)


def parse_duration(text: str) -> int:
    """Seconds, from `[days-][hours:]minutes:seconds`; 0 for no limit."""
    if text in _NO_LIMIT:
        return 0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_memory(text: str) -> int:
    """Bytes, from a number with or without a unit, of which Slurm's own is MiB; 0 for `N/A`."""
    if text in ("", "N/A"):
        return 0
    match = _MEMORY.fullmatch(text.rstrip("cn"))
    if match is None:
        raise ValueError(text)
    return int(float(match[1]) * _UNITS[match[2]])


def end_of(row: Row, reader: Reader, *, cancelled: bool) -> End | None:
    """How a job ended; None while it has not. `cancelled`: we had asked for that."""
    meaning = reader.state(row.state)
    if meaning.state is not JobState.ENDED:
        return None
    detail = _detail(row)
    match meaning.end:
        case EndKind.EXITED:
            return End(EndKind.EXITED, os.waitstatus_to_exitcode(row.exit_status & 0xFF00))
        case EndKind.TIME_LIMIT:
            limit = row.limit_seconds
            return End(EndKind.TIME_LIMIT, asked=limit, limit=limit)
        case EndKind.OUT_OF_MEMORY:
            ram = row.ram_bytes
            return End(EndKind.OUT_OF_MEMORY, asked=ram, limit=ram)
        case EndKind() as kind:
            return End(kind, detail=detail)
        case None if row.state.startswith("CANCELLED"):
            kind = EndKind.CANCELLED if cancelled else EndKind.OPERATOR_DELETED
            return End(kind, detail=detail)
        case None:
            return _failure(row, detail)


def _failure(row: Row, detail: str) -> End:
    """FAILED: by its own exit status, by a signal, or because Slurm could not start it."""
    number = row.exit_status & ~_CORE_FLAG & 0x7F
    if number and number < _FIRST_REAL_TIME_SIGNAL and number in set(signal.Signals):
        return End(EndKind.SIGNALLED, number)
    if number == 0 and row.exit_status:
        return End(EndKind.EXITED, row.exit_status >> 8)
    # Slurm tells a failure of its own as a signal that no program dies of (53).
    return End(EndKind.SCHEDULER_ERROR, detail=detail)


def _detail(row: Row) -> str:
    """Slurm's own words, and where."""
    words = [row.state, *([row.reason] if row.reason not in ("", "None") else [])]
    where = f" on {row.node}" if row.node else ""
    return f"Slurm: {', '.join(words)}{where}"
