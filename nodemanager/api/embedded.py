"""The embedded API server, seen from the daemon: a child process that lives no longer than we do.

The server ends when its standard input does. We hold the other end, so even kill -9 of the daemon ends it,
and the next daemon starts a fresh one on the same state directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nodemanager.errors import ApiError

START_TIMEOUT_SECONDS = 30.0
"""Ten of them the server may wait for the one before it."""

STOP_TIMEOUT_SECONDS = 10.0

_MAX_LOG_BYTES = 10 * 2**20
_LOG_LINES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class EmbeddedEndpoint:
    """Where the server is, and where the tokens for it lie."""

    url: str
    ca_file: Path
    root_token_file: Path
    dispatcher_token_file: Path

    @property
    def root_token(self) -> str:
        """The administrator's token."""
        return self.root_token_file.read_text("utf-8").strip()

    @property
    def dispatcher_token(self) -> str:
        """The token of the daemon's dispatcher."""
        return self.dispatcher_token_file.read_text("utf-8").strip()


class EmbeddedServer:
    """One server process for the config file at `config`, with its state below `state_dir`.

    `start` may be called again after the process has ended. To be used by one thread.
    """

    def __init__(self, config: Path | None, state_dir: Path, *more: str) -> None:
        self._directory = state_dir / "api"
        arguments = [] if config is None else ["--config", str(config)]
        self._command = [
            sys.executable, "-m", "nodemanager.server.main", "--embedded",
            *arguments, "--state-dir", str(state_dir), *more,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        """What the server writes to standard error."""
        return self._directory / "server.log"

    def start(self, timeout: float = START_TIMEOUT_SECONDS) -> EmbeddedEndpoint:
        """Start it and wait until it serves; raises `ApiError` with its last words when it does not.

        `timeout` is seconds.
        """
        self.stop()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _log(self.log_file) as output:
            log_began = output.tell()
            self._process = process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                # A Ctrl-C at the terminal is the daemon's affair: the server has to outlive its flush.
                start_new_session=True,
            )
        line = _first_line(process, timeout)
        if not line:
            self.stop()
            raise ApiError(
                f"the embedded API server did not start: {self._last_words(log_began)} "
                f"(all of it in {self.log_file})"
            )
        ready = json.loads(line)
        return EmbeddedEndpoint(
            url=ready["url"],
            ca_file=Path(ready["ca_file"]),
            root_token_file=self._directory / "root_token",
            dispatcher_token_file=self._directory / "dispatcher_token",
        )

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it in order; kill it when that takes too long. Nothing to do when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _last_words(self, since: int) -> str:
        with self.log_file.open("rb") as file:
            file.seek(since)
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return " / ".join(lines[-_LOG_LINES_SHOWN:]) or "it said nothing"


def _log(path: Path) -> IO[bytes]:
    """The log, to append to; a large one becomes the previous one first."""
    if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    file = path.open("ab")
    path.chmod(0o600)
    return file


def _first_line(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """What it says when it is ready; empty when it ends, or `timeout` seconds pass, before."""
    found: list[bytes] = []
    output = process.stdout
    if output is None:  # pragma: no cover  (a pipe was asked for)
        return b""
    reader = threading.Thread(target=lambda: found.append(output.readline()), daemon=True)
    reader.start()
    reader.join(timeout)
    if not found:
        process.kill()
        reader.join()
    return found[0] if found and found[0].endswith(b"\n") else b""
