"""PostgreSQL, 13 or newer: many servers, each with several writers.

Transactions run at READ COMMITTED and lock what they are going to change (`Transaction.lock_graph`,
`access.lookup`). A claim passes over rows that another one has locked. News travel by LISTEN and NOTIFY, which
PostgreSQL delivers when the transaction commits, and only then.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Text,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.exc import DBAPIError

from nodemanager.server.backend import Heard, Topics
from nodemanager.server.hot import HotStatement, Parameters

log = logging.getLogger(__name__)

_CHANNEL = "arvados_dispatch_api"
_POOL_SIZE = 8
_NEWS_PATIENCE_SECONDS = 1.0
_RECONNECT_SECONDS = 1.0
_CONNECT_SECONDS = 10
# A server that is stopped in the middle of a transaction (SIGSTOP, a suspended machine) must not hold up the
# others for ever, and nobody is served by waiting longer than a client does.
_SETTINGS = (
    "SET lock_timeout = '20s'",
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET statement_timeout = '60s'",
)
# What writers say is little and always the same, and goes from few rows to few rows by an index. So each
# statement is planned once, without a guess at how many rows a LIMIT lets through: the planner's, a tenth of
# the table, ends in reading all of it for one claim.
_WRITER_SETTINGS = (
    *_SETTINGS,
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_sort = off",
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
)
# Names of advisory locks: any numbers, the same in every server on the database, and nobody else's.
_LOCKS = 0x61727664
_MIGRATION, _GRAPH, _SWEEPER = 1, 2, 3
# https://www.postgresql.org/docs/15/errcodes-appendix.html: serialization failure, deadlock detected.
_COLLISIONS = ("40001", "40P01")
_LOCK = {
    number: HotStatement(select(cast(func.pg_advisory_xact_lock(_LOCKS + number), Text)))
    for number in (_MIGRATION, _GRAPH)
}
# Two numbers make a lock of another kind than one, so the two cannot meet.
_LOCK_CLAIM = HotStatement(
    select(cast(func.pg_advisory_xact_lock(_LOCKS, func.hashtext(bindparam("claim_id"))), Text))
)
_NOTIFY = HotStatement(select(cast(func.pg_notify(_CHANNEL, bindparam("news")), Text)))
_LONGEST_NEWS = 7900


class Postgresql:
    """The `Backend` for ``postgresql+psycopg://`` URLs; the database's clock is its server's."""

    writers = 4
    group = 1

    def __init__(self, url: URL) -> None:
        self._url = url
        self._own = secrets.token_hex(8)
        self.engine = _engine(url, _WRITER_SETTINGS)
        self._reading = _engine(url, _SETTINGS).execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See `Backend.read`."""
        with self._reading.begin() as conn:
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """See `Backend.write`."""
        with self.engine.begin() as conn:
            yield conn

    def migrating(self, conn: Connection) -> None:
        """See `Backend.migrating`. A step takes as long as it takes, and others wait for it."""
        for limit in ("statement_timeout", "lock_timeout"):
            conn.exec_driver_sql(f"SET LOCAL {limit} = 0")
        _LOCK[_MIGRATION].all(conn, {})

    def lock_graph(self, conn: Connection) -> None:
        """See `Backend.lock_graph`."""
        _LOCK[_GRAPH].all(conn, {})

    def claim_lock(self, claim_id: str) -> list[tuple[HotStatement, Parameters]]:
        """See `Backend.claim_lock`."""
        return [(_LOCK_CLAIM, {"claim_id": claim_id})]

    @contextmanager
    def sweeper(self) -> Iterator[bool]:
        """See `Backend.sweeper`: a lock of this session, which dies with it."""
        with self.engine.connect() as conn:
            taken = select(func.pg_try_advisory_lock(_LOCKS + _SWEEPER))
            mine = bool(conn.execute(taken).scalar_one())
            conn.commit()
            try:
                yield mine
            finally:
                if mine:
                    conn.execute(select(func.pg_advisory_unlock(_LOCKS + _SWEEPER)))
                    conn.commit()

    def announce(self, conn: Connection, topics: Topics) -> None:
        """See `Backend.announce`."""
        news = ""
        for topic in topics:
            if len(news) + len(topic) > _LONGEST_NEWS:
                _NOTIFY.all(conn, {"news": f"{self._own}{news}"})
                news = ""
            news += f"\n{topic}"
        _NOTIFY.all(conn, {"news": f"{self._own}{news}"})

    def announced(self, topics: Topics) -> None:
        """Nothing to do: the commit has sent them."""

    def listen(self, heard: Heard) -> Callable[[], None]:
        """See `Backend.listen`. While the database is away, who waits looks again by itself."""
        end = threading.Event()
        thread = threading.Thread(target=self._hear, args=(heard, end), name="api-news")
        thread.start()

        def stop() -> None:
            end.set()
            # Wakes it; while the database is away, it looks up by itself.
            with suppress(DBAPIError), self.write() as conn:
                self.announce(conn, ["end"])
            thread.join()

        return stop

    def may_pass(self, error: DBAPIError) -> bool:
        """See `Backend.may_pass`."""
        return error.connection_invalidated or getattr(error.orig, "sqlstate", "") in _COLLISIONS

    def close(self) -> None:
        """See `Backend.close`."""
        self.engine.dispose()
        self._reading.dispose()

    def _hear(self, heard: Heard, end: threading.Event) -> None:
        conninfo = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        while not end.is_set():
            try:
                with psycopg.connect(
                    conninfo, autocommit=True, connect_timeout=_CONNECT_SECONDS
                ) as conn:
                    conn.execute(f"LISTEN {_CHANNEL}")
                    self._hear_on(conn, heard, end)
            except psycopg.OperationalError as error:
                if not end.is_set():
                    log.warning(
                        "no news from other servers until the database is back: %s",
                        error,
                        extra={"action": "news_lost"},
                    )
                    end.wait(_RECONNECT_SECONDS)

    def _hear_on(self, conn: psycopg.Connection[Any], heard: Heard, end: threading.Event) -> None:
        while not end.is_set():
            for notify in conn.notifies(timeout=_NEWS_PATIENCE_SECONDS):
                sender, *topics = notify.payload.split("\n")
                if sender != self._own:
                    heard(topics)
                if end.is_set():
                    return


def _engine(url: URL, settings: Sequence[str]) -> Engine:
    """A pool of connections with these settings."""
    engine = create_engine(
        url,
        # What fails is logged, and what it was about may be secret.
        hide_parameters=True,
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_SIZE,
        connect_args={"connect_timeout": _CONNECT_SECONDS},
    )

    def configure(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            for setting in settings:
                cursor.execute(setting)
        connection.commit()

    event.listen(engine, "connect", configure)
    return engine
