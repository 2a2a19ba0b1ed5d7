"""The API's records of nodes: what a node manager says about them, and which record is which machine's.

A machine that is going to boot gets a record first; it is given the record's UUID and `ping_secret`, pings
with them, and learns its slot and host name from the answer (see `nodemanager.server.nodes`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nodemanager.api.connection import call, list_all
from nodemanager.model import parse_optional_time, parse_time

FIELDS = (
    "uuid",
    "hostname",
    "slot_number",
    "ip_address",
    "first_ping_at",
    "last_ping_at",
    "modified_at",
    "info",
    "properties",
)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A record of the API's `nodes`. Times are Unix seconds of the API's clock."""

    uuid: str
    modified_at: float
    hostname: str = ""
    slot: int | None = None
    ip_address: str = ""
    first_ping_at: float | None = None
    last_ping_at: float | None = None
    instance_id: str = ""
    """What its cloud calls the machine, as the machine says: `info.ec2_instance_id`, whatever the cloud."""
    ping_secret: str = field(default="", repr=False)
    """Only in the answer to `make_node_record`: a dispatcher is told it once."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    dispatcher: str = ""
    """The `[Dispatch] name` of the daemon that made it; empty for one of an older node manager."""
    order: str = ""
    """The order (a name for ever unique) that it was made for; empty once it is cleaned."""
    last_action: str = ""
    """What was done to it last, for people; set when it was cleaned."""

    @property
    def seen_at(self) -> float:
        """The last sign of life."""
        return max(self.modified_at, self.last_ping_at or 0.0)

    @property
    def is_clean(self) -> bool:
        """Its machine is gone, and somebody has said so."""
        held = (self.slot, self.first_ping_at, self.last_ping_at)
        return held == (None, None, None) and not self.hostname and bool(self.last_action)


class NodesApi(Protocol):
    """The calls of one daemon. Each raises `ApiUnavailable` (it may have happened) or `ApiRefused`."""

    def node_records(self) -> list[NodeRecord]:
        """All records, whoever made them."""
        ...

    def make_node_record(self, order: str, size_name: str, price: float) -> NodeRecord:
        """A record with a slot, a host name and a secret, for the machine of this `order`.

        `price` is per hour. `ApiRefused` (422) when there is no free slot.
        """
        ...

    def clean_node_record(self, uuid: str, last_action: str) -> None:
        """Its machine is gone: free slot, name and address, and say why in `last_action`."""
        ...

    def name_node_record(self, uuid: str, hostname: str) -> None:
        """Its machine joins the scheduler under this name."""
        ...

    def remove_node_record(self, uuid: str) -> None:
        """Forget the record; no machine can ping it any more."""
        ...


class ArvadosNodes:
    """`NodesApi` over the client object that `connection.connect` made; for one thread."""

    def __init__(self, resource: Any, dispatcher: str) -> None:
        self._api = resource
        self._dispatcher = dispatcher

    def node_records(self) -> list[NodeRecord]:
        """See `NodesApi.node_records`."""
        found = list_all(self._api.nodes(), [], FIELDS)
        # An administrator would be shown the secrets too.
        return [replace(_read(item), ping_secret="") for item in found]

    def make_node_record(self, order: str, size_name: str, price: float) -> NodeRecord:
        """See `NodesApi.make_node_record`."""
        attributes = {
            "properties": {"cloud_node": {"size": size_name, "price": price}},
            "info": {"dispatcher": self._dispatcher, "order": order},
        }
        return _read(call(self._api.nodes().create(body={"node": attributes}, assign_slot=True)))

    def clean_node_record(self, uuid: str, last_action: str) -> None:
        """See `NodesApi.clean_node_record`."""
        attributes = {
            "hostname": None,
            "ip_address": None,
            "slot_number": None,
            "first_ping_at": None,
            "last_ping_at": None,
            "properties": {},
            "info": {"dispatcher": self._dispatcher, "last_action": last_action},
        }
        call(self._api.nodes().update(uuid=uuid, body={"node": attributes}))

    def name_node_record(self, uuid: str, hostname: str) -> None:
        """See `NodesApi.name_node_record`."""
        call(self._api.nodes().update(uuid=uuid, body={"node": {"hostname": hostname}}))

    def remove_node_record(self, uuid: str) -> None:
        """See `NodesApi.remove_node_record`."""
        call(self._api.nodes().delete(uuid=uuid))


def spare(
    records: Iterable[NodeRecord],
    dispatcher: str,
    *,
    in_use: Collection[str],
    now: float,
    stale_after_seconds: float,
) -> NodeRecord | None:
    """A record that stands for no machine any more, so that a new one may take its place; or None.

    That is one that was cleaned, or silent for longer than `stale_after_seconds`, unless its UUID is `in_use`
    by a machine or another daemon made it. One with a slot comes first: there are only so many (old
    manager, tickets 5842 and 12073); then the one silent for longest. `now` is in Unix seconds.
    """
    spares = (
        record
        for record in records
        if record.uuid not in in_use
        and record.dispatcher in ("", dispatcher)
        and (record.is_clean or now - record.seen_at > stale_after_seconds)
    )
    return min(spares, key=lambda r: (r.slot is None, r.seen_at, r.uuid), default=None)


def pairs(
    records: Iterable[NodeRecord], started_at: Mapping[str, float]
) -> Mapping[str, NodeRecord]:
    """The record of each machine, by the cloud's id of the machine; machines without one are absent.

    `started_at` says by that id when each machine was started (Unix seconds). A record belongs to the
    machine whose id it was pinged with, if its first ping is not older than the machine: clouds give ids
    and addresses again, and so a record may have been another's (old manager, ticket 4751).
    """
    paired: dict[str, NodeRecord] = {}
    for record in records:
        started = started_at.get(record.instance_id)
        if started is None or record.first_ping_at is None or record.first_ping_at < started:
            continue
        other = paired.get(record.instance_id)
        if other is None or _newer(record, other):
            paired[record.instance_id] = record
    return paired


def _newer(one: NodeRecord, other: NodeRecord) -> bool:
    return (one.first_ping_at or 0.0, one.uuid) > (other.first_ping_at or 0.0, other.uuid)


def _read(record: Mapping[str, Any]) -> NodeRecord:
    info = record["info"]
    slot = record["slot_number"]
    return NodeRecord(
        uuid=record["uuid"],
        modified_at=parse_time(record["modified_at"]),
        hostname=record["hostname"] or "",
        slot=None if slot is None else int(slot),
        ip_address=record["ip_address"] or "",
        first_ping_at=parse_optional_time(record["first_ping_at"]),
        last_ping_at=parse_optional_time(record["last_ping_at"]),
        instance_id=str(info.get("ec2_instance_id") or ""),
        ping_secret=str(info.get("ping_secret") or ""),
        properties=record["properties"],
        dispatcher=str(info.get("dispatcher") or ""),
        order=str(info.get("order") or ""),
        last_action=str(info.get("last_action") or ""),
    )
