"""Containers that ask for others: what changes for one is carried down to those that it asked for.

A request made by a running container has that container's priority, and ends with it. Both are worked out
when the call that brought the change has done its own part, container by container, for as long as one
change brings another: trees may be deep, and a container may have several requests and so several parents.
"""

from __future__ import annotations

from sqlalchemy import bindparam, select

from nodemanager.model import ContainerState
from nodemanager.server import schema
from nodemanager.server.access import lookup
from nodemanager.server.attempts import cancelled, change, end
from nodemanager.server.errors import invalid
from nodemanager.server.resources import RESOURCES, Row
from nodemanager.server.rows import write
from nodemanager.server.transaction import QUEUE_TOPIC, Transaction
from nodemanager.server.wants import REQUESTS_OF, Want, priority_of

_CONTAINERS = RESOURCES["containers"]
_r = schema.container_requests.c
_a = schema.attempts.c

_CHILDREN = select(_r.uuid, _r.container_uuid, _r.priority).where(
    _r.requesting_container_uuid == bindparam("container"), _r.state == "Committed"
)
_ASKED_BY = (
    select(_r.requesting_container_uuid)
    .join_from(schema.attempts, schema.container_requests, _a.request_uuid == _r.uuid)
    .where(_a.container_uuid == bindparam("container"), _r.requesting_container_uuid.is_not(None))
)


def settle(tx: Transaction) -> None:
    """Carry on what the call has begun: see `Transaction.ended` and `Transaction.rewanted`."""
    while tx.ended or tx.rewanted:
        while tx.ended:
            _abandon_children(tx, tx.ended.pop())
        if tx.rewanted:
            _reprioritise(tx, tx.rewanted.pop())


def parent_of(tx: Transaction, request: Row) -> Row | None:
    """The container that made the request, if one did; `ServerError` 422 when it is over."""
    uuid = request["requesting_container_uuid"]
    if uuid is None:
        return None
    parent = lookup(tx, _CONTAINERS, uuid)
    if parent is None or not ContainerState(parent["state"]).is_live:
        raise invalid(f"requesting_container_uuid: {uuid} is not running any more")
    return parent


def ancestors_of(tx: Transaction, container_uuid: str | None) -> frozenset[str]:
    """The container itself, those that asked for it, those that asked for these, and so on."""
    found: set[str] = set()
    unseen = [] if container_uuid is None else [container_uuid]
    while unseen:
        uuid = unseen.pop()
        if uuid not in found:
            found.add(uuid)
            unseen.extend(tx.conn.execute(_ASKED_BY, {"container": uuid}).scalars())
    return frozenset(found)


def _abandon_children(tx: Transaction, container_uuid: str) -> None:
    """Its container is over: nobody waits for what it asked for."""
    for child in tx.conn.execute(_CHILDREN, {"container": container_uuid}).all():
        if child.priority > 0:
            write(tx, "container_requests", child.uuid, {"priority": 0})
        tx.rewanted.append(child.container_uuid)


def _reprioritise(tx: Transaction, container_uuid: str) -> None:
    """Carry a change of its requests' priority to the container; one that nobody wants is cancelled.

    A claimed one only gets priority 0: its dispatcher stops the job and reports.
    """
    row = lookup(tx, _CONTAINERS, container_uuid, lock=True)
    if row is None or ContainerState(row["state"]).is_final:
        return
    wanted = tx.conn.execute(REQUESTS_OF, {"container": container_uuid}).mappings()
    priority = priority_of([Want.of(each) for each in wanted])
    is_queued = row["state"] == ContainerState.QUEUED
    if priority == 0 and is_queued:
        end(tx, row, cancelled("cancelled before it started"))
    elif priority != row["priority"]:
        change(tx, row, {"priority": priority})
        children = tx.conn.execute(_CHILDREN, {"container": container_uuid})
        tx.rewanted.extend(child.container_uuid for child in children)
        if is_queued:
            tx.topics.add(QUEUE_TOPIC)
