"""Who may see which records, and who acts as which dispatcher.

A rule of sight is a condition of a query, so that one rule serves both a single record and a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, false, or_, select

from nodemanager.model import stored_output
from nodemanager.server import schema
from nodemanager.server.computed import pinged_lately
from nodemanager.server.dialect import dialect_of
from nodemanager.server.errors import forbidden, invalid, not_found
from nodemanager.server.hot import HotStatement, Parameters, all_of
from nodemanager.server.resources import RESOURCES, Resource, Row
from nodemanager.server.transaction import Call, Caller, Transaction

_MANY = 10_000
"""Requests of one caller from which on a list looks at one record after the other."""

_DISPATCHERS_SEE = ("containers", "container_requests", "dispatchers", "links", "logs", "nodes")

_requests = schema.container_requests.c
_containers = schema.containers.c
_links = schema.links.c
_logs = schema.logs.c
_attempts = schema.attempts.c


def restriction(
    caller: Caller, resource: Resource, *, singly: bool = False
) -> ColumnElement[bool] | None:
    """The records that `caller` may see, as a condition of a query; None: all of them.

    `singly`: written so that each record is judged that the query comes by, which is right for one record,
    and for a list from most of what there is; otherwise so that what the caller may see can be gathered
    first, which is right for a list of the few among many.
    """
    if caller.kind == "root":
        return None
    plural = resource.plural
    if caller.kind == "dispatcher" and plural in _DISPATCHERS_SEE:
        return None
    if caller.kind == "user" and plural == "dispatchers":
        # Whoever reads a reason needs to know how fresh it is: the dispatcher's last_turn_at.
        return None
    if plural == "users":
        return resource.table.c.uuid == caller.user_uuid
    if plural == "api_client_authorizations":
        return _tokens_of(caller)
    if caller.kind in ("user", "container"):
        return _seen_by(plural, caller, singly=singly)
    return false()


def restriction_of_list(tx: Transaction, resource: Resource) -> ColumnElement[bool] | None:
    """The `restriction` of the caller, in the form that serves a list better.

    With 100,000 containers of one user SQLite needs a second to gather them, and 10 ms for the first page
    the other way; for a user of ten it is the other way about. PostgreSQL finds its way by itself.
    """
    caller = tx.caller
    singly = False
    if (
        dialect_of(tx.conn).gathers_subqueries
        and caller.kind in ("user", "container")
        and resource.plural in ("containers", "links", "logs")
    ):
        many = select(_requests.uuid).where(_is_own(caller)).offset(_MANY).limit(1)
        singly = tx.conn.execute(many).first() is not None
    return restriction(caller, resource, singly=singly)


def _is_own(caller: Caller) -> ColumnElement[bool]:
    """The requests of a user, or those that a container has made."""
    if caller.kind == "container":
        return _requests.requesting_container_uuid == caller.container_uuid
    return _requests.owner_uuid == caller.user_uuid


def _tokens_of(caller: Caller) -> ColumnElement[bool]:
    """A user's own tokens; whoever is no user sees the one it shows."""
    tokens = schema.api_client_authorizations.c
    if caller.kind == "user":
        return and_(tokens.user_uuid == caller.user_uuid, tokens.caller_kind == "user")
    return tokens.uuid == caller.token_uuid


def _seen_by(plural: str, caller: Caller, *, singly: bool) -> ColumnElement[bool]:
    """The caller's own requests, and what is behind them: their containers of every attempt, why those
    wait, and what is logged of either. A container's token sees its container as well. Nodes are for users
    to see while they are there."""
    is_own = _is_own(caller)
    behind = (
        select(_attempts.container_uuid)
        .join_from(
            schema.attempts, schema.container_requests, _attempts.request_uuid == _requests.uuid
        )
        .where(is_own)
    )
    own = select(_requests.uuid).where(is_own)
    itself = caller.container_uuid

    def among(column: ColumnElement[Any], found: Select[Any]) -> ColumnElement[bool]:
        (key,) = found.selected_columns
        inside = exists(found.where(key == column)) if singly else column.in_(found)
        return inside if itself is None else or_(column == itself, inside)

    match plural:
        case "container_requests":
            return is_own
        case "containers":
            return among(_containers.uuid, behind)
        case "links":
            reasons = _links.link_class == "dispatch"
            seen = and_(reasons, among(_links.head_uuid, behind))
            return seen if itself else or_(_links.owner_uuid == caller.user_uuid, seen)
        case "nodes":
            return false() if itself else pinged_lately()
        case "logs":
            seen = or_(among(_logs.object_uuid, behind), among(_logs.object_uuid, own))
            if itself:
                return seen
            return or_(
                seen,
                _logs.owner_uuid == caller.user_uuid,
                _logs.object_owner_uuid == caller.user_uuid,
            )
        case _:
            return false()


def find(tx: Transaction, resource: Resource, uuid: str, *, lock: bool = False) -> Row:
    """The record, if the caller may see it; `ServerError` 404 otherwise. `lock`: see `lookup`."""
    row = lookup(tx, resource, uuid, lock=lock)
    if row is None or not sees(tx, tx.caller, resource, uuid):
        raise not_found()
    return row


def sees(tx: Transaction, caller: Caller, resource: Resource, uuid: str) -> bool:
    """Whether `caller` may see the record with this UUID, which must exist."""
    seen = restriction(caller, resource, singly=True)
    if seen is None or (caller.kind == "container" and caller.container_uuid == uuid):
        return True
    table = resource.table
    return (
        tx.conn.execute(select(table.c.uuid).where(table.c.uuid == uuid, seen)).first() is not None
    )


def reads_files(tx: Transaction, uuid: str) -> bool:
    """Whether the caller may read what the container with this UUID has left, its logs and its output.

    Whoever sees a container reads its files; of dispatchers the one that has, or had, claimed it, for its page. A
    container reads what its user would, and what its own mounts name: that was judged when its request was committed.
    """
    caller = tx.caller
    containers = RESOURCES["containers"]
    row = lookup(tx, containers, uuid)
    if row is None:
        return False
    if caller.kind == "dispatcher":
        return caller.dispatcher_uuid is not None and row["dispatcher"] == caller.dispatcher_uuid
    if caller.kind != "container" or caller.container_uuid == uuid:
        return sees(tx, caller, containers, uuid)
    itself = lookup(tx, containers, caller.container_uuid or "")
    is_input = itself is not None and uuid in inputs_of(itself["mounts"]).values()
    return is_input or sees(tx, Caller("user", user_uuid=caller.user_uuid), containers, uuid)


def inputs_of(mounts: Mapping[str, Any]) -> dict[str, str]:
    """The mounts, by their targets, that take what another container has left, and that one's UUID."""
    named = {
        target: stored_output(str(mount.get("path")))
        for target, mount in mounts.items()
        if mount["kind"] == "file"
    }
    return {target: found[0] for target, found in named.items() if found is not None}


def lookup(tx: Transaction, resource: Resource, uuid: str, *, lock: bool = False) -> Row | None:
    """The record, whoever asks. With `lock` nobody else changes it before this transaction is over."""
    if lock:
        tx.locks_record()
    return tx.conn.execute(_by_uuid(resource.plural, lock=lock), {"key": uuid}).mappings().first()


@lru_cache
def _by_uuid(plural: str, *, lock: bool) -> Select[Any]:
    table = RESOURCES[plural].table
    found = select(table).where(table.c.uuid == bindparam("key"))
    return found.with_for_update() if lock else found


def dispatcher_of_operator(tx: Transaction, call: Call) -> Row:
    """The dispatcher that an administrator's call is about, locked; 404, and 403 for whoever is none."""
    if tx.caller.kind != "root":
        raise forbidden(f"only an administrator may {call.method.name} a dispatcher")
    tx.lock_graph()
    row = lookup(tx, RESOURCES["dispatchers"], call.uuid, lock=True)
    if row is None:
        raise not_found()
    return row


def acting_dispatcher(
    tx: Transaction, uuid: Any, epoch: int | None, *, renews: bool = False
) -> Row:
    """The dispatcher (what `_LOOKED_AT` selects of it), when the caller is its present process.

    It stays as it is until the transaction is over: what a dispatcher writes while it is being declared
    lost comes wholly before or not at all. `renews`: the record itself is going to be written.
    `ServerError` 403 for another's dispatcher, a lost or retired one, and an older epoch: then another
    process has taken the record up, and this one must stop. A newer epoch than the record's is one that the
    database has forgotten, since it was restored from a backup: whoever renews has the record back.
    """
    row, _others = acting_dispatcher_and(tx, uuid, epoch, renews=renews)
    return row


def acting_dispatcher_and(
    tx: Transaction,
    uuid: Any,
    epoch: int | None,
    *following: tuple[HotStatement, Parameters],
    renews: bool = False,
) -> tuple[Row, list[list[tuple[Any, ...]]]]:
    """`acting_dispatcher`, and the rows of what is executed right after it, whatever comes of it."""
    statement = _READ
    if tx.writes:
        tx.locks_record()
        statement = _RENEWED if renews else _ACTING
    if not isinstance(uuid, str):
        raise invalid(f"dispatcher: {uuid!r} not found")
    rows, *others = all_of(tx.conn, (statement, {"key": uuid}), *following)
    if not rows:
        # By the path of the call, or by its body.
        raise not_found() if renews else invalid(f"dispatcher: {uuid!r} not found")
    row = _checked(tx, uuid, rows[0])
    is_forgotten = renews and epoch is not None and epoch > row["epoch"]
    if epoch not in (None, row["epoch"]) and not is_forgotten:
        raise forbidden(
            f"dispatcher {uuid} is at epoch {row['epoch']}, not {epoch}: another process acts as it"
        )
    return row, others


def _checked(tx: Transaction, uuid: str, found: tuple[Any, ...]) -> Row:
    row = dict(zip(_LOOKED_AT, found, strict=True))
    if row["token_uuid"] != tx.caller.token_uuid:
        raise forbidden(f"{uuid} is not the dispatcher of this token")
    if row["state"] != "alive":
        raise forbidden(f"dispatcher {uuid} is {row['state']}; cancel its jobs and register anew")
    return row


_LOOKED_AT = ("uuid", "name", "token_uuid", "state", "epoch", "last_turn_at", "own_pause")
_dispatchers = RESOURCES["dispatchers"].table.c
_BARE = select(*(_dispatchers[name] for name in _LOOKED_AT)).where(
    _dispatchers.uuid == bindparam("key")
)
_READ = HotStatement(_BARE)
_ACTING = HotStatement(_BARE.with_for_update(read=True))
_RENEWED = HotStatement(_BARE.with_for_update())
