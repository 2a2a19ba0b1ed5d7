"""Forgetting what ended long ago: requests, their containers, and whatever was noted about both.

One call does a bounded part in one short transaction, so that a server with a million old requests serves on
meanwhile. Equal work that is asked for later cannot be answered by a container that is no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, bindparam, cast, delete, func, select
from sqlalchemy.sql.expression import Delete

from nodemanager.model import STORE_PREFIX, ContainerState
from nodemanager.server.access import inputs_of
from nodemanager.server.errors import forbidden, invalid
from nodemanager.server.resources import parse_micros
from nodemanager.server.schema import (
    api_client_authorizations,
    attempts,
    change_counters,
    container_requests,
    containers,
    dispatchers,
    links,
    logs,
    shape_fits,
)
from nodemanager.server.transaction import Call, Transaction

MOST_REQUESTS = 1000
"""Of one call."""

_ALL = 2**31
_CHUNK = 400
"""UUIDs of one statement; SQLite takes so many parameters everywhere."""

_r = container_requests.c
_a = attempts.c
_c = containers.c

_OLD = and_(_r.state == "Final", _r.modified_at < bindparam("before"))
_OLDEST = (
    select(_r.uuid).where(_OLD).order_by(_r.modified_at).limit(bindparam("most")).with_for_update()
)
_other = container_requests.alias("other")
_theirs = attempts.alias("theirs")
_IS_OF_ANOTHER = (
    select(_theirs.c.request_uuid)
    .join(_other, _other.c.uuid == _theirs.c.request_uuid)
    .where(
        _theirs.c.container_uuid == _a.container_uuid,
        (_other.c.state != "Final") | (_other.c.modified_at >= bindparam("before")),
    )
    .exists()
)
_COUNT_REQUESTS = select(func.count()).select_from(container_requests).where(_OLD)
_CONTAINERS = (
    select(_a.container_uuid)
    .distinct()
    .join(container_requests, _r.uuid == _a.request_uuid)
    .where(_OLD, ~_IS_OF_ANOTHER)
)
_STRAYS = (
    select(_c.uuid)
    .where(
        _c.state.in_([state.value for state in ContainerState if state.is_final]),
        _c.finished_at < bindparam("before"),
        ~select(_a.container_uuid).where(_a.container_uuid == _c.uuid).exists(),
    )
    .limit(bindparam("most"))
)
"""Containers that are no request's attempt any more."""
_MAY_HAVE_INPUTS = select(_r.mounts).where(
    _r.state != "Final", cast(_r.mounts, Text).contains(STORE_PREFIX, autoescape=True)
)


def prune(tx: Transaction, call: Call) -> dict[str, Any]:
    """``container_requests.prune``: forget requests that are Final and have not changed since `before`.

    Their containers go with them, unless another request has them too or one that is not Final takes their output as
    its input, and so do reasons, log entries and tokens of either. At most `limit` requests at a time, the oldest
    first; `more` says whether there are others. The last call also takes containers that have long been nobody's:
    their requests were deleted, or they were still an input. With `dry_run` nothing changes and everything is
    counted at once. For administrators.
    """
    if tx.caller.kind != "root":
        raise forbidden("only an administrator may prune")
    before, limit = _before(call), _limit(call)
    if call.arguments.get("dry_run"):
        count = tx.conn.execute(_COUNT_REQUESTS, {"before": before}).scalar_one()
        theirs = tx.conn.execute(_CONTAINERS, {"before": before}).scalars()
        nobodys = tx.conn.execute(_STRAYS, {"before": before, "most": _ALL}).scalars()
        return _answer(count, len({*theirs, *nobodys} - _inputs(tx)))
    tx.lock_graph()
    found = tx.conn.execute(_OLDEST, {"before": before, "most": limit + 1}).scalars().all()
    requests, more = found[:limit], len(found) > limit
    inputs = _inputs(tx)
    gone = _forget_requests(tx, requests, inputs)
    silent = 0
    if not more:
        stray = tx.conn.execute(_STRAYS, {"before": before, "most": limit + 1 + len(inputs)})
        strays = [uuid for uuid in stray.scalars() if uuid not in inputs]
        more = len(strays) > limit
        _remove(tx, delete(containers).where(_in(_c.uuid)), strays[:limit])
        gone += strays[:limit]
        silent = _forget_dispatchers(tx, before)
    noted = _forget_notes(tx, [*requests, *gone])
    return _answer(len(requests), len(gone), gone, noted, silent, more=more)


def _answer(
    requests: int,
    count: int,
    uuids: Sequence[str] = (),
    noted: tuple[int, int] = (0, 0),
    silent: int = 0,
    *,
    more: bool = False,
) -> dict[str, Any]:
    return {
        "container_requests": requests,
        "containers": count,
        "container_uuids": list(uuids),
        "links": noted[0],
        "logs": noted[1],
        "dispatchers": silent,
        "more": more,
    }


def _before(call: Call) -> int:
    try:
        return parse_micros(call.needed("before"))
    except (ValueError, OverflowError):
        raise invalid("before: must be a time, such as 2026-01-31T12:00:00Z") from None


def _limit(call: Call) -> int:
    limit = int(call.needed("limit"))
    if not 1 <= limit <= MOST_REQUESTS:
        raise invalid(f"limit: must be 1 to {MOST_REQUESTS}")
    return limit


def _inputs(tx: Transaction) -> set[str]:
    """Containers whose output somebody who has not ended takes as an input."""
    return {
        uuid
        for mounts in tx.conn.execute(_MAY_HAVE_INPUTS).scalars()
        for uuid in inputs_of(mounts).values()
    }


def _forget_requests(
    tx: Transaction, requests: Sequence[str], inputs: Collection[str]
) -> list[str]:
    """Remove them, and the containers that are nobody's now but no `inputs`; the UUIDs of these."""
    had = select(_a.container_uuid).distinct().where(_in(_a.request_uuid))
    theirs = {uuid for part in _parts(requests) for uuid in tx.conn.execute(had, part).scalars()}
    _remove(tx, delete(attempts).where(_in(_a.request_uuid)), requests)
    _remove(tx, delete(container_requests).where(_in(_r.uuid)), requests)
    kept = select(_a.container_uuid).distinct().where(_in(_a.container_uuid))
    others = {
        uuid for part in _parts(sorted(theirs)) for uuid in tx.conn.execute(kept, part).scalars()
    }
    gone = sorted(theirs - others - set(inputs))
    _remove(tx, delete(containers).where(_in(_c.uuid)), gone)
    return gone


def _forget_notes(tx: Transaction, uuids: Sequence[str]) -> tuple[int, int]:
    """What was said and written down about them: so many links and log entries; their tokens as well."""
    found = _remove(tx, delete(links).where(_in(links.c.head_uuid)), uuids)
    entries = _remove(tx, delete(logs).where(_in(logs.c.object_uuid)), uuids)
    of = api_client_authorizations.c.container_uuid
    _remove(tx, delete(api_client_authorizations).where(_in(of)), uuids)
    return found, entries


def _forget_dispatchers(tx: Transaction, before: int) -> int:
    """Those that were lost or retired before then, and of which no container is left; how many."""
    d = dispatchers.c
    held = select(_c.uuid).where(_c.dispatcher == d.uuid).exists()
    old = select(d.uuid).where(d.state != "alive", d.ended_at < before, ~held)
    uuids = tx.conn.execute(old).scalars().all()
    _remove(tx, delete(links).where(_in(links.c.tail_uuid)), uuids)
    for table in (shape_fits, change_counters):
        _remove(tx, delete(table).where(_in(table.c.dispatcher_uuid)), uuids)
    return _remove(tx, delete(dispatchers).where(_in(d.uuid)), uuids)


def _in(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return column.in_(bindparam("uuids", expanding=True))


def _parts(uuids: Sequence[str]) -> Iterable[dict[str, Sequence[str]]]:
    return ({"uuids": uuids[at : at + _CHUNK]} for at in range(0, len(uuids), _CHUNK))


def _remove(tx: Transaction, statement: Delete, uuids: Sequence[str]) -> int:
    return sum(tx.conn.execute(statement, part).rowcount for part in _parts(uuids))
