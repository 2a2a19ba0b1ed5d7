"""The whole daemon on a real Kubernetes whose API server goes away in the middle, and beside another daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.clusters.daemons import Site, create, state_of, wait_for
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.podlet import Access, Podlet, PodletNode

pytestmark = pytest.mark.processes

LABEL = "tests.arvados.org/set"


@pytest.fixture
def namespace(kubernetes: KubernetesCluster) -> Iterator[str]:
    name = kubernetes.make_namespace(f"daemon-{uuid4().hex[:8]}")
    yield name
    kubernetes.api("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def nodes(kubernetes: KubernetesCluster, namespace: str, tmp_path: Path) -> Iterator[Podlet]:
    wanted = [
        PodletNode(f"{namespace}-{number}", cpu="2", labels={LABEL: namespace}) for number in (1, 2)
    ]
    access = Access.from_kubeconfig(kubernetes.admin_kubeconfig)
    with Podlet(access, tmp_path / "podlet", wanted, heartbeat_seconds=1.0) as podlet:
        yield podlet
    for node in wanted:
        kubernetes.api("DELETE", f"/api/v1/nodes/{node.name}")


@pytest.fixture
def on_kubernetes(site: Site, kubernetes: KubernetesCluster, nodes: Podlet, namespace: str) -> Site:
    del nodes  # they only have to be there
    store = site.folder / "store"
    store.mkdir()
    (site.folder / "ledger").mkdir()
    kubernetes.make_claim(namespace, "store", store)
    options = f"""\
kubeconfig = {kubernetes.admin_kubeconfig}
namespace = {namespace}
image = localhost/none:1
claims = {store} store
node_selector = {LABEL}={namespace}
grace = 2 s
lost_after = 2 s
poll_time = 500 ms
max_poll_time = 2 s
command_timeout = 5 s
"""
    site.use("kubernetes", options, dispatch="max_claimed = 50\n")
    text = site.config.read_text()
    site.config.write_text(text.replace("[Runner]\n", f"[Runner]\nstore = {store}\n"))
    return site


def command(site: Site, number: int, seconds: float) -> str:
    """A command that notes each of its starts."""
    return f"echo x >> {site.folder}/ledger/{number}; echo hello; sleep {seconds}"


def starts(site: Site) -> dict[str, int]:
    return {path.name: len(path.read_text().split()) for path in (site.folder / "ledger").iterdir()}


def _have_begun(site: Site, count: int) -> bool:
    return len(starts(site)) >= count


def _is_in(api: Any, uuid: str, state: str) -> bool:
    return state_of(api, uuid) == state


def states(api: Any, uuids: list[str]) -> Counter[str]:
    return Counter(state_of(api, uuid) for uuid in uuids)


def pods(kubernetes: KubernetesCluster, namespace: str) -> list[str]:
    found = kubernetes.api("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return [pod["metadata"]["name"] for pod in found]


def test_containers_end_as_their_pods_do(
    on_kubernetes: Site, kubernetes: KubernetesCluster, namespace: str
) -> None:
    daemon = on_kubernetes.start()
    api = on_kubernetes.serving()
    ends = {
        "true": "Complete",
        "exit 3": "PermFail",
        "kill -SEGV $$": "PermFail",
        "exit 75": "TempFail",
    }
    uuids = {text: create(api, f"echo hello; {text}") for text in ends}
    for text, state in ends.items():
        wait_for(partial(_is_in, api, uuids[text], state), f"{text} is {state}")
    row = next(c for c in on_kubernetes.containers() if c["uuid"] == uuids["true"])
    assert (Path(row["log"]) / "combined.txt").read_text() == "hello\n"
    assert Path(row["output"]).is_dir()
    long = create(api, command(on_kubernetes, 1, 600))
    wait_for(lambda: state_of(api, long) == "Running", "it runs")
    request = api.container_requests().list(filters=[["container_uuid", "=", long]]).execute()
    body = {"container_request": {"priority": 0}}
    api.container_requests().update(uuid=request["items"][0]["uuid"], body=body).execute()
    wait_for(lambda: state_of(api, long) == "Cancelled", "it is cancelled")
    wait_for(lambda: long not in pods(kubernetes, namespace), "its pod is gone")
    daemon.terminate()
    assert daemon.wait(timeout=60) == 0


def test_an_outage_of_the_api_server_fails_nothing(
    on_kubernetes: Site, kubernetes: KubernetesCluster, namespace: str
) -> None:
    daemon = on_kubernetes.start()
    api = on_kubernetes.serving()
    early = [create(api, command(on_kubernetes, n, 3)) for n in range(10)]
    wait_for(lambda: len(starts(on_kubernetes)) >= 2, "some run")
    kubernetes.kill_apiserver()
    try:
        late = [create(api, command(on_kubernetes, n, 0.1)) for n in range(10, 16)]
        wait_for(lambda: state_of(api, late[-1]) == "Locked", "all are claimed")
    finally:
        kubernetes.start_apiserver()
    every = [*early, *late]
    wait_for(lambda: states(api, every) == {"Complete": 16}, "all complete", 110)
    assert starts(on_kubernetes) == {str(n): 1 for n in range(16)}
    assert len(on_kubernetes.containers()) == 16, "no attempt but the first"
    wait_for(lambda: pods(kubernetes, namespace) == [], "no pod is left")
    daemon.terminate()
    assert daemon.wait(timeout=60) == 0


def test_a_daemon_that_is_killed_goes_on_where_it_was(
    on_kubernetes: Site, kubernetes: KubernetesCluster, namespace: str
) -> None:
    daemon = on_kubernetes.start()
    api = on_kubernetes.serving()
    uuids = [create(api, command(on_kubernetes, n, 1)) for n in range(16)]
    for _ in range(3):
        done = len(starts(on_kubernetes))
        wanted = min(16, done + 3)
        wait_for(partial(_have_begun, on_kubernetes, wanted), "some more have begun")
        on_kubernetes.kill(daemon)
        daemon = on_kubernetes.start()
        api = on_kubernetes.serving()
    wait_for(lambda: states(api, uuids) == {"Complete": 16}, "all complete", 110)
    assert starts(on_kubernetes) == {str(n): 1 for n in range(16)}
    assert len(on_kubernetes.containers()) == 16, "no attempt but the first"
    wait_for(lambda: pods(kubernetes, namespace) == [], "no pod is left")
    daemon.terminate()
    assert daemon.wait(timeout=60) == 0


def test_a_node_that_dies_costs_an_attempt_and_no_container(
    on_kubernetes: Site, nodes: Podlet, namespace: str
) -> None:
    daemon = on_kubernetes.start()
    api = on_kubernetes.serving()
    go = on_kubernetes.folder / "go"
    uuid = create(api, f"{command(on_kubernetes, 0, 0)}; until [ -e {go} ]; do sleep 0.05; done")
    wait_for(lambda: state_of(api, uuid) == "Running", "it runs")
    record = api.containers().get(uuid=uuid).execute()
    nodes.lose(record["runtime_status"]["node"])
    go.touch()
    wait_for(lambda: state_of(api, uuid) == "TempFail", "the attempt is lost", 100)
    words = api.containers().get(uuid=uuid).execute()["runtime_status"]["error"]
    assert "its node was lost" in words

    def last() -> str:
        return str(on_kubernetes.containers()[-1]["state"])

    wait_for(lambda: last() == "Complete", "the next one completes")
    assert len(on_kubernetes.containers()) == 2
    daemon.terminate()
    assert daemon.wait(timeout=60) == 0
