"""Writing to containers: who may write what, and which state may follow which.

A claimed container is written by the token of its dispatcher and by its own token, nobody else. Writing
again what is already there is 200, so that whoever did not get the answer can repeat the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nodemanager.model import CONTAINER_TRANSITIONS, ContainerState
from nodemanager.server import queue
from nodemanager.server.access import acting_dispatcher, find, lookup
from nodemanager.server.attempts import change, drop_reasons, end
from nodemanager.server.errors import ServerError, forbidden, invalid, not_found
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

_STATUS_TEXTS = ("error", "errorDetail", "warning", "warningDetail", "activity", "preemptionNotice")


def update(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.update``: claim one (``dispatcher``), or report on a claimed one."""
    row = lookup(tx, _CONTAINERS, call.uuid)
    if row is None:
        raise not_found()
    if tx.caller.kind == "user":
        find(tx, _CONTAINERS, call.uuid)
    attributes = checked(_CONTAINERS, call.attributes)
    dispatcher = attributes.pop("dispatcher", None)
    if dispatcher is not None and dispatcher != row["dispatcher"]:
        if set(attributes) - {"state"} or attributes.get("state", "Locked") != "Locked":
            raise invalid("dispatcher: a claim is written alone")
        new = queue.claim_one(tx, row, dispatcher, call.arguments["epoch"])
    else:
        if dispatcher is not None and not attributes:
            attributes["state"] = row["state"]  # one's own claim again
        new = report(tx, row, attributes, call.arguments["epoch"])
    return render(_CONTAINERS, new, call.select)


def batch_update(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.batch_update``: each item is done or refused by itself, and answered in order."""
    epoch = call.needed("epoch")
    dispatcher = acting_dispatcher(tx, call.needed("dispatcher"), epoch)
    items = call.items("updates", MAX_UPDATES)
    return {"items": [_update_item(tx, item, dispatcher["uuid"]) for item in items]}


def _update_item(tx: Transaction, item: Any, dispatcher_uuid: str) -> dict[str, Any]:
    uuid = item.get("uuid") if isinstance(item, Mapping) else None
    if not isinstance(uuid, str) or not isinstance(item.get("attributes"), Mapping):
        return {"uuid": None, "status": 422, "errors": ["updates: must be {uuid, attributes}"]}
    try:
        with tx.conn.begin_nested():
            row = lookup(tx, _CONTAINERS, uuid)
            if row is None:
                raise not_found()
            if row["dispatcher"] != dispatcher_uuid:
                raise forbidden(f"{uuid} is not claimed by {dispatcher_uuid}")
            attributes = checked(_CONTAINERS, item["attributes"])
            attributes.pop("dispatcher", None)
            _report(tx, row, attributes, "dispatcher")
    except ServerError as error:
        return {"uuid": uuid, "status": error.status, "errors": error.messages}
    return {"uuid": uuid, "status": 200}


def report(tx: Transaction, row: Row, attributes: dict[str, Any], epoch: int | None) -> Row:
    """Write checked `attributes` to a container as what the caller is to it; returns it as it is then."""
    return _report(tx, row, attributes, _role(tx, row, epoch))


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


# --- tokens and secrets ---------------------------------------------------------------------------


def auth(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.auth``: a fresh token for the runner of a container this token's dispatcher holds."""
    row = find(tx, _CONTAINERS, call.uuid)
    if row["dispatcher"] is None or row["locked_by_uuid"] != tx.caller.token_uuid:
        raise forbidden("Not locked by your token")
    acting_dispatcher(tx, row["dispatcher"], call.arguments["epoch"])
    if not ContainerState(row["state"]).is_live:
        raise invalid(f"no token for a container in state {row['state']}")
    token = _mint(tx, [row])[row["uuid"]]
    return {
        "kind": "arvados#apiClientAuthorization",
        "uuid": token.uuid,
        "api_token": token.text,
        "container_uuid": row["uuid"],
        "scopes": ["all"],
    }


def auth_many(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.auth_many``: the same for many; those that are not Locked by the caller are absent."""
    dispatcher = acting_dispatcher(tx, call.needed("dispatcher"), call.needed("epoch"))
    rows = []
    for uuid in dict.fromkeys(u for u in call.items("uuids", MAX_UPDATES) if isinstance(u, str)):
        row = lookup(tx, _CONTAINERS, uuid)
        if row and row["dispatcher"] == dispatcher["uuid"] and row["state"] == "Locked":
            rows.append(row)
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


def current(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.current``: the container this token belongs to."""
    if tx.caller.container_uuid is None:
        raise ServerError(404, ["Token is not associated with a container."])
    return render(_CONTAINERS, find(tx, _CONTAINERS, tx.caller.container_uuid), call.select)


def secret_mounts(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.secret_mounts``: for the container's own token only."""
    if tx.caller.container_uuid != call.uuid:
        raise forbidden("secret_mounts are readable by the container's own token only")
    return {"secret_mounts": find(tx, _CONTAINERS, call.uuid)["secret_mounts"]}
