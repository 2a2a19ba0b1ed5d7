"""Keeps one daemon: ends it, with all it has left behind, when the tests' process is no more.

    python -I -S keeper.py PID DIRECTORY|- [COMMAND...]

The kernel hands orphans to their nearest ancestor that asked for them, which a keeper does. So a job cannot escape
it, whatever sessions and groups its daemon made: the jobs of a daemon that was killed stay here.
Says the command's process id on its standard output. Ends by itself once nothing runs in it any more; after SIGTERM,
or the end of process PID, it kills what it has. With a directory it stays in any case, and removes that at the end.
"""

import ctypes
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_BOUND_SECONDS = 20.0


def main() -> None:
    """Keep until there is nothing to keep, or nobody to keep it for."""
    parent, directory, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    os.umask(0o022)  # whatever the tests are run with
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    ending: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        alive = os.pidfd_open(parent)
    except ProcessLookupError:
        alive = -1
    if os.getppid() == parent and alive >= 0:
        if command:
            _start(command)
        os.close(1)  # the word that signals are heard from now on
        _watch(alive, woken, ending, stay=directory != "-")
    _kill_all()
    if directory != "-":
        _remove(Path(directory))


def _watch(alive: int, woken: int, ending: list[int], *, stay: bool) -> None:
    interesting = select.poll()
    for descriptor in (alive, woken):
        interesting.register(descriptor, select.POLLIN)
    while not ending and (_reap() or stay):
        ready = {descriptor for descriptor, _ in interesting.poll()}
        if alive in ready:
            return
        if woken in ready:
            os.read(woken, 4096)


def _start(command: list[str]) -> None:
    pid = os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)],
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
    )
    os.write(1, b"%d\n" % pid)


def _reap() -> bool:
    """Bury the dead; whether anybody is left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def _kill_all() -> None:
    """Again and again: who is killed leaves children, and they are ours then."""
    deadline = time.monotonic() + _BOUND_SECONDS
    while _reap() and time.monotonic() < deadline:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.005)


def descendants(ancestor: int) -> list[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text("utf-8", "replace")
        except OSError:
            continue
        parent = int(status.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [ancestor]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _remove(directory: Path) -> None:
    """The other keepers end at the same time, and their daemons may still write."""
    deadline = time.monotonic() + _BOUND_SECONDS
    while directory.exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
