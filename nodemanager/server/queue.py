"""What a dispatcher takes from the queue (claims), and how it hears of changes to what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, or_, select, update

from nodemanager.server.access import acting_dispatcher
from nodemanager.server.attempts import write
from nodemanager.server.errors import forbidden, invalid
from nodemanager.server.resources import RESOURCES, Row, render
from nodemanager.server.schema import containers, shape_fits
from nodemanager.server.shapes import is_fit
from nodemanager.server.transaction import Call, Transaction

MAX_CLAIM = 1000
"""Containers of one claim call, and changes of one answer."""

_TURN_RESOLUTION = 5.0
"""`last_turn_at` is written by a claim only when it is older than so many seconds."""

_CONTAINERS = RESOURCES["containers"]
_c = containers.c
_HELD_STATES = ("Locked", "Running")

# The first step of a claim: reads nothing but the index `ix_containers_waiting` and `shape_fits`.
_MOST_URGENT = (
    select(_c.uuid)
    .where(
        _c.state == "Queued",
        _c.priority > 0,
        _c.hold.is_(False),
        or_(_c.run_after.is_(None), _c.run_after <= bindparam("now")),
        or_(
            _c.avoid_dispatcher.is_(None),
            _c.avoid_dispatcher != bindparam("dispatcher"),
            _c.avoid_until <= bindparam("now"),
        ),
        _c.shape_id.in_(
            select(shape_fits.c.shape_id).where(
                shape_fits.c.dispatcher_uuid == bindparam("dispatcher")
            )
        ),
    )
    .order_by(_c.priority.desc(), _c.created_at, _c.uuid)
    .limit(bindparam("most"))
    # Nothing to SQLite, which has one writer; lets several claims pass each other elsewhere.
    .with_for_update(skip_locked=True)
)
_LOCK = (
    update(containers)
    .where(_c.uuid.in_(bindparam("uuids", expanding=True)))
    .values(
        state="Locked",
        dispatcher=bindparam("dispatcher_uuid"),
        claim_id=bindparam("claim"),
        locked_by_uuid=bindparam("token"),
        lock_count=_c.lock_count + 1,
        locked_at=bindparam("now"),
        modified_at=bindparam("now"),
        modified_by_user_uuid=bindparam("user"),
        avoid_dispatcher=None,
        avoid_until=None,
    )
    .returning(containers)
)
_CLAIMED_BEFORE = select(containers).where(
    _c.dispatcher == bindparam("dispatcher"), _c.claim_id == bindparam("claim")
)
_CHANGED = (
    select(containers)
    .where(_c.dispatcher == bindparam("dispatcher"), _c.change_seq > bindparam("cursor"))
    .order_by(_c.change_seq)
    .limit(bindparam("most"))
)
_WAITING = (_c.state == "Queued", _c.priority > 0)
_NEXT_RUN_AFTER = (
    select(_c.run_after)
    .where(*_WAITING, _c.run_after > bindparam("now"))
    .order_by(_c.run_after)
    .limit(1)
)
_NEXT_AVOIDED = (
    select(_c.avoid_until)
    .where(*_WAITING, _c.avoid_until > bindparam("now"))
    .order_by(_c.avoid_until)
    .limit(1)
)


def claim(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.claim``: the most urgent containers that this dispatcher can run, now its own.

    The same `claim_id` again returns the containers of the first time, whatever became of them since.
    """
    dispatcher = acting_dispatcher(tx, call.needed("dispatcher"), call.needed("epoch"))
    limit = call.needed("limit")
    if not 1 <= limit <= MAX_CLAIM:
        raise invalid(f"limit: must be from 1 to {MAX_CLAIM}")
    claim_id = call.arguments["claim_id"] or None
    _note_turn(tx, dispatcher)
    rows: Sequence[Row] = _claimed_before(tx, dispatcher["uuid"], claim_id)
    if not rows:
        found = tx.conn.execute(
            _MOST_URGENT, {"now": tx.now, "dispatcher": dispatcher["uuid"], "most": limit}
        )
        rows = _lock(tx, list(found.scalars()), dispatcher["uuid"], claim_id)
    rows = sorted(rows, key=lambda row: (-row["priority"], row["created_at"], row["uuid"]))
    return {"items": [render(_CONTAINERS, row) for row in rows]}


def claim_one(tx: Transaction, row: Row, dispatcher_uuid: str, epoch: int | None) -> Row:
    """Claim this container for the caller's dispatcher; `ServerError` 422 says why it cannot be."""
    if tx.caller.kind not in ("dispatcher", "root"):
        raise forbidden("only a dispatcher's token claims containers")
    dispatcher = acting_dispatcher(tx, dispatcher_uuid, epoch)
    if row["state"] != "Queued":
        raise invalid(f"dispatcher: cannot lock when {row['state']}")
    if row["priority"] <= 0:
        raise invalid("dispatcher: cannot lock when priority<=0")
    if row["hold"]:
        raise invalid("dispatcher: cannot lock while on hold")
    if row["run_after"] is not None and row["run_after"] > tx.now:
        raise invalid("dispatcher: cannot lock before run_after")
    if not is_fit(tx.conn, dispatcher["uuid"], row["shape_id"]):
        raise invalid(f"dispatcher: {row['uuid']} does not fit its capabilities")
    return _lock(tx, [row["uuid"]], dispatcher["uuid"], None)[0]


def changes(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.changes``: what others changed of the dispatcher's containers since `cursor`.

    Others: the runner, the owner of the request, the API itself. The dispatcher's own writes are
    answered where they are made. An empty cursor asks for the present position.
    """
    dispatcher = acting_dispatcher(tx, call.needed("dispatcher"), call.needed("epoch"))
    cursor = call.arguments["cursor"]
    limit = call.needed("limit")
    if not 1 <= limit <= MAX_CLAIM:
        raise invalid(f"limit: must be from 1 to {MAX_CLAIM}")
    if not cursor:
        return {"items": [], "cursor": str(dispatcher["change_seq"])}
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


def next_due(conn: Connection, now: int) -> int | None:
    """When, in microseconds, a waiting container will next become claimable without anybody's doing."""
    found = [
        conn.execute(statement, {"now": now}).scalar()
        for statement in (_NEXT_RUN_AFTER, _NEXT_AVOIDED)
    ]
    return min((moment for moment in found if moment is not None), default=None)


def held_count(conn: Connection, dispatcher_uuid: str) -> int:
    """How many containers the dispatcher has Locked or Running."""
    return conn.execute(
        select(func.count()).where(_c.dispatcher == dispatcher_uuid, _c.state.in_(_HELD_STATES))
    ).scalar_one()


def _claimed_before(tx: Transaction, dispatcher_uuid: str, claim_id: str | None) -> Sequence[Row]:
    if claim_id is None:
        return []
    return (
        tx.conn.execute(_CLAIMED_BEFORE, {"dispatcher": dispatcher_uuid, "claim": claim_id})
        .mappings()
        .all()
    )


def _lock(
    tx: Transaction, uuids: list[str], dispatcher_uuid: str, claim_id: str | None
) -> Sequence[Row]:
    if not uuids:
        return []
    return (
        tx.conn.execute(
            _LOCK,
            {
                "uuids": uuids,
                "dispatcher_uuid": dispatcher_uuid,
                "claim": claim_id,
                "token": tx.caller.token_uuid,
                "user": tx.caller.user_uuid,
                "now": tx.now,
            },
        )
        .mappings()
        .all()
    )


def _note_turn(tx: Transaction, dispatcher: Row) -> None:
    """A dispatcher that claims is going through its work; said at most every few seconds."""
    last = dispatcher["last_turn_at"]
    if last is None or tx.now - last >= _TURN_RESOLUTION * 1_000_000:
        write(tx, "dispatchers", dispatcher["uuid"], {"last_turn_at": tx.now})
