"""What somebody who submits container requests says to an Arvados API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from nodemanager.api.connection import call, list_all, list_those
from nodemanager.model import ContainerState
from nodemanager.reason import Reason
from nodemanager.reason.counting import what_counts

Record = Mapping[str, Any]

REQUEST_FIELDS = (
    "uuid",
    "state",
    "created_at",
    "container_uuid",
    "properties",
)
CONTAINER_FIELDS = (
    "uuid",
    "state",
    "attempt",
    "temp_fails",
    "run_after",
    "dispatcher",
    "started_at",
    "finished_at",
    "runtime_status",
    "log",
    "output",
)
LINK_FIELDS = ("uuid", "head_uuid", "tail_uuid", "properties")


class RequestsApi(Protocol):
    """The calls of `--run`. Each raises `ApiUnavailable` or `ApiRefused`."""

    def create(self, attributes: Mapping[str, Any]) -> Record:
        """Make a container request; its record."""
        ...

    def list_run(self, run_id: str) -> list[Record]:
        """Every request whose properties name this run."""
        ...

    def containers(self, uuids: Sequence[str]) -> dict[str, Record]:
        """Container records by uuid; unknown ones are absent."""
        ...

    def reasons(self, containers: Mapping[str, Record]) -> dict[str, Reason]:
        """Why they wait, by uuid: of what dispatchers say of each, what counts."""
        ...

    def set_priority(self, uuid: str, priority: int) -> None:
        """Change a request's priority; 0 cancels it."""
        ...


class ArvadosRequests:
    """`RequestsApi` over the client object that `connection.connect` made; for one thread."""

    def __init__(self, resource: Any) -> None:
        self._api = resource

    def create(self, attributes: Mapping[str, Any]) -> Record:
        """See `RequestsApi.create`."""
        body = {"container_request": dict(attributes)}
        record: Record = call(self._api.container_requests().create(body=body))
        return record

    def list_run(self, run_id: str) -> list[Record]:
        """See `RequestsApi.list_run`."""
        filters = [["properties.run", "=", run_id]]
        return list(list_all(self._api.container_requests(), filters, REQUEST_FIELDS))

    def containers(self, uuids: Sequence[str]) -> dict[str, Record]:
        """See `RequestsApi.containers`."""
        found = list_those(self._api.containers(), "uuid", uuids, [], CONTAINER_FIELDS)
        return {record["uuid"]: record for record in found}

    def reasons(self, containers: Mapping[str, Record]) -> dict[str, Reason]:
        """See `RequestsApi.reasons`."""
        said: dict[str, dict[str, Reason]] = {}
        ours = [["link_class", "=", "dispatch"]]
        for link in list_those(self._api.links(), "head_uuid", list(containers), ours, LINK_FIELDS):
            by = said.setdefault(link["head_uuid"], {})
            by[link["tail_uuid"]] = Reason.from_dict(link["properties"])
        counting = {
            uuid: what_counts(
                reasons,
                ContainerState(containers[uuid]["state"]),
                containers[uuid].get("dispatcher"),
            )
            for uuid, reasons in said.items()
        }
        return {uuid: found[0][1] for uuid, found in counting.items() if found}

    def set_priority(self, uuid: str, priority: int) -> None:
        """See `RequestsApi.set_priority`."""
        body = {"container_request": {"priority": priority}}
        call(self._api.container_requests().update(uuid=uuid, body=body))
