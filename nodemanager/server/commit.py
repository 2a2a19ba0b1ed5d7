"""What happens when a container request is committed: it is checked as a whole, and gets its container.

A new one, or one that exists and does the same work (`reuse`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import bindparam, select

from nodemanager.container_request import content_address, problems
from nodemanager.model import ContainerState, RequestState
from nodemanager.server import schema
from nodemanager.server.access import find, inputs_of, lookup, sees
from nodemanager.server.attempts import first_attempt, record
from nodemanager.server.errors import ServerError, invalid
from nodemanager.server.family import ancestors_of, parent_of, settle
from nodemanager.server.resources import RESOURCES, Row
from nodemanager.server.reuse import Candidate, Wish, choose
from nodemanager.server.rows import add, write
from nodemanager.server.transaction import QUEUE_TOPIC, Caller, Transaction

_CONTAINERS = RESOURCES["containers"]
_c = schema.containers.c

_SAME_WORK = select(schema.containers).where(
    _c.content_address == bindparam("address"),
    _c.state.in_(("Complete", "Running", "Locked", "Queued")),
)


def commit(
    tx: Transaction, row: Row, changed: Mapping[str, Any], *, is_new: bool = False
) -> dict[str, Any]:
    """Uncommitted -> Committed, or Final when the work is done already; returns the request's row.

    `changed` are attributes that the same call has changed; `is_new`: the row is not in its table yet.
    `ServerError` 422 names all that is wrong.
    """
    new = {**row, **changed}
    work = {k: v for k, v in new.items() if k in _CHECKED_WHOLE}
    found = problems(work, committing=True)
    if found:
        raise ServerError(422, [str(problem) for problem in found])
    if new["expires_at"] is not None and new["expires_at"] <= tx.now:
        raise invalid("expires_at: is past")
    hidden = list(_hidden_inputs(tx, new))
    if hidden:
        raise ServerError(422, hidden)
    parent = parent_of(tx, new)
    salt = "" if new["use_existing"] else secrets.token_hex(16)
    new["content_address"] = content_address(
        {**work, "runtime_token": new["runtime_token"]}, salt, new["owner_uuid"]
    )
    joined = _existing(tx, new) if new["use_existing"] else None
    container = first_attempt(tx, new, parent) if joined is None else joined
    is_done = container["state"] == ContainerState.COMPLETE
    columns = {
        **changed,
        "state": (RequestState.FINAL if is_done else RequestState.COMMITTED).value,
        "content_address": new["content_address"],
        "container_uuid": container["uuid"],
        "container_count": 1,
    }
    new |= {**columns, "modified_at": tx.now, "modified_by_user_uuid": tx.caller.user_uuid}
    if is_new:
        add(tx, "container_requests", new)
    else:
        write(tx, "container_requests", new["uuid"], columns)
    record(tx, new["uuid"], container["uuid"], is_first=True)
    if joined is None and container["priority"] > 0:
        tx.topics.add(QUEUE_TOPIC)
        return new
    # One that was joined may become more urgent; one whose parent is unwanted is not wanted either.
    tx.rewanted.append(container["uuid"])
    settle(tx)
    return dict(find(tx, RESOURCES["container_requests"], new["uuid"]))


def _hidden_inputs(tx: Transaction, request: Row) -> Iterator[str]:
    """Inputs from containers that never were, or that the request's owner may not see.

    An administrator may hand others what they do not see.
    """
    reader = Caller("user", user_uuid=request["owner_uuid"])
    if tx.caller.kind == "root":
        reader = tx.caller
    for target, uuid in inputs_of(request["mounts"]).items():
        exists = lookup(tx, _CONTAINERS, uuid) is not None
        if not exists or not sees(tx, reader, _CONTAINERS, uuid):
            yield f"mounts.{target}.path: '{uuid}' not found"


def _existing(tx: Transaction, request: Row) -> Row | None:
    """The container of the same content address that serves this request, if there is one."""
    rows = {
        row["uuid"]: row
        for row in tx.conn.execute(_SAME_WORK, {"address": request["content_address"]}).mappings()
    }
    if not rows:
        return None
    wish = Wish(
        preemptible=bool(request["scheduling_parameters"].get("preemptible")),
        run_after=request["run_after"],
        joins_earlier=request["use_existing_before_run_after"],
        ancestors=ancestors_of(tx, request["requesting_container_uuid"]),
    )
    chosen = choose(wish, [_candidate(row) for row in rows.values()], tx.now)
    return None if chosen is None else lookup(tx, _CONTAINERS, chosen, lock=True)


def _candidate(row: Row) -> Candidate:
    return Candidate(
        uuid=row["uuid"],
        state=ContainerState(row["state"]),
        priority=row["priority"],
        created_at=row["created_at"],
        run_after=row["run_after"],
        temp_fails=row["temp_fails"],
        progress=row["progress"] or 0.0,
        started_at=row["started_at"] or 0,
        finished_at=row["finished_at"] or 0,
        has_error=bool(row["runtime_status"].get("error")),
        preemptible=bool(row["scheduling_parameters"].get("preemptible")),
    )


_CHECKED_WHOLE = frozenset(
    {
        "command", "cwd", "environment", "output_path", "output_glob", "container_image", "mounts",
        "secret_mounts", "runtime_constraints", "scheduling_parameters", "priority",
        "container_count_max", "use_existing",
    }
)  # fmt: skip
"""What `problems` looks at when a request is committed; the rest was checked when it was stored."""
