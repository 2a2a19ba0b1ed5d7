"""What is measured: one API server process, started as an operator would, and the databases it can have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load import Target

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.clusters.postgresql import PostgresqlMissing, postgres_cluster

PATIENCE_SECONDS = 60.0

_LOG_LINES = 40
_COMMAND = (sys.executable, "-m", "nodemanager.server.main")


class Refused(Exception):
    """The server does not start with what it was given; says what it said."""


@dataclass(frozen=True)
class Server:
    """One running server; `database_url` is how SQLAlchemy reaches its database."""

    target: Target
    database_url: str
    config: Path

    def new_token(self, kind: str, name: str) -> str:
        """A token that ``arvados-dispatch-api`` makes; `kind` is ``--dispatcher`` or ``--user``."""
        done = subprocess.run(
            [*_COMMAND, "--config", str(self.config), "token", "create", kind, name],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        return done.stdout.strip()


@contextmanager
def server(folder: Path, database_url: str) -> Iterator[Server]:
    """A server with its state in `folder`; `database_url` empty means SQLite there.

    Raises `Refused` when it does not start.
    """
    config = folder / "nodemanager.cfg"
    # Nobody pings here: a long timeout keeps our dispatcher alive.
    config.write_text(
        "[Daemon]\nstate_dir = state\n"
        f"[Api]\nroot_token = {os.urandom(16).hex()}\nping_timeout = 1 d\n"
        f"database = {database_url}\n"
    )
    config.chmod(0o600)
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*_COMMAND, "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        with process.stdout:
            line = process.stdout.readline()
            if not line:
                raise Refused((folder / "server.log").read_text())
            ready = json.loads(line)
            target = Target(ready["url"], ready["ca_file"], process.pid)
            path = folder.absolute() / "state" / "api" / "database.sqlite"
            yield Server(target, database_url or f"sqlite:///{path}", config)
    except SystemExit:
        sys.stderr.write(f"the end of the server's log:\n{_end_of(folder / 'server.log')}")
        raise
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _end_of(path: Path) -> str:
    """The last lines of a file."""
    return "".join(
        path.read_text(encoding="utf-8", errors="replace").splitlines(True)[-_LOG_LINES:]
    )


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a database in a PostgreSQL of our own, whose commits wait for the disk."""
    try:
        with postgres_cluster(durable=True) as cluster:
            yield cluster.fresh_database()
    except PostgresqlMissing as error:
        raise Refused(str(error)) from error


def syncs_per_second(folder: Path, seconds: float = 1.0) -> float:
    """How often the disk below `folder` makes 4 KiB durable; a commit waits for that once or more."""
    path = folder / "sync"
    block = os.urandom(4096)
    count = 0
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            os.pwrite(descriptor, block, 4096 * (count % 256))
            os.fdatasync(descriptor)
            count += 1
        return count / (time.monotonic() - began)
    finally:
        os.close(descriptor)
        path.unlink()
