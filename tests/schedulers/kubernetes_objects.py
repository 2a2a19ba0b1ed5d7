"""Pods and nodes as tests make them, and what a kubelet would say of them."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nodemanager.model import new_uuid
from nodemanager.schedulers.kubernetes.client import KubeClient, KubeRefused
from nodemanager.schedulers.kubernetes.names import ASKED, CONTAINER, FINALIZER, Asked, labels_of
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.kubernetes_conf import write_kubeconfig
from tests.clusters.processes import wait_until

OURS, THEIRS = "zzzzz", "yyyyy"
GIB = 1 << 30


def pod_json(cluster: str = OURS, name: str = "", **spec: Any) -> dict[str, Any]:
    """A pod as the module will make it, that nobody starts."""
    container = {
        "name": CONTAINER,
        "image": "nothing",
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name or new_uuid(cluster, "container"),
            "labels": dict(labels_of(cluster, "test")),
            "finalizers": [FINALIZER],
            "annotations": {ASKED: Asked(GIB, 60).as_annotation()},
        },
        "spec": {"restartPolicy": "Never", "containers": [container], **spec},
    }


def node_json(name: str, cpu: str = "4", memory: str = "16Gi", **labels: str) -> dict[str, Any]:
    """A node of which a kubelet has said that it is well."""
    allocatable = {"cpu": cpu, "memory": memory, "ephemeral-storage": "100Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {
            "allocatable": allocatable,
            "capacity": allocatable,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def running() -> dict[str, Any]:
    """The status of a pod whose container runs."""
    state = {"running": {"startedAt": "2026-11-25T09:03:00Z"}}
    return {"phase": "Running", "containerStatuses": [_status(state)]}


def exited(code: int) -> dict[str, Any]:
    """The status of a pod whose container has ended."""
    terminated = {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "startedAt": "2026-11-25T09:03:00Z",
        "finishedAt": "2026-11-25T09:04:00Z",
    }
    phase = "Failed" if code else "Succeeded"
    return {"phase": phase, "containerStatuses": [_status({"terminated": terminated})]}


def _status(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "state": state,
        "image": "nothing",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
    }


def kubeconfig(kubernetes: KubernetesCluster, user: str = "admin", port: int = 0) -> Path:
    """For `admin` or `guest`, by way of a proxy at that port."""
    token = {"admin": kubernetes.admin_token, "guest": kubernetes.guest_token}[user]
    path = kubernetes.directory / f"{user}-{port}.kubeconfig"
    server = f"https://127.0.0.1:{port or kubernetes.port}"
    return write_kubeconfig(path, server, kubernetes.ca_file, {"token": token})


class Hands:
    """Do by hand what kubelets and schedulers do."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def bind(self, pod: str, node: str) -> None:
        """As the scheduler does."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target}
        self._client._ask("POST", f"{self._client._pod(pod)}/binding", body)

    def tell(self, pod: str, status: dict[str, Any]) -> None:
        """As a kubelet does."""
        self._client._patch(f"{self._client._pod(pod)}/status", {"status": status})

    def release(self, pod: str) -> None:
        """Take the finalizers away and let the pod go at once."""
        # It may be gone already, and is by the first if its deletion had been asked for.
        with suppress(KubeRefused):
            self._client.patch_pod(pod, {"metadata": {"finalizers": None}})
            self._client.delete_pod(pod, grace_seconds=0)

    def make_node(self, node: dict[str, Any]) -> None:
        """As a kubelet does."""
        self._client._ask("POST", "/api/v1/nodes", node)
        self.tell_node(node["metadata"]["name"], node["status"])

    def tell_node(self, name: str, status: dict[str, Any]) -> None:
        """As a kubelet does."""
        self._client._patch(f"/api/v1/nodes/{name}/status", {"status": status})


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for it."""
    wait_until(condition, seconds, "it comes true", lambda: "")
