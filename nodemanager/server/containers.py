"""Writing to containers: who may write what, and which state may follow which.

A claimed container is written by the token of its dispatcher and by its own token, nobody else. Writing
again what is already there is 200, so that whoever did not get the answer can repeat the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import bindparam, select

from nodemanager.model import CONTAINER_TRANSITIONS, ContainerState
from nodemanager.server import queue
from nodemanager.server.access import acting_dispatcher, find
from nodemanager.server.attempts import change, drop_reasons, end
from nodemanager.server.errors import ServerError, forbidden, invalid, not_found
from nodemanager.server.family import settle
from nodemanager.server.records import checked
from nodemanager.server.resources import RESOURCES, Row, render
from nodemanager.server.tokens import NewToken, mint_container_tokens
from nodemanager.server.transaction import QUEUE_TOPIC, Call, Transaction

_CONTAINERS = RESOURCES["containers"]

MAX_UPDATES = 1000
"""Items of one batch call."""

Role = Literal["dispatcher", "runner", "root"]

_REPORTED = frozenset(
    {
        "state", "runtime_status", "exit_code", "log", "output", "output_properties", "progress",
        "cost", "subrequests_cost", "runner_id", "gateway_address", "interactive_session_started",
    }
)  # fmt: skip
_WRITABLE: Mapping[Role, frozenset[str]] = {
    "dispatcher": _REPORTED | {"scheduler_job", "hold", "given_back"},
    "runner": _REPORTED,
    "root": frozenset({"state", "hold"}),
}
_SET_BY_STATE = frozenset({"started_at", "finished_at", "locked_at"})
"""Accepted and not used: the database's clock sets them when the state changes."""

_LOCKED = (
    select(_CONTAINERS.table)
    .where(_CONTAINERS.table.c.uuid.in_(bindparam("uuids", expanding=True)))
    .with_for_update()
)
_STATUS_TEXTS = ("error", "errorDetail", "warning", "warningDetail", "activity", "preemptionNotice")


def update(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.update``: claim one (``dispatcher``), or report on a claimed one."""
    attributes = checked(_CONTAINERS, call.attributes)
    epoch = call.arguments["epoch"]
    if _ends(attributes):
        tx.lock_graph()
    row = _seen(tx, call.uuid)
    dispatcher = attributes.pop("dispatcher", None)
    if dispatcher is not None and dispatcher != row["dispatcher"]:
        if set(attributes) - {"state"} or attributes.get("state", "Locked") != "Locked":
            raise invalid("dispatcher: a claim is written alone")
        new = queue.claim_one(tx, row, dispatcher, epoch)
    else:
        if dispatcher is not None and not attributes:
            attributes["state"] = row["state"]  # one's own claim again
        role = _role(tx, row, epoch)
        if role != "runner":
            # It may have changed while the dispatcher's record was waited for.
            row = find(tx, _CONTAINERS, call.uuid, lock=True)
        new = _report(tx, row, attributes, role)
    return render(_CONTAINERS, new, call.select)


def _ends(attributes: Mapping[str, Any]) -> bool:
    """Whether a report makes its container final, if it is taken."""
    try:
        return ContainerState(attributes.get("state", "")).is_final
    except ValueError:
        return False


def _seen(tx: Transaction, uuid: str) -> Row:
    """The container, if the caller may know of it; locked for its own runner.

    Others lock it later, after the record of the dispatcher that holds it: the order in which a lost
    dispatcher and its containers are gone through.
    """
    return find(tx, _CONTAINERS, uuid, lock=tx.caller.container_uuid == uuid)


def batch_update(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.batch_update``: each item is done or refused by itself, and answered in order."""
    tx.lock_graph()
    dispatcher = acting_dispatcher(tx, call.needed("dispatcher"), call.needed("epoch"))
    items = call.items("updates", MAX_UPDATES)
    rows = _locked_rows(tx, [item["uuid"] for item in items if _is_update(item)])
    return {"items": [_update_item(tx, item, dispatcher["uuid"], rows) for item in items]}


def _is_update(item: Any) -> bool:
    return (
        isinstance(item, Mapping)
        and isinstance(item.get("uuid"), str)
        and isinstance(item.get("attributes"), Mapping)
    )


def _locked_rows(tx: Transaction, uuids: Sequence[str]) -> dict[str, Row]:
    """The containers of these UUIDs, which stay as they are until the transaction is over."""
    return {row["uuid"]: row for row in tx.conn.execute(_LOCKED, {"uuids": uuids}).mappings()}


def _update_item(
    tx: Transaction, item: Any, dispatcher_uuid: str, rows: dict[str, Row]
) -> dict[str, Any]:
    """Every refusal comes before the first write, so that what is refused has changed nothing."""
    if not _is_update(item):
        return {"uuid": None, "status": 422, "errors": ["updates: must be {uuid, attributes}"]}
    uuid = item["uuid"]
    try:
        row = rows.get(uuid)
        if row is None:
            raise not_found()
        if row["dispatcher"] != dispatcher_uuid:
            raise forbidden(f"{uuid} is not claimed by {dispatcher_uuid}")
        attributes = checked(_CONTAINERS, item["attributes"])
        attributes.pop("dispatcher", None)
        rows[uuid] = _report(tx, row, attributes, "dispatcher")
    except ServerError as error:
        return {"uuid": uuid, "status": error.status, "errors": error.messages}
    return {"uuid": uuid, "status": 200}


def _role(tx: Transaction, row: Row, epoch: int | None) -> Role:
    caller = tx.caller
    if caller.kind == "container" and caller.container_uuid == row["uuid"]:
        return "runner"
    if row["dispatcher"] is not None and row["locked_by_uuid"] == caller.token_uuid:
        acting_dispatcher(tx, row["dispatcher"], epoch)
        return "dispatcher"
    if caller.kind == "root" and row["state"] == "Queued":
        return "root"
    if row["dispatcher"] is None:
        raise forbidden(f"{row['uuid']} is not claimed by this token's dispatcher")
    raise forbidden(f"{row['uuid']} is written only by its dispatcher {row['dispatcher']}")


def _report(tx: Transaction, row: Row, attributes: dict[str, Any], role: Role) -> Row:
    columns = {k: v for k, v in attributes.items() if k not in _SET_BY_STATE}
    state = ContainerState(row["state"])
    _check_names(columns, role, state)
    if all(row[name] == value for name, value in columns.items()):
        return row
    if state.is_final:
        changed = ", ".join(sorted(k for k, v in columns.items() if row[k] != v))
        raise invalid(f"{changed}: cannot be modified in state {state}")
    target = _target(columns, state)
    _check_runner(columns, row, target, role)
    _check_final(columns, state, target)
    by_dispatcher = role == "dispatcher"
    if target is state:
        if role == "root" and row["hold"] and columns.get("hold") is False:
            columns["hold_reason"] = ""
            tx.topics.add(QUEUE_TOPIC)
        return change(tx, row, columns, by_dispatcher=by_dispatcher)
    if target.is_final:
        return end(tx, row, columns, by_dispatcher=by_dispatcher)
    # What the API carried over from the attempt before is no news of this one.
    started = {"runtime_status": {}, **columns, "started_at": tx.now}
    drop_reasons(tx, row["uuid"])
    return change(tx, row, started, by_dispatcher=by_dispatcher)


def _check_names(columns: Mapping[str, Any], role: Role, state: ContainerState) -> None:
    for name in columns:
        if name not in _WRITABLE[role]:
            raise invalid(f"{name}: cannot be modified in state {state}")
    if isinstance(status := columns.get("runtime_status"), Mapping):
        for key in _STATUS_TEXTS:
            if key in status and not isinstance(status[key], str):
                raise invalid(f"runtime_status: '{key}' value must be a string")


def _target(columns: Mapping[str, Any], state: ContainerState) -> ContainerState:
    try:
        target = ContainerState(columns.get("state", state))
    except ValueError:
        known = ", ".join(ContainerState)
        raise invalid(f"state: {columns['state']!r} is none of {known}") from None
    if target is state:
        return target
    if target is ContainerState.LOCKED:
        raise invalid("state: set dispatcher to claim a container")
    if target not in CONTAINER_TRANSITIONS[state]:
        raise invalid(f"state: cannot change from {state} to {target}")
    return target


def _check_runner(columns: Mapping[str, Any], row: Row, target: ContainerState, role: Role) -> None:
    """Locked -> Running names the one runner process; another one must not start the command."""
    starts = target is ContainerState.RUNNING and row["state"] != "Running"
    runner_id = columns.get("runner_id")
    if starts and role == "runner" and not runner_id:
        raise invalid(
            "runner_id: missing; a container starts once, for the runner that says its id"
        )
    if "runner_id" in columns and not starts and runner_id != row["runner_id"]:
        raise invalid("runner_id: is set once, when the container starts; another runner has it")


def _check_final(columns: Mapping[str, Any], state: ContainerState, target: ContainerState) -> None:
    if target is ContainerState.COMPLETE and columns.get("exit_code") not in (None, 0):
        raise invalid(f"exit_code: is {columns['exit_code']}, but Complete means 0")
    handed_back = bool(columns.get("given_back"))
    if (handed_back or columns.get("hold")) and (
        target is not ContainerState.TEMPFAIL and state is not ContainerState.QUEUED
    ):
        raise invalid("given_back, hold: only together with the final state TempFail")
    if handed_back and state is not ContainerState.LOCKED:
        raise invalid(f"given_back: the container is {state}, it cannot be handed back any more")


# --- the words of stock dispatchers ---------------------------------------------------------------

_LOCK_ANSWER = ("uuid", "state", "priority", "auth_uuid", "locked_by_uuid")


def lock(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.lock``: claim for the alive dispatcher of the caller's token; again is the same."""
    row = _seen(tx, call.uuid)
    if tx.caller.dispatcher_uuid is None:
        raise forbidden("this token has no alive dispatcher; make one with dispatchers.create")
    is_ours = row["dispatcher"] == tx.caller.dispatcher_uuid
    if is_ours and row["state"] == ContainerState.LOCKED:
        return render(_CONTAINERS, row, _LOCK_ANSWER)
    new = queue.claim_one(tx, row, tx.caller.dispatcher_uuid, None)
    return render(_CONTAINERS, new, _LOCK_ANSWER)


def unlock(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.unlock``: hand back. A claim is never undone, so this attempt ends TempFail, and the
    next one is queued at once, for another dispatcher first."""
    tx.lock_graph()
    row = _seen(tx, call.uuid)
    if row["state"] != ContainerState.LOCKED:
        raise invalid(f"cannot unlock when {row['state']}")
    if row["locked_by_uuid"] != tx.caller.token_uuid:
        raise forbidden("locked by a different token")
    acting_dispatcher(tx, row["dispatcher"], None)
    row = find(tx, _CONTAINERS, call.uuid, lock=True)
    if row["state"] != ContainerState.LOCKED:
        raise invalid(f"cannot unlock when {row['state']}")
    status = {"error": "its dispatcher unlocked it before it ran"}
    handed_back = {"state": "TempFail", "given_back": True, "runtime_status": status}
    new = _report(tx, row, handed_back, "dispatcher")
    return render(_CONTAINERS, new, _LOCK_ANSWER)


def update_priority(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.update_priority``: for administrators, should it ever be wrong."""
    if tx.caller.kind != "root":
        raise forbidden("only an administrator may do this")
    tx.lock_graph()
    find(tx, _CONTAINERS, call.uuid)
    tx.rewanted.append(call.uuid)
    settle(tx)
    return render(_CONTAINERS, find(tx, _CONTAINERS, call.uuid), call.select)


# --- tokens and secrets ---------------------------------------------------------------------------


def auth(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.auth``: a fresh token for the runner of a container this token's dispatcher holds.

    As in stock Arvados, `api_token` is the secret alone; clients put ``v2/<uuid>/<secret>`` together.
    """
    row = find(tx, _CONTAINERS, call.uuid)
    if row["dispatcher"] is None or row["locked_by_uuid"] != tx.caller.token_uuid:
        raise forbidden("Not locked by your token")
    acting_dispatcher(tx, row["dispatcher"], call.arguments["epoch"])
    row = find(tx, _CONTAINERS, call.uuid, lock=True)
    if not ContainerState(row["state"]).is_live:
        raise invalid(f"no token for a container in state {row['state']}")
    token = _mint(tx, [row])[row["uuid"]]
    return {
        "kind": "arvados#apiClientAuthorization",
        "uuid": token.uuid,
        "api_token": token.secret,
        "container_uuid": row["uuid"],
        "scopes": ["all"],
    }


def auth_many(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.auth_many``: the same for many; those that are not Locked by the caller are absent."""
    tx.lock_graph()
    dispatcher = acting_dispatcher(tx, call.needed("dispatcher"), call.needed("epoch"))
    uuids = dict.fromkeys(u for u in call.items("uuids", MAX_UPDATES) if isinstance(u, str))
    found = _locked_rows(tx, list(uuids))
    rows = [
        row
        for row in (found[uuid] for uuid in uuids if uuid in found)
        if row["dispatcher"] == dispatcher["uuid"] and row["state"] == "Locked"
    ]
    minted = _mint(tx, rows)
    return {
        "items": [
            {"container_uuid": uuid, "api_token": token.text} for uuid, token in minted.items()
        ]
    }


def _mint(tx: Transaction, rows: Sequence[Row]) -> dict[str, NewToken]:
    minted = mint_container_tokens(
        tx, [(row["uuid"], row["runtime_user_uuid"] or row["owner_uuid"]) for row in rows]
    )
    for row in rows:
        change(tx, row, {"auth_uuid": minted[row["uuid"]].uuid}, by_dispatcher=True)
    return minted


def describe_many(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.describe_many``: the records with their secret mounts, for the dispatcher that runs the commands
    itself; those that are not Locked by the caller are absent."""
    dispatcher = acting_dispatcher(tx, call.needed("dispatcher"), call.needed("epoch"))
    uuids = dict.fromkeys(u for u in call.items("uuids", MAX_UPDATES) if isinstance(u, str))
    found = _locked_rows(tx, list(uuids))
    return {
        "items": [
            {**render(_CONTAINERS, row), "secret_mounts": row["secret_mounts"]}
            for row in (found[uuid] for uuid in uuids if uuid in found)
            if row["dispatcher"] == dispatcher["uuid"] and row["state"] == "Locked"
        ]
    }


def current(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.current``: the container this token belongs to."""
    if tx.caller.container_uuid is None:
        raise ServerError(404, ["Token is not associated with a container."])
    return render(_CONTAINERS, find(tx, _CONTAINERS, tx.caller.container_uuid), call.select)


def secret_mounts(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.secret_mounts``: for the container's own token only."""
    row = find(tx, _CONTAINERS, call.uuid)
    if tx.caller.container_uuid != call.uuid:
        raise forbidden("secret_mounts are readable by the container's own token only")
    return {"secret_mounts": row["secret_mounts"]}
