"""One row, made and written on the short way: by statements that are built once, and run by the driver (`hot`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, insert, update

from nodemanager.model import new_uuid
from nodemanager.server.hot import HotStatement, plain_value
from nodemanager.server.resources import RESOURCES
from nodemanager.server.transaction import Transaction


def write(tx: Transaction, plural: str, uuid: str, columns: Mapping[str, Any]) -> None:
    """Set `columns` of one record, and who did it when."""
    stamped = {
        **columns,
        "modified_at": tx.now,
        "modified_by_user_uuid": tx.caller.user_uuid,
    }
    values = {f"new_{name}": plain_value(value) for name, value in stamped.items()}
    _update_of(plural, tuple(sorted(stamped))).each(tx.conn, [{**values, "key": uuid}])


def new_record(tx: Transaction, plural: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A whole row that is about to be added: `values`, defaults for the rest, a UUID, who made it when."""
    resource = RESOURCES[plural]
    return {
        **{field.name: field.default for field in resource.fields},
        **values,
        "uuid": new_uuid(tx.cluster_id, resource.singular),
        "created_at": tx.now,
        "modified_at": tx.now,
        "modified_by_user_uuid": tx.caller.user_uuid,
    }


def add(tx: Transaction, plural: str, row: Mapping[str, Any]) -> None:
    """Insert a record; `row` has all its columns."""
    values = {name: plain_value(value) for name, value in row.items()}
    _insert_of(plural).each(tx.conn, [values])


@lru_cache(1000)
def _update_of(plural: str, columns: tuple[str, ...]) -> HotStatement:
    """The statement that sets `columns` of the record ``key``; built once for each set of columns."""
    table = RESOURCES[plural].table
    return HotStatement(
        update(table)
        .where(table.c.uuid == bindparam("key"))
        .values({name: bindparam(f"new_{name}", type_=table.c[name].type) for name in columns})
    )


@lru_cache
def _insert_of(plural: str) -> HotStatement:
    table = RESOURCES[plural].table
    return HotStatement(
        insert(table).values({c.name: bindparam(c.name, type_=c.type) for c in table.columns})
    )
