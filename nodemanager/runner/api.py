"""What the runner says to the API: a handful of calls, over one HTTPS connection per user.

A call is made once and raises `ApiUnavailable` or `ApiRefused`; `Patience` repeats what has to succeed.
Everything here can be repeated without harm: the same claim of Running, the same bytes at the same
offset, the same final report.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from nodemanager.errors import ApiRefused, ApiUnavailable, ConfigError
from nodemanager.runner.spec import RunnerSpec
from nodemanager.runner.stop import FencedError, Stop, Why

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
_READ_BYTES = 1024 * 1024
_REPEATABLE_REFUSALS = (408, 425, 429)
NOT_OURS = (401, 403)
"""What the API answers to a token whose container is final."""


class RunnerApi:
    """The calls of one runner about its own container. Not to be shared between threads: see `twin`."""

    def __init__(self, spec: RunnerSpec, tls: ssl.SSLContext | None = None) -> None:
        self._spec = spec
        self._tls = tls if tls is not None else _tls_context(spec)
        address = urlsplit(spec.api_url)
        self._host, self._port = address.hostname or "", address.port or 443
        self._connection: http.client.HTTPSConnection | None = None

    def twin(self) -> RunnerApi:
        """The same, with a connection of its own, for another thread."""
        return RunnerApi(self._spec, self._tls)

    def close(self) -> None:
        """Let go of the connection; the next call makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def container(self) -> dict[str, Any]:
        """The whole record."""
        return self._json("GET", self._path())

    def state(self) -> tuple[str, int]:
        """State and priority, as cheaply as they are to be had."""
        select = quote(json.dumps(["uuid", "state", "priority"]))
        record = self._json("GET", f"{self._path()}?select={select}")
        return str(record.get("state")), int(record.get("priority") or 0)

    def secret_mounts(self) -> dict[str, Any]:
        """The mounts that the record does not show; none when the API knows no such thing."""
        try:
            answer = self._json("GET", self._path("secret_mounts"))
        except ApiRefused as error:
            if error.status == 404:
                return {}
            raise
        return answer.get("secret_mounts") or {}

    def update(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Write to the container."""
        body = json.dumps({"container": attributes}).encode()
        return self._json("PUT", self._path(), body, "application/json")

    def write_file(self, path: str, offset: int, data: bytes, *, complete: bool = False) -> None:
        """Put `data` at `offset` of a file of this container; `offset` is at most its size.

        With `complete` the whole file is durable at the server when this returns.
        """
        answer = self._json(
            "PUT",
            f"{self._path('files')}/{quote(path)}?offset={offset}{'&complete=1' if complete else ''}",
            data,
            "application/octet-stream",
        )
        size = answer.get("size")
        if not isinstance(size, int) or size < offset + len(data):
            raise ApiUnavailable(
                f"{path}: {len(data)} bytes written at {offset}, size now {size!r}"
            )

    def read_file(self, container_uuid: str, path: str) -> Iterator[bytes]:
        """The bytes of a file of any container that the token may read."""
        place = f"/arvados/v1/containers/{container_uuid}/files/{quote(path)}"
        response = self._request("GET", place, None, "")
        # http.client takes an early end of a body of known length for its end.
        missing = response.length
        try:
            while piece := response.read(_READ_BYTES):
                if missing is not None:
                    missing -= len(piece)
                yield piece
            if missing:
                raise ApiUnavailable(f"GET {place}: {missing} bytes are missing at the end")
        except (OSError, http.client.HTTPException) as error:
            raise ApiUnavailable(f"GET {place}: {error!r}") from error
        finally:
            self.close()

    def _path(self, part: str = "") -> str:
        path = f"/arvados/v1/containers/{self._spec.container_uuid}"
        return f"{path}/{part}" if part else path

    def _json(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> dict[str, Any]:
        response = self._request(method, path, body, content_type)
        try:
            value = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise ApiUnavailable(f"{method} {path}: unreadable answer: {error!r}") from error
        if not isinstance(value, dict):
            raise ApiUnavailable(f"{method} {path}: unreadable answer")
        return value

    def _request(
        self, method: str, path: str, body: bytes | None, content_type: str
    ) -> http.client.HTTPResponse:
        kept_alive = self._connection is not None
        try:
            response = self._send(method, path, body, content_type)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if kept_alive:
                # The server may have closed a connection that lay idle; that says nothing about it.
                return self._request(method, path, body, content_type)
            raise ApiUnavailable(f"{method} {path}: {error!r}") from error
        if response.status == 200:
            return response
        message = _error_text(response)
        self.close()
        if 400 <= response.status < 500 and response.status not in _REPEATABLE_REFUSALS:
            raise ApiRefused(f"{method} {path}: {response.status}: {message}", response.status)
        raise ApiUnavailable(f"{method} {path}: {response.status}: {message}")

    def _send(
        self, method: str, path: str, body: bytes | None, content_type: str
    ) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_SECONDS, context=self._tls
            )
        headers = {"Authorization": f"Bearer {self._spec.api_token}"}
        if content_type:
            headers["Content-Type"] = content_type
        self._connection.request(method, path, body, headers)
        return self._connection.getresponse()


class Patience:
    """Repeats a call while the API is away, for ever, with growing pauses; main thread only.

    With `fenced_after`, 401 and 403 are repeated too: only when they went on for so many seconds, from
    a server that otherwise answers, the container is no longer ours. With `preparing`, for what comes
    before the command, any stop ends the repeating with `StoppedError`.
    """

    def __init__(
        self,
        stop: Stop,
        say: Callable[[str], None],
        *,
        fenced_after: float | None = None,
        preparing: bool = False,
    ) -> None:
        self._stop = stop
        self._say = say
        self._fenced_after = fenced_after
        self._check = stop.raise_if_requested if preparing else stop.raise_if_fenced

    def __call__(self, call: Callable[[], T]) -> T:
        """What `call` returns when it gets through.

        Raises `ApiRefused` as `call` does, and `FencedError` once the container is not ours.
        """
        pauses = pauses_seconds()
        fence = Fence(self._fenced_after or 0.0)
        silent = True
        while True:
            self._check()
            try:
                value = call()
            except (ApiUnavailable, ApiRefused) as error:
                if isinstance(error, ApiRefused):
                    if self._fenced_after is None or error.status not in NOT_OURS:
                        raise
                    if fence.refused(time.monotonic()):
                        self._stop.request(Why.FENCED, str(error))
                        raise FencedError(str(error)) from error
                else:
                    fence.clear()
                if silent:
                    self._say(f"repeating until it succeeds: {error}")
                    silent = False
                self._pause(next(pauses))
            else:
                if not silent:
                    self._say("the API is back")
                return value

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check()
            self._stop.wait(left)


class Fence:
    """How long there have been nothing but refusals."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def refused(self, now: float) -> bool:
        """Note a refusal at `now` (monotonic seconds); whether they have gone on for long enough."""
        if self._since is None:
            self._since = now
        return now - self._since >= self._seconds

    def clear(self) -> None:
        """Note an answer that was none of them, or no answer."""
        self._since = None


def pauses_seconds() -> Iterator[float]:
    """Pauses between repetitions: doubling, with jitter so that a thousand runners do not march."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, guards nothing)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _tls_context(spec: RunnerSpec) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=spec.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"runner spec: ca_file: cannot use {spec.ca_file}: {error}") from error
    if spec.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _error_text(response: http.client.HTTPResponse) -> str:
    """The words of an error body, in one line of bounded length."""
    try:
        text = response.read(65536).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = "; ".join(str(e) for e in json.loads(text)["errors"])
    return " ".join(text.split())[:500]
