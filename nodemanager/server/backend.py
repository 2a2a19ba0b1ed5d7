"""What the databases do differently: one `Backend` for SQLite, one for PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from nodemanager.server.hot import HotStatement, Parameters

Topics = Collection[str]
Heard = Callable[[Topics], None]
"""Called with the topics of another server's commit; may run in any thread, must not block or raise."""


class Backend(Protocol):
    """One open database."""

    engine: Engine

    writers: int
    """Transactions that may write at the same time."""
    group: int
    """Calls that one writing transaction may carry: where a commit costs much and writers queue anyway,
    several calls share one."""

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction that may change things."""
        ...

    def migrating(self, conn: Connection) -> None:
        """Wait until no other server changes the tables; until the end of `conn`'s transaction."""
        ...

    def lock_graph(self, conn: Connection) -> None:
        """See `Transaction.lock_graph`; until the end of `conn`'s transaction."""
        ...

    def claim_lock(self, claim_id: str) -> list[tuple[HotStatement, Parameters]]:
        """What to execute to wait for another call with this claim id, and to make others wait until
        the end of the transaction; nothing where writers are alone."""
        ...

    def sweeper(self) -> AbstractContextManager[bool]:
        """True inside when this server, of all on the database, is the one that sweeps now."""
        ...

    def announce(self, conn: Connection, topics: Topics) -> None:
        """Let the other servers hear of `topics` when `conn`'s transaction is committed."""
        ...

    def announced(self, topics: Topics) -> None:
        """The transaction that announced `topics` is committed."""
        ...

    def listen(self, heard: Heard) -> Callable[[], None]:
        """Call `heard` for what other servers announce; returns the way out, which waits for the end."""
        ...

    def may_pass(self, error: DBAPIError) -> bool:
        """Whether the same transaction, begun anew, may well succeed: it was rolled back for no fault
        of its own (a deadlock, a connection that was cut before the commit)."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...
