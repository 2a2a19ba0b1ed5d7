"""Runs the containers of a podlet: one process that forks an "init" for each, so that none can leave anything behind.

    python -S -m tests.clusters.podlet_shim

Orders come as lines of JSON on the standard input, `{"start": ...}`; news go out on the standard output: a container's
processes, that it could not be started, or its end. An init adopts whatever its container leaves and kills it when the
first process has ended, as the end of a PID namespace does. At the end of the input everything is killed, and so it
is when this process is killed itself.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any

from tests.clusters.keeper import descendants

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_BOUND_SECONDS = 20.0
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def main() -> None:
    """Until the podlet hangs up."""
    os.setsid()
    _adopt_orphans()
    signal.signal(signal.SIGCHLD, lambda *_: _bury())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the podlet decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ours = os.getpid()
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        if os.fork() == 0:
            _be_init(order, ours)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _kill_below()


def _be_init(order: dict[str, Any], parent: int) -> None:
    """One container from its start to the end of its last process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, _end_without_parent)
    _adopt_orphans()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:  # it was quicker
        os._exit(0)
    os.close(0)
    news: dict[str, Any] = {"id": order["id"], "init": os.getpid()}
    try:
        pid = _spawn(order)
    except OSError as error:
        _say({**news, "failed": error.errno or errno.EIO})
        os._exit(0)
    _say({**news, "started": pid})
    status = 0
    while True:
        dead, status = os.wait()
        if dead == pid:
            break
    _kill_below()
    _say({**news, "ended": os.waitstatus_to_exitcode(status)})
    os._exit(0)


def _end_without_parent(*_: object) -> None:
    _kill_below()
    os._exit(0)


def _spawn(order: dict[str, Any]) -> int:
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.chdir(order["directory"])
    pid = os.posix_spawn(
        order["program"],
        order["argv"],
        order["env"],
        file_actions=[
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[*_IGNORED_BY_PYTHON, signal.SIGTERM, signal.SIGINT],
    )
    os.close(null)
    os.close(log)
    return pid


def _kill_below() -> None:
    """Again and again: who is killed leaves children, and they are ours then."""
    deadline = time.monotonic() + _BOUND_SECONDS
    while _bury() and time.monotonic() < deadline:
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _bury() -> bool:
    """Whether there are children left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def _say(news: dict[str, Any]) -> None:
    """In one write, which the kernel does not mix with those of other inits."""
    with suppress(BrokenPipeError):
        os.write(1, json.dumps(news).encode("ascii") + b"\n")


def _adopt_orphans() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
