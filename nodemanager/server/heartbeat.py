"""The heartbeat: one row that the servers stamp and count, and what is told by one that is late or went backwards.

A stamp that comes late means that no server was there: nobody could have pinged, and leases are longer by as much
(`sweep`). Two things mean that the *database* may be older than the truth, because a backup was restored:

- a server starts, and the last stamp is older than `pause_claims_after` (it may have been a long outage as well);
- a server that has been running finds fewer beats than it knew of.

What such a database calls Queued may have run since. So claims are paused until somebody has looked; and a server
gives no claim from a database that is older than what it has seen of it, in the seconds before it finds out.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, insert, literal_column, select, update

from nodemanager.model import format_seconds
from nodemanager.server import pauses
from nodemanager.server.schema import heartbeat
from nodemanager.server.transaction import Transaction

_NOW = select(heartbeat.c.stamped_at, heartbeat.c.beats).where(
    heartbeat.c.id == literal_column("1")
)
_BEATS = select(heartbeat.c.beats).where(heartbeat.c.id == literal_column("1"))

IS_NOT_OLDER = func.coalesce(_BEATS.scalar_subquery(), 0) >= bindparam("beats")
"""For the statement that claims: a condition with the number of beats that the server knows of."""

_BY = "the API server"
_NEXT = "look what has run since, then end this with 'arvados-dispatch-api claims resume'"


@dataclass(frozen=True, slots=True)
class Beat:
    """The heartbeat at one time."""

    stamped_at: int
    """Microseconds, by the database's clock."""
    beats: int
    """How many there have been."""


def last_beat(conn: Connection) -> Beat | None:
    """The heartbeat as it is; None in a database that no server has looked after yet."""
    row = conn.execute(_NOW).first()
    return None if row is None else Beat(row.stamped_at, row.beats)


def stamp(tx: Transaction, last: Beat | None) -> Beat:
    """The beat after the `last` one, which is that of the database."""
    new = Beat(tx.now, 1 if last is None else last.beats + 1)
    change = insert(heartbeat).values(id=1) if last is None else update(heartbeat)
    tx.conn.execute(change.values(stamped_at=new.stamped_at, beats=new.beats))
    return new


def is_older_than_known(tx: Transaction, found: Beat | None) -> bool:
    """Whether the database has gone back behind what this server has seen of it."""
    return (0 if found is None else found.beats) < tx.known_beats


def distrust_what_went_back(tx: Transaction, found: Beat | None) -> str:
    """Pause all claims if the database has gone back; why, empty if it has not. The graph is locked."""
    if not is_older_than_known(tx, found):
        return ""
    return _pause(tx, f"the database went back in time: it was restored from a backup; {_NEXT}")


def distrust_what_is_old(tx: Transaction) -> str:
    """Pause all claims if the last beat is older than `pause_claims_after`; why, empty if it is not.

    For the start of a server, before it stamps. The graph is locked.
    """
    last, patience = last_beat(tx.conn), tx.policy.pause_claims_after
    if last is None or not patience:
        return ""
    silence = (tx.now - last.stamped_at) / 1_000_000
    if silence <= patience:
        return ""
    return _pause(
        tx,
        f"no API server was on this database for {format_seconds(silence)}: there was an outage, or it was restored "
        f"from a backup; {_NEXT}",
    )


def _pause(tx: Transaction, why: str) -> str:
    """What another server, or an operator, has said before stays."""
    return pauses.of_all(tx.conn) or pauses.begin(tx, why, _BY)
