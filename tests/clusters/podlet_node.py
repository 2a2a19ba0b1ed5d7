"""One node of a podlet: its object, its heartbeats, and the pods that the scheduler binds to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.clusters.podlet_api import Api, ApiFailed, Object, Watch
from tests.clusters.podlet_logs import Log
from tests.clusters.podlet_pod import (
    ADDRESS,
    Changed,
    Evicted,
    MachineDead,
    PodWorker,
    Vanished,
)
from tests.clusters.podlet_process import Processes
from tests.clusters.podlet_status import Running, Waiting, stamp
from tests.clusters.podlet_volumes import Home

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_LEASE_SECONDS = 40
_RETRY_SECONDS = 0.2
_BEATS_PER_STATUS = 5

_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)  # fmt: skip


@dataclass(frozen=True)
class PodletNode:
    """A node to be; quantities as Kubernetes writes them."""

    name: str
    cpu: str = "4"
    memory: str = "4Gi"
    ephemeral: str = "10Gi"
    gpus: int = 0
    pods: int = 110
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[str] = ()
    """As kubectl takes them: key=value:Effect or key:Effect."""
    provider_id: str = ""


class NodeAgent:
    """What a kubelet does for its node, until `stop`."""

    def __init__(
        self,
        node: PodletNode,
        api: Api,
        processes: Processes,
        directory: Path,
        *,
        port: int,
        heartbeat_seconds: float,
    ) -> None:
        self.node = node
        self._api = api
        self._processes = processes
        self._directory = directory / node.name
        self._port = port
        self._heartbeat_seconds = heartbeat_seconds
        self._dead = threading.Event()
        self._frozen = threading.Event()
        self._lock = threading.Lock()
        self._workers: dict[str, PodWorker] = {}
        self._watching: Watch | None = None
        self._register()
        self._threads = [
            threading.Thread(target=work, name=f"podlet-{node.name}-{work.__name__}")
            for work in (self._beat, self._follow)
        ]
        for thread in self._threads:
            thread.start()

    def freeze(self) -> None:
        """No more heartbeats; pods go on."""
        self._frozen.set()

    def thaw(self) -> None:
        """Heartbeats again, the first at once."""
        self._frozen.clear()
        self._tell_status()

    def evict(self, namespace: str, name: str, resource: str, usage: str) -> None:
        """Throw a pod out for want of a resource; raises `KeyError` if it is not here."""
        worker = self._worker(namespace, name)
        container = worker.pod["spec"]["containers"][0]
        message = f"The node was low on resource: {resource}. "
        if usage:
            asked = container.get("resources", {}).get("requests", {}).get(resource, "0")
            used = f"Container {container['name']} was using {usage}"
            message += f"{used}, which exceeds its request of {asked}. "
        worker.tell(Evicted(message))

    def has(self, namespace: str, name: str) -> bool:
        """Whether the pod is here."""
        return any(True for _ in self._named(namespace, name))

    def log(self, namespace: str, name: str) -> Log:
        """Of a pod's container; raises `KeyError` if it is not here."""
        worker = self._worker(namespace, name)
        state = worker.state
        waits = state.reason if isinstance(state, Waiting) else ""
        if not waits and not worker.home.log.exists():
            waits = "ContainerCreating"
        return Log(worker.home.log, waits, lambda: isinstance(worker.state, Running))

    def stop(self) -> None:
        """The machine dies: nothing runs any more, and nobody is told."""
        self._dead.set()
        with self._lock:
            if self._watching:
                self._watching.close()
            workers = [*self._workers.values()]
        for worker in workers:
            worker.tell(MachineDead())
        for thread in self._threads:
            thread.join()
        for worker in workers:
            worker.join()

    def _register(self) -> None:
        """As a kubelet that starts: a new node, or another boot of one that there is."""
        taints = [_taint(text) for text in self.node.taints]
        metadata = {"name": self.node.name, "labels": self._labels()}
        spec: Object = {"taints": taints} if taints else {}
        if self.node.provider_id:
            spec["providerID"] = self.node.provider_id
        node = {"metadata": metadata, "spec": spec, "status": self._status()}
        try:
            known = self._api.create("/api/v1/nodes", node)
        except ApiFailed as error:
            if error.status != 409:
                raise
            labels = {"metadata": {"labels": self._labels()}}
            known = self._api.patch(f"/api/v1/nodes/{self.node.name}", labels)
            self._tell_status()
        self._take_lease(known["metadata"]["uid"])

    def _take_lease(self, uid: str) -> None:
        owner = {"apiVersion": "v1", "kind": "Node", "name": self.node.name, "uid": uid}
        metadata = {"name": self.node.name, "ownerReferences": [owner]}
        try:
            self._api.create(_LEASES, {"metadata": metadata, "spec": self._lease()})
        except ApiFailed as error:
            if error.status != 409:
                raise
            self._renew()

    def _labels(self) -> dict[str, str]:
        return {
            "kubernetes.io/hostname": self.node.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            **self.node.labels,
        }

    def _status(self) -> Object:
        now = stamp(time.time())
        size = {
            "cpu": self.node.cpu,
            "memory": self.node.memory,
            "ephemeral-storage": self.node.ephemeral,
            "pods": str(self.node.pods),
            **({"nvidia.com/gpu": str(self.node.gpus)} if self.node.gpus else {}),
        }
        return {
            "capacity": size,
            "allocatable": size,
            "addresses": [
                {"type": "InternalIP", "address": ADDRESS},
                {"type": "Hostname", "address": self.node.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "osImage": "processes of another machine",
                "kernelVersion": "",
                "containerRuntimeVersion": "podlet://1",
                "kubeletVersion": "v1.20.2",
                "kubeProxyVersion": "v1.20.2",
                "machineID": self.node.name,
                "systemUUID": self.node.name,
                "bootID": self.node.name,
            },
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": now,
                }
                for kind, status, reason, message in _CONDITIONS
            ],
        }

    def _lease(self) -> Object:
        now = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}.000000Z"
        return {
            "holderIdentity": self.node.name,
            "leaseDurationSeconds": _LEASE_SECONDS,
            "renewTime": now,
        }

    def _renew(self) -> None:
        self._api.patch(f"{_LEASES}/{self.node.name}", {"spec": self._lease()})

    def _tell_status(self) -> None:
        self._api.patch(f"/api/v1/nodes/{self.node.name}/status", {"status": self._status()})

    def _beat(self) -> None:
        beats = 0
        while not self._dead.wait(self._heartbeat_seconds):
            if self._frozen.is_set():
                continue
            beats += 1
            try:
                self._renew()
                if beats % _BEATS_PER_STATUS == 0:
                    self._tell_status()
            except ApiFailed:
                continue  # the next one may be heard

    def _follow(self) -> None:
        """Know the pods that are bound to this node: listed once, then watched, as long as that goes."""
        ours = {"fieldSelector": f"spec.nodeName={self.node.name}"}
        while not self._dead.is_set():
            try:
                listing = self._api.get("/api/v1/pods", **ours)
                self._compare(listing["items"])
                version = listing["metadata"]["resourceVersion"]
                with self._watch(resourceVersion=version, timeoutSeconds="600", **ours) as events:
                    for kind, pod in events:
                        if kind == "ERROR":
                            break
                        self._take(pod, gone=kind == "DELETED")
            except ApiFailed:
                self._dead.wait(_RETRY_SECONDS)

    @contextmanager
    def _watch(self, **query: str) -> Iterator[Watch]:
        watch = self._api.watch("/api/v1/pods", **query)
        with self._lock:
            self._watching = watch
            if self._dead.is_set():
                watch.close()
        try:
            yield watch
        finally:
            with self._lock:
                self._watching = None

    def _compare(self, pods: Sequence[Object]) -> None:
        there = {pod["metadata"]["uid"] for pod in pods}
        with self._lock:
            missing = [worker for uid, worker in self._workers.items() if uid not in there]
        for worker in missing:
            worker.tell(Vanished())
        for pod in pods:
            self._take(pod, gone=False)

    def _take(self, pod: Object, *, gone: bool) -> None:
        uid = pod["metadata"]["uid"]
        with self._lock:
            if self._dead.is_set():
                return
            self._workers = {key: w for key, w in self._workers.items() if not w.is_over}
            worker = self._workers.get(uid)
            if worker is None and not gone:
                home = Home(self._directory / uid)
                worker = PodWorker(self._api, self._processes, home, pod, self._dead)
                self._workers[uid] = worker
        if worker:
            worker.tell(Vanished() if gone else Changed(pod))

    def _worker(self, namespace: str, name: str) -> PodWorker:
        try:
            return next(self._named(namespace, name))
        except StopIteration:
            raise KeyError(name) from None

    def _named(self, namespace: str, name: str) -> Iterator[PodWorker]:
        with self._lock:
            workers = [*self._workers.values()]
        # The youngest first: one of the same name may be on its way out.
        for worker in reversed(workers):
            metadata = worker.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                yield worker


def _taint(text: str) -> Object:
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}
