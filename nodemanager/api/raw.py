"""Calls of an Arvados API whose bodies are no records: containers' files."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httplib2

from nodemanager.api.endpoint import Endpoint
from nodemanager.errors import ApiRefused, ApiUnavailable

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class RawCall:
    """One call. `place` is the path and query, ready to be sent."""

    method: str
    place: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def words(self) -> str:
        """For errors."""
        return f"{self.method} {self.place.partition('?')[0]}"


class RawConnection:
    """One connection, for one thread."""

    def __init__(self, endpoint: Endpoint, timeout: float = TIMEOUT_SECONDS) -> None:
        """`timeout` is seconds per read."""
        self._endpoint = endpoint
        self._transport = httplib2.Http(
            ca_certs=None if endpoint.ca_file is None else str(endpoint.ca_file),
            disable_ssl_certificate_validation=endpoint.insecure,
            timeout=timeout,
        )

    def make(self, made: RawCall, *expected: int) -> Answer:
        """The answer, if its status is below 300 or among `expected`.

        Otherwise raises `ApiRefused`, or `ApiUnavailable`: then the call may or may not have happened.
        """
        url = f"{self._endpoint.url.rstrip('/')}{made.place}"
        headers = {"Authorization": f"Bearer {self._endpoint.token}", **made.headers}
        try:
            response, body = self._transport.request(
                url, made.method, body=made.body, headers=headers
            )
        except (OSError, http.client.HTTPException, httplib2.HttpLib2Error) as error:
            raise ApiUnavailable(f"{made.words}: {error!r}") from error
        status = int(response.status)
        if status < 300 or status in expected:
            return Answer(status, body)
        if status >= 500 or status in (408, 429):
            raise ApiUnavailable(f"{made.words}: HTTP status {status}")
        raise ApiRefused(f"{made.words}: {_words(body)}", status)

    def close(self) -> None:
        """Let go of the connection."""
        self._transport.close()


def _words(body: bytes) -> str:
    try:
        answer: Any = json.loads(body)
        return "; ".join(answer["errors"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("ascii", "replace")
