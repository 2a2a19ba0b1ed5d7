"""A real PostgreSQL for tests and benchmarks, from Debian's packages, with nothing of the machine's own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from nodemanager.clock import ManualClock, SystemClock
from nodemanager.server.database import Database
from tests.clusters import packages

_INSTALLED = Path("/usr/lib/postgresql")
_DEBIAN_CONFIG = Path("/etc/postgresql-common/createcluster.conf")
_TEMPLATE = "migrated"
# What happens to the files of tests when the machine dies is nobody's concern.
_IN_A_HURRY = ("fsync=off", "full_page_writes=off")


class PostgresqlMissing(Exception):
    """It is not installed, and cannot be."""


class PostgresCluster:
    """A running server, and the databases that were asked of it."""

    def __init__(self, control: Callable[..., None], port: int) -> None:
        self._control = control
        self._port = port
        self._free: list[str] = []
        self._number = 0

    def start(self) -> None:
        """Start it again, after `stop`."""
        self._control("start")

    def stop(self) -> None:
        """Stop it as a crash would: connections are cut."""
        self._control("-m", "immediate", "stop")

    def url(self, database: str) -> str:
        """Over TCP on the loopback interface, as from another machine."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def fresh_database(self) -> str:
        """The URL of a new, empty database."""
        self._number += 1
        name = f"fresh_{self._number}"
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    @contextmanager
    def lent_database(self) -> Iterator[str]:
        """The URL of a database with empty tables, which is emptied and lent again afterwards."""
        url = self._free.pop() if self._free else self._copy_of_template()
        yield url
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("DROP TABLE IF EXISTS test_clock")
            tables = conn.execute(
                "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE relkind = 'r' AND nspname = 'public' AND relname <> 'alembic_version'"
            ).fetchall()
            names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in tables)
            conn.execute(sql.SQL("TRUNCATE {}").format(names))
        self._free.append(url)

    def _copy_of_template(self) -> str:
        if self._number == 0 or not self._has_template():
            self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
            Database(self.url(_TEMPLATE), SystemClock()).close()
        self._number += 1
        name = f"copy_{self._number}"
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(_TEMPLATE)
            )
        )
        return self.url(name)

    def _has_template(self) -> bool:
        with psycopg.connect(self.url("postgres")) as conn:
            found = conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE])
            return found.fetchone() is not None

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(statement)


class DatabaseClock(ManualClock):
    """A clock driven by the test which is also that of a PostgreSQL database."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._conn = psycopg.connect(url, autocommit=True)
        self._conn.execute("CREATE TABLE test_clock (micros bigint)")
        self._conn.execute("INSERT INTO test_clock VALUES (0)")
        self._conn.execute(
            "CREATE OR REPLACE FUNCTION api_now() RETURNS bigint LANGUAGE sql VOLATILE AS"
            " 'SELECT micros FROM test_clock'"
        )
        self._tell()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._tell()

    def jump(self, seconds: float) -> None:
        super().jump(seconds)
        self._tell()

    def close(self) -> None:
        self._conn.close()

    def _tell(self) -> None:
        self._conn.execute("UPDATE test_clock SET micros = %s", [round(self.wall() * 1_000_000)])


@contextmanager
def postgres_cluster(*, durable: bool) -> Iterator[PostgresCluster]:
    """A server in a temporary directory; `durable`: a commit waits for the disk, as in production.

    Raises `PostgresqlMissing`, with what to do about it.
    """
    programs = _programs()
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:  # which its programs refuse to be
        owner = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(directory, "postgres", "postgres")
    port = _free_port()
    settings = [
        f"port={port}",
        "listen_addresses=127.0.0.1",
        f"unix_socket_directories={directory}",
        "max_connections=300",
        *(() if durable else _IN_A_HURRY),
    ]
    data = directory / "data"
    try:
        _run(owner, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust",
             "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        options = " ".join(f"-c {setting}" for setting in settings)

        def control(*words: str) -> None:
            _run(owner, programs / "pg_ctl", "-D", data, "-w", "-l", directory / "log",
                 "-o", options, *words)  # fmt: skip

        control("start")
        try:
            yield PostgresCluster(control, port)
        finally:
            control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _programs() -> Path:
    """Where initdb and the others are; they are installed when root may do so."""
    packages.ensure(("postgresql",), _found, PostgresqlMissing, prepare=_make_no_cluster)
    found = _found()
    assert found is not None
    return found


def _found() -> Path | None:
    versions = sorted(
        (int(path.parent.parent.name), path.parent)
        for path in _INSTALLED.glob("*/bin/initdb")
        if re.fullmatch(r"[0-9]+", path.parent.parent.name)
    )
    return versions[-1][1] if versions else None


def _make_no_cluster() -> None:
    """Or the package makes one of its own, and starts it."""
    if not _DEBIAN_CONFIG.exists():
        _DEBIAN_CONFIG.parent.mkdir(parents=True, exist_ok=True)
        _DEBIAN_CONFIG.write_text("create_main_cluster = false\n")


def _run(owner: dict[str, Any], *command: str | Path) -> None:
    # Not pipes: the server that pg_ctl starts would hold them open.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            [str(word) for word in command],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            check=False,
            timeout=120,
            **owner,
        )
        if done.returncode != 0:
            said.seek(0)
            words = said.read().decode(errors="replace")
            with suppress(OSError):
                words += Path(command[2], "../log").resolve().read_text()[-2000:]
            raise RuntimeError(f"{command[0]}: {words}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
