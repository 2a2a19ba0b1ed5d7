"""The command as a process, and the keeper that sees to it that it never outlives the runner.

The keeper is forked before the runner has a thread, a connection or a log. It starts the command in a
session of its own, waits for it, and kills whatever is left of that session when the command has ended
or when the runner is gone, even by ``kill -9``: the socket between them then reads end of file. (A
parent-death signal would reach the command itself, but not its children.)
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodemanager.runner.stop import STOP_SIGNALS

_HEADER_BYTES = 8
_SWEEP_SECONDS = 2.0
_CLEANUP_SECONDS = 60.0
_TERMINATE, _KILL = b"T", b"K"


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to start, exactly as it is: no shell, no search for defaults."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str
    cleanup: tuple[str, ...] = ()
    """A command that ends what the process started elsewhere (a container engine's daemon)."""
    cleanup_environment: Mapping[str, str] | None = None
    spare_leader: bool = False
    """The process is an engine's front, which must not get the TERM meant for the command."""


class StartError(Exception):
    """The process could not be started; `number` is the errno."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class KeeperLostError(Exception):
    """The keeper died, so nobody knows how the command ended."""


class Command:
    """One command, at the runner's side."""

    def __init__(self) -> None:
        """Fork the keeper; before any thread is started."""
        self._socket, theirs = socket.socketpair()
        self._pid = 0
        self._keeper_pid = os.fork()
        if self._keeper_pid == 0:
            try:
                self._socket.close()
                _keep(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._lines = self._socket.makefile("rb")

    def start(self, launch: Launch, stdin: int, stdout: int, stderr: int) -> int:
        """Start it with these file descriptors; returns its process id.

        Raises `StartError`, or `KeeperLostError`.
        """
        plan = json.dumps(
            {
                "argv": launch.argv,
                "environment": dict(launch.environment),
                "cwd": launch.cwd,
                "cleanup": launch.cleanup,
                "cleanup_environment": dict(launch.cleanup_environment or {}),
                "spare_leader": launch.spare_leader,
            }
        ).encode()
        try:
            header = len(plan).to_bytes(_HEADER_BYTES, "big")
            socket.send_fds(self._socket, [header], [stdin, stdout, stderr])
            self._socket.sendall(plan)
            answer = self._answer()
        except OSError as error:
            raise KeeperLostError(str(error)) from error
        if "errno" in answer:
            raise StartError(str(answer["error"]), int(answer["errno"]))
        self._pid = int(answer["pid"])
        return self._pid

    def fileno(self) -> int:
        """Readable once `has_ended`."""
        return self._socket.fileno()

    def has_ended(self) -> bool:
        """Whether `end` will not block: after `start` the keeper has nothing else to say."""
        return bool(select.select([self._socket.fileno()], [], [], 0)[0])

    def end(self) -> int:
        """Wait for the end: the exit status, or minus the signal's number.

        Everything that is left of the command's session has been killed by then. Raises `KeeperLostError`.
        """
        try:
            returncode = int(self._answer()["returncode"])
        except KeeperLostError:
            kill_session(self._pid)
            raise
        finally:
            self.close()
        return returncode

    def terminate(self) -> None:
        """TERM to all of it."""
        self._order(_TERMINATE)

    def kill(self) -> None:
        """KILL to all of it."""
        self._order(_KILL)

    def close(self) -> None:
        """Dismiss the keeper; what runs, is killed."""
        if self._socket.fileno() < 0:
            return
        self._lines.close()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        os.waitpid(self._keeper_pid, 0)

    def _order(self, letter: bytes) -> None:
        # A keeper that is gone shows in `end`.
        with contextlib.suppress(OSError):
            self._socket.sendall(letter)

    def _answer(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise KeeperLostError("the keeper of the command was killed")
        answer: dict[str, Any] = json.loads(line)
        return answer


def run_cleanup(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a `Launch.cleanup`, for a bounded time; it matters only when there is something left."""
    if arguments:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                arguments,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_CLEANUP_SECONDS,
                check=False,
            )


def kill_session(leader: int) -> None:
    """KILL every process of the session, again and again until none is left, for a bounded time."""
    until = time.monotonic() + _SWEEP_SECONDS
    while members := _session_members(leader):
        for pid in members:
            _signal(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return
        # Only processes that were just killed are waited for here.
        time.sleep(0.002)


def _session_members(leader: int) -> list[int]:
    """The living processes of a session. /proc/PID/stat: pid (name) state ppid group session."""
    members = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_bytes()
        except OSError:
            continue
        fields = stat[stat.rindex(b")") + 2 :].split(maxsplit=4)
        if int(fields[3]) == leader and fields[0] not in (b"Z", b"X"):
            members.append(int(entry.name))
    return members


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


# From here on: the keeper's process.


def _keep(runner: socket.socket) -> None:
    """The keeper's life: one command, from its plan to its end."""
    os.setsid()
    child_ended = _take_signals()
    plan, stdio = _receive(runner)
    if plan is None:
        return
    try:
        process = subprocess.Popen(
            [a.encode() for a in plan["argv"]],
            env={k.encode(): v.encode() for k, v in plan["environment"].items()},
            cwd=plan["cwd"].encode(),
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or 0
        _tell(runner, {"errno": number, "error": str(error)})
        return
    for descriptor in stdio:
        os.close(descriptor)
    _tell(runner, {"pid": process.pid})
    orphaned = not _watch(process, runner, child_ended, spare_leader=bool(plan["spare_leader"]))
    # Before the process is reaped, so that its number cannot have become somebody else's.
    kill_session(process.pid)
    if orphaned:
        run_cleanup(plan["cleanup"], plan["cleanup_environment"])
    else:
        _tell(runner, {"returncode": process.wait()})


def _take_signals() -> int:
    """Survive what is meant for the runner; returns a descriptor that is readable on SIGCHLD."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # Handlers, not SIG_IGN: what is ignored here would be ignored in the command.
    for number in (*STOP_SIGNALS, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    return read_end


def _receive(runner: socket.socket) -> tuple[dict[str, Any] | None, Sequence[int]]:
    header, stdio, _flags, _address = socket.recv_fds(runner, _HEADER_BYTES, 3)
    if len(header) < _HEADER_BYTES:
        return None, ()
    for descriptor in stdio:
        os.set_inheritable(descriptor, False)
    missing = int.from_bytes(header, "big")
    pieces = []
    while missing:
        piece = runner.recv(missing)
        if not piece:
            return None, ()
        pieces.append(piece)
        missing -= len(piece)
    return json.loads(b"".join(pieces)), stdio


def _watch(
    process: subprocess.Popen[bytes], runner: socket.socket, child_ended: int, *, spare_leader: bool
) -> bool:
    """Wait for the command's end, following orders; False when the runner is gone."""
    while True:
        ready, _, _ = select.select([runner.fileno(), child_ended], [], [])
        if child_ended in ready:
            os.read(child_ended, 4096)
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, process.pid, flags) is not None:
                return True
        if runner.fileno() in ready:
            order = runner.recv(1)
            if not order:
                return False
            if order == _KILL:
                kill_session(process.pid)
                continue
            for pid in _session_members(process.pid):
                if not (spare_leader and pid == process.pid):
                    _signal(pid, signal.SIGTERM)
                    # A stopped process would not see it.
                    _signal(pid, signal.SIGCONT)


def _tell(runner: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        runner.sendall(json.dumps(answer).encode() + b"\n")
