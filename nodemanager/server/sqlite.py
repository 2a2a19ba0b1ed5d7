"""SQLite: one file, or the memory of one process.

WAL mode with synchronous FULL, so that a commit that was acknowledged survives the machine. There is one
writer at a time; several calls share one transaction, which pays its one sync for all of them. Several
servers may use one file on one machine: they tell each other what changed over datagram sockets, which
lie in a directory beside it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from nodemanager.clock import Clock
from nodemanager.server.backend import Heard, Topics
from nodemanager.server.hot import HotStatement, Parameters

_BUSY_TIMEOUT_MS = 20_000
_CACHED_STATEMENTS = 1000
# The indexes of some 100,000 containers; a claim touches a page in each of them.
_CACHE_KIB = 64 * 1024
# 40 MiB of WAL between two checkpoints, each of which writes pages of the file itself, here and there.
_CHECKPOINT_PAGES = 10_000
_WRITES = "nodemanager_writes"
_LONGEST_NEWS = 60_000


class Sqlite:
    """The `Backend` for ``sqlite://`` URLs. The database's clock is this machine's, `clock`."""

    writers = 1
    group = 64

    def __init__(self, url: URL, clock: Clock) -> None:
        self._clock = clock
        self._path = None if url.database in (None, "", ":memory:") else Path(str(url.database))
        # Waiting here is fairer and cheaper than SQLite's busy loop.
        self._writer = threading.RLock()
        self._bus = None if self._path is None else _Bus(Path(f"{self._path}.servers"))
        self.engine = self._open(url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See `Backend.read`."""
        if self._path is None:
            with self._writer, self.engine.begin() as conn:
                yield conn
            return
        with self.engine.begin() as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """See `Backend.write`. It holds the write lock from its beginning, so what it reads stays so."""
        with self._writer, self.engine.connect() as bare:
            conn = bare.execution_options(**{_WRITES: True})
            with conn.begin():
                yield conn

    def migrating(self, conn: Connection) -> None:
        """Nothing to do: a writer is alone."""

    def lock_graph(self, conn: Connection) -> None:
        """Nothing to do: a writer is alone."""

    def claim_lock(self, claim_id: str) -> list[tuple[HotStatement, Parameters]]:
        """Nothing to do: a writer is alone."""
        del claim_id
        return []

    @contextmanager
    def sweeper(self) -> Iterator[bool]:
        """See `Backend.sweeper`: a lock on a file beside the database, which dies with its process."""
        if self._path is None:
            yield True
            return
        descriptor = os.open(f"{self._path}.sweeper", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
        else:
            mine = True
        try:
            yield mine
        finally:
            os.close(descriptor)

    def announce(self, conn: Connection, topics: Topics) -> None:
        """Nothing to do before the commit."""

    def announced(self, topics: Topics) -> None:
        """See `Backend.announced`."""
        if self._bus is not None:
            self._bus.send(topics)

    def listen(self, heard: Heard) -> Callable[[], None]:
        """See `Backend.listen`."""
        return (lambda: None) if self._bus is None else self._bus.listen(heard)

    def may_pass(self, error: DBAPIError) -> bool:
        """See `Backend.may_pass`: a writer that is alone has nobody to collide with."""
        del error
        return False

    def close(self) -> None:
        """See `Backend.close`."""
        self.engine.dispose()

    def _open(self, url: URL) -> Engine:
        arguments: dict[str, Any] = {
            "check_same_thread": False,
            "isolation_level": None,
            "cached_statements": _CACHED_STATEMENTS,
        }
        pool: dict[str, Any] = {"poolclass": StaticPool}
        if self._path is not None:
            pool = {"poolclass": QueuePool, "pool_size": 8, "max_overflow": 24}
        # What fails is logged, and what it was about may be secret.
        engine = create_engine(url, connect_args=arguments, hide_parameters=True, **pool)
        event.listen(engine, "connect", self._configure)
        event.listen(engine, "begin", _begin)
        return engine

    def _configure(self, connection: Any, _record: Any) -> None:
        connection.create_function("api_now", 0, lambda: round(self._clock.wall() * 1_000_000))
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        cursor.close()


def _begin(conn: Connection) -> None:
    # The driver would begin a transaction only at the first write, too late to trust what was read.
    writes = conn.get_execution_options().get(_WRITES, False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class _Bus:
    """News between the servers of one file: each listens on a datagram socket in `directory`.

    News may get lost (a full buffer, a server that starts just now); who waits for some looks again by
    itself now and then.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._own = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._socket: socket.socket | None = None

    def listen(self, heard: Heard) -> Callable[[], None]:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with _reachable(self._directory) as directory:
            listening.bind(f"{directory}/{self._own}")
        self._socket = listening
        thread = threading.Thread(target=_hear, args=(listening, heard), name="api-news")
        thread.start()

        def stop() -> None:
            self._socket = None
            listening.shutdown(socket.SHUT_RD)
            thread.join()
            listening.close()
            (self._directory / self._own).unlink(missing_ok=True)

        return stop

    def send(self, topics: Topics) -> None:
        own = self._socket
        if own is None:
            return
        news = "\n".join(topics).encode()[:_LONGEST_NEWS]
        with _reachable(self._directory) as directory, suppress(OSError):
            for address in Path(directory).iterdir():
                if address.name != self._own:
                    _send(own, address, news)


def _send(own: socket.socket, address: Path, news: bytes) -> None:
    try:
        own.sendto(news, socket.MSG_DONTWAIT, str(address))
    except ConnectionRefusedError:  # its server was killed
        address.unlink(missing_ok=True)
    except OSError:  # a full buffer: it has enough reason to look again
        return


@contextmanager
def _reachable(directory: Path) -> Iterator[str]:
    """A short name of `directory`: the address of a socket has 107 characters at most."""
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _hear(listening: socket.socket, heard: Heard) -> None:
    while news := listening.recv(_LONGEST_NEWS):
        heard(news.decode(errors="replace").split("\n"))
