"""What a dispatcher reads at the API, and nothing that it writes: it does not register, ping or claim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

from nodemanager.api.base import Identity
from nodemanager.api.client import CONTAINER_FIELDS, ArvadosApi
from nodemanager.api.connection import call, list_all
from nodemanager.dispatch.claiming import urgency
from nodemanager.dry_run.sight import QueueSight
from nodemanager.model import Container, DispatcherState, parse_time

_MOST_RECORDS = 100


def look_at_queue(client: Any, name: str, token: str, jobs: Iterable[str]) -> QueueSight:
    """The queue as the dispatcher `name` of `token` would find it.

    `client` is the client object, and `jobs` are the names of this cluster's jobs that have not ended.
    Raises `ApiError`.
    """
    api = ArvadosApi(client)
    records = _records(client, name, token)
    alive = [record for record in records if record["state"] == DispatcherState.ALIVE]
    record = alive[-1] if alive else None
    uuid = "" if record is None else str(record["uuid"])
    held = tuple(api.held(Identity(uuid, 0))) if uuid else ()
    known = {container.uuid for container in held}
    strangers = [job for job in jobs if job not in known]
    final = [c.uuid for c in api.containers(strangers) if c.state.is_final]
    last_ping_at = None if record is None else record.get("last_ping_at")
    return QueueSight(
        queued=tuple(sorted(_queued(client), key=urgency)),
        held=held,
        dispatcher=uuid,
        last_ping_at=parse_time(last_ping_at) if last_ping_at else None,
        # One that registers anew inherits the pause of the record before.
        paused=str(records[-1].get("paused") or "") if records else "",
        finished_jobs=tuple(sorted(final)),
    )


def _queued(client: Any) -> Iterator[Container]:
    filters = [["state", "=", "Queued"], ["priority", ">", 0]]
    yield from map(Container.from_record, list_all(client.containers(), filters, CONTAINER_FIELDS))


def _records(client: Any, name: str, token: str) -> list[dict[str, Any]]:
    """Those of daemons of this name and token, the newest last. One that is alive would be taken up, of another the
    next would follow."""
    states = [DispatcherState.ALIVE.value, DispatcherState.LOST.value]
    filters: list[Any] = [["name", "=", name], ["state", "in", states]]
    parts = token.split("/")
    if len(parts) == 3:
        # A record is taken up only by the token that made it.
        filters.append(["token_uuid", "=", parts[1]])
    listed = call(
        client.dispatchers().list(
            filters=filters, order="created_at desc", limit=_MOST_RECORDS, count="none"
        )
    )
    return sorted(listed["items"], key=itemgetter("created_at"))
