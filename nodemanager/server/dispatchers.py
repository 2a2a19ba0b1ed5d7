"""Dispatchers: registered, kept alive by pings, retired, lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, delete, select

from nodemanager.container_request import plain
from nodemanager.model import Capabilities
from nodemanager.rule import Rule
from nodemanager.server import pauses, schema
from nodemanager.server.access import acting_dispatcher, dispatcher_of_operator, find
from nodemanager.server.attempts import end
from nodemanager.server.changes import begin_counting
from nodemanager.server.errors import forbidden, invalid
from nodemanager.server.queue import held_count
from nodemanager.server.records import checked
from nodemanager.server.resources import RESOURCES, Row, render
from nodemanager.server.rows import add, new_record, write
from nodemanager.server.shapes import forget, judge_all
from nodemanager.server.transaction import QUEUE_TOPIC, Call, Transaction

log = logging.getLogger(__name__)

RELEASE_CHUNK = 100
"""Containers ended in one transaction after a dispatcher is gone: others want to write, too."""

_DISPATCHERS = RESOURCES["dispatchers"]
_RESOURCES = ("cores", "ram_bytes", "scratch_bytes", "gpus")

_d = schema.dispatchers.c
_c = schema.containers.c
_ALIVE_OF = (
    select(schema.dispatchers)
    .where(_d.token_uuid == bindparam("token"), _d.name == bindparam("name"), _d.state == "alive")
    .with_for_update()
)
_STILL_HELD = (
    select(schema.containers)
    .where(_c.dispatcher == bindparam("dispatcher"), _c.state.in_(("Locked", "Running")))
    .limit(RELEASE_CHUNK)
    .with_for_update()
)


def create(tx: Transaction, call: Call) -> dict[str, Any]:
    """``dispatchers.create``: register, or take up the alive record of this token and name.

    Taking it up raises the epoch: whatever process had it before can write no more.
    """
    tx.lock_graph()
    attributes = checked(_DISPATCHERS, call.attributes)
    unknown = sorted(set(attributes) - {"name", "scheduler", "capabilities"})
    if unknown:
        raise invalid(f"{', '.join(unknown)}: is set by the API")
    name = attributes.get("name")
    if not name or len(name) > 255 or not name.isprintable():
        raise invalid("name: must be 1 to 255 printable characters")
    if tx.caller.kind != "root" and (
        tx.caller.kind != "dispatcher" or tx.caller.dispatcher_name != name
    ):
        raise forbidden(f"this token may not create the dispatcher {name!r}")
    capabilities = _capabilities(attributes.get("capabilities") or {})
    found = tx.conn.execute(_ALIVE_OF, {"token": tx.caller.token_uuid, "name": name})
    alive = found.mappings().first()
    told = {"scheduler": attributes.get("scheduler", ""), "capabilities": capabilities.as_dict()}
    if alive is None:
        row = _register(tx, name, told)
    else:
        row = _renew(tx, alive, {**told, "epoch": alive["epoch"] + 1})
    judge_all(tx, row["uuid"], capabilities)
    tx.topics.add(QUEUE_TOPIC)
    return _with_lease(tx, row, call)


def ping(tx: Transaction, call: Call) -> dict[str, Any]:
    """``dispatchers.ping``: renew the lease, perhaps with new capabilities; tells the time left, and of a pause."""
    given = call.attributes.get("capabilities")
    if given is not None:
        tx.lock_graph()  # another shape must not be judged meanwhile
    epoch = call.needed("epoch")
    acting_dispatcher(tx, call.uuid, epoch, renews=True)
    row = find(tx, _DISPATCHERS, call.uuid)
    told: dict[str, Any] = {}
    if epoch != row["epoch"]:
        log.warning(
            "dispatcher %s is at epoch %d, of which the database knows nothing: it was restored from a backup",
            row["uuid"],
            epoch,
            extra={"action": "epoch_restored", "dispatcher": row["uuid"], "epoch": epoch},
        )
        told["epoch"] = epoch
    if given is not None:
        capabilities = _capabilities(given)
        if capabilities.as_dict() != row["capabilities"]:
            told["capabilities"] = capabilities.as_dict()
            judge_all(tx, row["uuid"], capabilities)
            tx.topics.add(QUEUE_TOPIC)
    if call.arguments["turn"]:
        told["last_turn_at"] = tx.now
    return _with_lease(tx, _renew(tx, row, told), call)


def retire(tx: Transaction, call: Call) -> dict[str, Any]:
    """``dispatchers.retire``: out of service for good; refused while it holds containers.

    With `release` they become TempFail, and another dispatcher gets the next attempt.
    """
    row = dispatcher_of_operator(tx, call)
    if row["state"] == "retired":
        return render(_DISPATCHERS, row)
    if row["state"] == "lost":
        raise invalid("state: is lost already")
    held = held_count(tx.conn, row["uuid"])
    if held and not call.arguments["release"]:
        raise invalid(
            f"{row['uuid']} still holds {held} containers; wait for them, or retire with release"
        )
    return render(_DISPATCHERS, take_out(tx, row, "retired"))


def lose(tx: Transaction, call: Call) -> dict[str, Any]:
    """``dispatchers.lose``: an operator knows that it is dead; nobody has to wait for its lease."""
    row = dispatcher_of_operator(tx, call)
    if row["state"] == "retired":
        raise invalid("state: is retired already")
    if row["state"] == "lost":
        return render(_DISPATCHERS, row)
    return render(_DISPATCHERS, take_out(tx, row, "lost"))


def take_out(tx: Transaction, row: Row, state: str) -> dict[str, Any]:
    """From now on every write of this dispatcher is refused; the first of its containers are ended.

    `release` ends the others, in transactions of their own.
    """
    ended = {"state": state, "ended_at": tx.now}
    write(tx, "dispatchers", row["uuid"], ended)
    forget(tx.conn, row["uuid"])
    tx.conn.execute(
        delete(schema.links).where(
            schema.links.c.tail_uuid == row["uuid"], schema.links.c.link_class == "dispatch"
        )
    )
    new = {**row, **ended, "modified_at": tx.now}
    release(tx, new)
    return new


def release(tx: Transaction, dispatcher: Row) -> int:
    """End up to `RELEASE_CHUNK` containers that a dead dispatcher still holds; returns how many."""
    rows = tx.conn.execute(_STILL_HELD, {"dispatcher": dispatcher["uuid"]}).mappings().all()
    error = f"its dispatcher {dispatcher['name']} ({dispatcher['uuid']}) is {dispatcher['state']}"
    columns = {"state": "TempFail", "runtime_status": {"error": error}}
    for row in rows:
        end(tx, row, columns, lost=True)
    return len(rows)


def _register(tx: Transaction, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    own = {
        "owner_uuid": tx.caller.user_uuid,
        "name": name,
        "state": "alive",
        "first_ping_at": tx.now,
        "last_ping_at": tx.now,
        "lease_ends_at": tx.after(tx.policy.ping_timeout),
        "token_uuid": tx.caller.token_uuid,
        "own_pause": pauses.inherited(tx, name),
    }
    row = new_record(tx, "dispatchers", {**told, **own})
    add(tx, "dispatchers", row)
    begin_counting(tx, row["uuid"])
    return row


def _renew(tx: Transaction, row: Row, told: Mapping[str, Any]) -> dict[str, Any]:
    lease = {"last_ping_at": tx.now, "lease_ends_at": tx.after(tx.policy.ping_timeout)}
    new = {**told, **lease}
    write(tx, "dispatchers", row["uuid"], new)
    return {**row, **new, "modified_at": tx.now}


def _with_lease(tx: Transaction, row: Row, call: Call) -> dict[str, Any]:
    record = render(_DISPATCHERS, row, call.select)
    record["lease_seconds"] = (row["lease_ends_at"] - tx.now) / 1_000_000
    record["paused"] = pauses.of_dispatcher(tx, row)
    return record


def _capabilities(value: Any) -> Capabilities:
    """Capabilities as told, checked; `ServerError` 422 names the field."""
    if not isinstance(value, Mapping):
        raise invalid("capabilities: must be an object")
    broken = [str(problem) for problem in plain("capabilities", value)]
    if broken:
        raise invalid(*broken)
    _check_what_there_is("capabilities", value)
    routes = value.get("routes", [])
    if not isinstance(routes, list):
        raise invalid("capabilities.routes: must be an array of objects")
    for index, route in enumerate(routes):
        _check_route(f"capabilities.routes.{index}", route)
    return Capabilities.from_dict(value)


def _check_route(name: str, route: Any) -> None:
    """One of a dispatcher's schedulers: its name, its rule, and what there is."""
    if not isinstance(route, Mapping):
        raise invalid(f"{name}: must be an object")
    if not isinstance(route.get("scheduler"), str):
        raise invalid(f"{name}.scheduler: must be a string")
    rule = route.get("rule", {})
    if not isinstance(rule, Mapping):
        raise invalid(f"{name}.rule: must be an object")
    try:
        Rule.from_dict(rule)
    except ValueError as error:
        raise invalid(f"{name}.rule.{error}") from error
    _check_what_there_is(name, route)


def _check_what_there_is(name: str, value: Mapping[str, Any]) -> None:
    partitions = value.get("partitions", [])
    if not isinstance(partitions, list) or not all(isinstance(p, str) for p in partitions):
        raise invalid(f"{name}.partitions: must be an array of strings")
    for key in ("largest", "preemptible"):
        _check_nodes(f"{name}.{key}", value.get(key, []))
    by_partition = value.get("by_partition", [])
    if not isinstance(by_partition, list):
        raise invalid(f"{name}.by_partition: must be an array of objects")
    for index, each in enumerate(by_partition):
        where = f"{name}.by_partition.{index}"
        if not isinstance(each, Mapping) or not isinstance(each.get("name"), str):
            raise invalid(f"{where}: must be an object with name, largest, preemptible")
        for key in ("largest", "preemptible"):
            _check_nodes(f"{where}.{key}", each.get(key, []))


def _check_nodes(name: str, nodes: Any) -> None:
    if not isinstance(nodes, list):
        raise invalid(f"{name}: must be an array of objects")
    for index, node in enumerate(nodes):
        where = f"{name}.{index}"
        if not isinstance(node, Mapping):
            raise invalid(f"{where}: must be an object with {', '.join(_RESOURCES)}")
        for resource in _RESOURCES:
            amount = node.get(resource, 0)
            if isinstance(amount, bool) or not isinstance(amount, int) or amount < 0:
                raise invalid(f"{where}.{resource}: must be an integer, at least 0")
