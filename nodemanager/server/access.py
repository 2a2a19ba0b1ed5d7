"""Who may see which records, and who acts as which dispatcher.

A rule of sight is a set of columns and the values they must have, so that one rule serves both a single
record and, as a condition of the query, a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, select

from nodemanager.server.errors import forbidden, invalid, not_found
from nodemanager.server.hot import HotStatement
from nodemanager.server.resources import RESOURCES, Resource, Row
from nodemanager.server.transaction import Caller, Transaction

_NOBODY: Mapping[str, Any] = {"uuid": ""}
_DISPATCHERS_SEE = ("containers", "container_requests", "dispatchers", "links", "logs")


def sight(caller: Caller, resource: Resource) -> Mapping[str, Any] | None:
    """The columns and values of the records that `caller` may see; None: all of them."""
    if caller.kind == "root":
        return None
    name = resource.plural
    if caller.kind == "dispatcher" and name in _DISPATCHERS_SEE:
        return None
    if caller.kind == "container":
        return {"uuid": caller.container_uuid} if name == "containers" else _NOBODY
    if caller.kind not in ("user", "dispatcher"):
        return _NOBODY
    if name == "users":
        return {"uuid": caller.user_uuid}
    if name == "dispatchers":
        # Whoever reads a reason needs to know how fresh it is: the dispatcher's last_turn_at.
        return None
    return {"owner_uuid": caller.user_uuid}


def restriction(caller: Caller, resource: Resource) -> ColumnElement[bool] | None:
    """`sight` as a condition of a query."""
    seen = sight(caller, resource)
    if seen is None:
        return None
    return and_(*(resource.table.c[name] == value for name, value in seen.items()))


def find(tx: Transaction, resource: Resource, uuid: str, *, lock: bool = False) -> Row:
    """The record, if the caller may see it; `ServerError` 404 otherwise. `lock`: see `lookup`."""
    row = lookup(tx, resource, uuid, lock=lock)
    seen = sight(tx.caller, resource)
    if row is None or any(row[name] != value for name, value in (seen or {}).items()):
        raise not_found()
    return row


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


def acting_dispatcher(
    tx: Transaction, uuid: Any, epoch: int | None, *, renews: bool = False
) -> Row:
    """The dispatcher (what `_LOOKED_AT` selects of it), when the caller is its present process.

    It stays as it is until the transaction is over: what a dispatcher writes while it is being declared
    lost comes wholly before or not at all. `renews`: the record itself is going to be written.
    `ServerError` 403 for another's dispatcher, a lost or retired one, and an older epoch: then another
    process has taken the record up, and this one must stop.
    """
    statement = _READ
    if tx.writes:
        tx.locks_record()
        statement = _RENEWED if renews else _ACTING
    found = statement.first(tx.conn, {"key": uuid}) if isinstance(uuid, str) else None
    if found is None:
        raise invalid(f"dispatcher: {uuid!r} not found")
    row = dict(zip(_LOOKED_AT, found, strict=True))
    if row["token_uuid"] != tx.caller.token_uuid:
        raise forbidden(f"{uuid} is not the dispatcher of this token")
    if row["state"] != "alive":
        raise forbidden(f"dispatcher {uuid} is {row['state']}; cancel its jobs and register anew")
    if epoch is not None and epoch != row["epoch"]:
        raise forbidden(
            f"dispatcher {uuid} is at epoch {row['epoch']}, not {epoch}: another process acts as it"
        )
    return row


_LOOKED_AT = ("uuid", "name", "token_uuid", "state", "epoch", "last_turn_at")
_dispatchers = RESOURCES["dispatchers"].table.c
_BARE = select(*(_dispatchers[name] for name in _LOOKED_AT)).where(
    _dispatchers.uuid == bindparam("key")
)
_READ = HotStatement(_BARE)
_ACTING = HotStatement(_BARE.with_for_update(read=True))
_RENEWED = HotStatement(_BARE.with_for_update())
