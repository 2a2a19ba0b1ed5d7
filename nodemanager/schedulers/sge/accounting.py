"""How jobs ended: the accounting file, read as it grows.

`qacct` reads the whole file for each job it is asked about (and only this file); we read each line once. A site with a
million records a week has some 300 MB to be read at the first call after a start, which takes seconds; afterwards a call
costs what was added.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nodemanager.errors import SchedulerError
from nodemanager.schedulers.sge.answers import pairs, size
from nodemanager.schedulers.sge.dialects import Dialect, Records
from nodemanager.schedulers.sge.states import Record

MAX_FIRST_BYTES = 1 << 30
"""Of an older file only the end is read: who waits for the end of a job that old has given up."""
_MAX_KEPT = 200_000

_Key = tuple[str, int]


class AccountingFile:
    """The final records of jobs whose names begin with `prefix`, by job name and task."""

    def __init__(self, path: Path, prefix: str, dialect: Dialect) -> None:
        self._path = path
        self._prefix = prefix
        self._mark = prefix.encode()
        self._parse: Callable[[bytes, Dialect], Record | None] = _PARSERS[dialect.records]
        self._dialect = dialect
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._kept: OrderedDict[_Key, Record] = OrderedDict()

    def refresh(self) -> None:
        """Read what was added. Raises `SchedulerError` when the file cannot be read; one that is not there yet
        is empty."""
        try:
            if self._file is not None:
                self._read(self._file)
            if self._was_replaced():
                self.close()
                self._open()
        except OSError as error:
            self.close()
            raise SchedulerError(f"cannot read the accounting file: {error}") from error

    def find(self, job_name: str, task: int) -> Record | None:
        """The last final record of a job, as of the last `refresh`."""
        return self._kept.get((job_name, task))

    def forget(self, job_name: str, task: int) -> None:
        """Nobody will ask about this one."""
        self._kept.pop((job_name, task), None)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file, self._rest = None, b""

    def _open(self) -> None:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            return
        start = max(self._file.seek(0, os.SEEK_END) - MAX_FIRST_BYTES, 0)
        self._file.seek(start)
        if start:
            self._file.readline()
        self._read(self._file)

    def _was_replaced(self) -> bool:
        """There is no file open, or it was rotated away, or cut off."""
        if self._file is None:
            return True
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._file.fileno())
        is_other = (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)
        return is_other or there.st_size < self._file.tell()

    def _read(self, file: IO[bytes]) -> None:
        while part := file.read(1 << 24):
            *lines, self._rest = (self._rest + part).split(b"\n")
            for line in lines:
                if self._mark in line:
                    self._take(line)

    def _take(self, line: bytes) -> None:
        record = self._parse(line, self._dialect)
        if record is None or not record.job_name.startswith(self._prefix) or not record.is_end:
            return
        key = record.job_name, record.task
        self._kept[key] = record
        self._kept.move_to_end(key)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)


def record_of_colons(line: bytes, dialect: Dialect) -> Record | None:
    """A record of accounting(5); None for a comment, a broken line, and a part of a parallel job."""
    fields = line.decode("utf-8", "replace").split(":")
    if line.startswith(b"#") or len(fields) < 43 or fields[41] not in ("NONE", ""):
        return None
    try:
        return _record(
            name=fields[4],
            host=fields[1],
            number=int(fields[5]),
            task=int(fields[35]),
            failed=int(fields[11].split()[0]),
            exit_status=int(fields[12]),
            started_at=float(fields[9]) / dialect.ticks_per_second,
            ended_at=float(fields[10]) / dialect.ticks_per_second,
            wall_seconds=float(fields[13]),
            category=fields[39],
            slots=int(fields[34]),
            peak=fields[42],
            # The largest resident size, and page faults: no process has none.
            used=float(fields[16]) + float(fields[21]),
        )
    except (ValueError, IndexError):
        return None


def record_of_json(line: bytes, dialect: Dialect) -> Record | None:
    """A line of Open Cluster Scheduler's accounting file."""
    try:
        fields: dict[str, Any] = json.loads(line)
        usage = fields.get("usage") or {}
        measured, rusage = usage.get("usage") or {}, usage.get("rusage") or {}
        return _record(
            name=str(fields["job_name"]),
            host=str(fields.get("hostname") or ""),
            number=int(fields["job_number"]),
            task=int(fields.get("task_number") or 0),
            failed=int(fields.get("failed") or 0),
            exit_status=int(fields.get("exit_status") or 0),
            started_at=float(fields.get("start_time") or 0) / dialect.ticks_per_second,
            ended_at=float(fields.get("end_time") or 0) / dialect.ticks_per_second,
            wall_seconds=float(rusage.get("ru_wallclock") or 0),
            category=str(fields.get("category") or ""),
            slots=int(fields.get("slots") or 1),
            peak=str(measured.get("maxvmem") or 0),
            used=float(rusage.get("ru_maxrss") or 0) + float(rusage.get("ru_minflt") or 0),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


_PARSERS: Mapping[Records, Callable[[bytes, Dialect], Record | None]] = {
    Records.COLONS: record_of_colons,
    Records.JSON: record_of_json,
}


def _record(
    *,
    name: str,
    host: str,
    number: int,
    task: int,
    failed: int,
    exit_status: int,
    started_at: float,
    ended_at: float,
    wall_seconds: float,
    category: str,
    slots: int,
    peak: str,
    used: float,
) -> Record:
    asked = _asked(category)
    h_rt = asked.get("h_rt", "")
    per_slot = size(asked.get("h_vmem", "")) or 0
    return Record(
        job_name=name,
        host=host,
        job_number=number,
        task=task,
        failed=failed,
        exit_status=exit_status,
        ended_at=ended_at if started_at else 0.0,
        wall_seconds=max(wall_seconds, ended_at - started_at if started_at else 0.0),
        h_rt_seconds=int(h_rt) if h_rt.isdecimal() else 0,
        memory_bytes=int(per_slot) * slots,
        peak_bytes=int(size(peak) or 0),
        is_made_up=failed == 0 and exit_status == 0 and not used,
    )


def _asked(category: str) -> dict[str, str]:
    """What a job asked for with -l, from the category that its record has."""
    try:
        words = shlex.split(category)
    except ValueError:
        return {}
    asked: dict[str, str] = {}
    for option, value in itertools.pairwise(words):
        if option == "-l":
            asked |= pairs(value)
    return asked
