"""Container requests: created, edited, re-prioritised, cancelled, deleted; `commit` makes their containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy import delete as delete_from

from nodemanager.container_request import problems, with_defaults
from nodemanager.model import REQUEST_TRANSITIONS, RequestState, new_uuid
from nodemanager.server import schema
from nodemanager.server.access import find
from nodemanager.server.commit import commit
from nodemanager.server.errors import ServerError, forbidden, invalid
from nodemanager.server.family import settle
from nodemanager.server.records import SET_BY_SERVER, own
from nodemanager.server.resources import RESOURCES, Row, parse_micros, render
from nodemanager.server.rows import add, write
from nodemanager.server.transaction import Call, Transaction

_REQUESTS = RESOURCES["container_requests"]
_TIMES = ("run_after", "expires_at")

_ALWAYS_EDITABLE = frozenset({"owner_uuid", "state", "name", "description", "properties"})
_EDITABLE: Mapping[RequestState, frozenset[str]] = {
    RequestState.COMMITTED: _ALWAYS_EDITABLE | {"priority", "container_count_max"},
    RequestState.FINAL: _ALWAYS_EDITABLE,
}
"""What may still change once the request is committed (container_request.rb, 693-744)."""

_KEPT_BY_SERVER = frozenset(
    {
        "container_uuid", "container_count", "requesting_container_uuid", "content_address",
        "log_uuid", "output_uuid", "cumulative_cost",
    }
)  # fmt: skip
"""Attributes of the record that no client sets."""

_MAY_ASK = ("root", "user", "container")
_a = schema.attempts.c
_EXPIRED = (
    select(_REQUESTS.table)
    .where(
        _REQUESTS.table.c.expires_at <= bindparam("now"),
        _REQUESTS.table.c.state == "Committed",
        _REQUESTS.table.c.priority > 0,
    )
    .limit(bindparam("most"))
)


def create(tx: Transaction, call: Call) -> dict[str, Any]:
    """``container_requests.create``: with state Committed the container is made as well."""
    if tx.caller.kind not in _MAY_ASK:
        raise forbidden("this token may not create container requests")
    tx.lock_graph()
    row: dict[str, Any] = {f.name: f.default for f in _REQUESTS.fields}
    given = _given(call.attributes, row)
    state = RequestState(given.get("state", RequestState.UNCOMMITTED))
    if state is RequestState.FINAL:
        raise invalid("state: cannot begin as Final")
    row.update(_stored(with_defaults(given)))
    row.update(
        uuid=new_uuid(tx.cluster_id, "container_request"),
        owner_uuid=own(tx, given.get("owner_uuid")),
        created_at=tx.now,
        modified_at=tx.now,
        modified_by_user_uuid=tx.caller.user_uuid,
        state=RequestState.UNCOMMITTED.value,
        requesting_container_uuid=tx.caller.container_uuid,
    )
    if state is RequestState.COMMITTED:
        row = commit(tx, row, {}, is_new=True)
    else:
        add(tx, "container_requests", row)
    return render(_REQUESTS, row, call.select)


def update(tx: Transaction, call: Call) -> dict[str, Any]:
    """``container_requests.update``: edit, commit, re-prioritise; priority 0 cancels."""
    row = _own(tx, call.uuid)
    given = _given(call.attributes, row)
    if "owner_uuid" in given:
        given["owner_uuid"] = own(tx, given["owner_uuid"])
    state = RequestState(row["state"])
    target = RequestState(given.get("state", state))
    if target is not state:
        _check_step(state, target)
    full = with_defaults(given)
    columns = {name: value for name, value in _stored(full).items() if name in given}
    changed = {name: value for name, value in columns.items() if row[name] != value}
    if state in _EDITABLE:
        locked = sorted(set(changed) - _EDITABLE[state])
        if locked:
            raise ServerError(
                422, [f"{name}: cannot be modified in state {state}" for name in locked]
            )
    if not changed:
        return render(_REQUESTS, row, call.select)
    if target is not state:
        return render(_REQUESTS, commit(tx, row, changed), call.select)
    write(tx, "container_requests", row["uuid"], changed)
    if state is RequestState.COMMITTED and "priority" in changed:
        tx.rewanted.append(row["container_uuid"])
        settle(tx)
    return render(_REQUESTS, find(tx, _REQUESTS, call.uuid), call.select)


def cancel_expired(tx: Transaction, at_most: int) -> int:
    """Cancel Committed requests whose `expires_at` has come; returns how many there were."""
    rows = tx.conn.execute(_EXPIRED, {"now": tx.now, "most": at_most}).mappings().all()
    for row in rows:
        write(tx, "container_requests", row["uuid"], {"priority": 0})
        tx.rewanted.append(row["container_uuid"])
    return len(rows)


def delete(tx: Transaction, call: Call) -> dict[str, Any]:
    """``container_requests.delete``: forget the request; nobody else loses the container it shared."""
    row = _own(tx, call.uuid)
    tx.conn.execute(delete_from(schema.attempts).where(_a.request_uuid == row["uuid"]))
    tx.conn.execute(delete_from(_REQUESTS.table).where(_REQUESTS.table.c.uuid == row["uuid"]))
    if row["state"] == RequestState.COMMITTED:
        tx.rewanted.append(row["container_uuid"])
    return render(_REQUESTS, row)


def _own(tx: Transaction, uuid: str) -> Row:
    """The request, for somebody who may change it."""
    tx.lock_graph()
    row = find(tx, _REQUESTS, uuid, lock=True)
    if tx.caller.kind not in _MAY_ASK:
        raise forbidden("this token may not change container requests")
    return row


def _given(attributes: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """The attributes of the body, checked; `ServerError` 422 names each that is wrong.

    Clients send records back as they got them: what only the server sets may be there, but not differ from
    `row`. A state of null is none.
    """
    given = {
        k: v
        for k, v in attributes.items()
        if k not in SET_BY_SERVER and not (k in _KEPT_BY_SERVER and row[k] == v)
    }
    if given.get("state", "") is None:
        del given["state"]
    kept = [f"{k}: cannot be updated directly" for k in given if k in _KEPT_BY_SERVER]
    found = problems({k: v for k, v in given.items() if k not in _KEPT_BY_SERVER}, committing=False)
    if kept or found:
        raise ServerError(422, [*kept, *(str(problem) for problem in found)])
    return given


def _stored(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as they are stored: times as microseconds."""
    stored = dict(attributes)
    for name in _TIMES:
        if stored.get(name) is not None:
            stored[name] = parse_micros(stored[name])
    return stored


def _check_step(state: RequestState, target: RequestState) -> None:
    if target is RequestState.FINAL:
        raise invalid("state: Final is set by the API; set priority to 0 to cancel")
    if target not in REQUEST_TRANSITIONS[state]:
        raise invalid(f"state: cannot change from {state} to {target}")
