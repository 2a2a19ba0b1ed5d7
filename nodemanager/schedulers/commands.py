"""Running the commands of a batch scheduler: lists of arguments, no shell, an end in any case.

A command that is not installed, takes too long or never stops printing has not answered: that is a
`SchedulerError`, which proves nothing about any job. An exit status other than 0 is an answer, and the module
that asked knows what it means.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import IO

from nodemanager import metrics
from nodemanager.errors import SchedulerError

MAX_OUTPUT_BYTES = 256 << 20
"""More than 100,000 jobs can fill; a command that prints more is out of order."""

_CHUNK = 1 << 20
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR")
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Call:
    """One command: its words, and what it reads."""

    argv: tuple[str, ...]
    stdin: bytes = field(default=b"", repr=False)
    stop_at: bytes = b""
    """Once it complains with these words it is ended: what it would do then is of no use."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended, and what it said. What is not UTF-8 is kept as surrogates."""

    argv: tuple[str, ...]
    status: int
    """Its exit status; the negative number of a signal that killed it."""
    output: str
    complaint: str
    """What it wrote to standard error."""

    def or_raise(self) -> str:
        """The output of a command that exited with 0; `SchedulerError` with its own words otherwise."""
        if self.status != 0:
            raise SchedulerError(f"{show(self.argv)}: {self.words}")
        return self.output

    @property
    def words(self) -> str:
        """What it has to say for itself, in one line."""
        said = " ".join((self.complaint.strip() or self.output.strip()).split())
        how = f"signal {-self.status}" if self.status < 0 else f"exit status {self.status}"
        return f"{said[:_SHOWN_CHARACTERS]} ({how})" if said else how


class Commands:
    """Runs commands for one scheduler module; may be used by several threads."""

    def __init__(self, timeout_seconds: float, environment: Mapping[str, str]) -> None:
        """`environment` is added to the little that is inherited from the daemon's own."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._timeout_seconds = timeout_seconds
        # In any other language the words of a command would not be those we know.
        self._environment = {**inherited, "LC_ALL": "C.UTF-8", **environment}
        self.count = 0
        """How many were run."""

    def run(self, *argv: str, stdin: bytes = b"") -> Answer:
        """Run one command to its end. Raises `SchedulerError` when it does not answer."""
        return self._run(Call(argv, stdin))

    def run_all(self, calls: Sequence[Call], at_once: int) -> list[Answer | SchedulerError]:
        """Run several, up to `at_once` at a time; what became of each, in their order."""
        if len(calls) == 1 or at_once == 1:
            return [self._run_or_error(call) for call in calls]
        with ThreadPoolExecutor(at_once, thread_name_prefix="command") as pool:
            return list(pool.map(self._run_or_error, calls))

    def _run_or_error(self, call: Call) -> Answer | SchedulerError:
        try:
            return self._run(call)
        except SchedulerError as error:
            return error

    def _run(self, call: Call) -> Answer:
        self.count += 1
        began = time.monotonic()
        outcome = "silent"
        try:
            answer = self._exchange(call)
            outcome = "ok" if answer.status == 0 else "failed"
        finally:
            command = PurePath(call.argv[0]).name
            seconds = time.monotonic() - began
            metrics.SCHEDULER_COMMAND_SECONDS.labels(command, outcome).observe(seconds)
        return answer

    def _exchange(self, call: Call) -> Answer:
        try:
            process = subprocess.Popen(
                call.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise SchedulerError(f"cannot run {show(call.argv)}: {error}") from error
        with process:
            try:
                output, complaint = _Exchange(process, call, self._timeout_seconds).carry_out()
            except BaseException:
                _kill(process)
                raise
        return Answer(call.argv, process.returncode, _text(output), _text(complaint))


def show(argv: Iterable[str]) -> str:
    """A command for people, shortened: lists of a thousand jobs are of no use in a log."""
    line = shlex.join(argv)
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]} ..."


class _Exchange:
    """Writes to a process and reads from it, within a time and an amount.

    `Popen.communicate` has no bound on the amount, and after its timeout waits for grandchildren that keep
    the pipes open.
    """

    def __init__(self, process: subprocess.Popen[bytes], call: Call, seconds: float) -> None:
        self._process = process
        self._call = call
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._left = memoryview(call.stdin)
        self._selector = selectors.DefaultSelector()
        self._read: dict[int, list[bytes]] = {}
        self._complaint_fd = -1
        self._amount = 0

    def carry_out(self) -> tuple[bytes, bytes]:
        """What it wrote to standard output and standard error, once it has ended."""
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise RuntimeError("the process was started without pipes")
        with self._selector:
            self._watch(stdin, selectors.EVENT_WRITE)
            for stream in (stdout, stderr):
                self._watch(stream, selectors.EVENT_READ)
                self._read[stream.fileno()] = []
            parts = self._read[stdout.fileno()], self._read[stderr.fileno()]
            self._complaint_fd = stderr.fileno()
            while self._selector.get_map():
                for key, _ in self._selector.select(self._patience()):
                    self._attend(key)
        try:
            self._process.wait(self._patience())
        except subprocess.TimeoutExpired as error:
            raise self._too_late() from error
        return b"".join(parts[0]), b"".join(parts[1])

    def _watch(self, stream: IO[bytes], events: int) -> None:
        os.set_blocking(stream.fileno(), False)
        self._selector.register(stream, events)

    def _patience(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._too_late()
        return left

    def _too_late(self) -> SchedulerError:
        return SchedulerError(
            f"{show(self._call.argv)} did not end within {self._seconds:g} s "
            "([Scheduler] command_timeout)"
        )

    def _attend(self, key: selectors.SelectorKey) -> None:
        stream = key.fileobj
        if isinstance(stream, int) or not hasattr(stream, "close"):
            raise TypeError(f"not a stream: {stream!r}")
        writes = bool(key.events & selectors.EVENT_WRITE)
        done = self._write(key.fd) if writes else self._take(key.fd)
        if done:
            self._selector.unregister(stream)
            with suppress(OSError):
                stream.close()

    def _write(self, descriptor: int) -> bool:
        try:
            self._left = self._left[os.write(descriptor, self._left[:_CHUNK]) :]
        except BrokenPipeError:
            # It wants no more; its exit status says whether that was well.
            return True
        return not self._left

    def _take(self, descriptor: int) -> bool:
        part = os.read(descriptor, _CHUNK)
        self._read[descriptor].append(part)
        self._amount += len(part)
        if self._amount > MAX_OUTPUT_BYTES:
            raise SchedulerError(f"{show(self._call.argv)} prints without end")
        stop_at = self._call.stop_at if descriptor == self._complaint_fd else b""
        if stop_at and stop_at in b"".join(self._read[descriptor]):
            _kill(self._process)
        return not part


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it with all it has started: a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
