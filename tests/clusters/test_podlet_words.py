"""What a podlet says of pods is what a real kubelet said of such pods when it was recorded, word by word."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.podlet import Access, Podlet, PodletNode

RECORDS = Path(__file__).parents[1] / "schedulers" / "kubernetes_samples"
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
IDENTITY = re.compile(r"(?:containerd://|sha256:)[0-9a-f]{64}")
IMAGE = re.compile(r'"image": "[^"]*"')
MISSING = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "nope", "key": "k"}}}
VOLUME = {"name": "v", "secret": {"secretName": "nope"}}


def sh(script: str) -> dict[str, Any]:
    return {"command": ["sh", "-c", script]}


def loop(trap: str) -> dict[str, Any]:
    return sh(f"trap {trap} TERM; echo ready; while :; do sleep 0.05; done")


CONTAINERS: dict[str, dict[str, Any]] = {
    "exit0": sh("exit 0"),
    "exit7": sh("exit 7"),
    "notfound": {"command": ["/nope"]},
    "notfoundpath": {"command": ["nope"]},
    "notexec": {"command": ["/tmp"]},
    "nosecret": {**sh("true"), "env": [MISSING]},
    "nomount": {**sh("true"), "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
    "deadline": sh("sleep 1000"),
    "delterm": loop("'exit 5'"),
    "delterm0": loop("'exit 0'"),
    "delrun": loop("''"),
    "emptydir": sh("sleep 1000"),
}
SPECS: dict[str, dict[str, Any]] = {
    "nomount": {"volumes": [VOLUME]},
    "deadline": {"activeDeadlineSeconds": 1},
}
LOOPS = ("delterm", "delterm0", "delrun")
DELETED = (*LOOPS, "nosecret", "nomount")
EVICTED = "emptydir"


@pytest.fixture(scope="module")
def pods(
    kubernetes: KubernetesCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """All of them at once, at their ends: they are kept by a finalizer."""
    namespace, node = (f"words-{uuid4().hex[:8]}" for _ in range(2))
    kubernetes.make_namespace(namespace)
    path = f"/api/v1/namespaces/{namespace}/pods"
    access = Access(kubernetes.server, kubernetes.ca_file, kubernetes.admin_token)
    directory = tmp_path_factory.mktemp("podlet")

    def seen() -> dict[str, Any]:
        return {pod["metadata"]["name"]: pod for pod in kubernetes.api("GET", path)["items"]}

    with Podlet(access, directory, [PodletNode(node)]) as podlet:
        for name in CONTAINERS:
            kubernetes.api("POST", path, pod(name, node))
        kubernetes.wait_until(lambda: all(map(has_begun, seen().values())), 20, "all have begun")
        for name in LOOPS:
            wait_for_word(kubernetes, namespace, name)
        for name in DELETED:
            kubernetes.api("DELETE", f"{path}/{name}", {"gracePeriodSeconds": 1})
        podlet.evict_under_pressure(EVICTED, namespace=namespace)
        kubernetes.wait_until(lambda: all(map(is_settled, seen().values())), 20, "all have ended")
        yield seen()
        for name in CONTAINERS:
            kubernetes.api(
                "PATCH",
                f"{path}/{name}",
                {"metadata": {"finalizers": None}},
                kind="application/merge-patch+json",
            )
    kubernetes.api("DELETE", f"/api/v1/namespaces/{namespace}")
    kubernetes.api("DELETE", f"/api/v1/nodes/{node}")


def pod(name: str, node: str) -> dict[str, Any]:
    # The requests of the recorded ones, which decide about their class of service.
    resources = {"requests": {"cpu": "100m", "memory": "32Mi"}}
    container = {"name": "main", "image": "none", "resources": resources, **CONTAINERS[name]}
    return {
        "metadata": {"name": name, "finalizers": ["test/keep"]},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [container],
            **SPECS.get(name, {}),
        },
    }


def wait_for_word(kubernetes: KubernetesCluster, namespace: str, name: str) -> None:
    """Until it has set its trap."""
    kubernetes.wait_until(
        lambda: kubernetes.run("kubectl", "-n", namespace, "logs", name), 20, f"{name} is ready"
    )


def has_begun(pod: Any) -> bool:
    name, states = pod["metadata"]["name"], pod["status"].get("containerStatuses", [])
    waits = [each["state"].get("waiting", {}).get("reason") for each in states]
    if name in ("nosecret", "nomount"):
        return waits == [
            "CreateContainerConfigError" if name == "nosecret" else "ContainerCreating"
        ]
    return waits == [None]


def is_settled(pod: Any) -> bool:
    if pod["metadata"]["name"] in DELETED:
        return bool(pod["metadata"].get("deletionGracePeriodSeconds") == 0)
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def words(status: Any) -> Any:
    """A status without what is different every time."""
    text = json.dumps(status, sort_keys=True)
    text = TIME.sub("TIME", IDENTITY.sub("IDENTITY", text))
    return json.loads(IMAGE.sub('"image": ""', text).replace("10.245.0.1", "127.0.0.1"))


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_a_pod_is_spoken_of_as_by_a_kubelet(pods: dict[str, Any], name: str) -> None:
    recorded = words(json.loads((RECORDS / f"{name}.json").read_text())["status"])
    said = words(pods[name]["status"])
    if name == EVICTED:  # of another resource
        del recorded["message"], said["message"]
    assert said == recorded
