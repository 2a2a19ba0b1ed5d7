"""What the API server tells of changes, as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
import urllib3
from urllib3.connection import HTTPConnection

from nodemanager.schedulers.kubernetes.connection import NoAnswer, Request, error_of

_CHUNK_BYTES = 1 << 20


class Event(NamedTuple):
    """One change: ADDED, MODIFIED, DELETED, or BOOKMARK, whose object has a version and nothing else."""

    type: str
    object: dict[str, Any]


class Silence(NoAnswer):
    """Nothing came over the watch for too long: perhaps there was nothing, perhaps it is dead."""


class Watch:
    """Events, until the server ends it in order. One thread iterates, any thread may close it.

    Raises what `Connection.ask` would: `KubeRefused` when the server ends it with an error, as it does when it
    cannot go on from the version that was asked for, `NoAnswer` when it broke, `Silence` when nothing has come for
    `silence_seconds`.
    """

    def __init__(
        self, request: Request, response: urllib3.BaseHTTPResponse, silence_seconds: float
    ) -> None:
        self._request = request
        self._response = response
        self._closed = False
        # Until now it was the time that the beginning of an answer may take.
        connection = response.connection
        if isinstance(connection, HTTPConnection) and connection.sock is not None:
            connection.sock.settimeout(silence_seconds)

    def __iter__(self) -> Iterator[Event]:
        try:
            for line in self._lines():
                event = _parse(self._request, line)
                if event.type == "ERROR":
                    raise error_of(self._request, event.object)
                yield event
        except urllib3.exceptions.ReadTimeoutError as error:
            raise Silence(f"{self._request}: nothing came for too long") from error
        except urllib3.exceptions.HTTPError as error:
            if not self._closed:
                raise NoAnswer(f"{self._request} broke off: {error}") from error
        finally:
            # Not given back for others to use: the server may still be sending.
            self._response.close()

    def close(self) -> None:
        """End it at once, also for the thread that waits for the next event."""
        self._closed = True
        # It may have ended just now.
        with suppress(OSError, RuntimeError, ValueError):
            self._response.shutdown()

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        # Whatever there is, at once: reading full chunks would wait for more.
        while chunk := self._response.read1(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from filter(None, lines)
        if rest and not self._closed:
            raise NoAnswer(f"{self._request} broke off in the middle of an event")


def _parse(request: Request, line: bytes) -> Event:
    try:
        value = orjson.loads(line)
        return Event(value["type"], value["object"])
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise NoAnswer(f"{request} sent what is no event: {line[:200]!r}") from error
