"""How far a container request is, for whoever waits for it: its attempts, and why the last one waits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, select

from nodemanager.model import ContainerState
from nodemanager.reason import Reason
from nodemanager.reason.counting import what_counts
from nodemanager.server import schema
from nodemanager.server.access import find, lookup
from nodemanager.server.resources import RESOURCES, Row, format_micros
from nodemanager.server.transaction import Call, Transaction

_REQUESTS = RESOURCES["container_requests"]
_a = schema.attempts.c
_l = schema.links.c
_ATTEMPTS = (
    select(schema.containers, _a.attempt.label("number"))
    .join_from(schema.attempts, schema.containers, _a.container_uuid == schema.containers.c.uuid)
    .where(_a.request_uuid == bindparam("request"))
    .order_by(_a.attempt)
)
_REASONS = (
    select(_l.tail_uuid, _l.properties)
    .where(_l.head_uuid == bindparam("container"), _l.link_class == "dispatch")
    .order_by(_l.uuid)
)
_WAITS = (ContainerState.QUEUED, ContainerState.LOCKED)
_TIMES = ("created_at", "run_after", "locked_at", "started_at", "finished_at")


def attempts(tx: Transaction, call: Call) -> dict[str, Any]:
    """``container_requests.attempts``: oldest first, with state, error, times; why the last one waits."""
    find(tx, _REQUESTS, call.uuid)
    rows = tx.conn.execute(_ATTEMPTS, {"request": call.uuid}).mappings().all()
    return {"items": [_attempt(tx, row) for row in rows]}


def container_status(tx: Transaction, call: Call) -> dict[str, Any]:
    """``container_requests.container_status``: the state of its container, and why that waits.

    As stock Arvados answers it (lib/controller/localdb/container_request.go).
    """
    request = find(tx, _REQUESTS, call.uuid)
    container = None
    if request["container_uuid"] is not None:
        container = lookup(tx, RESOURCES["containers"], request["container_uuid"])
    if container is None:
        return {
            "uuid": None,
            "container_state": None,
            "scheduling_status": "No container is assigned.",
        }
    words = ""
    if container["state"] in _WAITS:
        reason = _reason(tx, container)
        words = "Waiting in queue." if reason is None else reason.line(tx.now / 1_000_000)
    return {
        "uuid": container["uuid"],
        "container_state": container["state"],
        "scheduling_status": words,
    }


def _attempt(tx: Transaction, row: Row) -> dict[str, Any]:
    status = row["runtime_status"] or {}
    reason = _reason(tx, row) if row["state"] in _WAITS else None
    return {
        "attempt": row["number"],
        "container_uuid": row["uuid"],
        "state": row["state"],
        "error": status.get("error", ""),
        "facts": status.get("facts") or {},
        "reason": None if reason is None else reason.as_dict(),
        "exit_code": row["exit_code"],
        "dispatcher": row["dispatcher"],
        **{name: None if row[name] is None else format_micros(row[name]) for name in _TIMES},
    }


def _reason(tx: Transaction, container: Row) -> Reason | None:
    """Why it waits: of what dispatchers say, what counts."""
    found = tx.conn.execute(_REASONS, {"container": container["uuid"]}).all()
    said = {row.tail_uuid: Reason.from_dict(row.properties) for row in found}
    state = ContainerState(container["state"])
    return next((r for _, r in what_counts(said, state, container["dispatcher"])), None)
