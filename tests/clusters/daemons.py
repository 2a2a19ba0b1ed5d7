"""Real daemons, started as a person starts them, on a config file and a state directory of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodemanager.api.connection import call, connect
from nodemanager.errors import ApiUnavailable

REPOSITORY = Path(__file__).parents[2]
BOUND_SECONDS = 60.0


def wait_for(condition: Callable[[], Any], what: str, bound: float = BOUND_SECONDS) -> Any:
    end = time.monotonic() + bound
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {bound} s: {what}")
        time.sleep(0.05)
    return found


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Site:
    """A config file with a state directory of its own, and the daemons started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "nodemanager.cfg"
        self.write()
        self.processes: list[subprocess.Popen[str]] = []
        self.clients: list[Any] = []

    def write(self, more: str = "") -> None:
        self.config.write_text(
            f"""\
[Daemon]
state_dir = {self.state}
[Dispatch]
poll_time = 1 s
[Api]
retry_backoff_min = 1 s
[Scheduler]
cores = 4
[Runner]
heartbeat = 1 s
input_dirs = {REPOSITORY / "etc/examples"}
{more}"""
        )

    def use(self, scheduler: str, options: str, *, dispatch: str = "") -> None:
        """Run jobs by a scheduler with these options, on nodes that reach the embedded API at a port of its own.

        `options` are lines of [Scheduler], `dispatch` more ones of [Dispatch].
        """
        port = free_port()
        text = self.config.read_text()
        for old, new in (
            ("[Api]\n", f"[Api]\nport = {port}\nadvertise_url = https://127.0.0.1:{port}\n"),
            ("[Dispatch]\n", f"[Dispatch]\nscheduler = {scheduler}\n{dispatch}"),
            ("cores = 4\n", options),
        ):
            text = text.replace(old, new)
        self.config.write_text(text)
        (self.state / "api").mkdir(parents=True, mode=0o700)
        (self.state / "api" / "port").write_text(f"{port}\n")

    def command(self, *arguments: str) -> list[str]:
        return [
            sys.executable, "-m", "nodemanager.launcher", "--config", str(self.config), *arguments
        ]  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=BOUND_SECONDS * 2)
        return process.returncode, output

    def kill(self, daemon: subprocess.Popen[str]) -> None:
        """End it where it stands, with the API server that it had started."""
        servers = children(daemon.pid, "nodemanager.server")
        daemon.kill()
        daemon.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in servers), "no server")

    def serving(self) -> Any:
        """The API of a daemon that was started, once it answers."""

        def answers() -> Any:
            port = self.state / "api" / "port"
            token = self.state / "api" / "root_token"
            if not (port.exists() and token.exists()):
                return None
            # Knocking first: the client leaves a socket behind for every refused connection.
            try:
                socket.create_connection(("127.0.0.1", int(port.read_text()))).close()
            except (OSError, ValueError):
                return None
            try:
                client = connect(
                    f"https://127.0.0.1:{port.read_text().strip()}",
                    token.read_text().strip(),
                    ca_file=self.state / "api" / "certificate.pem",
                )
            except (ApiUnavailable, OSError):
                return None
            self.clients.append(client)
            return client

        return wait_for(answers, "the API answers")

    def containers(self) -> list[sqlite3.Row]:
        database = sqlite3.connect(f"file:{self.state}/api/database.sqlite?mode=ro", uri=True)
        database.row_factory = sqlite3.Row
        try:
            return database.execute("select * from containers order by created_at").fetchall()
        finally:
            database.close()

    def end(self) -> None:
        for client in self.clients:
            client.close()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        # Jobs outlive the daemon by design: those that are left are told to end through their records.
        for record in (self.state / "scheduler").rglob("*.json"):
            for pid in re.findall(r'"(?:pid|supervisor_pid|sid)": *(\d+)', record.read_text()):
                try:
                    os.killpg(int(pid), signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue


def create(api: Any, script: str) -> str:
    """Commit a request for `script`; the UUID of its container."""
    attributes = {
        "name": "from-a-client",
        "command": ["sh", "-c", script],
        "container_image": "none",
        "cwd": "/work",
        "output_path": "/work/out",
        "mounts": {"/work/out": {"kind": "tmp", "capacity": 1 << 20}},
        "runtime_constraints": {"vcpus": 1, "ram": 1 << 26},
        "priority": 500,
        "state": "Committed",
        "use_existing": False,
    }
    record = call(api.container_requests().create(body={"container_request": attributes}))
    return str(record["container_uuid"])


def state_of(api: Any, uuid: str) -> str:
    """The state of a container."""
    return str(call(api.containers().get(uuid=uuid))["state"])


def children(parent: int, word: str) -> list[int]:
    """Processes started by `parent` whose command line has `word`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if int(status[1]) == parent and word in command:
                found.append(int(entry.name))
    return found
