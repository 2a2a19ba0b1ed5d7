"""What is the same for every resource: get, list; and for links and logs, create, update and delete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy import delete as delete_from

from nodemanager.container_request import plain
from nodemanager.server import rows
from nodemanager.server.access import find, lookup, restriction_of_list, sees
from nodemanager.server.errors import ServerError, forbidden, invalid, not_found
from nodemanager.server.hot import HotStatement
from nodemanager.server.links import check_link, check_not_written_elsewhere
from nodemanager.server.listing import list_records, selected
from nodemanager.server.resources import (
    RESOURCES,
    FieldType,
    Projection,
    Resource,
    Row,
    parse_micros,
)
from nodemanager.server.transaction import Call, Transaction

SET_BY_SERVER = frozenset(
    {
        "uuid", "kind", "etag", "href", "created_at", "modified_at", "modified_by_user_uuid",
        "modified_by_client_uuid",
    }
)  # fmt: skip
"""Dropped from what clients send, as stock Arvados does: clients send records back as they got them."""

# As in stock Arvados, whose columns are varchar(255). PostgreSQL cannot have more than 2.7 kB in an index.
_LONGEST_UUID = 255
_TOO_LONG = f"is longer than {_LONGEST_UUID} characters"

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


_UUID = re.compile(r"[a-z0-9]{5}-([a-z0-9]{5})-[a-z0-9]{15}")
_BY_INFIX: Mapping[str, Resource] = {each.infix: each for each in RESOURCES.values()}


def get(tx: Transaction, call: Call) -> dict[str, Any]:
    """One record the caller may see."""
    resource = RESOURCES[call.method.resource]
    if not sees(tx, tx.caller, resource, call.uuid):
        raise not_found()
    return shown(tx, resource, call.uuid, call.arguments.get("select"))


def shown(tx: Transaction, resource: Resource, uuid: str, select: Any) -> dict[str, Any]:
    """The record as it is now; `select` are the attributes to show, None for all."""
    names = selected(resource, select)
    projection, statement = _single(resource.plural, None if names is None else tuple(names))
    row = statement.first(tx.conn, {"key": uuid})
    if row is None:
        raise not_found()
    return projection.record(row)


@lru_cache(1000)
def _single(plural: str, names: tuple[str, ...] | None) -> tuple[Projection, HotStatement]:
    resource = RESOURCES[plural]
    projection = Projection(resource, names)
    statement = select(*projection.columns).where(resource.table.c.uuid == bindparam("key"))
    return projection, HotStatement(statement)


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
    if resource.plural == "links":
        check_link(tx.caller, values)
    check_references(tx, values)
    values["owner_uuid"] = own(tx, values.get("owner_uuid"))
    if resource.plural == "logs" and values.get("event_at") is None:
        values["event_at"] = tx.now
    return shown(tx, resource, add(tx, resource, values), call.select)


def update(tx: Transaction, call: Call) -> dict[str, Any]:
    """Change a link or (as administrator) a log entry."""
    resource = RESOURCES[call.method.resource]
    row = _to_be_changed(tx, resource, call)
    changed = changes_of(row, checked(resource, call.attributes))
    if resource.plural == "links":
        check_link(tx.caller, {**row, **changed})
    check_references(tx, changed)
    if "owner_uuid" in changed:
        changed["owner_uuid"] = own(tx, changed["owner_uuid"])
    if changed:
        rows.write(tx, resource.plural, call.uuid, changed)
    return shown(tx, resource, call.uuid, call.select)


def delete(tx: Transaction, call: Call) -> dict[str, Any]:
    """Remove a link or (as administrator) a log entry; answers what it was."""
    resource = RESOURCES[call.method.resource]
    _to_be_changed(tx, resource, call)
    return remove(tx, resource, call.uuid)


def _to_be_changed(tx: Transaction, resource: Resource, call: Call) -> Row:
    row = find(tx, resource, call.uuid, lock=True)
    if tx.caller.kind != "root" and (
        tx.caller.kind != "user"
        or resource.plural == "logs"
        or row["owner_uuid"] != tx.caller.user_uuid
    ):
        raise forbidden(f"{call.uuid} is not this token's to {call.method.name}")
    if resource.plural == "links":
        check_not_written_elsewhere(tx.caller, row)
    return row


def add(tx: Transaction, resource: Resource, values: Mapping[str, Any]) -> str:
    """Insert a record with `values`, which must name its owner, and return its UUID."""
    row = rows.new_record(tx, resource.plural, values)
    rows.add(tx, resource.plural, row)
    return str(row["uuid"])


def remove(tx: Transaction, resource: Resource, uuid: str) -> dict[str, Any]:
    """Delete the record, which must exist, and answer what it was."""
    record = shown(tx, resource, uuid, None)
    tx.conn.execute(delete_from(resource.table).where(resource.table.c.uuid == uuid))
    return record


def own(tx: Transaction, owner_uuid: Any) -> str:
    """The owner of what the caller makes: itself; only an administrator makes for other users."""
    if owner_uuid is None or owner_uuid == tx.caller.user_uuid:
        return str(tx.caller.user_uuid)
    if tx.caller.kind != "root":
        raise forbidden("owner_uuid: only an administrator makes records for others")
    if lookup(tx, RESOURCES["users"], str(owner_uuid)) is None:
        raise _unknown("owner_uuid", owner_uuid)
    return str(owner_uuid)


def check_references(tx: Transaction, attributes: Mapping[str, Any]) -> None:
    """Whatever is named by an attribute ending in ``_uuid`` must exist, and the caller must see it.

    UUIDs of kinds that we have no records of are taken as they are (arvados_model.rb, 856-929).
    `owner_uuid` is the business of `own`.
    """
    for name, value in attributes.items():
        if not name.endswith("_uuid") or name == "owner_uuid" or not isinstance(value, str):
            continue
        form = _UUID.fullmatch(value)
        resource = _BY_INFIX.get(form[1]) if form else None
        if resource is None:
            continue
        if lookup(tx, resource, value) is None or not sees(tx, tx.caller, resource, value):
            raise _unknown(name, value)


def _unknown(name: str, uuid: Any) -> ServerError:
    return invalid(f"{name}: '{ascii(uuid)[1:-1][:100]}' not found")


def changes_of(row: Row, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that the record does not have yet."""
    return {name: value for name, value in values.items() if row[name] != value}


def checked(resource: Resource, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as they are stored: known, of the right type; `ServerError` 422 names the wrong.

    Times become microseconds; what the server sets by itself is dropped.
    """
    stored: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in attributes.items():
        if name in SET_BY_SERVER or name in resource.computed:
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
        elif name.endswith("_uuid") and len(str(value)) > _LONGEST_UUID:
            problems.append(f"{name}: {_TOO_LONG}")
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
