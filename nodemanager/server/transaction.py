"""What every handler works with: one transaction, its time, its caller, and whom to wake when it is done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from random import random
from typing import Any, Literal

from sqlalchemy import Connection

from nodemanager.server.database import Database
from nodemanager.server.errors import ServerError, invalid
from nodemanager.server.methods import Method
from nodemanager.server.policy import Policy

QUEUE_TOPIC = "queue"
"""Something became claimable, or will at a time that was not known before."""


def dispatcher_topic(uuid: str) -> str:
    """A container of this dispatcher was changed by somebody else."""
    return f"dispatcher:{uuid}"


@dataclass(frozen=True)
class Caller:
    """Who calls, by the token."""

    kind: Literal["root", "user", "dispatcher", "container", "anonymous"]
    token_uuid: str | None = None
    user_uuid: str | None = None
    dispatcher_uuid: str | None = None
    """The alive dispatcher of this token, if it has made one."""
    dispatcher_name: str | None = None
    """The only dispatcher this token may create."""
    container_uuid: str | None = None
    scopes: tuple[str, ...] = ("all",)


class _LockOrder(Enum):
    """What a transaction has locked so far; the other order could end in a deadlock."""

    NOTHING_YET = auto()
    RECORDS = auto()
    GRAPH = auto()


@dataclass
class Transaction:
    """One transaction of one call, or of the server's own sweep."""

    database: Database
    conn: Connection
    now: int
    """The database's clock at its beginning, in microseconds."""
    caller: Caller
    policy: Policy
    cluster_id: str
    writes: bool = True
    """Whether it may change anything, and so lock."""
    jitter: Callable[[], float] = random
    """A random number in [0, 1), for the wait before another attempt."""
    known_beats: int = 0
    """The database has had at least so many heartbeats, unless it has gone back in time: see `heartbeat`."""
    topics: set[str] = field(default_factory=set)
    """Announced after the commit."""
    changed: defaultdict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    """Dispatchers, and their containers that somebody else changed, in order; see `changes.flush`."""
    ended: list[str] = field(default_factory=list)
    """Containers that have become final: what they asked for themselves is to be cancelled."""
    rewanted: list[str] = field(default_factory=list)
    """Containers whose priority is to be worked out anew; both are the work of `family.settle`."""
    _order: _LockOrder = _LockOrder.NOTHING_YET

    def after(self, seconds: float) -> int:
        """The time `seconds` from now, in microseconds."""
        return self.now + round(seconds * 1_000_000)

    def lock_graph(self) -> None:
        """Be the only one to change how requests, containers, attempts and shapes hang together.

        For every handler that makes or ends containers, changes what a request wants, or locks more
        than one record: a walk through that graph meets the records in no fixed order, so two walks
        at once could wait for each other. To be called before anything is locked or written. Nothing
        to SQLite, whose writers come one after the other anyway.
        """
        if self._order is _LockOrder.GRAPH:
            return
        if self._order is _LockOrder.RECORDS:
            raise AssertionError("the graph is locked before any record")
        self._order = _LockOrder.GRAPH
        self.database.lock_graph(self.conn)

    def locks_record(self) -> None:
        """Take note that records are being locked: the graph can no longer be."""
        if self._order is _LockOrder.NOTHING_YET:
            self._order = _LockOrder.RECORDS


@dataclass(frozen=True)
class Call:
    """One call's arguments: from the path, the checked parameters, and the body as it came."""

    method: Method
    uuid: str
    arguments: Mapping[str, Any]
    body: Mapping[str, Any]
    singular: str
    address: str = ""
    """From which it came; empty when nobody knows."""

    @property
    def attributes(self) -> dict[str, Any]:
        """The record in the body: ``{singular: {...}}``, or the bare object."""
        wrapped = self.body.get(self.singular)
        if isinstance(wrapped, Mapping):
            return dict(wrapped)
        known = {p.name for p in self.method.parameters}
        return {k: v for k, v in self.body.items() if k not in known}

    @property
    def select(self) -> list[str] | None:
        """The attributes asked for by `select`; None for all. Raises 422 for a text that is no list."""
        wanted = self.arguments.get("select")
        if wanted is None:
            return None
        if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
            raise invalid('Could not parse "select" param as an array')
        return wanted

    def items(self, name: str, at_most: int) -> list[Any]:
        """The array `name` of the body; raises 422 when it is not one, or too long."""
        found = self.body.get(name)
        if not isinstance(found, list):
            raise invalid(f"{name}: must be an array")
        if len(found) > at_most:
            raise invalid(f"{name}: {len(found)} items are too many, at most {at_most} in one call")
        return found

    def needed(self, name: str) -> Any:
        """The argument `name`; raises 422 when it is absent."""
        value = self.arguments.get(name)
        if value is None:
            raise invalid(f"{name}: missing")
        return value


Handler = Callable[[Transaction, Call], dict[str, Any]]

_LARGEST = 2**62


def arguments_of(
    method: Method, query: Mapping[str, Any], body: Mapping[str, Any]
) -> dict[str, Any]:
    """The method's parameters from query and body, with the declared types and defaults.

    Texts are read as the declared type, since a query string has no other; raises 422 naming the
    parameter. A parameter of location ``path`` is not among them.
    """
    found: dict[str, Any] = {}
    problems: list[str] = []
    for parameter in method.parameters:
        if parameter.location == "path":
            continue
        value = query.get(parameter.name)
        if value is None and parameter.type not in ("array", "object"):
            value = body.get(parameter.name)
        if value is None:
            found[parameter.name] = parameter.default
            continue
        try:
            found[parameter.name] = _READERS[parameter.type](value)
        except (ValueError, OverflowError):
            problems.append(f"{parameter.name}: must be of type {parameter.type}")
    if problems:
        raise ServerError(422, problems)
    return found


def _read_string(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value or len(value) > 1000:
        raise ValueError
    return value


def _read_integer(value: Any) -> int:
    if isinstance(value, str) and len(value) <= 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        raise ValueError
    return value


def _read_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError  # noqa: TRY004  (one error for every wrong value)
    number = float(value)
    if not abs(number) <= _LARGEST:
        raise ValueError
    return number


def _read_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "True", "1", 1):
        return True
    if value in ("false", "False", "0", 0):
        return False
    raise ValueError


def _read_as_is(value: Any) -> Any:
    return value


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "string": _read_string,
    "integer": _read_integer,
    "number": _read_number,
    "boolean": _read_boolean,
    # What a list takes is checked by the list, with the stock texts.
    "array": _read_as_is,
    "object": _read_as_is,
}
