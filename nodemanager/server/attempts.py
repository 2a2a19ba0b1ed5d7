"""The life of an attempt in the database: made for a request, changed, ended, followed by the next.

Every change of a container goes through `change` or `end`, so that whoever holds it hears of it, and
nothing ends without its requests being served in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select

from nodemanager.model import ContainerState
from nodemanager.server import schema
from nodemanager.server.hot import HotStatement
from nodemanager.server.resources import Row
from nodemanager.server.retry import (
    REMARKABLE_TEMP_FAILS,
    Decision,
    Ended,
    Successor,
    Wanting,
    merged_scheduling,
    next_attempt,
)
from nodemanager.server.rows import add, new_record, write
from nodemanager.server.shapes import shape_of
from nodemanager.server.tokens import delete_container_tokens
from nodemanager.server.transaction import QUEUE_TOPIC, Transaction
from nodemanager.server.wants import REQUESTS_OF, Want, priority_of

_c = schema.containers.c

_WORK = (
    "command", "cwd", "environment", "output_path", "output_glob", "container_image", "mounts",
    "runtime_constraints", "scheduling_parameters", "output_storage_classes", "service",
    "published_ports", "content_address", "secret_mounts", "runtime_token",
)  # fmt: skip
"""What a container has from its request, and the next attempt from the one before."""

_LAST_ATTEMPT = select(func.max(schema.attempts.c.attempt)).where(
    schema.attempts.c.request_uuid == bindparam("request")
)
_RECORD = HotStatement(
    insert(schema.attempts).values(
        request_uuid=bindparam("request"),
        attempt=bindparam("number"),
        container_uuid=bindparam("container"),
    )
)
_DROP_REASONS = delete(schema.links).where(
    schema.links.c.head_uuid == bindparam("container"), schema.links.c.link_class == "dispatch"
)


def change(
    tx: Transaction, row: Row, columns: Mapping[str, Any], *, by_dispatcher: bool = False
) -> dict[str, Any]:
    """Write `columns` to a container and return it as it is then.

    Unless its own dispatcher writes (`by_dispatcher`), that one finds it among its changes.
    """
    if row["dispatcher"] is not None and not by_dispatcher:
        tx.changed[row["dispatcher"]][row["uuid"]] = None
    write(tx, "containers", row["uuid"], columns)
    return {**row, **columns, "modified_at": tx.now}


def drop_reasons(tx: Transaction, container_uuid: str) -> None:
    """It does not wait any more: take the dispatchers' reasons away."""
    tx.conn.execute(_DROP_REASONS, {"container": container_uuid})


def first_attempt(tx: Transaction, request: Row, parent: Row | None) -> dict[str, Any]:
    """The container of a request that is being committed.

    `parent` is the container that made the request. The request's row, and then `record`, are the caller's.
    """
    want = Want(
        request["priority"], request["created_at"], None if parent is None else parent["priority"]
    )
    created = {
        **{name: request[name] for name in _WORK},
        "priority": priority_of([want]),
        "run_after": request["run_after"],
        "owner_uuid": request["owner_uuid"],
        "runtime_user_uuid": request["owner_uuid"],
        "attempt": 1,
    }
    return _insert(tx, created)


def end(
    tx: Transaction,
    row: Row,
    columns: Mapping[str, Any],
    *,
    by_dispatcher: bool = False,
    lost: bool = False,
) -> dict[str, Any]:
    """Make a container final, wipe its secrets, and serve its requests. Returns it as it is then.

    `columns` hold the final state and what was reported with it; `lost`: its dispatcher was lost.
    """
    final: dict[str, Any] = {
        **({"runtime_status": {}} if row["state"] == "Locked" else {}),
        **columns,
        "finished_at": tx.now,
        "auth_uuid": None,
    }
    ended = change(
        tx,
        row,
        {**final, "secret_mounts": {}, "runtime_token": None},
        by_dispatcher=by_dispatcher,
    )
    delete_container_tokens(tx.conn, row["uuid"])
    drop_reasons(tx, row["uuid"])
    tx.ended.append(row["uuid"])
    # The next attempt is a copy of what was there before the secrets were wiped.
    _follow_up(tx, {**row, **final}, lost=lost)
    return ended


def _follow_up(tx: Transaction, ended: Row, *, lost: bool) -> None:
    found = tx.conn.execute(REQUESTS_OF, {"container": ended["uuid"]}).mappings().all()
    requests = {row["uuid"]: dict(row) for row in found}
    cost = (ended["cost"] or 0.0) + (ended["subrequests_cost"] or 0.0)
    for request in requests.values():
        request["cumulative_cost"] += cost
    decision = next_attempt(
        Ended(
            state=ContainerState(ended["state"]),
            temp_fails=ended["temp_fails"],
            given_back=bool(ended["given_back"]),
            hold=bool(ended["hold"]),
            lost=lost,
            dispatcher=ended["dispatcher"],
        ),
        [_wanting(tx, row) for row in requests.values()],
        tx.policy,
        tx.jitter(),
    )
    _apply(tx, ended, decision, requests)


def _wanting(tx: Transaction, request: Row) -> Wanting:
    return Wanting(
        uuid=request["uuid"],
        priority=priority_of([Want.of(request)]),
        container_count=request["container_count"],
        container_count_max=request["container_count_max"],
        expired=request["expires_at"] is not None and request["expires_at"] <= tx.now,
    )


def _apply(
    tx: Transaction, ended: Row, decision: Decision, requests: Mapping[str, dict[str, Any]]
) -> None:
    successor = decision.successor
    if successor is not None:
        served = [requests[uuid] for uuid in decision.served]
        container = _insert(tx, _next_of(tx, ended, successor, served))
        for request in served:
            _assign(tx, request, container["uuid"], "Committed", counted=decision.counted)
        tx.topics.add(QUEUE_TOPIC)
    if decision.cancelled:
        columns = _base_of(ended) | cancelled(f"not tried again: nobody wants it; {_how(ended)}")
        columns |= {"finished_at": tx.now, "secret_mounts": {}, "runtime_token": None}
        container = _insert(tx, columns)
        for uuid in decision.cancelled:
            _assign(tx, requests[uuid], container["uuid"], "Final", counted=decision.counted)
    for uuid in decision.finished:
        cost = requests[uuid]["cumulative_cost"]
        write(tx, "container_requests", uuid, {"state": "Final", "cumulative_cost": cost})


def _next_of(
    tx: Transaction, ended: Row, successor: Successor, requests: Sequence[Row]
) -> dict[str, Any]:
    status = {"error": _how(ended)}
    if successor.temp_fails >= REMARKABLE_TEMP_FAILS:
        status["warning"] = (
            f"failed {successor.temp_fails} times in a row for reasons of the infrastructure, not of "
            "the program; ask your administrator"
        )
    return {
        **_base_of(ended),
        "priority": priority_of([Want.of(request) for request in requests]),
        "scheduling_parameters": merged_scheduling(
            [request["scheduling_parameters"] for request in requests]
        ),
        "temp_fails": successor.temp_fails,
        "run_after": (
            None if successor.delay_seconds is None else tx.after(successor.delay_seconds)
        ),
        "hold": successor.hold,
        "hold_reason": _how(ended) if successor.hold else "",
        "avoid_dispatcher": successor.avoid_dispatcher,
        "avoid_until": tx.after(successor.avoid_seconds) if successor.avoid_dispatcher else None,
        "runtime_status": status,
    }


def _base_of(ended: Row) -> dict[str, Any]:
    """A clean copy: what defines the work, whose it is, and its place in the row of attempts."""
    return {
        **{name: ended[name] for name in _WORK},
        "owner_uuid": ended["owner_uuid"],
        "runtime_user_uuid": ended["runtime_user_uuid"],
        "runtime_auth_scopes": ended["runtime_auth_scopes"],
        "attempt": ended["attempt"] + 1,
        "previous_uuid": ended["uuid"],
    }


def cancelled(why: str) -> dict[str, Any]:
    """How a container ends that nobody wants."""
    return {"state": "Cancelled", "priority": 0, "runtime_status": {"error": why}}


def _how(ended: Row) -> str:
    """How the attempt before ended, for whoever reads why the next one waits."""
    error = str((ended["runtime_status"] or {}).get("error") or "no reason was given")
    return f"attempt {ended['attempt']} ended {ended['state']}: {error}"[:2000]


def _insert(tx: Transaction, columns: Mapping[str, Any]) -> dict[str, Any]:
    row = new_record(tx, "containers", columns)
    row["shape_id"] = shape_of(tx, row)
    add(tx, "containers", row)
    return row


def _assign(
    tx: Transaction, request: Row, container_uuid: str, state: str, *, counted: bool
) -> None:
    """The request goes on, or ends, with this container."""
    new = {
        "state": state,
        "container_uuid": container_uuid,
        "container_count": request["container_count"] + (1 if counted else 0),
        "cumulative_cost": request["cumulative_cost"],
    }
    write(tx, "container_requests", request["uuid"], new)
    record(tx, request["uuid"], container_uuid)


def record(
    tx: Transaction, request_uuid: str, container_uuid: str, *, is_first: bool = False
) -> None:
    """From now on the request is served by this container."""
    last = None
    if not is_first:
        last = tx.conn.execute(_LAST_ATTEMPT, {"request": request_uuid}).scalar()
    row = {
        "request": request_uuid,
        "number": (last or 0) + 1,
        "container": container_uuid,
    }
    _RECORD.each(tx.conn, [row])
