"""One request to the API server: how one logs in there, and what its answer means.

Logging in is the official package's: kubeconfig files with tokens, certificates and credential plugins, and the
service account of a pod. So are its connections. Of its models nothing is used: JSON goes in and out as it is,
which is many times faster.

Credentials grow old. The package itself reads a pod's token anew every minute and runs a plugin again before its
token expires; files named in a kubeconfig, and certificates that a plugin gave, it reads once. So when the server does
not know us any more we log in afresh, once, and ask again: what it answered with 401 it has not done.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import incluster_config, load_incluster_config, load_kube_config

from nodemanager.errors import NodeManagerError, SchedulerError

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

_TOO_LARGE = ("request is too large", "larger than max")
"""What etcd says of an object that it will never take, and the API server passes on as its own failure."""

_WATCHES = 8
"""Connections that stay open beside those of `concurrency`."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the API server is reached, and how long is waited for it."""

    kubeconfig: Path | None = None
    """None: the service account when we are in a pod, else `KUBECONFIG` or ``~/.kube/config``."""
    context: str = ""
    """Of the kubeconfig; empty for its current one."""
    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    """An answer that stands still this long does not come any more."""
    concurrency: int = 8
    """How many requests `KubeClient.many` makes at a time."""


class KubeRefused(NodeManagerError):
    """The API server understood and said no; asking again the same way is useless.

    `status` is the HTTP status, `reason` Kubernetes' word for it (``AlreadyExists``), `message` its sentence.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"Kubernetes refused: {message or reason} ({status})")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_missing(self) -> bool:
        """There is no such object."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def is_there_already(self) -> bool:
        """There is an object of that name."""
        return self.status == HTTPStatus.CONFLICT and self.reason == "AlreadyExists"

    @property
    def is_gone(self) -> bool:
        """There is no such object any more, or by now another one has its name (409 for a unique id)."""
        return self.is_missing or self.status == HTTPStatus.CONFLICT

    @property
    def is_outdated(self) -> bool:
        """The version asked about is too old to be known: list anew."""
        return self.status == HTTPStatus.GONE


class NoAnswer(SchedulerError):
    """The API server could not be reached, fell silent, or does not know us. What was asked may have been done."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    method: str
    path: str
    query: Mapping[str, str | int] | None = None
    body: Any = None
    content_type: str = JSON

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Connection:
    """An API server. May be used by any number of threads."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._login: _Login | None = None
        self._made = 0

    @property
    def requests_made(self) -> int:
        """How many requests have been sent."""
        return self._made

    def ask(self, request: Request) -> dict[str, Any]:
        """The JSON of the answer; raises `KubeRefused` or `SchedulerError`."""
        response = self.open(request)
        try:
            content = response.read()
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"{request} was answered in part only: {error}") from error
        finally:
            response.release_conn()
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise SchedulerError(f"{request} was answered with what is no JSON: {error}") from error
        if not isinstance(answer, dict):
            raise SchedulerError(f"{request} was answered with what is no object")
        return answer

    def open(self, request: Request) -> urllib3.BaseHTTPResponse:
        """The answer, to be read by the caller; the same errors."""
        login = self._log_in(None)
        response = self._send(login, request)
        error = _error(request, response)
        if isinstance(error, _NotKnown):
            response = self._send(self._log_in(login), request)
            error = _error(request, response)
        if error is not None:
            raise error
        return response

    def close(self) -> None:
        """Let go of the connections that are not in use."""
        with self._lock:
            if self._login is not None:
                self._login.pool.clear()
                self._login = None

    def _log_in(self, stale: _Login | None) -> _Login:
        """The login there is; a new one if that is `stale`."""
        with self._lock:
            if self._login is None or self._login is stale:
                self._login = _Login(self._access)
            return self._login

    def _send(self, login: _Login, request: Request) -> urllib3.BaseHTTPResponse:
        url = login.host + request.path
        if request.query:
            url += "?" + urlencode(request.query)
        headers = {"Accept": JSON, "User-Agent": "arvados-node-manager"}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        with self._lock:
            self._made += 1
            # A plugin may be run here, and once is enough.
            headers |= login.authorization()
        try:
            return login.pool.request(
                request.method,
                url,
                body=None if request.body is None else orjson.dumps(request.body),
                headers=headers,
                timeout=urllib3.Timeout(
                    connect=self._access.connect_seconds,
                    read=self._access.read_seconds,
                ),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            where = f"the API server at {login.host}"
            raise NoAnswer(f"{where} does not answer {request}: {error}") from error


class _Login:
    """Credentials, and connections that use them."""

    def __init__(self, access: Access) -> None:
        configuration = Configuration()
        configuration.retries = False
        configuration.connection_pool_maxsize = access.concurrency + _WATCHES
        # A watch over which nothing comes is still to be told from one whose other end is gone.
        configuration.keep_alive = True
        try:
            if access.kubeconfig is None and _is_in_pod():
                load_incluster_config(client_configuration=configuration)
            else:
                load_kube_config(
                    config_file=str(access.kubeconfig) if access.kubeconfig else None,
                    context=access.context or None,
                    client_configuration=configuration,
                )
            self.pool: urllib3.PoolManager = RESTClientObject(configuration).pool_manager
        except Exception as error:
            raise NoAnswer(f"cannot log in to Kubernetes with {_place(access)}: {error}") from error
        self.host = str(configuration.host)
        self._place = _place(access)
        self._configuration = configuration

    def authorization(self) -> dict[str, str]:
        """The headers by which the server knows us; renews what is about to expire."""
        try:
            settings = self._configuration.auth_settings()
        except Exception as error:
            raise NoAnswer(f"cannot renew the credentials of {self._place}: {error}") from error
        return {each["key"]: each["value"] for each in settings.values() if each["value"]}


def _is_in_pod() -> bool:
    told = incluster_config.SERVICE_HOST_ENV_NAME in os.environ
    return told and Path(incluster_config.SERVICE_TOKEN_FILENAME).exists()


def _place(access: Access) -> str:
    if access.kubeconfig is not None:
        context = f", context {access.context}" if access.context else ""
        return f"kubeconfig {access.kubeconfig}{context}"
    return "the pod's service account" if _is_in_pod() else "the default kubeconfig"


class _NotKnown(NoAnswer):
    """The server does not know who we are."""


def _error(request: Request, response: urllib3.BaseHTTPResponse) -> NodeManagerError | None:
    """What is wrong with the answer; None when nothing is. Of a wrong one the body is read."""
    if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    try:
        content = response.read()
    except urllib3.exceptions.HTTPError:
        content = b""
    finally:
        response.release_conn()
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        answer = {}
    if not isinstance(answer, dict) or answer.get("kind") != "Status":
        answer = {"message": content[:300].decode("utf-8", "replace").strip()}
    return error_of(request, {"code": response.status, **answer})


def error_of(request: Request, status: Mapping[str, Any]) -> NodeManagerError:
    """The error that a `Status` object with its code tells of."""
    code = int(status.get("code") or HTTPStatus.INTERNAL_SERVER_ERROR)
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    words = f"{request} was answered {code}: {message or reason}"
    # A server that lets anybody in names those whose token it does not know so.
    if code == HTTPStatus.UNAUTHORIZED or (
        code == HTTPStatus.FORBIDDEN and '"system:anonymous"' in message
    ):
        return _NotKnown(f"{words}; renew the credentials that are used for Kubernetes")
    causes = (status.get("details") or {}).get("causes") or ()
    if any(cause.get("reason") == "DisruptionBudget" for cause in causes):
        return KubeRefused(code, "DisruptionBudget", message)
    if code == HTTPStatus.INTERNAL_SERVER_ERROR and any(words in message for words in _TOO_LARGE):
        return KubeRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", message)
    busy = code in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    if busy or code < HTTPStatus.BAD_REQUEST or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return SchedulerError(words)
    return KubeRefused(code, reason, message)
