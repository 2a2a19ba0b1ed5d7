"""Pauses of claims: of one dispatcher, or of all. What is claimed goes on; nothing more is.

Whoever pauses says why, and whoever waits reads it. A pause of all is a row of its own, so that it holds as well
for dispatchers which register later, and outlives every server.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, literal_column, select

from nodemanager.server.access import dispatcher_of_operator
from nodemanager.server.errors import forbidden, invalid
from nodemanager.server.notes import by_whom, note, reason_of
from nodemanager.server.resources import Row
from nodemanager.server.rows import write
from nodemanager.server.schema import claims_pause, dispatchers
from nodemanager.server.transaction import QUEUE_TOPIC, Call, Transaction

_THE_ROW = claims_pause.c.id == literal_column("1")
_WHY = select(claims_pause.c.why).where(_THE_ROW)
_ALIVE = (
    select(dispatchers.c.uuid)
    .where(dispatchers.c.state == "alive")
    .order_by(dispatchers.c.uuid)
    .with_for_update()
)
_BEFORE = (
    select(dispatchers.c.own_pause)
    .where(
        dispatchers.c.token_uuid == bindparam("token"),
        dispatchers.c.name == bindparam("name"),
        dispatchers.c.state == "lost",
    )
    .order_by(dispatchers.c.created_at.desc())
    .limit(1)
)

ALL_MAY_CLAIM = ~exists(_WHY)
"""For the statement that claims: a condition that looks when the dispatcher's record is locked already."""


def pause(tx: Transaction, call: Call) -> dict[str, Any]:
    """``dispatchers.pause``: it keeps what it has, goes on with it, and claims nothing more."""
    row = dispatcher_of_operator(tx, call)
    if row["state"] != "alive":
        raise invalid(f"{row['uuid']} is {row['state']}: it claims nothing any more")
    why = by_whom(tx, reason_of(call))
    write(tx, "dispatchers", row["uuid"], {"own_pause": why})
    note(tx, row, "pause", f"claims paused: {why}")
    tx.topics.add(QUEUE_TOPIC)
    return _state(tx, row["uuid"], why)


def resume(tx: Transaction, call: Call) -> dict[str, Any]:
    """``dispatchers.resume``: it claims again, unless all are paused, which the answer tells."""
    row = dispatcher_of_operator(tx, call)
    if row["own_pause"]:
        write(tx, "dispatchers", row["uuid"], {"own_pause": ""})
        note(tx, row, "resume", by_whom(tx, "claims go on"))
        tx.topics.add(QUEUE_TOPIC)
    return _state(tx, row["uuid"], "")


def pause_all(tx: Transaction, call: Call) -> dict[str, Any]:
    """``dispatchers.pause_all``: no dispatcher claims anything, until ``resume_all``."""
    _check_administrator(tx)
    tx.lock_graph()
    return {"paused": begin(tx, reason_of(call))}


def resume_all(tx: Transaction, _call: Call) -> dict[str, Any]:
    """``dispatchers.resume_all``: the end of a pause of all; who is paused alone remains so."""
    _check_administrator(tx)
    tx.lock_graph()
    finish(tx)
    return {"paused": ""}


def begin(tx: Transaction, reason: str, by: str = "") -> str:
    """Pause all, in a transaction that has locked the graph; returns the words that are shown.

    `by` says who, if it is not the caller. When this is committed no claim is under way any more: each holds its
    dispatcher's record to its end, and the next one finds the row.
    """
    tx.conn.execute(_ALIVE).all()
    why = by_whom(tx, reason, by, about="all dispatchers")
    tx.conn.execute(delete(claims_pause))
    tx.conn.execute(insert(claims_pause).values(id=1, why=why))
    note(tx, None, "pause", f"claims of all dispatchers paused: {why}")
    tx.topics.add(QUEUE_TOPIC)
    return why


def finish(tx: Transaction, by: str = "") -> str:
    """End the pause of all, in a transaction that has locked the graph; returns why it was, empty if it was not."""
    why = of_all(tx.conn)
    if why:
        tx.conn.execute(delete(claims_pause))
        note(tx, None, "resume", by_whom(tx, "claims of all dispatchers go on", by))
        tx.topics.add(QUEUE_TOPIC)
    return why


def of_all(conn: Connection) -> str:
    """Why nobody may claim; empty when that is not so."""
    return str(conn.execute(_WHY).scalar() or "")


def of_dispatcher(tx: Transaction, row: Row) -> str:
    """Why this dispatcher may not claim: its own pause, or that of all; empty when it may."""
    return row["own_pause"] or of_all(tx.conn)


def inherited(tx: Transaction, name: str) -> str:
    """The pause of the record before, for a dispatcher of the caller's token that was lost and registers anew."""
    found = tx.conn.execute(_BEFORE, {"token": tx.caller.token_uuid, "name": name}).scalar()
    return str(found or "")


def _check_administrator(tx: Transaction) -> None:
    if tx.caller.kind != "root":
        raise forbidden("only an administrator may pause claims, or let them go on")


def _state(tx: Transaction, uuid: str, own: str) -> dict[str, Any]:
    return {"uuid": uuid, "paused": own or of_all(tx.conn)}
