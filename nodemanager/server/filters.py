"""Filters of a list: what clients send, as a condition of the query.

Operators, operands and error texts are those of stock Arvados (lib/record_filters.rb). Everything a client
sends ends as a bound parameter.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, not_, or_, select, true

from nodemanager.server.computed import KIND_OF_INFIX
from nodemanager.server.dialect import Dialect, any_of, dialect_of
from nodemanager.server.errors import invalid
from nodemanager.server.operands import bad_type, check_scalar, refuse_structure, shown, stored
from nodemanager.server.resources import RESOURCES, Field, FieldType, Resource

# Below the limits of SQLite: depth of an expression, variables of a statement, length of a pattern.
_MOST_FILTERS = 200
_MOST_OPERANDS = 10_000
_LONGEST_PATTERN = 10_000

_ORDERINGS: Mapping[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EQUALS = ("=",)
_UNEQUALS = ("!=", "<>")
_JSON_TYPES = (FieldType.JSON_OBJECT, FieldType.JSON_ARRAY)
_TEXT_TYPES = (FieldType.STRING, FieldType.TEXT)
_EXPRESSION = re.compile(r"\(\s*([a-z_]+)\s*(<=|>=|<>|!=|<|>|=)\s*([a-z_]+)\s*\)")


class Filters:
    """Turns the filters of one list call into conditions on `resource`."""

    def __init__(self, conn: Connection, resource: Resource) -> None:
        self._conn = conn
        self._dialect: Dialect = dialect_of(conn)
        self._resource = resource
        self._operands = 0

    def condition(self, filters: Any) -> ColumnElement[bool]:
        """All of `filters` hold; raises `ServerError` 422 for one that cannot be understood."""
        if not isinstance(filters, list):
            raise invalid('Could not parse "filters" param as an array')
        if len(filters) > _MOST_FILTERS:
            raise invalid(f"{len(filters)} filters are too many, at most {_MOST_FILTERS}")
        return and_(true(), *(self._one(f) for f in filters))

    def where(self, where: Any) -> ColumnElement[bool]:
        """The older form: attributes and the value, or list of values, each must have."""
        if not isinstance(where, dict):
            raise invalid('Could not parse "where" param as an object')
        filters = []
        for name, value in where.items():
            if name == "any" and isinstance(value, list) and value[:1] == ["contains"]:
                filters.append(["any", "ilike", f"%{value[1]}%" if len(value) == 2 else None])
            else:
                filters.append([name, "in" if isinstance(value, list) else "=", value])
        return self.condition(filters)

    def _one(self, given: Any) -> ColumnElement[bool]:
        if not isinstance(given, list):
            raise invalid(f"Invalid element in filters array: {shown(given)} is not an array")
        if len(given) != 3:
            raise invalid(
                f"Invalid element in filters array: {shown(given)} must have three elements"
            )
        names, op, operand = given
        if not isinstance(op, str):
            raise invalid(f"Invalid operator '{shown(op)}' ({type(op).__name__}) in filter")
        op = op.lower()
        if op == "@@":
            raise invalid("Full text search operator is no longer supported")
        if names == "any":
            if op not in ("like", "ilike", "="):
                raise invalid(f"Invalid operator '{op}' for attribute 'any' in filter")
            columns = (f for f in self._resource.fields if f.published)
            names = [f.name for f in columns if f.type in _TEXT_TYPES]
        elif isinstance(names, str):
            names = [names]
        if not isinstance(names, list) or not 0 < len(names) <= _MOST_FILTERS:
            raise invalid(f"Invalid attribute '{shown(names)}' in filter")
        self._count(len(names) * (len(operand) if isinstance(operand, list) else 1))
        return or_(*(self._attribute(name, op, operand) for name in names))

    def _count(self, operands: int) -> None:
        self._operands += operands
        if self._operands > _MOST_OPERANDS:
            raise invalid(f"more than {_MOST_OPERANDS} operands in filters are too many")

    def _attribute(self, name: Any, op: str, operand: Any) -> ColumnElement[bool]:
        if not isinstance(name, str):
            raise invalid(f"Invalid attribute '{shown(name)}' in filter")
        if expression := _EXPRESSION.fullmatch(name):
            return self._expression(expression, op, operand)
        head, dot, key = name.partition(".")
        if dot and head == "container" and self._resource.plural == "container_requests":
            return self._of_container(key, op, operand)
        if dot and head == self._resource.plural:
            head, dot, key = key.partition(".")
        field = self._field(head)
        if dot:
            if field.type is not FieldType.JSON_OBJECT or "\0" in key:
                raise invalid(f"Invalid attribute '{shown(name)}' in filter")
            # A property named by a URL may be written in angle brackets.
            key = key[1:-1] if key.startswith("<") and key.endswith(">") else key
            return self._subproperty(field, key, op, operand)
        if op in ("exists", "contains"):
            return self._json(field, op, operand)
        if field.type in _JSON_TYPES:
            raise invalid(f"Invalid operator '{op}' for attribute '{head}' in filter")
        return self._plain(field, op, operand)

    def _field(self, name: str) -> Field:
        field = self._resource.field(name)
        if field is None or not field.published:
            raise invalid(f"Invalid attribute '{shown(name)}' in filter")
        return field

    def _column(self, field: Field) -> Any:
        return self._resource.expression(field)

    def _expression(self, found: re.Match[str], op: str, operand: Any) -> ColumnElement[bool]:
        """``["(a <= b)", "=", true]`` on two integer attributes."""
        if op != "=" or not isinstance(operand, bool):
            raise invalid(f"Invalid operand '{shown(operand)}' for an expression: must be = true")
        fields = [self._field(found[1]), self._field(found[3])]
        for field in fields:
            if field.type not in (FieldType.INTEGER, FieldType.DATETIME):
                raise invalid(f"Invalid attribute '{field.name}' in expression: not an integer")
        if fields[0].type is not fields[1].type:
            raise invalid(f"Invalid expression '{found[0]}': a time against a number")
        left, right = (self._column(f) for f in fields)
        match found[2]:
            case "=":
                holds: ColumnElement[bool] = left == right
            case "!=" | "<>":
                holds = left != right
            case other:
                holds = _ORDERINGS[other](left, right)
        return holds if operand else not_(holds)

    def _of_container(self, name: str, op: str, operand: Any) -> ColumnElement[bool]:
        """An attribute of a request's current container."""
        containers = RESOURCES["containers"]
        inner = Filters(self._conn, containers)._attribute(name, op, operand)  # noqa: SLF001
        current = containers.table.c.uuid == self._resource.table.c.container_uuid
        return exists(select(containers.table.c.uuid).where(current, inner))

    def _plain(self, field: Field, op: str, operand: Any) -> ColumnElement[bool]:
        column = self._column(field)
        if op in _EQUALS or op in _UNEQUALS:
            refuse_structure(op, operand)
            same: ColumnElement[bool]
            if operand is None:
                same = column.is_(None)
                return same if op in _EQUALS else not_(same)
            value = stored(field, operand)
            return column == value if op in _EQUALS else or_(column != value, column.is_(None))
        if op in _ORDERINGS:
            refuse_structure(op, operand)
            if operand is None or field.type is FieldType.BOOLEAN:
                raise bad_type(op, operand)
            return _ORDERINGS[op](column, stored(field, operand))
        if op in ("in", "not in"):
            return self._membership(field, op, operand)
        if op in ("like", "ilike"):
            if field.type not in _TEXT_TYPES:
                raise invalid(f"Invalid attribute '{field.name}' for operator '{op}' in filter")
            return self._pattern(column, op, operand)
        if op == "is_a":
            return self._is_a(field, operand)
        raise invalid(f"Invalid operator '{shown(op)}'")

    def _membership(self, field: Field, op: str, operand: Any) -> ColumnElement[bool]:
        if not isinstance(operand, list):
            raise bad_type(op, operand)
        column = self._column(field)
        for each in operand:
            refuse_structure(op, each)
        values = [stored(field, each) for each in operand if each is not None]
        with_null = None in operand
        if op == "in":
            return any_of([column.in_(values), *([column.is_(None)] if with_null else [])])
        outside = column.not_in(values)
        unknown = column.is_(None)
        return and_(outside, not_(unknown)) if with_null else or_(outside, unknown)

    def _pattern(self, text: ColumnElement[Any], op: str, operand: Any) -> ColumnElement[bool]:
        if not isinstance(operand, str):
            raise bad_type(op, operand)
        if len(operand) > _LONGEST_PATTERN or "\0" in operand:
            raise invalid(f"Invalid operand for '{op}' operator in filters: no usable pattern")
        if re.search(r"(?<!\\)(\\\\)*\\\Z", operand):
            raise invalid(f"Invalid operand for '{op}' operator in filters: ends with a backslash")
        if op == "like":
            return self._dialect.like(text, operand)
        return text.ilike(operand, escape="\\")

    def _is_a(self, field: Field, operand: Any) -> ColumnElement[bool]:
        kinds = operand if isinstance(operand, list) else [operand]
        if field.type not in _TEXT_TYPES or not all(isinstance(kind, str) for kind in kinds):
            raise bad_type("is_a", operand)
        infixes = [_INFIX_BY_KIND[kind] for kind in kinds if kind in _INFIX_BY_KIND]
        column = self._column(field)
        return any_of([column.like(f"_____-{infix}-_______________") for infix in infixes])

    def _json(self, field: Field, op: str, operand: Any) -> ColumnElement[bool]:
        """`exists` (one key) and `contains` (all of some keys or elements) on a whole JSON value."""
        if field.type not in _JSON_TYPES:
            raise invalid(f"Invalid attribute '{field.name}' for operator '{op}' in filter")
        keys = operand if isinstance(operand, list) and op == "contains" else [operand]
        if not all(isinstance(key, str) and "\0" not in key for key in keys):
            raise bad_type(op, operand)
        has = (
            self._dialect.has_key
            if field.type is FieldType.JSON_OBJECT
            else self._dialect.has_element
        )
        return and_(true(), *(has(self._column(field), key) for key in keys))

    def _subproperty(self, field: Field, key: str, op: str, operand: Any) -> ColumnElement[bool]:
        column = self._column(field)
        dialect = self._dialect
        if op == "exists":
            if operand not in (True, False, "true", "false"):
                raise invalid(
                    f"Invalid operand '{shown(operand)}' for 'exists' must be true or false"
                )
            found = dialect.has_key(column, key)
            return found if operand in (True, "true") else not_(found)
        if op in ("in", "not in"):
            if not isinstance(operand, list):
                raise bad_type(op, operand)
            for each in operand:
                check_scalar(op, each)
            if len(operand) > _MOST_FILTERS:
                raise invalid(f"{len(operand)} operands for a sub-property are too many")
            within = any_of([dialect.member_is(column, key, each) for each in operand])
            return within if op == "in" else not_(within)
        if op in ("like", "ilike"):
            return self._pattern(dialect.member_text(column, key), op, operand)
        check_scalar(op, operand)
        if op in _EQUALS:
            return dialect.member_is(column, key, operand)
        if op in _UNEQUALS:
            return not_(dialect.member_is(column, key, operand))
        if op == "contains":
            return or_(
                dialect.member_is(column, key, operand), dialect.member_holds(column, key, operand)
            )
        if op in _ORDERINGS:
            if operand is None or isinstance(operand, bool):
                raise bad_type(op, operand)
            return dialect.member_compares(column, key, _ORDERINGS[op], operand)
        raise invalid(f"Invalid operator for subproperty search '{shown(op)}'")


_INFIX_BY_KIND = {kind: infix for infix, kind in KIND_OF_INFIX.items()}
