"""The daemon or a supervisor is killed before each of its steps: no job is lost, none is started twice.

A step is anything the interpreter announces to audit hooks that changes or locks something on disk, or makes a
process. The daemon's child processes are not concerned: they run a fresh interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nodemanager.model import JobState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers import supervise
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.local import LocalScheduler
from nodemanager.schedulers.shares import Share, Shares
from nodemanager.schedulers.spool import Limits, Spool

pytestmark = pytest.mark.processes

NAME = "zzzzz-dz642-000000000000001"
PATIENCE = 30.0
ONE_CORE = {"cores": "1"}

KILLER = """
import os, signal, sys

_STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.posix_spawn", "os.fork", "fcntl.flock"}
_left = int(os.environ.pop("DIE_AT"))
_me = os.getpid()

def _step(event, arguments):
    global _left
    if event in _STEPS or (event == "open" and "/proc" not in str(arguments[0]) and (arguments[2] or 0) & 3):
        if os.getpid() == _me:
            _left -= 1
            if _left == 0:
                os.kill(_me, signal.SIGKILL)

def arm():
    sys.addaudithook(_step)
"""

DAEMON = """
import json, os, sys, time
from pathlib import Path
from nodemanager.model import JobState, Resources
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.local import LocalScheduler
import killer

state, name, note = sys.argv[1:]
options = json.loads(os.environ["OPTIONS"])
scheduler = LocalScheduler(SchedulerContext("zzzzz", Path(state), options))
spec = JobSpec(name, ("/bin/sh", "-c", f"echo started >> {note}"), Resources(1, 0))
killer.arm()
scheduler.submit([spec])
print("accepted", flush=True)
while scheduler.poll().jobs[0].state is not JobState.ENDED:
    time.sleep(0.005)
print("ended", flush=True)
scheduler.forget([name])
print("forgotten", flush=True)
scheduler.close()
"""

CANCELLER = """
import sys
from pathlib import Path
from nodemanager.model import Resources
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.local import LocalScheduler
import killer

state, name, note = sys.argv[1:]
scheduler = LocalScheduler(SchedulerContext("zzzzz", Path(state), {"cores": "1"}))
spec = JobSpec(name, ("/bin/sh", "-c", f"echo started >> {note}; exec sleep 600"), Resources(1, 0))
scheduler.submit([spec])
killer.arm()
scheduler.cancel([name])
print("cancelled", flush=True)
scheduler.close()
"""

SUPERVISOR = """
import sys
sys.path.insert(0, sys.argv.pop(1))
path = sys.argv.pop(1)
import killer
source = compile(open(path).read(), path, "exec")
killer.arm()
exec(source, {"__name__": "__main__", "__file__": path})
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Writes a program beside `killer.py`."""
    (tmp_path / "killer.py").write_text(KILLER)

    def write(text: str) -> str:
        path = tmp_path / "program.py"
        path.write_text(text)
        return str(path)

    return write


def see_out(
    state: Path, spec: JobSpec, *, submit: bool, options: Mapping[str, str] = ONE_CORE
) -> End | None:
    """The next daemon: it sees the job to its end. None if it does not know the job."""
    scheduler = LocalScheduler(SchedulerContext("zzzzz", state, options))
    try:
        if submit:
            scheduler.submit([spec])
        until = time.monotonic() + PATIENCE
        while jobs := scheduler.poll().jobs:
            if jobs[0].state is JobState.ENDED:
                return jobs[0].end
            assert time.monotonic() < until, jobs
            time.sleep(0.005)
        return None
    finally:
        scheduler.close()


def starts(note: Path) -> int:
    return len(note.read_text().splitlines()) if note.exists() else 0


@pytest.mark.parametrize("has_shares", [False, True])
def test_the_daemon_is_killed_before_each_step(
    tmp_path: Path, program: Callable[[str], str], has_shares: bool
) -> None:
    options = dict(ONE_CORE)
    if has_shares:
        shares = Shares(tmp_path / "machines")
        shares.make_directory()
        shares.write(Share("m1", "1", "m1", "x", Resources(1, 1 << 20)))
        options["machines"] = str(shares.directory)
    path = program(DAEMON)
    deaths = 0
    for step in range(1, 200):
        state, note = tmp_path / f"state{step}", tmp_path / f"note{step}"
        spec = JobSpec(NAME, ("/bin/sh", "-c", f"echo started >> {note}"), Resources(1, 0))
        daemon = subprocess.run(
            [sys.executable, path, str(state), NAME, str(note)],
            env={**os.environ, "DIE_AT": str(step), "OPTIONS": json.dumps(options)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert daemon.stderr == "", f"step {step}"
        said = daemon.stdout.split()
        accepted, ended = "accepted" in said, "ended" in said
        # A dispatcher that got no answer asks again.
        end = see_out(state, spec, submit=not accepted, options=options)
        assert end == End(EndKind.EXITED, 0) or (end is None and ended), (
            f"step {step}: {said} {end}"
        )
        assert starts(note) == 1, f"step {step}: {said}"
        if daemon.returncode == 0:
            assert said == ["accepted", "ended", "forgotten"]
            break
        assert daemon.returncode == -signal.SIGKILL
        deaths += 1
    assert deaths >= 15


def test_the_daemon_is_killed_while_it_cancels(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    """What was cancelled stays cancelled, whether it waited, started or ran."""
    path = program(CANCELLER)
    for step in range(1, 50):
        state, note = tmp_path / f"state{step}", tmp_path / f"note{step}"
        daemon = subprocess.run(
            [sys.executable, path, str(state), NAME, str(note)],
            env={**os.environ, "DIE_AT": str(step)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert daemon.stderr == "", f"step {step}"
        scheduler = LocalScheduler(SchedulerContext("zzzzz", state, {"cores": "1"}))
        if not daemon.stdout:
            scheduler.cancel([NAME])
        scheduler.close()
        end = see_out(state, JobSpec(NAME, ("true",), Resources(1, 0)), submit=False)
        assert end == End(EndKind.CANCELLED), f"step {step}"
        assert starts(note) <= 1
        if daemon.returncode == 0:
            break
    assert step > 2


def test_a_supervisor_is_killed_before_each_step(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    path = program(SUPERVISOR)
    ends = []
    for step in range(1, 100):
        state, note = tmp_path / f"state{step}", tmp_path / f"note{step}"
        spec = JobSpec(NAME, ("/bin/sh", "-c", f"echo started >> {note}"), Resources(1, 0))
        spool = Spool(state / "spool")
        spool.open()
        spool.store([(spec, 1)], Limits(0, 1.0))
        lock = spool.lock(NAME)
        assert lock is not None
        supervisor = os.posix_spawn(
            sys.executable,
            [
                *(sys.executable, "-I", "-S", path, str(tmp_path), supervise.__file__),
                str(spool.directory(NAME)),
            ],
            {**os.environ, "DIE_AT": str(step)},
            file_actions=[(os.POSIX_SPAWN_DUP2, lock, supervise.LOCK_FD)],
            setsigmask=supervise.SIGNALS,
        )
        os.close(lock)
        _, status = os.waitpid(supervisor, 0)
        spool.close()
        end = see_out(state, spec, submit=False)
        assert end is not None
        ends.append(end)
        if end == End(EndKind.EXITED, 0):
            assert starts(note) == 1, f"step {step}"
        else:
            assert end == End(EndKind.SCHEDULER_ERROR, detail="its supervisor was killed")
            assert starts(note) <= 1, f"step {step}"
        if status == 0:
            break
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    # Killed early it starts after all; killed after the start was recorded it has failed.
    assert ends[0] == ends[-1] == End(EndKind.EXITED, 0)
    assert len(ends) >= 8, ends
    assert EndKind.SCHEDULER_ERROR in {end.kind for end in ends}
