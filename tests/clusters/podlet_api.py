"""The little of the Kubernetes API that a podlet speaks: objects as dictionaries, one request per call."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import urllib3
import yaml

Object = dict[str, Any]

MERGE = "application/merge-patch+json"
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is and who we are to it."""

    server: str
    ca: Path | None = None
    token: str = ""
    certificate: Path | None = None
    key: Path | None = None
    ca_pem: str = ""
    """Instead of the file."""

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """From its current context."""
        config = yaml.safe_load(path.read_text("utf-8"))

        def named(kind: str, name: str) -> Object:
            found: Object = next(item for item in config[f"{kind}s"] if item["name"] == name)[kind]
            return found

        context = named("context", config["current-context"])
        cluster, user = named("cluster", context["cluster"]), named("user", context["user"])

        def file(value: str | None) -> Path | None:
            return path.parent / value if value else None

        return cls(
            cluster["server"],
            file(cluster.get("certificate-authority")),
            user.get("token", ""),
            file(user.get("client-certificate")),
            file(user.get("client-key")),
            base64.b64decode(cluster.get("certificate-authority-data", "")).decode("ascii"),
        )


class ApiFailed(Exception):
    """The server did not do it; `status` is 0 when it did not even answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Any number of threads may use it."""

    def __init__(self, access: Access) -> None:
        self._server = access.server
        context = ssl.create_default_context(cafile=access.ca, cadata=access.ca_pem or None)
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key)
        headers = {"User-Agent": "podlet", "Accept": "application/json"}
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        self._pool = urllib3.PoolManager(maxsize=200, ssl_context=context, headers=headers)

    def get(self, path: str, **query: str) -> Object:
        """An object or a list."""
        return self._call("GET", path, query=query)

    def create(self, path: str, content: Object) -> Object:
        """A new object."""
        return self._call("POST", path, content)

    def patch(self, path: str, content: Object) -> Object:
        """A merge patch: lists are replaced, and None removes."""
        return self._call("PATCH", path, content, kind=MERGE)

    def delete(self, path: str, content: Object) -> Object:
        """With DeleteOptions."""
        return self._call("DELETE", path, content)

    def watch(self, path: str, **query: str) -> Watch:
        """Changes from a resource version on."""
        try:
            answer = self._pool.request(
                "GET",
                self._server + path,
                fields={**query, "watch": "true"},
                headers=self._headers(),
                timeout=urllib3.Timeout(connect=_SECONDS, read=None),
                preload_content=False,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiFailed(0, str(error)) from error
        if answer.status != 200:
            answer.drain_conn()
            raise ApiFailed(answer.status, f"cannot watch {path}")
        return Watch(answer)

    def close(self) -> None:
        """Hang up."""
        self._pool.clear()

    def _call(
        self,
        method: str,
        path: str,
        content: Object | None = None,
        *,
        query: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> Object:
        try:
            answer = self._pool.request(
                method,
                self._server + path,
                body=None if content is None else json.dumps(content),
                fields=query or None,
                headers=self._headers(kind),
                timeout=_SECONDS,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiFailed(0, str(error)) from error
        if answer.status >= 300:
            raise ApiFailed(answer.status, answer.data.decode("utf-8", "replace"))
        result: Object = json.loads(answer.data)
        return result

    def _headers(self, kind: str = "application/json") -> dict[str, str]:
        return {**self._pool.headers, "Content-Type": kind}


class Watch:
    """One answer that goes on; may be closed by another thread."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[tuple[str, Object]]:
        """Types and objects, until the server or `close` ends it."""
        rest = b""
        try:
            for piece in self._answer.stream(1 << 16, decode_content=True):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return
        finally:
            self._answer.close()

    def close(self) -> None:
        """End it."""
        try:
            self._answer.shutdown()
        except (ValueError, OSError, RuntimeError):
            return  # it has ended
