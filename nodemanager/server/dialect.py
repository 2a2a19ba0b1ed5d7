"""What databases say differently and lists need: reaching into JSON, and patterns that heed case.

One class per database; `dialect_of` picks it. Everything else of a list is plain SQLAlchemy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    and_,
    case,
    exists,
    false,
    func,
    or_,
    select,
)

JsonScalar = str | int | float | bool | None


class Member(NamedTuple):
    """The value of one key of a JSON object, as expressions that are NULL when the key is absent."""

    value: ColumnElement[Any]
    """A text, number or NULL as SQL has them."""
    is_text: ColumnElement[bool]
    is_number: ColumnElement[bool]


class Dialect(Protocol):
    """The questions."""

    def member(self, column: Column[Any], key: str) -> Member:
        """The value under `key` of a JSON object."""
        ...

    def has_key(self, column: Column[Any], key: str) -> ColumnElement[bool]:
        """Whether the JSON object has the key."""
        ...

    def has_element(self, column: Column[Any], text: str) -> ColumnElement[bool]:
        """Whether the JSON array has that text as an element."""
        ...

    def member_is(self, column: Column[Any], key: str, value: JsonScalar) -> ColumnElement[bool]:
        """Whether the value under `key` is `value`, type and all; never NULL."""
        ...

    def member_holds(self, column: Column[Any], key: str, value: JsonScalar) -> ColumnElement[bool]:
        """Whether the value under `key` is an array that has `value` as an element."""
        ...

    def like(self, text: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        """LIKE that tells upper from lower case; a backslash takes a wildcard's meaning away."""
        ...


def dialect_of(conn: Connection) -> Dialect:
    """The dialect of the database behind `conn`."""
    return _DIALECTS[conn.dialect.name]


class _Sqlite:
    """SQLite 3.38 and later, through its table-valued function json_each."""

    def member(self, column: Column[Any], key: str) -> Member:
        each = _each(column)
        found = select(each.c.value).where(each.c.key == key).scalar_subquery()
        kind = select(each.c.type).where(each.c.key == key).scalar_subquery()
        return Member(found, kind == "text", kind.in_(_NUMBERS))

    def has_key(self, column: Column[Any], key: str) -> ColumnElement[bool]:
        each = _each(column)
        return exists(select(each.c.key).where(each.c.key == key))

    def has_element(self, column: Column[Any], text: str) -> ColumnElement[bool]:
        each = _each(column)
        return exists(select(each.c.key).where(_equals(each, text)))

    def member_is(self, column: Column[Any], key: str, value: JsonScalar) -> ColumnElement[bool]:
        each = _each(column)
        return exists(select(each.c.key).where(each.c.key == key, _equals(each, value)))

    def member_holds(self, column: Column[Any], key: str, value: JsonScalar) -> ColumnElement[bool]:
        outer = _each(column)
        # The planner may look into the value before it has seen that it is an array, and json_each
        # of a plain text is an error; so the type is part of what it is given.
        array = case((outer.c.type == "array", outer.c.value), else_="[]")
        inner = _each(array)
        found = select(inner.c.key).select_from(outer).join(inner, outer.c.key == key)
        return exists(found.where(_equals(inner, value)))

    def like(self, text: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        # SQLite's LIKE ignores case; GLOB does not, and has the same two wildcards and [sets].
        return text.bool_op("GLOB")(_glob(pattern))


_DIALECTS: dict[str, Dialect] = {"sqlite": _Sqlite()}
_NUMBERS = ("integer", "real")


def _each(of: ColumnElement[Any]) -> Any:
    return func.json_each(of).table_valued("key", "value", "type").alias()


def _equals(each: Any, value: JsonScalar) -> ColumnElement[bool]:
    if value is None:
        return each.c.type == "null"  # type: ignore[no-any-return]
    if isinstance(value, bool):
        return each.c.type == ("true" if value else "false")  # type: ignore[no-any-return]
    kinds: Sequence[str] = ("text",) if isinstance(value, str) else _NUMBERS
    return and_(each.c.type.in_(kinds), each.c.value == value)


def _glob(pattern: str) -> str:
    """A LIKE pattern in GLOB's words."""

    def translate(match: re.Match[str]) -> str:
        found = match.group()
        if found == "%":
            return "*"
        if found == "_":
            return "?"
        literal = found[-1]
        return f"[{literal}]" if literal in "*?[" else literal

    return re.sub(r"\\.|[%_*?\[]", translate, pattern, flags=re.DOTALL)


def any_of(conditions: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    """At least one holds; none of no conditions does."""
    return or_(*conditions) if conditions else false()
