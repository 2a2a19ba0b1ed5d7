"""The database of the API: transactions, its clock, its locks, and news between its servers.

An acknowledged write must survive the death of the process and of the machine: a claim that is forgotten
would let a second runner start. What differs between SQLite and PostgreSQL stands in modules of those names.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import URL, Connection, Engine, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from nodemanager.clock import Clock
from nodemanager.errors import NodeManagerError
from nodemanager.server.backend import Backend, Heard, Topics
from nodemanager.server.hot import HotStatement, Parameters
from nodemanager.server.migrations import VersionError, make_tables, migrate
from nodemanager.server.postgresql import Postgresql
from nodemanager.server.sqlite import Sqlite

IN_MEMORY = "sqlite://"
"""The URL of a database that lives and dies with its `Database`."""

_NOW = select(func.api_now())


class DatabaseError(NodeManagerError):
    """The database cannot be used: wrong URL, not to be reached, or written by another version."""


class Database:
    """One database, of one or many API server processes.

    `url` is a SQLAlchemy URL: ``sqlite:////var/lib/arvados-node-manager/api.sqlite``,
    ``postgresql://user:password@host/name``, or `IN_MEMORY`. Tables are made when they are missing, and
    brought up to date when an older version made them. Any thread may use it.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._clock = clock
        self._url = _parsed(url)
        self._backend = self._opened()
        try:
            self._prepare()
        except BaseException:
            self._backend.close()
            raise

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine."""
        return self._backend.engine

    @property
    def writers(self) -> int:
        """How many transactions may write at the same time."""
        return self._backend.writers

    @property
    def group(self) -> int:
        """How many calls should share one writing transaction when they come together."""
        return self._backend.group

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        return self._backend.read()

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction that may change things; committed at the end, rolled back by an exception."""
        return self._backend.write()

    def now(self, conn: Connection) -> int:
        """The database's clock in microseconds since 1970. `conn` is the transaction that asks."""
        return int(conn.execute(_NOW).scalar_one())

    def elapsed(self) -> float:
        """Seconds on a clock that never jumps: how long this process has been serving."""
        return self._clock.elapsed()

    def lock_graph(self, conn: Connection) -> None:
        """See `Transaction.lock_graph`."""
        self._backend.lock_graph(conn)

    def claim_lock(self, claim_id: str) -> list[tuple[HotStatement, Parameters]]:
        """See `Backend.claim_lock`."""
        return self._backend.claim_lock(claim_id)

    def sweeper(self) -> AbstractContextManager[bool]:
        """True inside when this server, of all on the database, is the one that sweeps now."""
        return self._backend.sweeper()

    def announce(self, conn: Connection, topics: Topics) -> None:
        """Let the other servers hear of `topics` when `conn`'s transaction is committed."""
        self._backend.announce(conn, topics)

    def announced(self, topics: Topics) -> None:
        """The transaction that announced `topics` is committed."""
        self._backend.announced(topics)

    def listen(self, heard: Heard) -> Callable[[], None]:
        """Call `heard` with the topics that other servers announce; returns the way out."""
        return self._backend.listen(heard)

    def may_pass(self, error: DBAPIError) -> bool:
        """Whether the same transaction, begun anew, may well succeed."""
        return self._backend.may_pass(error)

    def close(self) -> None:
        """Let go of every connection."""
        self._backend.close()

    def _opened(self) -> Backend:
        if self._url.get_backend_name() == "sqlite":
            return Sqlite(self._url, self._clock)
        return Postgresql(self._url)

    def _prepare(self) -> None:
        try:
            with self.write() as conn:
                if self._url == make_url(IN_MEMORY):
                    make_tables(conn)
                else:
                    self._backend.migrating(conn)
                    migrate(conn)
        except VersionError as error:
            raise DatabaseError(f"{self._shown}: {error}") from error
        except OperationalError as error:
            raise DatabaseError(
                f"[Api] database: {self._shown}: cannot be used: {str(error.orig).strip()}"
            ) from error

    @property
    def _shown(self) -> str:
        return self._url.render_as_string()


def _parsed(text: str) -> URL:
    """The URL with the driver we use; raises `DatabaseError` for a database we do not know."""
    try:
        url = make_url(text)
    except ArgumentError as error:
        # The text may hold a password.
        raise DatabaseError("[Api] database: is not an SQLAlchemy URL") from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return url
    raise DatabaseError(
        f"[Api] database: {url.render_as_string()}: only sqlite:// and postgresql:// URLs are understood"
    )
