"""Users: the system's own, those that the operator's command makes, and those that administrators make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from nodemanager.model import new_uuid
from nodemanager.server import records
from nodemanager.server.access import find
from nodemanager.server.errors import forbidden, invalid
from nodemanager.server.resources import RESOURCES
from nodemanager.server.rows import write
from nodemanager.server.schema import users as table
from nodemanager.server.tokens import root_user_uuid
from nodemanager.server.transaction import Call, Transaction

_USERS = RESOURCES["users"]
_LONGEST_NAME = 255


def create(tx: Transaction, call: Call) -> dict[str, Any]:
    """``users.create``, for administrators."""
    _check_administrator(tx)
    # Two calls must not choose the same name.
    tx.lock_graph()
    values = {"username": "", **records.checked(_USERS, call.attributes)}
    _check_username(tx, values["username"])
    values["owner_uuid"] = records.own(tx, values.get("owner_uuid"))
    return records.shown(tx, _USERS, records.add(tx, _USERS, values), call.select)


def update(tx: Transaction, call: Call) -> dict[str, Any]:
    """``users.update``, for administrators. The tokens of a user who is not active are nobody's."""
    _check_administrator(tx)
    tx.lock_graph()
    row = find(tx, _USERS, call.uuid, lock=True)
    changed = records.changes_of(row, records.checked(_USERS, call.attributes))
    if "username" in changed:
        _check_username(tx, changed["username"])
    if "owner_uuid" in changed:
        changed["owner_uuid"] = records.own(tx, changed["owner_uuid"])
    if call.uuid == root_user_uuid(tx.cluster_id) and {"is_active", "is_admin"} & changed.keys():
        raise invalid("is_active, is_admin: the system user acts for the API itself")
    if changed:
        write(tx, "users", call.uuid, changed)
    return records.shown(tx, _USERS, call.uuid, call.select)


def current(tx: Transaction, call: Call) -> dict[str, Any]:
    """``users.current``."""
    return records.shown(tx, _USERS, str(tx.caller.user_uuid), call.select)


def ensure_root_user(conn: Connection, cluster_id: str, now: int) -> None:
    """The system user's record, which every record made by the root token belongs to."""
    uuid = root_user_uuid(cluster_id)
    if conn.execute(select(table.c.uuid).where(table.c.uuid == uuid)).first() is None:
        _insert(conn, uuid, uuid, now, {"username": "root", "is_admin": True})


def user_of_name(conn: Connection, cluster_id: str, name: str, now: int) -> str:
    """The UUID of the user called `name`, who is made when there is none. `now` in microseconds."""
    check_name("user", name)
    uuid = conn.execute(select(table.c.uuid).where(table.c.username == name)).scalar()
    if uuid is None:
        uuid = new_uuid(cluster_id, "user")
        _insert(conn, uuid, root_user_uuid(cluster_id), now, {"username": name})
    return str(uuid)


def check_name(kind: str, name: str) -> None:
    """Refuse what is no name for a `kind` (user, dispatcher) that people are to type."""
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise invalid(f"{kind} name {name!r}: must be 1 to {_LONGEST_NAME} printable characters")


def _check_administrator(tx: Transaction) -> None:
    if tx.caller.kind != "root":
        raise forbidden("only an administrator makes and changes users")


def _check_username(tx: Transaction, name: str) -> None:
    check_name("user", name)
    found = tx.conn.execute(select(table.c.uuid).where(table.c.username == name)).scalar()
    if found is not None:
        raise invalid(f"username: '{name}' is taken by {found}")


def _insert(
    conn: Connection, uuid: str, owner_uuid: str, now: int, values: Mapping[str, Any]
) -> None:
    row = {field.name: field.default for field in _USERS.fields}
    row |= {
        "uuid": uuid, "owner_uuid": owner_uuid, "created_at": now, "modified_at": now,
        "modified_by_user_uuid": owner_uuid, **values,
    }  # fmt: skip
    conn.execute(insert(table), row)
