"""What is asked of the API server: each method one request, dictionaries as the API documents them in and out.

Every method raises `KubeRefused` when the server said no and `SchedulerError` when there was no usable answer. Nothing
is tried twice here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import urllib3

from nodemanager.errors import NodeManagerError
from nodemanager.schedulers.kubernetes.connection import (
    MERGE_PATCH,
    Access,
    Connection,
    KubeRefused,
    NoAnswer,
    Request,
)
from nodemanager.schedulers.kubernetes.watch import Event, Silence, Watch

__all__ = [
    "Access",
    "Event",
    "KubeClient",
    "KubeRefused",
    "Listing",
    "NoAnswer",
    "Page",
    "Silence",
    "Watch",
]

PAGE_ITEMS = 500

_LOG_BYTES = 1 << 16
_EXCUSES = (b"unable to retrieve container logs for ", b"failed to try resolving symlinks in path ")
_EXCUSE_BYTES = 1000

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects of a kind that can be listed and watched."""

    path: str
    label_selector: str = ""
    field_selector: str = ""

    def query(self) -> dict[str, str | int]:
        """The selectors as parameters."""
        selectors = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {key: value for key, value in selectors.items() if value}


class Page(NamedTuple):
    """A part of a list. All pages of one list show the same moment, that of `version`."""

    items: list[dict[str, Any]]
    version: str


class KubeClient:
    """An API server, and one namespace for everything of ours. Any number of threads may use it.

    Nothing is asked before the first call.
    """

    def __init__(self, access: Access, namespace: str) -> None:
        self.namespace = namespace
        self._concurrency = access.concurrency
        self._connection = Connection(access)
        self._pool: ThreadPoolExecutor | None = None
        self._eviction = ""

    @property
    def requests_made(self) -> int:
        """How many requests have been sent."""
        return self._connection.requests_made

    def close(self) -> None:
        """Let go of threads and connections; requests under way come to their end."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        self._connection.close()

    def many(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> list[Result | NodeManagerError]:
        """`function` of each item, several at a time: results or errors, in order. For one calling thread.

        When as many as are asked at a time got no answer the server is taken for dead, and the rest is not asked.
        """
        silent = threading.Semaphore(self._concurrency)
        dead = threading.Event()

        def call(item: Item) -> Result | NodeManagerError:
            if dead.is_set():
                return NoAnswer("the API server has stopped answering; not asked any more")
            try:
                return function(item)
            except NoAnswer as error:
                if not silent.acquire(blocking=False):
                    dead.set()
                return error
            except NodeManagerError as error:
                return error

        if len(items) <= 1 or self._concurrency <= 1:
            return [call(item) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._concurrency, "kubernetes")
        return list(self._pool.map(call, items))

    # What can be listed and watched.

    def pods(self, label_selector: str = "", field_selector: str = "") -> Listing:
        """Pods of our namespace."""
        return Listing(f"{self._in_namespace()}/pods", label_selector, field_selector)

    def all_pods(self, label_selector: str = "", field_selector: str = "") -> Listing:
        """Pods of all namespaces."""
        return Listing("/api/v1/pods", label_selector, field_selector)

    def nodes(self, label_selector: str = "") -> Listing:
        """Nodes."""
        return Listing("/api/v1/nodes", label_selector)

    def secrets(self, label_selector: str = "", namespace: str = "") -> Listing:
        """Secrets of our namespace, or of another."""
        return Listing(f"{self._in_namespace(namespace)}/secrets", label_selector)

    def pages(self, listing: Listing, limit: int = PAGE_ITEMS) -> Iterator[Page]:
        """The objects, a page at a time, as the store has them now: no answer from a server's memory.

        When turning pages takes longer than the server remembers that moment, `KubeRefused.is_outdated`.
        """
        query = listing.query() | {"limit": limit}
        while True:
            answer = self._connection.ask(Request("GET", listing.path, query))
            metadata = answer.get("metadata") or {}
            yield Page(answer.get("items") or [], str(metadata.get("resourceVersion") or ""))
            if not metadata.get("continue"):
                return
            query = listing.query() | {"limit": limit, "continue": str(metadata["continue"])}

    def list(self, listing: Listing) -> Sequence[dict[str, Any]]:
        """All objects of a listing that is not long."""
        return [item for page in self.pages(listing) for item in page.items]

    def watch(
        self, listing: Listing, version: str, *, server_seconds: float, silence_seconds: float
    ) -> Watch:
        """What changes after `version`, until the server ends it after `server_seconds`.

        A server sends bookmarks every minute, though old ones (1.20) do not where nothing has changed.
        """
        query = listing.query() | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": max(1, int(server_seconds)),
        }
        request = Request("GET", listing.path, query)
        return Watch(request, self._connection.open(request), silence_seconds)

    # Pods.

    def create_pod(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        """The pod as it was made."""
        return self._ask("POST", f"{self._in_namespace()}/pods", pod)

    def get_pod(self, name: str) -> dict[str, Any]:
        """The pod of that name."""
        return self._ask("GET", self._pod(name))

    def patch_pod(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge `patch` into the pod. With ``metadata.uid`` in it, only into that very pod (409, or 422)."""
        return self._patch(self._pod(name), patch)

    def delete_pod(self, name: str, *, uid: str = "", grace_seconds: int | None = None) -> None:
        """Ask for the pod's end; with `uid` only of that very one (409)."""
        self._ask("DELETE", self._pod(name), _delete_options(uid, grace_seconds))

    def evict_pod(
        self, name: str, namespace: str, *, uid: str = "", grace_seconds: int | None = None
    ) -> None:
        """Ask for the pod's end, unless a PodDisruptionBudget forbids that now.

        Then it raises `KubeRefused` with the reason ``DisruptionBudget``.
        """
        body = {
            "apiVersion": self._eviction_version(),
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": _delete_options(uid, grace_seconds),
        }
        path = f"{self._in_namespace(namespace)}/pods/{quote(name, safe='')}/eviction"
        self._ask("POST", path, body)

    def pod_log(
        self, name: str, container: str, *, limit_bytes: int = 0
    ) -> Generator[bytes, None, None]:
        """What the container has printed so far, as it comes; close it when it is not read to its end.

        A kubelet keeps the log of a container that ended by itself for as long as the pod is there, but that of a pod
        that was deleted only until its containers have ended: then `KubeRefused`, from the first piece on.
        """
        query: dict[str, str | int] = {"container": container}
        if limit_bytes:
            query["limitBytes"] = limit_bytes
        request = Request("GET", f"{self._pod(name)}/log", query)
        response = self._connection.open(request)
        return _stream(request, response)

    def pod_events(self, uid: str) -> Sequence[dict[str, Any]]:
        """What has been noted about the pod in the last hour or so."""
        path = f"{self._in_namespace()}/events"
        return self.list(Listing(path, field_selector=f"involvedObject.uid={uid}"))

    # Secrets.

    def create_secret(self, secret: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
        """The secret as it was made."""
        return self._ask("POST", f"{self._in_namespace(namespace)}/secrets", secret)

    def get_secret(self, name: str, namespace: str = "") -> dict[str, Any]:
        """The secret of that name."""
        return self._ask("GET", self._secret(name, namespace))

    def patch_secret(
        self, name: str, patch: Mapping[str, Any], namespace: str = ""
    ) -> dict[str, Any]:
        """Merge `patch` into it."""
        return self._patch(self._secret(name, namespace), patch)

    def delete_secret(self, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Remove it."""
        self._ask("DELETE", self._secret(name, namespace), _delete_options(uid, None))

    # Nodes.

    def get_node(self, name: str) -> dict[str, Any]:
        """The node of that name."""
        return self._ask("GET", _node(name))

    def patch_node(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge `patch` into it."""
        return self._patch(_node(name), patch)

    def delete_node(self, name: str, *, uid: str = "") -> None:
        """Remove the object; with `uid` only that very one (409). The machine is none of the API's business."""
        self._ask("DELETE", _node(name), _delete_options(uid, None))

    # The server.

    def version(self) -> str:
        """Such as ``v1.32.1``."""
        return str(self._ask("GET", "/version").get("gitVersion") or "")

    def may(
        self,
        verb: str,
        resource: str,
        *,
        group: str = "",
        namespace: str | None = None,
        name: str = "",
    ) -> bool:
        """Whether we have the right to do that.

        `resource` may have a part, as in ``pods/log``. `namespace` None is ours, empty is all of them.
        """
        kind, _, part = resource.partition("/")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": kind,
            "subresource": part,
            "name": name,
            "namespace": self.namespace if namespace is None else namespace,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        return bool((answer.get("status") or {}).get("allowed"))

    def priority_classes(self) -> Sequence[dict[str, Any]]:
        """All PriorityClasses."""
        return self.list(Listing("/apis/scheduling.k8s.io/v1/priorityclasses"))

    # Inside.

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return self._connection.ask(Request(method, path, body=body))

    def _patch(self, path: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        request = Request("PATCH", path, body=patch, content_type=MERGE_PATCH)
        return self._connection.ask(request)

    def _in_namespace(self, namespace: str = "") -> str:
        return f"/api/v1/namespaces/{quote(namespace or self.namespace, safe='')}"

    def _pod(self, name: str) -> str:
        return f"{self._in_namespace()}/pods/{quote(name, safe='')}"

    def _secret(self, name: str, namespace: str) -> str:
        return f"{self._in_namespace(namespace)}/secrets/{quote(name, safe='')}"

    def _eviction_version(self) -> str:
        """v1 came with Kubernetes 1.22, and v1beta1 went with 1.25."""
        if not self._eviction:
            resources = self._ask("GET", "/api/v1").get("resources") or ()
            found = [each for each in resources if each.get("name") == "pods/eviction"]
            version = found[0].get("version") if found else None
            self._eviction = f"policy/{version or 'v1'}"
        return self._eviction


def _node(name: str) -> str:
    return f"/api/v1/nodes/{quote(name, safe='')}"


def _delete_options(uid: str, grace_seconds: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if uid:
        options["preconditions"] = {"uid": uid}
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = grace_seconds
    return options


def _stream(request: Request, response: urllib3.BaseHTTPResponse) -> Generator[bytes, None, None]:
    with closing(response):
        try:
            head = response.read1(_LOG_BYTES)
            while _may_be_excuse(head) and (more := response.read1(_LOG_BYTES)):
                head += more
            if _may_be_excuse(head):
                words = head.decode("utf-8", "replace")
                raise KubeRefused(HTTPStatus.NOT_FOUND, "NoLog", words)
            while head:
                yield head
                head = response.read1(_LOG_BYTES)
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"{request} broke off: {error}") from error


def _may_be_excuse(content: bytes) -> bool:
    """Whether this may be all that a kubelet says instead of a log that it has not got, with the status of success."""
    is_short = len(content) < _EXCUSE_BYTES and b"\n" not in content
    return is_short and content.lower().startswith(_EXCUSES)
