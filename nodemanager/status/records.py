"""What the API tells to people who look: a container's story, the end of its log, the dispatchers.

Apart from the actors: with a connection of its own, used by one thread at a time, and gone through again by
nobody who waits for work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nodemanager.api.connection import call
from nodemanager.api.container_logs import ContainerLogs
from nodemanager.api.endpoint import Endpoint
from nodemanager.api.story import Story, read_story
from nodemanager.errors import ApiUnavailable
from nodemanager.model import parse_optional_time

TAIL_BYTES = 64 * 1024
"""So much is shown of the logs of one container."""
MAX_DISPATCHERS = 200
"""So many are shown: those that were heard last."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class DispatcherEntry:
    """A dispatcher as the API has it. Times are Unix seconds, by the API's clock."""

    uuid: str
    name: str
    scheduler: str
    state: str
    epoch: int
    last_ping_at: float | None
    last_turn_at: float | None
    paused: str = ""
    """Why it claims nothing; empty when it does."""


def list_dispatchers(client: Any) -> tuple[DispatcherEntry, ...]:
    """Those that were heard last, living ones first; `client` is the object that `connection.connect` made."""
    # Not by `select`: whether they can be paused depends on the version of the API.
    page = call(
        client.dispatchers().list(order="last_ping_at desc", limit=MAX_DISPATCHERS, count="none")
    )
    found = (_entry(record) for record in page["items"])
    return tuple(sorted(found, key=lambda each: (each.state != "alive", each.name)))


class Records:
    """Reads at the API as the daemon. May be called from any thread; who comes second waits."""

    def __init__(self, endpoint: Endpoint, store: Path | None, timeout_seconds: float) -> None:
        """`store` is the directory where logs are, if they are in one."""
        self._endpoint = endpoint
        self._store = store
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._client: Any = None

    def story(self, uuid: str) -> Story:
        """See `read_story`."""
        return self._read(lambda client: read_story(client, uuid))

    def log_tail(self, uuid: str) -> bytes:
        """See `ContainerLogs.tail`."""
        logs = ContainerLogs(self._endpoint, self._store)
        try:
            return logs.tail(uuid, TAIL_BYTES)
        finally:
            logs.close()

    def dispatchers(self) -> tuple[DispatcherEntry, ...]:
        """Those that were heard last; living ones first."""
        return self._read(list_dispatchers)

    def _read(self, work: Callable[[Any], _Result]) -> _Result:
        with self._lock:
            if self._client is None:
                self._client = self._endpoint.connect(self._timeout_seconds)
            try:
                return work(self._client)
            except ApiUnavailable:
                # The next one begins with a new connection: this one may be half read.
                self._client = None
                raise


def _entry(record: Any) -> DispatcherEntry:
    return DispatcherEntry(
        uuid=record["uuid"],
        name=record["name"],
        scheduler=record["scheduler"],
        state=record["state"],
        epoch=int(record["epoch"]),
        last_ping_at=parse_optional_time(record.get("last_ping_at")),
        last_turn_at=parse_optional_time(record.get("last_turn_at")),
        paused=str(record.get("paused") or ""),
    )
