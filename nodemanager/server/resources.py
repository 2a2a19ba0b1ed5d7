"""The resources of the API: what schema checks, rendering, discovery and list filters are made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from orjson import Fragment
from sqlalchemy import ColumnElement, Table, Text, cast

from nodemanager.model import UUID_INFIX
from nodemanager.server import schema
from nodemanager.server.computed import COMPUTED, Computed
from nodemanager.server.schema import Field, FieldType

__all__ = [
    "MADE_FROM",
    "RESOURCES",
    "Field",
    "FieldType",
    "Projection",
    "Resource",
    "Row",
    "as_read",
    "format_micros",
    "parse_micros",
    "render",
]

Row = Mapping[Any, Any]
"""Column names to stored values: a row of the database, or what is about to be one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Resource:
    """One kind of record, under the names it has in paths, bodies, schemas and UUIDs."""

    plural: str
    singular: str
    schema: str
    table: Table
    fields: tuple[Field, ...]
    """Those that are columns of `table`."""
    computed: Mapping[str, Computed] = field(default_factory=dict)
    """Those that are not; nobody writes them."""

    @property
    def kind(self) -> str:
        """What a record says it is: ``arvados#container``."""
        return f"arvados#{self.schema[0].lower()}{self.schema[1:]}"

    @property
    def infix(self) -> str:
        """The middle of its UUIDs."""
        return UUID_INFIX[self.singular]

    def field(self, name: str) -> Field | None:
        """The field called `name`, published or not."""
        return _fields_by_name(self.plural).get(name)

    @property
    def published(self) -> tuple[Field, ...]:
        """The fields a client may see, select and filter by."""
        return (
            *(f for f in self.fields if f.published),
            *(each.field for each in self.computed.values()),
        )

    def expression(self, field: Field) -> ColumnElement[Any]:
        """The field in a query."""
        computed = self.computed.get(field.name)
        return self.table.c[field.name] if computed is None else computed.expression


RESOURCES: Mapping[str, Resource] = {
    resource.plural: resource
    for resource in (
        Resource(
            "container_requests",
            "container_request",
            "ContainerRequest",
            schema.container_requests,
            schema.CONTAINER_REQUEST_FIELDS,
        ),
        Resource(
            "containers", "container", "Container", schema.containers, schema.CONTAINER_FIELDS
        ),
        Resource(
            "dispatchers",
            "dispatcher",
            "Dispatcher",
            schema.dispatchers,
            schema.DISPATCHER_FIELDS,
            COMPUTED["dispatchers"],
        ),
        Resource("links", "link", "Link", schema.links, schema.LINK_FIELDS, COMPUTED["links"]),
        Resource("logs", "log", "Log", schema.logs, schema.LOG_FIELDS, COMPUTED["logs"]),
        Resource("nodes", "node", "Node", schema.nodes, schema.NODE_FIELDS, COMPUTED["nodes"]),
        Resource("users", "user", "User", schema.users, schema.USER_FIELDS),
        Resource(
            "api_client_authorizations",
            "api_client_authorization",
            "ApiClientAuthorization",
            schema.api_client_authorizations,
            schema.AUTHORIZATION_FIELDS,
        ),
    )
}


def render(resource: Resource, row: Row, select: Collection[str] | None = None) -> dict[str, Any]:
    """The record as clients see it: stock JSON, hidden fields never.

    `row` maps column names to stored values. With `select`, only those of its fields (and `kind`); a
    column that `row` lacks is left out.
    """
    record: dict[str, Any] = {"kind": resource.kind}
    for name, convert in _renderers(resource.plural):
        if name in row and (select is None or name in select):
            value = row[name]
            record[name] = value if convert is None or value is None else convert(value)
    if "uuid" in row and (select is None or "href" in select):
        record["href"] = f"/{resource.plural}/{row['uuid']}"
    if "modified_at" in row and (select is None or "etag" in select):
        record["etag"] = f"{row['modified_at'] or 0:x}"
    return record


class Projection:
    """The published fields of a resource, or some of them, on the shortest way from table to answer.

    Select `columns`, and `record` makes of each row the record as clients see it. JSON columns are read
    as the text they are stored as, and put into the answer unread. `select` are the attributes to show
    (and `kind`); None: all.
    """

    def __init__(self, resource: Resource, select: Collection[str] | None = None) -> None:
        made_from = {MADE_FROM[name] for name in MADE_FROM if select is None or name in select}
        fields = [
            f
            for f in resource.published
            if select is None or f.name in select or f.name in made_from
        ] or [f for f in resource.published if f.name == "uuid"]  # a row has to have something
        self.names = [f.name for f in fields]
        self.columns: list[ColumnElement[Any]] = [as_read(resource, f) for f in fields]
        self._kind = resource.kind
        self._plural = resource.plural
        self._converted = [
            (place, f.name, _CONVERTERS[f.type])
            for place, f in enumerate(fields)
            if f.type in _CONVERTERS
        ]
        self._shows = frozenset(MADE_FROM if select is None else select)
        self._hidden = [] if select is None else [n for n in self.names if n not in select]

    def record(self, row: Sequence[Any]) -> dict[str, Any]:
        """The record of one row of `columns`."""
        record = {"kind": self._kind, **dict(zip(self.names, row, strict=True))}
        if "href" in self._shows:
            record["href"] = f"/{self._plural}/{record['uuid']}"
        if "etag" in self._shows:
            record["etag"] = f"{record['modified_at'] or 0:x}"
        for place, name, convert in self._converted:
            if row[place] is not None:
                record[name] = convert(row[place])
        for name in self._hidden:
            del record[name]
        return record


MADE_FROM: Mapping[str, str] = {"href": "uuid", "etag": "modified_at"}
"""Parts of a record that are no columns of their own, and what they are made from."""


def as_read(resource: Resource, field: Field) -> ColumnElement[Any]:
    """The column of `field` as it is selected: JSON as text."""
    column = resource.expression(field)
    if field.type in (FieldType.JSON_OBJECT, FieldType.JSON_ARRAY):
        return cast(column, Text).label(field.name)
    return column.label(field.name) if field.name in resource.computed else column


def format_micros(micros: int) -> str:
    """``YYYY-MM-DDTHH:MM:SS.nnnnnnnnnZ`` of microseconds since 1970."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_format_second(seconds)}.{rest:06}000Z"


@lru_cache(10_000)
def _format_second(seconds: int) -> str:
    # Records that are shown together were often made within the same seconds.
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def parse_micros(text: str) -> int:
    """The inverse of `format_micros`, for any ISO 8601 time with a zone; raises `ValueError`.

    Digits beyond microseconds are cut off, as PostgreSQL and Arvados would. `OverflowError` for what is in
    no year from 1 to 9999 in UTC: it could be stored, but never printed again.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without a zone: {text!r}")
    return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND


_CONVERTERS: Mapping[FieldType, Callable[[Any], Any]] = {
    FieldType.DATETIME: format_micros,
    FieldType.BOOLEAN: bool,
    FieldType.JSON_OBJECT: Fragment,
    FieldType.JSON_ARRAY: Fragment,
}


@lru_cache
def _fields_by_name(plural: str) -> dict[str, Field]:
    resource = RESOURCES[plural]
    computed = (each.field for each in resource.computed.values())
    return {f.name: f for f in (*resource.fields, *computed)}


@lru_cache
def _renderers(plural: str) -> Sequence[tuple[str, Callable[[Any], Any] | None]]:
    return [
        (f.name, format_micros if f.type is FieldType.DATETIME else None)
        for f in RESOURCES[plural].published
    ]
