"""Nodes, as the node manager of Arvados 1.4.3 knew them: a record for each machine, which pings.

A node manager makes the record and gives its UUID and `ping_secret` to the machine it boots. The machine
pings with that and no token, says what it has, and learns its slot and host name from the answer.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy import update as update_of

from nodemanager.server import records
from nodemanager.server.access import lookup
from nodemanager.server.errors import ServerError, forbidden, invalid, not_found
from nodemanager.server.resources import RESOURCES, Row
from nodemanager.server.rows import write
from nodemanager.server.schema import nodes as table
from nodemanager.server.transaction import Call, Transaction

_NODES = RESOURCES["nodes"]
_SECRET_BYTES = 32
_SECRET = "ping_secret"  # noqa: S105  (a name)
_INSTANCE = "ec2_instance_id"
"""Key in `info` of the machine's name at its cloud, whichever cloud that is."""

_STATISTICS = ("total_cpu_cores", "total_ram_mb", "total_scratch_mb")


def list_(tx: Transaction, call: Call) -> dict[str, Any]:
    """``nodes.list``; for administrators with the secrets, where `uuid` and `info` are selected."""
    answer = records.list_(tx, call)
    if tx.caller.kind == "root":
        _tell_secrets(tx, {item["uuid"]: item for item in answer["items"] if "uuid" in item})
    return answer


def get(tx: Transaction, call: Call) -> dict[str, Any]:
    """``nodes.get``; for administrators with the secret."""
    record = records.get(tx, call)
    if tx.caller.kind == "root":
        _tell_secrets(tx, {call.uuid: record})
    return record


def create(tx: Transaction, call: Call) -> dict[str, Any]:
    """``nodes.create``: a record for a machine that is going to boot, perhaps with a slot."""
    _check_manager(tx)
    tx.lock_graph()
    values = _values(call.attributes)
    records.check_references(tx, values)
    given = values.setdefault("info", {}).pop(_SECRET, None)
    values[_SECRET] = _chosen_secret(tx, given) or _new_secret()
    _check_slot(tx, values)
    if call.arguments["assign_slot"]:
        values |= _slot_for(tx, values)
    values["owner_uuid"] = records.own(tx, values.get("owner_uuid"))
    uuid = records.add(tx, _NODES, values)
    _take_address(tx, uuid, values.get("ip_address"))
    record = records.shown(tx, _NODES, uuid, call.select)
    # Whoever makes the record is going to hand the secret to the machine.
    _tell_secrets(tx, {uuid: record})
    return record


def update(tx: Transaction, call: Call) -> dict[str, Any]:
    """``nodes.update``: edit, or make ready for another machine, which gets another secret."""
    _check_manager(tx)
    tx.lock_graph()
    row = _locked(tx, call.uuid)
    values = _values(call.attributes)
    if "info" in values:
        given = _chosen_secret(tx, values["info"].pop(_SECRET, None))
        if tx.caller.kind == "root":
            # As in stock Arvados: whoever sees the secret and writes `info` without it wants another.
            values[_SECRET] = given or _new_secret()
    changed = records.changes_of(row, values)
    if "first_ping_at" in changed and changed["first_ping_at"] is None:
        changed.setdefault(_SECRET, _new_secret())
    records.check_references(tx, changed)
    if "owner_uuid" in changed:
        changed["owner_uuid"] = records.own(tx, changed["owner_uuid"])
    _check_slot(tx, changed)
    if call.arguments["assign_slot"]:
        changed |= _slot_for(tx, {**row, **changed})
    if changed:
        write(tx, "nodes", call.uuid, changed)
        _take_address(tx, call.uuid, changed.get("ip_address"))
    return _answer(tx, call.uuid, call.select)


def delete(tx: Transaction, call: Call) -> dict[str, Any]:
    """``nodes.delete``: forget the record; its machine can ping no more."""
    _check_manager(tx)
    _locked(tx, call.uuid)
    return records.remove(tx, _NODES, call.uuid)


def ping(tx: Transaction, call: Call) -> dict[str, Any]:
    """``nodes.ping``: the machine is there, has this address, and these cores, RAM and disk.

    Whoever knows the secret may call; a second machine that does is refused (node.rb, 83-125).
    """
    secret = call.needed(_SECRET)
    # Only who knows the secret may hold up others by locking anything.
    before = _authorized(lookup(tx, _NODES, call.uuid), secret)
    is_new = before["slot_number"] is None or before["ip_address"] is None
    if is_new:
        tx.lock_graph()
    row = _authorized(lookup(tx, _NODES, call.uuid, lock=True), secret)
    told: dict[str, Any] = {"last_ping_at": tx.now}
    told["properties"] = _with_statistics(row["properties"], call)
    told |= _with_instance(row, call.arguments["instance_id"])
    if row["first_ping_at"] is None:
        told["first_ping_at"] = tx.now
    if is_new:
        told |= _slot_for(tx, row)
        if row["ip_address"] is None:
            told["ip_address"] = _address(call)
    write(tx, "nodes", call.uuid, told)
    _take_address(tx, call.uuid, told.get("ip_address"))
    return records.shown(tx, _NODES, call.uuid, None)


def smallest_slot(taken: Collection[int], most: int) -> int | None:
    """The smallest number from 1 to `most` that is not taken; None when all are."""
    return next((slot for slot in range(1, most + 1) if slot not in taken), None)


def hostname_of(slot: int) -> str:
    """What a node is called by default (stock Arvados: ``compute%<slot_number>d``)."""
    return f"compute{slot}"


def _slot_for(tx: Transaction, node: Mapping[str, Any]) -> dict[str, Any]:
    """What gives the node a slot, and a name if it has none; nothing when it has a slot."""
    if node.get("slot_number") is not None:
        return {}
    taken = tx.conn.execute(select(table.c.slot_number).where(table.c.slot_number.is_not(None)))
    slot = smallest_slot(set(taken.scalars()), tx.policy.max_compute_nodes)
    if slot is None:
        raise invalid("No available node slots")
    return {"slot_number": slot, "hostname": node.get("hostname") or hostname_of(slot)}


def _check_slot(tx: Transaction, values: Mapping[str, Any]) -> None:
    slot = values.get("slot_number")
    if slot is None:
        return
    if slot < 1:
        raise invalid("slot_number: must be at least 1")
    taken = tx.conn.execute(select(table.c.uuid).where(table.c.slot_number == slot)).scalar()
    if taken is not None:
        raise invalid(f"slot_number: {slot} is taken by {taken}")


def _take_address(tx: Transaction, uuid: str, address: str | None) -> None:
    """Addresses are given to new machines when the old ones are gone: the last to have it has it."""
    if address is not None:
        others = (table.c.ip_address == address) & (table.c.uuid != uuid)
        tx.conn.execute(update_of(table).where(others).values(ip_address=None, modified_at=tx.now))


def _address(call: Call) -> str | None:
    said = call.arguments["local_ipv4"]
    if not said:
        return call.address or None
    try:
        return str(ipaddress.ip_address(said))
    except ValueError:
        raise invalid("local_ipv4: is not an IP address") from None


def _with_statistics(properties: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """What this ping does not say is not known any more."""
    others = {k: v for k, v in properties.items() if k not in _STATISTICS}
    said = {name: call.arguments[name] for name in _STATISTICS}
    return others | {name: value for name, value in said.items() if value is not None}


def _with_instance(row: Row, instance: str | None) -> dict[str, Any]:
    known = row["info"].get(_INSTANCE)
    if not instance or instance == known:
        return {}
    if known:
        raise invalid(
            f"{row['uuid']} is already running at {known} so rejecting ping from {instance}"
        )
    return {"info": {**row["info"], _INSTANCE: instance}}


def _authorized(row: Row | None, secret: str) -> Row:
    if row is None:
        raise not_found()
    if not hmac.compare_digest(row[_SECRET].encode(), secret.encode()):
        raise ServerError(401, ["Incorrect ping_secret"])
    return row


def _check_manager(tx: Transaction) -> None:
    if tx.caller.kind not in ("root", "dispatcher"):
        raise forbidden("only administrators and dispatchers make and change nodes")


def _locked(tx: Transaction, uuid: str) -> Row:
    row = lookup(tx, _NODES, uuid, lock=True)
    if row is None:
        raise not_found()
    return row


def _values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    values = records.checked(_NODES, attributes)
    if "info" in values:
        values["info"] = dict(values["info"])
    return values


def _chosen_secret(tx: Transaction, given: Any) -> str | None:
    """The secret that an administrator has written into `info`, usually the one that is there."""
    if given is None or tx.caller.kind != "root":
        return None
    if not isinstance(given, str) or not given:
        raise invalid(f"info.{_SECRET}: must be a text")
    return given


def _new_secret() -> str:
    return secrets.token_hex(_SECRET_BYTES)


def _answer(tx: Transaction, uuid: str, names: list[str] | None) -> dict[str, Any]:
    record = records.shown(tx, _NODES, uuid, names)
    if tx.caller.kind == "root":
        _tell_secrets(tx, {uuid: record})
    return record


def _tell_secrets(tx: Transaction, items: Mapping[str, dict[str, Any]]) -> None:
    """Put the secrets into `info`. No filter reaches them: they are no part of it."""
    wanted = [uuid for uuid, item in items.items() if "info" in item]
    found = select(table.c.uuid, table.c.ping_secret, table.c.info).where(table.c.uuid.in_(wanted))
    for uuid, secret, info in tx.conn.execute(found):
        items[uuid]["info"] = {**info, _SECRET: secret}
