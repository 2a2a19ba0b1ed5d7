"""Daemons of a private cluster: no process, port or file of theirs outlives the process of the tests."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_KEEPER = Path(__file__).with_name("keeper.py")
_BOUND_SECONDS = 30.0


class ClusterFailed(Exception):
    """What a cluster was to do did not happen, or not in time; with the last lines of its logs."""


class Daemon:
    """One daemon in the foreground, under a keeper of its own (see keeper.py)."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], directory: Path, log: Path
    ) -> None:
        self.command = tuple(command)
        with log.open("ab") as sink:
            self._keeper = _keep("-", *command, env=env, directory=directory, sink=sink.fileno())
        answer = _said(self._keeper)
        if not answer:
            self._keeper.wait()
            raise ClusterFailed(f"{command[0]} cannot be started: {tail(log)}")
        self.pid = int(answer)

    def is_running(self) -> bool:
        """The daemon itself; whether its jobs run is another matter."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return False
        state, parent = status.rpartition(")")[2].split()[:2]
        return int(parent) == self._keeper.pid and state not in "ZX"

    def stop(self) -> None:
        """Ask it to end, and wait; its jobs go on."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it where it stands; its jobs go on."""
        self._signal(signal.SIGKILL)

    def wipe_out(self) -> None:
        """End it, and everything that it has ever started."""
        self._keeper.terminate()
        self._keeper.wait(_BOUND_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            death = os.pidfd_open(self.pid)
            try:
                if self.is_running():
                    signal.pidfd_send_signal(death, number)
                    waiting = select.poll()
                    waiting.register(death, select.POLLIN)
                    if not waiting.poll(_BOUND_SECONDS * 1000):
                        raise ClusterFailed(f"{self.command[0]} does not end by {number.name}")
            finally:
                os.close(death)


class Den:
    """A short temporary directory that is removed even when the process of the tests is killed."""

    def __init__(self, prefix: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        self.path.chmod(0o755)
        try:
            self._keeper = _keep(
                str(self.path), env=os.environ, directory=Path("/"), sink=subprocess.DEVNULL
            )
        except BaseException:
            shutil.rmtree(self.path)
            raise
        _said(self._keeper)

    def close(self) -> None:
        self._keeper.terminate()
        self._keeper.wait(_BOUND_SECONDS)


class Ports:
    """Free TCP ports, lent to nobody else who asks in this way, on this machine, until `close`.

    They lie below the range that the kernel gives to clients.
    """

    def __init__(self) -> None:
        self._claims: list[socket.socket] = []

    def take(self) -> int:
        """A port nothing listens on."""
        while True:
            port = random.randint(10_000, 32_000)
            claim = socket.socket(socket.AF_UNIX)
            try:
                # A name that vanishes with us; between the look and the daemon's start it is ours.
                claim.bind(f"\0arvados-node-manager-test-port-{port}")
                with socket.socket() as probe:
                    probe.bind(("", port))
            except OSError:
                claim.close()
            else:
                self._claims.append(claim)
                return port

    def close(self) -> None:
        for claim in self._claims:
            claim.close()


def environment(*foreign: str) -> dict[str, str]:
    """This process's, without the variables that begin in one of these ways."""
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def until_interrupted(words: str) -> None:
    """Show a person what there is now, until Ctrl-C."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        signal.pause()


def wait_until(
    condition: Callable[[], object], seconds: float, what: str, logs: Callable[[], str]
) -> None:
    """Look every few milliseconds, less and less often.

    Raises `ClusterFailed` when it has not come true in time.
    """
    begin = time.monotonic()
    pause = 0.01
    while not condition():
        if time.monotonic() > begin + seconds:
            raise ClusterFailed(f"not within {seconds:g} s: {what}\n{logs()}")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.2)


def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


def call(
    command: Sequence[str], *, env: Mapping[str, str], stdin: str = "", seconds: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a client to its end, whatever that is."""
    return subprocess.run(
        list(command),
        env=dict(env),
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=seconds,
    )


def tail(*logs: Path, lines: int = 15) -> str:
    """The last lines of these files, those that exist."""
    parts: list[str] = []
    for log in logs:
        with suppress(OSError):
            text = log.read_text("utf-8", "replace").rstrip()
            if text:
                parts.append("\n".join((f"--- {log.name}", *text.splitlines()[-lines:])))
    return "\n".join(parts)


def _keep(
    watched: str, *command: str, env: Mapping[str, str], directory: Path, sink: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_KEEPER), str(os.getpid()), watched, *command],
        env=dict(env),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=sink,
        start_new_session=True,
    )


def _said(keeper: subprocess.Popen[bytes]) -> bytes:
    """All that it says, after which it hears signals."""
    assert keeper.stdout is not None
    with keeper.stdout as said:
        return said.read()
