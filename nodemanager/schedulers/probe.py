"""The program that the conformance suite runs as a job; standard library only, copied to where nodes see it.

``probe.py VERB ARGUMENT...``; every verb that takes a file named STARTED appends a line to it first.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PAUSE_SECONDS = 0.01


def main(verb: str, arguments: list[str]) -> int:
    """Do what the verb says; the exit status."""
    match verb, arguments:
        case "exit", [started, code]:
            _note(started)
            return int(code)
        case "die", [started, number]:
            _note(started)
            os.kill(os.getpid(), int(number))
            time.sleep(3600)
        case "hold", [started, release]:
            _note(started)
            while not Path(release).exists():
                time.sleep(_PAUSE_SECONDS)
        case "polite", [started, termed]:
            _obey_term(started, termed)
        case "stubborn", [started]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _note(started)
            time.sleep(3600)
        case "record", [target, *rest]:
            _record(target, rest)
        case "eat", [started, amount]:
            _note(started)
            eaten = bytearray(int(amount))
            eaten[:: os.sysconf("SC_PAGESIZE")] = b"x" * len(eaten[:: os.sysconf("SC_PAGESIZE")])
            time.sleep(3600)
        case "spawn", [started, pids]:
            _spawn(started, pids)
        case _:
            return 64
    return 0


def _note(path: str) -> None:
    with Path(path).open("a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")


def _write(path: str, content: str) -> None:
    """Whole or not at all, for whoever waits for it."""
    temporary = Path(f"{path}.tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.rename(path)


def _obey_term(started: str, termed: str) -> None:
    """Wait for TERM, note it, and end well."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _note(started)
    signal.sigwait({signal.SIGTERM})
    _note(termed)


def _record(target: str, rest: list[str]) -> None:
    """Write down everything the job was given."""
    content = {
        "arguments": [argument.encode("utf-8", "surrogateescape").hex() for argument in rest],
        "stdin": sys.stdin.buffer.read().hex(),
        "environment": dict(os.environ),
    }
    _write(target, json.dumps(content))


def _spawn(started: str, pids: str) -> None:
    """Leave processes behind in other sessions, and stay."""
    code = "import time; time.sleep(3600)"
    children = [
        subprocess.Popen([sys.executable, "-c", code], start_new_session=new)
        for new in (True, False)
    ]
    _write(pids, " ".join(str(child.pid) for child in children))
    _note(started)
    time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
