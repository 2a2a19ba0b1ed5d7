"""The suite that every scheduler module passes, on a real control plane with nodes whose pods are processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from nodemanager.model import Resources
from nodemanager.schedulers.base import Scheduler, SchedulerContext
from nodemanager.schedulers.conformance import SchedulerConformance
from nodemanager.schedulers.kubernetes.scheduler import KubernetesScheduler
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.podlet import Access, Podlet, PodletNode

CLASSES = (1, 10, 100, 500, 1000)
LABEL = "tests.arvados.org/set"


@pytest.fixture(scope="module")
def of_its_own() -> str:
    """A name for what these tests share: a namespace, and a label of the nodes."""
    return f"conformance-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def nodes(
    kubernetes: KubernetesCluster, of_its_own: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Podlet]:
    """Two for everybody, one in a partition, one that can be taken away."""
    kubernetes.make_namespace(of_its_own)
    mine = {LABEL: of_its_own}
    wanted = [
        PodletNode(f"{of_its_own}-1", cpu="2", labels=mine),
        PodletNode(f"{of_its_own}-2", cpu="2", labels={**mine, "part": "main"}),
        PodletNode(f"{of_its_own}-3", cpu="2", labels={**mine, "part": "large"}),
        PodletNode(f"{of_its_own}-4", cpu="2", labels={**mine, "life": "spot"}),
    ]
    access = Access.from_kubeconfig(kubernetes.admin_kubeconfig)
    directory = tmp_path_factory.mktemp("podlet")
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    for number in CLASSES:
        name = f"{of_its_own}-{number}"
        body = {"metadata": {"name": name}, "value": number, "preemptionPolicy": "Never"}
        kubernetes.api("POST", classes, body)
    with Podlet(access, directory, wanted, heartbeat_seconds=1.0) as podlet:
        yield podlet
    for node in kubernetes.api("GET", f"/api/v1/nodes?labelSelector={LABEL}={of_its_own}")["items"]:
        kubernetes.api("DELETE", f"/api/v1/nodes/{node['metadata']['name']}")
    for number in CLASSES:
        kubernetes.api("DELETE", f"{classes}/{of_its_own}-{number}")
    kubernetes.api("DELETE", f"/api/v1/namespaces/{of_its_own}")


class TestKubernetes(SchedulerConformance):
    """What Kubernetes does not do: change the priority of a pod that is made, and start pods in order."""

    patience = 60.0
    reprioritises = False
    # Its scheduler looks again at a pod that found no node after a pause that grows, the most urgent one included.
    keeps_urgency = False
    keeps_order = False
    refuses_too_big = False
    grows = True
    tells = True

    @pytest.fixture(autouse=True)
    def _grow_here(self, nodes: Podlet, of_its_own: str) -> None:
        self._nodes, self._name = nodes, of_its_own

    def grow(self, resources: Resources) -> None:
        """A machine comes up."""
        name = f"{self._name}-{uuid4().hex[:6]}"
        cpu, memory = str(resources.cores), str(resources.ram_bytes)
        self._nodes.add(PodletNode(name, cpu, memory, labels={LABEL: self._name}))

    @pytest.fixture
    def connect(
        self, kubernetes: KubernetesCluster, nodes: Podlet, of_its_own: str, tmp_path: Path
    ) -> Callable[[str], Scheduler]:
        del nodes  # they only have to be there
        options = {
            "kubeconfig": str(kubernetes.admin_kubeconfig),
            "namespace": of_its_own,
            "image": "localhost/none:1",
            "keep_output": "no",
            "node_selector": f"{LABEL}={of_its_own}",
            "partition_label": "part",
            "preemptible_label": "life=spot",
            "grace": "1",
            "priority_classes": ", ".join(f"{n} {of_its_own}-{n}" for n in CLASSES),
        }
        return lambda cluster_id: KubernetesScheduler(
            SchedulerContext(cluster_id, tmp_path, options)
        )
