"""The Kubernetes that tests use: what it has to be for them to mean anything."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from tests.clusters import kubernetes_build
from tests.clusters.kubernetes import KubernetesCluster, KubernetesMissing

MERGE = "application/strategic-merge-patch+json"


@pytest.fixture
def namespace(kubernetes: KubernetesCluster) -> Iterator[str]:
    name = kubernetes.make_namespace(f"t-{uuid4().hex[:8]}")
    yield name
    kubernetes.api("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def node(kubernetes: KubernetesCluster) -> Iterator[str]:
    """Made by hand, and ready for as long as the controllers' patience lasts."""
    name = f"n-{uuid4().hex[:8]}"
    kubernetes.api("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    room = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "by hand"}]
    status = {"status": {"capacity": room, "allocatable": room, "conditions": ready}}
    kubernetes.api("PATCH", f"/api/v1/nodes/{name}/status", status, kind=MERGE)
    yield name
    kubernetes.api("DELETE", f"/api/v1/nodes/{name}")


def a_pod(name: str) -> dict[str, object]:
    container = {
        "name": "main",
        "image": "none",
        "resources": {"requests": {"cpu": "1", "memory": "64Mi"}},
    }
    return {"metadata": {"name": name}, "spec": {"containers": [container]}}


def test_its_scheduler_gives_pods_to_nodes(
    kubernetes: KubernetesCluster, namespace: str, node: str
) -> None:
    kubernetes.api("POST", f"/api/v1/namespaces/{namespace}/pods", a_pod("one"))
    path = f"/api/v1/namespaces/{namespace}/pods/one"
    kubernetes.wait_until(
        lambda: kubernetes.api("GET", path)["spec"].get("nodeName") == node, 20, "a node for it"
    )
    large = a_pod("large")
    large["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "64"  # type: ignore[index]
    kubernetes.api("POST", f"/api/v1/namespaces/{namespace}/pods", large)
    path = f"/api/v1/namespaces/{namespace}/pods/large"

    def words() -> list[str]:
        conditions = kubernetes.api("GET", path)["status"].get("conditions", [])
        return [each["message"] for each in conditions if each["status"] == "False"]

    kubernetes.wait_until(words, 20, "a reason why not")
    assert "Insufficient cpu" in words()[0]


def test_what_it_has_outlives_its_api_server(kubernetes: KubernetesCluster, namespace: str) -> None:
    kubernetes.kill_apiserver()
    with pytest.raises(requests.ConnectionError):
        kubernetes.api("GET", "/api/v1/namespaces")
    kubernetes.start_apiserver()
    assert kubernetes.api("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["name"] == namespace


def test_nobody_may_do_what_he_has_no_right_to(
    kubernetes: KubernetesCluster, namespace: str
) -> None:
    kubeconfig = kubernetes.service_account_kubeconfig(namespace, "default")
    may = kubernetes.run(
        "sh", "-c", f"kubectl --kubeconfig {kubeconfig} auth can-i create pods || true"
    )
    assert may == "no"


def test_it_leaves_nothing(kubernetes: KubernetesCluster) -> None:
    del kubernetes  # it is built here
    with KubernetesCluster() as cluster:
        directory, port = cluster.directory, cluster.port
        assert cluster.run("kubectl", "get", "nodes") == ""
    assert not directory.exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"https://127.0.0.1:{port}", timeout=5)


def test_where_it_is_not_built_it_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(KubernetesMissing, match="make test-kubernetes"):
        kubernetes_build.find()


def test_tests_that_are_skipped_without_it_say_so_in_one_line(tmp_path: Path) -> None:
    files = (__file__, str(Path(__file__).with_name("test_podlet.py")))
    done = subprocess.run(
        (sys.executable, "-m", "pytest", "-m", "kubernetes", "-p", "no:cacheprovider", *files),
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = (line for line in done.stdout.splitlines() if "Kubernetes is not built" in line)
    assert "`make test-kubernetes`" in line
    assert int(line.partition("[")[2].partition("]")[0]) > 20
