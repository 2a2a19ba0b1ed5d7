"""The containers of a podlet as processes: started, told to end, measured."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_TOP = Path(__file__).parents[2]
_LOOK_SECONDS = 0.05
_LOOK_SHARE = 20
"""So many times as long as a look takes is the pause after it, at least."""
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True, slots=True)
class Command:
    """What a container is to run."""

    argv: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    log: Path
    """Takes standard output and standard error."""
    ram_bytes: int = 0
    """What all its processes may use together; 0: anything."""


@dataclass(frozen=True, slots=True)
class StartRefused:
    """The kernel would not run the program."""

    message: str
    """As containerd has it from runc."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The first process is no more, nor are those it left."""

    code: int
    """As a shell counts: 128 + n after signal n."""
    out_of_memory: bool


@dataclass
class Process:
    """A container's processes."""

    command: Command
    heard: Callable[[Exited], None]
    answer: StartRefused | None = None
    first: int = 0
    """Process id of what the command itself became."""
    init: int = 0
    """Process id of its parent, to which it leaves its orphans."""
    out_of_memory: bool = False
    over: bool = False
    answered: threading.Event = field(default_factory=threading.Event)

    def terminate(self) -> None:
        """Ask the process group to end."""
        if not self.over and self.first:
            with suppress(ProcessLookupError):
                os.killpg(self.first, signal.SIGTERM)

    def kill(self) -> None:
        """End the first process, after which its init ends all others."""
        if not self.over and self.first:
            with suppress(ProcessLookupError):
                os.kill(self.first, signal.SIGKILL)


class Processes:
    """All containers of a podlet; see podlet_shim.py for who really starts them."""

    def __init__(self) -> None:
        self._shim = subprocess.Popen(
            [sys.executable, "-S", "-m", "tests.clusters.podlet_shim"],
            cwd=_TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes: dict[int, Process] = {}
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._listen, name="podlet-shim"),
            threading.Thread(target=self._measure, name="podlet-memory"),
        ]
        for thread in self._threads:
            thread.start()

    def start(self, command: Command, heard: Callable[[Exited], None]) -> Process | StartRefused:
        """Start it, and have `heard` called (in a thread of ours) after its end."""
        program = _found(command)
        if isinstance(program, StartRefused):
            return program
        process = Process(command, heard)
        order = {
            "program": program,
            "argv": [*command.argv],
            "env": {**command.env},
            "directory": str(command.directory),
            "log": str(command.log),
        }
        assert self._shim.stdin is not None
        with self._lock:
            number = next(self._ids)
            self._processes[number] = process
            try:
                self._shim.stdin.write(json.dumps({"id": number, **order}) + "\n")
                self._shim.stdin.flush()
            except (BrokenPipeError, ValueError):
                return StartRefused("the podlet is ending")
        process.answered.wait()
        return process.answer or process

    def close(self) -> None:
        """Kill everything."""
        self._closed.set()
        assert self._shim.stdin is not None
        with self._lock:
            self._shim.stdin.close()
        for thread in self._threads:
            thread.join()
        self._shim.wait()

    def _listen(self) -> None:
        assert self._shim.stdout is not None
        with self._shim.stdout as lines:
            for line in lines:
                news = json.loads(line)
                process = self._processes[news["id"]]
                if "started" in news:
                    process.init, process.first = news["init"], news["started"]
                    process.answered.set()
                    continue
                del self._processes[news["id"]]
                process.over = True
                if "failed" in news:
                    process.answer = _refused(process.command.argv[0], news["failed"])
                    process.answered.set()
                else:
                    code = news["ended"]
                    code = 128 - code if code < 0 else code
                    process.heard(Exited(code, process.out_of_memory))
        # The shim is no more, and what it had has been killed.
        for process in [*self._processes.values()]:
            process.over = True
            if process.answered.is_set():
                process.heard(Exited(128 + signal.SIGKILL, out_of_memory=False))
            else:
                process.answer = StartRefused("the podlet is ending")
                process.answered.set()

    def _measure(self) -> None:
        pause = _LOOK_SECONDS
        while not self._closed.wait(pause):
            begin = time.thread_time()
            for process in [*self._processes.values()]:
                limit = process.command.ram_bytes
                if limit and process.init and _ram_bytes(process.init) > limit:
                    process.out_of_memory = True
                    process.kill()
            # With hundreds of containers it would take most of a core.
            pause = max(_LOOK_SECONDS, _LOOK_SHARE * (time.thread_time() - begin))


def _found(command: Command) -> str | StartRefused:
    name = command.argv[0]
    if "/" in name:
        return name
    path = command.env.get("PATH", os.defpath)
    return shutil.which(name, path=path) or StartRefused(
        _RUNC.format(f'exec: "{name}": executable file not found in $PATH')
    )


def _refused(name: str, number: int) -> StartRefused:
    words = os.strerror(number).lower()
    what = f"stat {name}: {words}" if number == 2 else words
    return StartRefused(_RUNC.format(f'exec: "{name}": {what}'))


_RUNC = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: {}: unknown"
)


def _ram_bytes(init: int) -> int:
    """What the processes below this one have for themselves: pages of files can be dropped, and are shared."""
    total, todo = 0, [init]
    while todo:
        pid = todo.pop()
        if pid != init:
            with suppress(OSError, IndexError):
                words = Path(f"/proc/{pid}/statm").read_text("ascii").split()
                total += (int(words[1]) - int(words[2])) * _PAGE_BYTES
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += map(int, (task / "children").read_text("ascii").split())
    return total
