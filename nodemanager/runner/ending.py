"""How a command ended, as an `End` for the one table of outcomes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from nodemanager.outcome import End, EndKind
from nodemanager.runner.cgroup import MemoryReading
from nodemanager.runner.stop import Stop, Why

_INSPECT_SECONDS = 60.0
_KILLED_EXIT = 128 + signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured around the command."""

    before: MemoryReading
    after: MemoryReading
    ram_bytes: int


def end_of_stop(stop: Stop, max_run_seconds: int = 0, ran_seconds: float = 0.0) -> End:
    """The end of a command that was stopped, or never started, because of `stop`."""
    match stop.why:
        case Why.CANCELLED:
            return End(EndKind.CANCELLED)
        case Why.TIME_LIMIT:
            words = f"stopped after {ran_seconds:.1f} s"
            asked = max_run_seconds
            return End(EndKind.TIME_LIMIT, asked=asked, limit=asked, detail=words)
        case _:
            return End(EndKind.SIGNALLED, stop.number, detail=stop.detail)


def end_of_process(returncode: int, measures: Measures, *, wrapped: bool) -> End:
    """The end of a command that nobody stopped, from its status (minus a signal's number).

    `wrapped`: an engine's front stands between, which tells a signal as exit status 128 + number.
    """
    killed = returncode in (-signal.SIGKILL, _KILLED_EXIT)
    if killed and measures.after.limit_bytes and measures.after.kills > measures.before.kills:
        return out_of_memory(measures.ram_bytes, measures.after.limit_bytes)
    if returncode < 0:
        return End(EndKind.SIGNALLED, -returncode)
    if wrapped and 128 < returncode <= 128 + signal.NSIG:
        return End(EndKind.SIGNALLED, returncode - 128)
    return End(EndKind.EXITED, returncode)


def out_of_memory(ram_bytes: int, limit_bytes: int) -> End:
    """Killed by its cgroup or engine."""
    return End(EndKind.OUT_OF_MEMORY, asked=ram_bytes, limit=limit_bytes)


def end_by_engine(
    arguments: tuple[str, ...], environment: Mapping[str, str], ram_bytes: int
) -> End | None:
    """What docker or podman says of a container that ended; None when its front said it all.

    A front that could not start the container at all is the infrastructure's fault, except when it is
    the command that cannot be started (126, 127).
    """
    try:
        answer = subprocess.run(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSPECT_SECONDS,
            check=True,
        ).stdout.split()
        status, code, killed = answer[0], int(answer[1]), answer[2] == "true"
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return End(EndKind.SCHEDULER_ERROR, detail="the engine made no container; see stderr.txt")
    if killed:
        return out_of_memory(ram_bytes, ram_bytes)
    if status == "created" and code not in (126, 127):
        return End(EndKind.SCHEDULER_ERROR, detail="the engine could not start it; see stderr.txt")
    return None
