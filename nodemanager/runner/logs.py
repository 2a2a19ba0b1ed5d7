"""The three log files of a container: stdout.txt, stderr.txt, and runner.txt for the runner's own words.

The command writes straight into its files, so that they can be read while it runs and nothing is lost
when the runner dies. Only when they are to be bounded does a pump stand between.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

RUNNER_LOG = "runner.txt"
_PIECE_BYTES = 65536
DRAIN_SECONDS = 2.0
"""How long the streams of a command that has ended may still be held open by something."""


class RunnerLog:
    """The runner's own lines, with times; also on standard error. Never given a secret."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._file = -1

    def say(self, text: str) -> None:
        """Write one line; from any thread. A log that cannot be written stops nobody."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        # A message is one line, whatever a path or an error in it contains.
        words = text.replace("\n", "\\n")
        line = f"{stamp}.{int(now % 1 * 1000):03d}Z {words}\n"
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line)
            sys.stderr.flush()
        if self._file < 0:
            self._lines.append(line)
        else:
            self._write(line)

    def attach(self, directory: Path) -> None:
        """From now on write to `directory`, beginning with all that was said so far."""
        self._file = _open(directory / RUNNER_LOG)
        for line in self._lines:
            self._write(line)
        self._lines.clear()

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._file, line.encode("utf-8", "backslashreplace"))


class Capture:
    """One of the command's streams on its way into a file of the log."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._file = _open(path)
        self._max_bytes = max_bytes
        self._written = 0
        self._dropped = 0
        self._last = b"\n"
        self._pump: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._pipe = -1
        if max_bytes:
            self._pipe, self.descriptor = os.pipe()
        else:
            self.descriptor = self._file

    def started(self) -> None:
        """The command holds the descriptor now: let go of our end, and start the pump if there is one."""
        os.close(self.descriptor)
        if self._max_bytes:
            self._pump = threading.Thread(target=self._copy, daemon=True)
            self._pump.start()

    def finish(self, until: float) -> None:
        """The command has ended: take what is still in the pipe, say how much was dropped.

        Waits at most until then (monotonic seconds), should something that left the command's session
        hold the pipe open.
        """
        if self._pump is None:
            return
        self._pump.join(max(0.0, until - time.monotonic()))
        with self._lock:
            self._closed = True
            if self._dropped:
                newline = b"" if self._last == b"\n" else b"\n"
                words = (
                    f"[{self._dropped} more bytes dropped: max_log_bytes is {self._max_bytes}]\n"
                )
                os.write(self._file, newline + words.encode())
            os.close(self._file)

    def _copy(self) -> None:
        while piece := os.read(self._pipe, _PIECE_BYTES):
            with self._lock:
                if not self._closed:
                    self._keep(piece)
        os.close(self._pipe)

    def _keep(self, piece: bytes) -> None:
        kept = piece[: max(0, self._max_bytes - self._written)]
        try:
            while kept:
                count = os.write(self._file, kept)
                self._written += count
                self._last = kept[count - 1 : count]
                kept, piece = kept[count:], piece[count:]
        except OSError:
            # A full disk must not block the command: what does not fit counts as dropped.
            pass
        self._dropped += len(piece)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
