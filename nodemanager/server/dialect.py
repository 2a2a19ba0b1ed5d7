"""What databases say differently and lists need: reaching into JSON, and patterns that heed case.

One class per database; `dialect_of` picks it. Everything else of a list is plain SQLAlchemy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Protocol

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Numeric,
    Text,
    and_,
    case,
    cast,
    collate,
    exists,
    false,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

JsonScalar = str | int | float | bool | None


Comparison = Callable[[Any, Any], ColumnElement[bool]]


class Dialect(Protocol):
    """The questions."""

    gathers_subqueries: bool
    """``IN (SELECT ...)`` is answered by fetching all that the subquery finds, however many that are."""

    def member_text(self, column: Column[Any], key: str) -> ColumnElement[Any]:
        """The text under `key` of a JSON object; NULL when there is none, or something else."""
        ...

    def member_compares(
        self, column: Column[Any], key: str, compare: Comparison, operand: str | float
    ) -> ColumnElement[bool]:
        """Whether the value under `key` is of the operand's kind, text or number, and compares so."""
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

    gathers_subqueries = True

    def member_text(self, column: Column[Any], key: str) -> ColumnElement[Any]:
        return self._member(column, key, _TEXT)

    def member_compares(
        self, column: Column[Any], key: str, compare: Comparison, operand: str | float
    ) -> ColumnElement[bool]:
        kinds = _TEXT if isinstance(operand, str) else _NUMBERS
        return compare(self._member(column, key, kinds), operand)

    def _member(self, column: Column[Any], key: str, kinds: Sequence[str]) -> ColumnElement[Any]:
        each = _each(column)
        return (
            select(each.c.value).where(each.c.key == key, each.c.type.in_(kinds)).scalar_subquery()
        )

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


class _Postgresql:
    """PostgreSQL, whose JSON columns are of type jsonb."""

    gathers_subqueries = False

    def member_text(self, column: Column[Any], key: str) -> ColumnElement[Any]:
        return case((self._kind(column, key) == "string", _as_text(column, key)))

    def member_compares(
        self, column: Column[Any], key: str, compare: Comparison, operand: str | float
    ) -> ColumnElement[bool]:
        if isinstance(operand, str):
            return compare(self.member_text(column, key), operand)
        # Only what is a number is cast to one, which CASE sees to.
        number = case((self._kind(column, key) == "number", cast(_as_text(column, key), Numeric)))
        return compare(number, literal(Decimal(str(operand)), Numeric))

    def has_key(self, column: Column[Any], key: str) -> ColumnElement[bool]:
        return column.bool_op("?")(cast(key, Text))

    def has_element(self, column: Column[Any], text: str) -> ColumnElement[bool]:
        return column.bool_op("?")(cast(text, Text))

    def member_is(self, column: Column[Any], key: str, value: JsonScalar) -> ColumnElement[bool]:
        same = _member_of(column, key).bool_op("=")(_jsonb(value))
        return func.coalesce(same, false())

    def member_holds(self, column: Column[Any], key: str, value: JsonScalar) -> ColumnElement[bool]:
        holds = _member_of(column, key).bool_op("@>")(_jsonb([value]))
        return func.coalesce(and_(self._kind(column, key) == "array", holds), false())

    def like(self, text: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
        return text.like(pattern, escape="\\")

    def _kind(self, column: Column[Any], key: str) -> ColumnElement[Any]:
        return func.jsonb_typeof(_member_of(column, key))


_DIALECTS: dict[str, Dialect] = {"sqlite": _Sqlite(), "postgresql": _Postgresql()}
_TEXT = ("text",)
_NUMBERS = ("integer", "real")


def _member_of(column: Column[Any], key: str) -> ColumnElement[Any]:
    return column.op("->", return_type=JSONB())(cast(key, Text))


def _as_text(column: Column[Any], key: str) -> ColumnElement[Any]:
    return collate(column.op("->>", return_type=Text())(cast(key, Text)), "C")


def _jsonb(value: JsonScalar | list[JsonScalar]) -> ColumnElement[Any]:
    return cast(literal(json.dumps(value), Text), JSONB)


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
