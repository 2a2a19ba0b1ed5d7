"""What is the same for every resource: get, list; and for links and logs, create and delete."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy import delete as delete_from

from nodemanager.container_request import plain
from nodemanager.model import new_uuid
from nodemanager.server.access import find, restriction_of_list, sees
from nodemanager.server.errors import ServerError, forbidden, invalid, not_found
from nodemanager.server.hot import HotStatement
from nodemanager.server.listing import list_records
from nodemanager.server.resources import (
    RESOURCES,
    FieldType,
    Projection,
    Resource,
    parse_micros,
    render,
)
from nodemanager.server.transaction import Call, Caller, Transaction

SET_BY_SERVER = frozenset(
    {
        "uuid", "kind", "etag", "href", "created_at", "modified_at", "modified_by_user_uuid",
        "modified_by_client_uuid",
    }
)  # fmt: skip
"""Dropped from what clients send, as stock Arvados does: clients send records back as they got them."""

_TYPES: Mapping[FieldType, tuple[type, ...]] = {
    FieldType.STRING: (str,),
    FieldType.TEXT: (str,),
    FieldType.INTEGER: (int,),
    FieldType.FLOAT: (int, float),
    FieldType.BOOLEAN: (bool,),
    FieldType.DATETIME: (str,),
    FieldType.JSON_OBJECT: (dict,),
    FieldType.JSON_ARRAY: (list,),
}


def get(tx: Transaction, call: Call) -> dict[str, Any]:
    """One record the caller may see."""
    resource = RESOURCES[call.method.resource]
    if not sees(tx, tx.caller, resource, call.uuid):
        raise not_found()
    shown, statement = _single(resource.plural, None if call.select is None else tuple(call.select))
    row = statement.first(tx.conn, {"key": call.uuid})
    if row is None:
        raise not_found()
    return shown.record(row)


@lru_cache(1000)
def _single(plural: str, names: tuple[str, ...] | None) -> tuple[Projection, HotStatement]:
    resource = RESOURCES[plural]
    shown = Projection(resource, names)
    columns = shown.columns or [resource.table.c.uuid]
    return shown, HotStatement(select(*columns).where(resource.table.c.uuid == bindparam("key")))


def list_(tx: Transaction, call: Call) -> dict[str, Any]:
    """Many records the caller may see."""
    resource = RESOURCES[call.method.resource]
    return list_records(tx.conn, resource, call.arguments, restriction_of_list(tx, resource))


def create(tx: Transaction, call: Call) -> dict[str, Any]:
    """A link or a log entry of the caller's own."""
    resource = RESOURCES[call.method.resource]
    if tx.caller.kind not in ("root", "user"):
        raise forbidden(f"this token may not create {resource.plural}")
    values = checked(resource, call.attributes)
    owner = own(tx.caller, values.get("owner_uuid"))
    if values.get("link_class") == "dispatch":
        raise invalid("link_class: dispatch links are made by containers.annotate")
    row: dict[str, Any] = {f.name: f.default for f in resource.fields}
    row.update(values)
    row.update(
        uuid=new_uuid(tx.cluster_id, resource.singular),
        owner_uuid=owner,
        created_at=tx.now,
        modified_at=tx.now,
        modified_by_user_uuid=tx.caller.user_uuid,
    )
    if "event_at" in row and row["event_at"] is None:
        row["event_at"] = tx.now
    tx.conn.execute(insert(resource.table).values(**row))
    return render(resource, row, call.select)


def delete(tx: Transaction, call: Call) -> dict[str, Any]:
    """Remove a link or (as administrator) a log entry; answers what it was."""
    resource = RESOURCES[call.method.resource]
    row = find(tx, resource, call.uuid)
    if tx.caller.kind != "root" and (
        resource.plural == "logs" or row["owner_uuid"] != tx.caller.user_uuid
    ):
        raise forbidden(f"{call.uuid} is not this token's to delete")
    if tx.caller.kind != "root" and row.get("link_class") == "dispatch":
        # It belongs to the container's user to be read; its dispatcher would not say it again.
        raise forbidden(f"{call.uuid} is its dispatcher's to take back")
    tx.conn.execute(delete_from(resource.table).where(resource.table.c.uuid == call.uuid))
    return render(resource, row)


def own(caller: Caller, owner_uuid: Any) -> str:
    """The owner of what the caller makes: itself; only an administrator makes for others."""
    if owner_uuid is None or owner_uuid == caller.user_uuid:
        return str(caller.user_uuid)
    if caller.kind != "root":
        raise forbidden("owner_uuid: only an administrator makes records for others")
    return str(owner_uuid)


def checked(resource: Resource, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as they are stored: known, of the right type; `ServerError` 422 names the wrong.

    Times become microseconds; what the server sets by itself is dropped.
    """
    stored: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in attributes.items():
        if name in SET_BY_SERVER:
            continue
        field = resource.field(name)
        if field is None or not field.published:
            problems.append(f"{ascii(name)[1:-1][:100]}: unknown field of {resource.singular}")
            continue
        expected = _TYPES[field.type]
        wrong_bool = isinstance(value, bool) and bool not in expected
        if value is None:
            stored[name] = field.default
        elif not isinstance(value, expected) or wrong_bool:
            problems.append(f"{name}: must be of type {field.type}")
        elif broken := [str(p) for p in plain(name, value)]:
            problems.extend(broken)
        elif field.type is FieldType.DATETIME:
            try:
                stored[name] = parse_micros(str(value))
            except (ValueError, OverflowError):
                problems.append(f"{name}: is not a time with a zone, such as 2026-01-31T12:00:00Z")
        else:
            stored[name] = value
    if problems:
        raise ServerError(422, problems)
    return stored
