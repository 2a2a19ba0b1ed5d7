"""The containers that are not final, with why they wait, as the API tells of all dispatchers together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.api.connection import list_all, list_those
from nodemanager.cli.site import Site
from nodemanager.model import (
    Container,
    ContainerState,
    DispatcherState,
    due_at,
    format_time,
    parse_time,
    user_priority,
)
from nodemanager.reason import Reason
from nodemanager.reason.counting import what_counts
from nodemanager.reason.queued import unsaid

_FIELDS = (
    "uuid",
    "state",
    "priority",
    "attempt",
    "temp_fails",
    "created_at",
    "modified_at",
    "run_after",
    "started_at",
    "hold",
    "dispatcher",
    "runtime_constraints",
    "scheduling_parameters",
    "mounts",
    "runtime_status",
)
_LINK_FIELDS = ("uuid", "head_uuid", "tail_uuid", "properties")
_LIVE = (ContainerState.QUEUED, ContainerState.LOCKED, ContainerState.RUNNING)


@dataclass(frozen=True, slots=True)
class Listed:
    """One container that is not final."""

    container: Container
    reason: Reason | None
    """Why it waits; None when it runs."""
    node: str = ""
    started_at: float | None = None
    name: str = ""
    """Of its request, where somebody asked for names."""
    request: str = ""
    """UUID of its request, likewise."""

    @property
    def runs(self) -> bool:
        """Its command runs."""
        return self.container.state is ContainerState.RUNNING

    @property
    def since(self) -> float:
        """Since when it runs; or since when it could, as far as its owner is concerned: that may be in the future."""
        if self.started_at is not None:
            return self.started_at
        return due_at(self.container)

    def as_dict(self) -> dict[str, Any]:
        """The row of a JSON document."""
        container = self.container
        return {
            "uuid": container.uuid,
            "request": self.request,
            "name": self.name,
            "state": container.state.value,
            "attempt": container.attempt,
            "priority": user_priority(container.priority),
            "created_at": format_time(container.created_at),
            "due_at": format_time(due_at(container)),
            "started_at": None if self.started_at is None else format_time(self.started_at),
            "dispatcher": container.dispatcher,
            "node": self.node,
            "resources": container.resources.as_dict(),
            "reason": None if self.reason is None else self.reason.as_dict(),
        }


def list_live(site: Site, now: float) -> list[Listed]:
    """All that this token may see and somebody still wants, the most urgent first."""
    records = site.asked(lambda: _records(site.api), "containers.list")
    reasons = site.asked(lambda: _reasons(site.api), "links.list")
    alive = None
    if any(record["uuid"] not in reasons for record in records):
        alive = _alive(site)
    found = [listed(record, reasons.get(record["uuid"], {}), now, alive) for record in records]
    return sorted(found, key=lambda item: (-item.container.priority, item.container.created_at))


def with_names(site: Site, found: Sequence[Listed]) -> list[Listed]:
    """The same, with the names and UUIDs of their requests. A container of several has the first one's."""
    uuids = [item.container.uuid for item in found]
    requests = site.asked(
        lambda: {
            record["container_uuid"]: record
            for record in list_those(
                site.api.container_requests(),
                "container_uuid",
                uuids,
                [],
                ("uuid", "name", "container_uuid"),
            )
        },
        "container_requests.list",
    )
    return [_named(item, requests.get(item.container.uuid)) for item in found]


def _named(item: Listed, request: Mapping[str, Any] | None) -> Listed:
    if request is None:
        return item
    return Listed(
        container=item.container,
        reason=item.reason,
        node=item.node,
        started_at=item.started_at,
        name=request["name"] or "",
        request=request["uuid"],
    )


def listed(
    record: Mapping[str, Any], said: Mapping[str, Reason], now: float, alive: int | None = None
) -> Listed:
    """A container's record, and what each dispatcher said of it; `alive` is how many of these are."""
    container = Container.from_record(record)
    runs = container.state is ContainerState.RUNNING
    counting = what_counts(said, container.state, container.dispatcher)
    return Listed(
        container=container,
        reason=None if runs else counting[0][1] if counting else unsaid(container, now, alive),
        node=str((record.get("runtime_status") or {}).get("node") or ""),
        started_at=parse_time(record["started_at"]) if record.get("started_at") else None,
    )


def _alive(site: Site) -> int:
    filters = [["state", "=", DispatcherState.ALIVE.value]]
    answer = site.call("dispatchers", "list", filters=filters, limit=0, count="exact")
    return int(answer["items_available"])


def _records(api: Any) -> list[Mapping[str, Any]]:
    filters = [["state", "in", [state.value for state in _LIVE]], ["priority", ">", 0]]
    return list(list_all(api.containers(), filters, _FIELDS))


def _reasons(api: Any) -> dict[str, dict[str, Reason]]:
    """By container what each dispatcher says of it."""
    found: dict[str, dict[str, Reason]] = {}
    ours = [["link_class", "=", "dispatch"]]
    for link in list_all(api.links(), ours, _LINK_FIELDS):
        try:
            reason = Reason.from_dict(link["properties"])
        except (KeyError, ValueError, TypeError):
            # Said by a newer dispatcher than this command, or by no dispatcher at all.
            continue
        found.setdefault(link["head_uuid"], {})[link["tail_uuid"]] = reason
    return found
