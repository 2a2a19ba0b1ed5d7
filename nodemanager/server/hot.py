"""Statements of the hottest calls: built once with SQLAlchemy, then executed by the driver itself.

SQLAlchemy's way from a statement to rows costs 30 microseconds with SQLite and 100 with PostgreSQL, several
times what the driver needs. A claim, which is five statements, is served twice as fast without it. What is
given up: parameters must be what the driver takes as it is (texts, numbers, None), and rows are bare tuples
of what it returns, so booleans of SQLite are 0 and 1 and JSON must be selected as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import orjson
import psycopg
from sqlalchemy import BindParameter, Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import SelectBase

Parameters = Mapping[str, Any]


class HotStatement:
    """A statement with `bindparam`s, ready for any database."""

    def __init__(self, statement: SelectBase | UpdateBase) -> None:
        self._statement = statement
        self._by_dialect: dict[str, Compiled] = {}

    def all(self, conn: Connection, parameters: Parameters) -> list[tuple[Any, ...]]:
        """Execute it within `conn`'s transaction and return its rows."""
        compiled = self.compiled(conn.dialect)
        cursor = _cursor(conn)
        try:
            cursor.execute(compiled.text, compiled.values(parameters))
            return list(cursor.fetchall())
        except conn.dialect.loaded_dbapi.Error as error:
            raise _wrapped(conn, compiled.text, error) from error
        finally:
            cursor.close()

    def first(self, conn: Connection, parameters: Parameters) -> tuple[Any, ...] | None:
        """The first row, None when there is none."""
        rows = self.all(conn, parameters)
        return rows[0] if rows else None

    def each(self, conn: Connection, parameters: Sequence[Parameters]) -> None:
        """Execute it once for each of `parameters`; it returns no rows."""
        compiled = self.compiled(conn.dialect)
        cursor = _cursor(conn)
        try:
            if len(parameters) == 1:
                cursor.execute(compiled.text, compiled.values(parameters[0]))
            else:
                cursor.executemany(compiled.text, [compiled.values(each) for each in parameters])
        except conn.dialect.loaded_dbapi.Error as error:
            raise _wrapped(conn, compiled.text, error) from error
        finally:
            cursor.close()

    def compiled(self, dialect: Dialect) -> Compiled:
        """The statement in the database's words."""
        compiled = self._by_dialect.get(dialect.name)
        if compiled is None:
            compiled = self._by_dialect[dialect.name] = Compiled(self._statement, dialect)
        return compiled


class Compiled:
    """A statement's text, and how its parameters are handed over."""

    def __init__(self, statement: SelectBase | UpdateBase, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101  (it is no DDL)
        self.text = str(compiled)
        self._constants = {
            name: _as_bound(compiled.binds[name], dialect)
            for name, value in compiled.params.items()
            if value is not None
        }
        self._names = list(compiled.params)
        self._order = compiled.positiontup

    def values(self, parameters: Parameters) -> Any:
        """As the driver wants them: by position, or by name."""
        merged = {**self._constants, **parameters}
        if self._order is not None:
            return [merged.get(name) for name in self._order]
        return {name: merged.get(name) for name in self._names}


def _as_bound(constant: BindParameter[Any], dialect: Dialect) -> Any:
    """A constant of the statement as its type hands it to the driver (the path into a JSON value, say)."""
    process = constant.type.dialect_impl(dialect).bind_processor(dialect)
    return constant.value if process is None else process(constant.value)


def all_of(
    conn: Connection, *calls: tuple[HotStatement, Parameters]
) -> list[list[tuple[Any, ...]]]:
    """The rows of several statements, executed in this order; one exchange with a server that can.

    PostgreSQL needs a tenth of a millisecond for each exchange, most of it on the way.
    """
    driver = conn.connection.driver_connection
    if len(calls) == 1 or not isinstance(driver, psycopg.Connection):
        return [statement.all(conn, parameters) for statement, parameters in calls]
    with ExitStack() as open_:
        try:
            cursors = []
            with driver.pipeline():
                for statement, parameters in calls:
                    compiled = statement.compiled(conn.dialect)
                    cursor = open_.enter_context(driver.cursor())
                    cursor.execute(compiled.text, compiled.values(parameters))
                    cursors.append(cursor)
            return [list(cursor.fetchall()) for cursor in cursors]
        except psycopg.Error as error:
            raise _wrapped(conn, calls[0][0].compiled(conn.dialect).text, error) from error


def plain_value(value: Any) -> Any:
    """`value` as a driver takes it: arrays and objects as JSON text."""
    return orjson.dumps(value).decode() if isinstance(value, (dict, list)) else value


def _cursor(conn: Connection) -> Any:
    return conn.connection.cursor()


def _wrapped(conn: Connection, text: str, error: Exception) -> DBAPIError:
    """The error as SQLAlchemy would have raised it; a connection that is gone is not used again."""
    is_gone = conn.dialect.is_disconnect(error, None, None)  # type: ignore[arg-type]
    if is_gone:
        conn.invalidate(error)
    wrapped = DBAPIError.instance(
        text,
        None,
        error,
        conn.dialect.loaded_dbapi.Error,
        connection_invalidated=is_gone,
        dialect=conn.dialect,
    )
    assert isinstance(wrapped, DBAPIError)  # noqa: S101
    return wrapped
