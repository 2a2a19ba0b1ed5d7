"""What a dispatcher takes from the queue: claims, one by one or in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, or_, select, update

from nodemanager.server import heartbeat, pauses
from nodemanager.server.access import acting_dispatcher, acting_dispatcher_and, find
from nodemanager.server.errors import forbidden, invalid
from nodemanager.server.hot import HotStatement
from nodemanager.server.resources import RESOURCES, Projection, Row
from nodemanager.server.schema import IS_QUEUED, containers, dispatchers, shape_fits
from nodemanager.server.shapes import is_fit
from nodemanager.server.transaction import Call, Transaction

MAX_CLAIM = 1000
"""Containers of one claim call."""

_TURN_RESOLUTION = 5.0
"""`last_turn_at` is written by a claim only when it is older than so many seconds."""

_CONTAINERS = RESOURCES["containers"]
_c = containers.c
_HELD_STATES = ("Locked", "Running")

# Of what waits it reads nothing but the index `ix_containers_waiting` and `shape_fits`.
_MOST_URGENT = (
    select(_c.uuid)
    .where(
        pauses.ALL_MAY_CLAIM,
        heartbeat.IS_NOT_OLDER,
        IS_QUEUED,
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
    # Nothing to SQLite, which has one writer; lets several claims pass each other elsewhere. The weaker of
    # the two exclusive locks: `annotations` holds rows against the start of a container, not its claim.
    .with_for_update(skip_locked=True, key_share=True)
    .cte("most_urgent")
)
_NOW_OURS: Mapping[str, Any] = {
    "state": "Locked",
    "dispatcher": bindparam("dispatcher"),
    "claim_id": bindparam("claim"),
    "locked_by_uuid": bindparam("token"),
    "lock_count": _c.lock_count + 1,
    "locked_at": bindparam("now"),
    "modified_at": bindparam("now"),
    "modified_by_user_uuid": bindparam("user"),
    "avoid_dispatcher": None,
    "avoid_until": None,
}
_SHOWN = Projection(_CONTAINERS)
_CLAIM = HotStatement(
    update(containers)
    .where(_c.uuid.in_(select(_MOST_URGENT.c.uuid)))
    .values(_NOW_OURS)
    .returning(*_SHOWN.columns)
)
_CLAIM_ONE = (
    update(containers).where(_c.uuid == bindparam("key")).values(_NOW_OURS).returning(containers)
)
_OF_CLAIM = (_c.dispatcher == bindparam("dispatcher"), _c.claim_id == bindparam("claim"))
_CLAIMED_BEFORE = HotStatement(select(_c.uuid).where(*_OF_CLAIM).limit(1))
_CLAIMED_THEN = HotStatement(select(*_SHOWN.columns).where(*_OF_CLAIM))
_NOTE_TURN = (
    update(dispatchers)
    .where(
        # Other calls of the same dispatcher are not worth waiting for, and must not wait for each other.
        dispatchers.c.uuid.in_(
            select(dispatchers.c.uuid)
            .where(dispatchers.c.uuid == bindparam("dispatcher"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(last_turn_at=bindparam("now"), modified_at=bindparam("now"))
)
_WAITING = (IS_QUEUED, _c.priority > 0)
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

    The same `claim_id` again returns the containers of the first time, whatever became of them since. `paused`
    says why there are no others, if claims are paused.
    """
    limit = call.needed("limit")
    if not 1 <= limit <= MAX_CLAIM:
        raise invalid(f"limit: must be from 1 to {MAX_CLAIM}")
    me, epoch = call.needed("dispatcher"), call.needed("epoch")
    claim_id = call.arguments["claim_id"] or None
    ours = _ours(tx, me, claim_id)
    following: list[tuple[HotStatement, Mapping[str, Any]]] = []
    if claim_id is not None:
        following = [*tx.database.claim_lock(claim_id), (_CLAIMED_BEFORE, ours)]
    dispatcher, others = acting_dispatcher_and(tx, me, epoch, *following)
    _note_turn(tx, dispatcher)
    is_repeated = bool(others and others[-1])
    rows: list[tuple[Any, ...]] = []
    if is_repeated:
        rows = _CLAIMED_THEN.all(tx.conn, ours)
    elif not dispatcher["own_pause"]:
        rows = _CLAIM.all(tx.conn, {**ours, "most": limit, "beats": tx.known_beats})
    # Whoever has just claimed something is not paused; that is the call in which time counts.
    paused = "" if rows and not is_repeated else pauses.of_dispatcher(tx, dispatcher)
    items = [_SHOWN.record(row) for row in sorted(rows, key=_urgency)]
    return {"items": items, "paused": paused}


def claim_one(tx: Transaction, row: Row, dispatcher_uuid: str, epoch: int | None) -> Row:
    """Claim this container for the caller's dispatcher; `ServerError` 422 says why it cannot be."""
    if tx.caller.kind not in ("dispatcher", "root"):
        raise forbidden("only a dispatcher's token claims containers")
    dispatcher = acting_dispatcher(tx, dispatcher_uuid, epoch)
    paused = pauses.of_dispatcher(tx, dispatcher)
    if paused:
        raise invalid(f"dispatcher: claims are paused: {paused}")
    if heartbeat.is_older_than_known(tx, heartbeat.last_beat(tx.conn)):
        raise invalid("dispatcher: cannot lock while the database is older than it was")
    row = find(tx, _CONTAINERS, row["uuid"], lock=True)
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
    ours = _ours(tx, dispatcher["uuid"], None)
    return tx.conn.execute(_CLAIM_ONE, {**ours, "key": row["uuid"]}).mappings().one()


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


_PRIORITY, _CREATED, _UUID = (_SHOWN.names.index(n) for n in ("priority", "created_at", "uuid"))


def _urgency(row: Sequence[Any]) -> tuple[int, int, str]:
    return -row[_PRIORITY], row[_CREATED], row[_UUID]


def _ours(tx: Transaction, dispatcher_uuid: str, claim_id: str | None) -> dict[str, Any]:
    """What the statements that claim have to be told."""
    return {
        "dispatcher": dispatcher_uuid,
        "claim": claim_id,
        "token": tx.caller.token_uuid,
        "user": tx.caller.user_uuid,
        "now": tx.now,
    }


def _note_turn(tx: Transaction, dispatcher: Row) -> None:
    """A dispatcher that claims is going through its work; said at most every few seconds."""
    last = dispatcher["last_turn_at"]
    if last is None or tx.now - last >= _TURN_RESOLUTION * 1_000_000:
        tx.conn.execute(_NOTE_TURN, {"dispatcher": dispatcher["uuid"], "now": tx.now})
