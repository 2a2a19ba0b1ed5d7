"""The supervisor processes of the local scheduler, seen from the daemon: start, watch, tell, collect."""

from __future__ import annotations

import os
import py_compile
import selectors
import signal
import sys
from contextlib import suppress
from pathlib import Path

from nodemanager.errors import SchedulerError
from nodemanager.model import NODE_VARIABLE
from nodemanager.schedulers import supervise
from nodemanager.schedulers.leftovers import MARK
from nodemanager.schedulers.machine import job_environment

_children: set[int] = set()
"""The supervisors this process has started and not reaped."""


class Supervisors:
    """Starts supervisors, and wakes its one waiting thread when one of them ends.

    All but `wake` is called by that thread, or while it does not run.
    """

    def __init__(self, program: Path) -> None:
        """`program` is where the compiled supervisor is put: each takes 4 ms and 1 MiB less than from source."""
        self._program = program
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()
        self._descriptors: dict[str, int] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        try:
            py_compile.compile(supervise.__file__, str(program), doraise=True)
            program.chmod(0o600)
        except (OSError, py_compile.PyCompileError) as error:
            self.close()
            raise SchedulerError(f"local: cannot write {program}: {error}") from error

    def close(self) -> None:
        """Let go of everything; the supervisors go on."""
        for name in tuple(self._descriptors):
            self.unwatch(name)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def start(self, directory: Path, name: str, lock: int, node: str = "") -> int:
        """Start the supervisor of a job, which inherits the lock; its process id. Raises `OSError`.

        The job is told that it is on the node of that name, if any is given.
        """
        errors = str(directory / "supervisor.err")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", str(self._program), str(directory)],
            {**job_environment(), MARK: name, **({NODE_VARIABLE: node} if node else {})},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, lock, supervise.LOCK_FD),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, errors, flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=supervise.SIGNALS,
            setsigdef=(*supervise.SIGNALS, signal.SIGPIPE, signal.SIGXFSZ),
        )
        _children.add(pid)
        return pid

    def watch(self, name: str, pid: int) -> None:
        """Be woken when the process ends. Raises `OSError`: it has ended, or (ENOSYS) the kernel cannot."""
        descriptor = open_process(pid)
        self._descriptors[name] = descriptor
        self._selector.register(descriptor, selectors.EVENT_READ, name)

    def unwatch(self, name: str) -> None:
        """The opposite of `watch`; harmless for a name that is not watched."""
        descriptor = self._descriptors.pop(name, None)
        if descriptor is not None:
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def wait(self, seconds: float | None) -> list[str]:
        """Wait for an end, a `wake`, or that long; the names of jobs whose supervisors have ended."""
        ready = self._selector.select(seconds)
        with suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass
        _sweep()
        return [key.data for key, _ in ready if key.data is not None]

    def wake(self) -> None:
        """End the `wait` of the other thread."""
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"w")

    def tell(self, name: str, order: signal.Signals) -> None:
        """USR1 makes the supervisor look for `cancel`, KILL ends it and its job.

        One that is not watched is told when it is.
        """
        descriptor = self._descriptors.get(name)
        if descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, order)


def open_process(pid: int) -> int:
    """A descriptor that is readable when the process has ended. Linux before 5.3 has none: `ENOSYS`."""
    return os.pidfd_open(pid)


def collect(pid: int) -> None:
    """Reap a supervisor that has let go of its lock, if this process is its parent."""
    if pid in _children:
        _children.discard(pid)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _sweep() -> None:
    """Reap those that ended while nobody watched: between two schedulers of one process."""
    for pid in tuple(_children):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid
        if ended:
            _children.discard(pid)
