"""The files of containers at the API server, for a dispatcher that brings the logs of commands without a runner."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from nodemanager.api.endpoint import Endpoint
from nodemanager.api.raw import RawCall, RawConnection

PutFile = Callable[[str, str, int, bytes, bool], None]
"""``(container uuid, path, offset, data, complete)``; see `ContainerFiles.put`."""


class ContainerFiles:
    """One connection, for one thread."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._connection = RawConnection(endpoint)

    def put(self, uuid: str, path: str, offset: int, data: bytes, complete: bool) -> None:
        """Put `data` at `offset` of a file of a container that we hold; the same again is harmless.

        With `complete` the whole file is durable when this returns. Raises `ApiRefused` and `ApiUnavailable`.
        """
        place = f"/arvados/v1/containers/{uuid}/files/{quote(path)}"
        query = f"?offset={offset}&complete={int(complete)}"
        headers = {"Content-Type": "application/octet-stream"}
        self._connection.make(RawCall("PUT", place + query, headers, data))

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
