"""The database: engine, transactions, and what the database's clock says.

Everything that only SQLite understands is in this module. An acknowledged write must survive the death of
the process and of the machine: a claim that is forgotten would let a second runner start. So SQLite runs
in WAL mode with synchronous FULL; what a commit costs is paid back by the batch calls.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool, StaticPool

from nodemanager.clock import Clock
from nodemanager.errors import NodeManagerError
from nodemanager.server import schema

IN_MEMORY = "sqlite://"
"""The URL of a database that lives and dies with its `Database`."""

_BUSY_TIMEOUT_MS = 20_000
_CACHED_STATEMENTS = 1000
_WRITES = "nodemanager_writes"


class DatabaseError(NodeManagerError):
    """The database cannot be used: wrong URL, or written by another version."""


class Database:
    """One database, of one or many API server processes.

    `url` is a SQLAlchemy URL such as ``sqlite:////var/lib/arvados-node-manager/api.sqlite``, or
    `IN_MEMORY`. Tables are made when they are missing. Any thread may use it.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = make_url(url)
        if self.url.get_backend_name() != "sqlite":
            raise DatabaseError(
                f"[Api] database: {self.url.render_as_string()}: only sqlite:// URLs are understood"
            )
        self._clock = clock
        self._in_memory = self.url.database in (None, "", ":memory:")
        # One writer at a time is SQLite's rule; waiting here is fairer and cheaper than its busy loop.
        self._writer = threading.RLock()
        self.engine = self._open()
        self._prepare()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        if self._in_memory:
            with self._writer, self.engine.begin() as conn:
                yield conn
            return
        with self.engine.begin() as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change things; committed at the end, rolled back by an exception.

        It holds the write lock from its beginning, so what it reads cannot change before it writes.
        """
        with self._writer, self.engine.connect() as bare:
            conn = bare.execution_options(**{_WRITES: True})
            with conn.begin():
                yield conn

    def now(self, conn: Connection) -> int:
        """The database's clock in microseconds since 1970. `conn` is the transaction that asks.

        A file has no clock, so for SQLite it is this machine's, which all its processes share.
        """
        del conn
        return round(self._clock.wall() * 1_000_000)

    def elapsed(self) -> float:
        """Seconds on a clock that never jumps: how long this process has been serving."""
        return self._clock.elapsed()

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    def _open(self) -> Engine:
        arguments: dict[str, Any] = {
            "check_same_thread": False,
            "isolation_level": None,
            "cached_statements": _CACHED_STATEMENTS,
        }
        if self._in_memory:
            engine = create_engine(self.url, connect_args=arguments, poolclass=StaticPool)
        else:
            engine = create_engine(
                self.url, connect_args=arguments, poolclass=QueuePool, pool_size=8, max_overflow=24
            )
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _prepare(self) -> None:
        """Make the tables of a new database; refuse one that another version made."""
        with self.write() as conn:
            schema.metadata.create_all(conn)
            found = conn.execute(select(schema.schema_version.c.version)).scalar()
            if found is None:
                conn.execute(insert(schema.schema_version).values(version=schema.SCHEMA_VERSION))
            elif found != schema.SCHEMA_VERSION:
                raise DatabaseError(
                    f"{self.url.render_as_string()}: has schema version {found}, this program needs "
                    f"{schema.SCHEMA_VERSION}; use the matching version of arvados-node-manager"
                )


def _configure_sqlite(dbapi_connection: Any, _record: Any) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.close()


def _begin_sqlite(conn: Connection) -> None:
    # The driver would begin a transaction only at the first write, too late to trust what was read.
    writes = conn.get_execution_options().get(_WRITES, False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
