"""The files of containers at the API server, for a dispatcher that brings the logs of commands without a runner."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httplib2

from nodemanager.api.endpoint import Endpoint
from nodemanager.errors import ApiRefused, ApiUnavailable

TIMEOUT_SECONDS = 60.0

PutFile = Callable[[str, str, int, bytes, bool], None]
"""``(container uuid, path, offset, data, complete)``; see `ContainerFiles.put`."""


class ContainerFiles:
    """One connection, for one thread."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._transport = httplib2.Http(
            ca_certs=None if endpoint.ca_file is None else str(endpoint.ca_file),
            disable_ssl_certificate_validation=endpoint.insecure,
            timeout=TIMEOUT_SECONDS,
        )

    def put(self, uuid: str, path: str, offset: int, data: bytes, complete: bool) -> None:
        """Put `data` at `offset` of a file of a container that we hold; the same again is harmless.

        With `complete` the whole file is durable when this returns. Raises `ApiRefused` and `ApiUnavailable`.
        """
        place = f"/arvados/v1/containers/{uuid}/files/{quote(path)}"
        url = f"{self._endpoint.url.rstrip('/')}{place}?offset={offset}&complete={int(complete)}"
        headers = {
            "Authorization": f"Bearer {self._endpoint.token}",
            "Content-Type": "application/octet-stream",
        }
        try:
            response, body = self._transport.request(url, "PUT", body=data, headers=headers)
        except (OSError, http.client.HTTPException, httplib2.HttpLib2Error) as error:
            raise ApiUnavailable(f"PUT {place}: {error!r}") from error
        if response.status >= 500 or response.status in (408, 429):
            raise ApiUnavailable(f"PUT {place}: HTTP status {response.status}")
        if response.status >= 300:
            raise ApiRefused(f"PUT {place}: {_words(body)}", int(response.status))


def _words(body: bytes) -> str:
    try:
        answer: Any = json.loads(body)
        return "; ".join(answer["errors"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("ascii", "replace")
