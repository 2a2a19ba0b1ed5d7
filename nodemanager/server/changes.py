"""How a dispatcher hears of what others changed of its containers: numbered, and read from a cursor on.

Others: the runner, the owner of the request, the API itself. The dispatcher's own writes are answered where
they are made. The numbers of one dispatcher are given out at the end of the transaction that changed
something, under a lock that lasts to its commit: whoever reads up to a number has seen all below it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, insert, select, update

from nodemanager.server.access import acting_dispatcher
from nodemanager.server.errors import invalid
from nodemanager.server.hot import HotStatement
from nodemanager.server.resources import RESOURCES, render
from nodemanager.server.schema import WAS_CHANGED, change_counters, containers
from nodemanager.server.transaction import Call, Transaction, dispatcher_topic

MAX_CHANGES = 1000
"""Items of one answer."""

_CONTAINERS = RESOURCES["containers"]
_c = containers.c
_counter = change_counters.c
_LAST = select(_counter.seq).where(_counter.dispatcher_uuid == bindparam("dispatcher"))
_COUNT = HotStatement(
    update(change_counters)
    .where(_counter.dispatcher_uuid == bindparam("dispatcher"))
    .values(seq=_counter.seq + bindparam("number"))
    .returning(_counter.seq)
)
_NUMBER = HotStatement(
    update(containers).where(_c.uuid == bindparam("key")).values(change_seq=bindparam("seq"))
)
_CHANGED = (
    select(containers)
    .where(
        WAS_CHANGED,
        _c.dispatcher == bindparam("dispatcher"),
        _c.change_seq > bindparam("cursor"),
    )
    .order_by(_c.change_seq)
    .limit(bindparam("most"))
)


def begin_counting(tx: Transaction, dispatcher_uuid: str) -> None:
    """For a dispatcher that has just been made."""
    tx.conn.execute(insert(change_counters).values(dispatcher_uuid=dispatcher_uuid, seq=0))


def flush(tx: Transaction) -> None:
    """Number what `tx` changed; to be called last, since all of a dispatcher's runners count here."""
    for dispatcher, uuids in sorted(tx.changed.items()):
        counted = _COUNT.first(tx.conn, {"dispatcher": dispatcher, "number": len(uuids)})
        assert counted is not None  # noqa: S101  (every dispatcher has a counter)
        first = counted[0] - len(uuids) + 1
        _NUMBER.each(
            tx.conn, [{"key": uuid, "seq": first + place} for place, uuid in enumerate(uuids)]
        )
        tx.topics.add(dispatcher_topic(dispatcher))


def changes(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.changes``: what others changed of the dispatcher's containers since `cursor`.

    An empty cursor asks for the present position.
    """
    dispatcher = acting_dispatcher(tx, call.needed("dispatcher"), call.needed("epoch"))
    cursor = call.arguments["cursor"]
    limit = call.needed("limit")
    if not 1 <= limit <= MAX_CHANGES:
        raise invalid(f"limit: must be from 1 to {MAX_CHANGES}")
    if not cursor:
        last = tx.conn.execute(_LAST, {"dispatcher": dispatcher["uuid"]}).scalar_one()
        return {"items": [], "cursor": str(last)}
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise invalid("cursor: must be one that an earlier answer gave, or empty")
    rows = (
        tx.conn.execute(
            _CHANGED,
            {"dispatcher": dispatcher["uuid"], "cursor": int(cursor), "most": limit},
        )
        .mappings()
        .all()
    )
    last = rows[-1]["change_seq"] if rows else int(cursor)
    return {"items": [render(_CONTAINERS, row) for row in rows], "cursor": str(last)}
