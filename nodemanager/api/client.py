"""The dispatcher's calls to a real Arvados API, through arvados-python-client.

One `ArvadosApi` belongs to one thread: the client object beneath is not shared. A call costs more than a
millisecond of CPU, so everything that can be is a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nodemanager.api.base import (
    Annotation,
    Changes,
    Claims,
    Description,
    DispatcherRecord,
    Identity,
    Update,
    UpdateResult,
)
from nodemanager.api.connection import PAGE, call, list_all, list_those
from nodemanager.model import Capabilities, Container, DispatcherState

CONTAINER_FIELDS = (
    "uuid",
    "state",
    "priority",
    "runtime_constraints",
    "scheduling_parameters",
    "mounts",
    "created_at",
    "modified_at",
    "run_after",
    "attempt",
    "temp_fails",
    "hold",
    "hold_reason",
    "avoid_dispatcher",
    "avoid_until",
    "dispatcher",
    "scheduler_job",
    "previous_uuid",
    "runtime_status",
)


class ArvadosApi:
    """`nodemanager.api.base.Api` over the client object that `connection.connect` made."""

    def __init__(self, resource: Any) -> None:
        self._api = resource

    def register(self, name: str, scheduler: str, capabilities: Capabilities) -> DispatcherRecord:
        """See `Api.register`."""
        attributes = {
            "name": name,
            "scheduler": scheduler,
            "capabilities": capabilities.as_dict(),
        }
        return _dispatcher(call(self._api.dispatchers().create(body={"dispatcher": attributes})))

    def ping(
        self, me: Identity, capabilities: Capabilities | None = None, *, turned: bool = False
    ) -> DispatcherRecord:
        """See `Api.ping`."""
        body: dict[str, Any] = {"epoch": me.epoch, "turn": turned}
        if capabilities is not None:
            body["capabilities"] = capabilities.as_dict()
        return _dispatcher(call(self._api.dispatchers().ping(uuid=me.dispatcher, body=body)))

    def claim(self, me: Identity, claim_id: str, limit: int, wait_seconds: float) -> Claims:
        """See `Api.claim`."""
        body = {**_by(me), "claim_id": claim_id, "limit": limit, "wait": wait_seconds}
        reply = call(self._api.containers().claim(body=body))
        return Claims(tuple(_read(reply["items"])), str(reply.get("paused") or ""))

    def held(self, me: Identity) -> list[Container]:
        """See `Api.held`."""
        filters = [["dispatcher", "=", me.dispatcher], ["state", "in", ["Locked", "Running"]]]
        return _read(list_all(self._api.containers(), filters, CONTAINER_FIELDS))

    def changes(self, me: Identity, cursor: str, wait_seconds: float) -> Changes:
        """See `Api.changes`."""
        reply = call(
            self._api.containers().changes(
                dispatcher=me.dispatcher, epoch=me.epoch, cursor=cursor, wait=wait_seconds
            )
        )
        return Changes(tuple(_read(reply["items"])), str(reply["cursor"]))

    def containers(self, uuids: Sequence[str]) -> list[Container]:
        """See `Api.containers`."""
        return _read(list_those(self._api.containers(), "uuid", uuids, [], CONTAINER_FIELDS))

    def waiting(self, limit: int) -> list[Container]:
        """See `Api.waiting`."""
        reply = call(
            self._api.containers().list(
                filters=[["state", "=", "Queued"], ["priority", ">", 0]],
                order="priority desc, created_at asc",
                limit=min(limit, PAGE),
                select=list(CONTAINER_FIELDS),
                count="none",
            )
        )
        return _read(reply["items"])

    def update(self, me: Identity, updates: Sequence[Update]) -> list[UpdateResult]:
        """See `Api.update`."""
        items = [{"uuid": u.uuid, "attributes": dict(u.attributes)} for u in updates]
        reply = call(self._api.containers().batch_update(body={**_by(me), "updates": items}))
        return [
            UpdateResult(item["uuid"], int(item["status"]), "; ".join(item.get("errors") or ()))
            for item in reply["items"]
        ]

    def tokens(self, me: Identity, uuids: Sequence[str]) -> dict[str, str]:
        """See `Api.tokens`."""
        reply = call(self._api.containers().auth_many(body={**_by(me), "uuids": list(uuids)}))
        return {item["container_uuid"]: item["api_token"] for item in reply["items"]}

    def describe(self, me: Identity, uuids: Sequence[str]) -> dict[str, Description]:
        """See `Api.describe`."""
        body = {**_by(me), "uuids": list(uuids)}
        reply = call(self._api.containers().describe_many(body=body))
        return {
            item["uuid"]: Description(item, item.get("secret_mounts") or {})
            for item in reply["items"]
        }

    def annotate(self, me: Identity, annotations: Sequence[Annotation]) -> None:
        """See `Api.annotate`."""
        items = [
            {"uuid": a.uuid, "reason": None if a.reason is None else a.reason.as_dict()}
            for a in annotations
        ]
        call(self._api.containers().annotate(body={**_by(me), "annotations": items}))


def _by(me: Identity) -> dict[str, Any]:
    return {"dispatcher": me.dispatcher, "epoch": me.epoch}


def _read(items: Iterable[Mapping[str, Any]]) -> list[Container]:
    return [Container.from_record(item) for item in items]


def _dispatcher(record: Mapping[str, Any]) -> DispatcherRecord:
    return DispatcherRecord(
        uuid=record["uuid"],
        epoch=int(record["epoch"]),
        state=DispatcherState(record["state"]),
        lease_seconds=float(record["lease_seconds"]),
        paused=str(record.get("paused") or ""),
    )
