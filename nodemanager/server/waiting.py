"""What people do to containers that wait: hold them, release them, let a retry begin at once.

Only while they are Queued: what is claimed belongs to its dispatcher, and is stopped by cancelling its requests.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, select

from nodemanager.model import ContainerState
from nodemanager.server.access import find
from nodemanager.server.attempts import change
from nodemanager.server.errors import forbidden, invalid
from nodemanager.server.notes import by_whom, note, reason_of
from nodemanager.server.resources import RESOURCES, Row, format_micros, render
from nodemanager.server.schema import container_requests
from nodemanager.server.transaction import QUEUE_TOPIC, Call, Transaction

_CONTAINERS = RESOURCES["containers"]
_r = container_requests.c
_OWN_REQUEST = (
    select(_r.uuid)
    .where(
        _r.container_uuid == bindparam("container"),
        _r.owner_uuid == bindparam("user"),
        _r.state == "Committed",
    )
    .limit(1)
)


def hold(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.hold``: nobody claims it before it is released; whoever waits reads why."""
    _check_administrator(tx, call)
    row = _queued(tx, call)
    why = by_whom(tx, reason_of(call))
    new = change(tx, row, {"hold": True, "hold_reason": why})
    note(tx, row, "hold", f"put on hold: {why}")
    return render(_CONTAINERS, new)


def release(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.release``: it may be claimed again, whoever held it; nothing to do for one that is not held."""
    _check_administrator(tx, call)
    row = _queued(tx, call)
    if not row["hold"]:
        return render(_CONTAINERS, row)
    new = change(tx, row, {"hold": False, "hold_reason": ""})
    note(tx, row, "release", by_whom(tx, "released from its hold"))
    tx.topics.add(QUEUE_TOPIC)
    return render(_CONTAINERS, new)


def retry_now(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.retry_now``: it waits no longer for what the API chose: the backoff after a TempFail, and the time
    for which the dispatcher that handed it back leaves it to others.

    For administrators, and for the owner of a request that it serves. A time that its request asked for stands, and
    so does a hold. Of one that waits for nothing of the kind nothing is changed.
    """
    row = _queued(tx, call)
    _check_owner(tx, row)
    if row["hold"]:
        why = f" ({row['hold_reason']})" if row["hold_reason"] else ""
        raise invalid(f"{row['uuid']} is on hold{why}: an administrator has to release it")
    is_early = row["run_after"] is not None and row["run_after"] > tx.now
    if is_early and row["previous_uuid"] is None:
        raise invalid(
            f"run_after: the request itself asked not to start before {format_micros(row['run_after'])[:19]}Z; to "
            "start at once, cancel it and make one without"
        )
    is_avoided = row["avoid_until"] is not None and row["avoid_until"] > tx.now
    if not is_early and not is_avoided:
        return render(_CONTAINERS, row)
    new = change(tx, row, {"run_after": None, "avoid_dispatcher": None, "avoid_until": None})
    note(tx, row, "retry_now", by_whom(tx, "tried again without waiting any longer"))
    tx.topics.add(QUEUE_TOPIC)
    return render(_CONTAINERS, new)


def _queued(tx: Transaction, call: Call) -> Row:
    """The container, locked: nobody claims it meanwhile. `ServerError` 422 when it does not wait."""
    row = find(tx, _CONTAINERS, call.uuid, lock=True)
    if row["state"] != ContainerState.QUEUED:
        verb = call.method.name.replace("_", " ")
        raise invalid(f"cannot {verb}: {row['uuid']} is {row['state']}, only Queued ones can be")
    return row


def _check_administrator(tx: Transaction, call: Call) -> None:
    if tx.caller.kind != "root":
        raise forbidden(f"only an administrator may {call.method.name} a container")


def _check_owner(tx: Transaction, row: Row) -> None:
    if tx.caller.kind == "root":
        return
    asked = {"container": row["uuid"], "user": tx.caller.user_uuid}
    if tx.caller.kind != "user" or tx.conn.execute(_OWN_REQUEST, asked).first() is None:
        raise forbidden(f"only the owner of a request for {row['uuid']} may have it retried now")
