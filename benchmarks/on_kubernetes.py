"""Kubernetes under measurement: real API server, scheduler and controllers; its nodes are processes of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from rich.console import Console
from rich.table import Table

from nodemanager.schedulers.base import JobSpec, Scheduler
from nodemanager.schedulers.kubernetes.client import Access, KubeClient
from nodemanager.schedulers.kubernetes.names import labels_of
from subjects import CLUSTER, PATIENCE_SECONDS, Subject
from tests.clusters.kubernetes import KubernetesCluster

NAMESPACE = "bench"
IMAGE = "localhost/none:1"
NODES = ("bench-1", "bench-2")
_WATCHING = Path(__file__).with_name("watching.py")


class Kubernetes(Subject):
    """A Kubernetes with two nodes."""

    word = "kubernetes"
    runs_commands = True
    stdin = b""
    """Anything else would be a secret, of which plain pods have none."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._cluster = cluster
        self.environment = cluster.env
        access = Access(cluster.admin_kubeconfig, read_seconds=60, concurrency=16)
        self._client = KubeClient(access, NAMESPACE)

    def options(self) -> dict[str, str]:
        """Outputs are not what is measured."""
        return {
            "kubeconfig": str(self._cluster.admin_kubeconfig),
            "namespace": NAMESPACE,
            "image": IMAGE,
            "keep_output": "no",
            "grace": "1 s",
        }

    def daemon_options(self) -> dict[str, str]:
        """Its own limit is a matter of politeness."""
        return {**self.options(), "commands_per_second": "10000"}

    def plain(self) -> Iterator[tuple[str, int, Callable[[], int]]]:
        """See the base class."""
        yield "kubectl create -f, one at a time", 50, partial(self._by_kubectl, 50)
        yield "the official client, one thread", 400, partial(self._by_client, 400)

    def variants(self) -> Iterator[tuple[str, dict[str, str]]]:
        """See the base class."""
        yield "1 at a time", {"concurrency": "1"}
        yield "8 at a time", {}
        yield "32 at a time", {"concurrency": "32"}

    def fill(self, scheduler: Scheduler, jobs: Sequence[JobSpec]) -> None:
        """As somebody else might make them: without the finalizer by which pods are kept, of which thousands go slowly."""
        del scheduler
        made = self._client.many(self._client.create_pod, [_pod(job.name) for job in jobs])
        failures = [answer for answer in made if isinstance(answer, Exception)]
        if failures:
            raise SystemExit(f"{len(failures):,} pods were not made: {failures[0]}")

    def report_more(self, console: Console, live: int) -> None:
        """How much memory it takes to know of them."""
        if live < 10_000:
            return
        table = Table(title=f"kubernetes: memory (RSS) of a process with the module, {live:,} pods")
        table.add_column("what")
        table.add_column("MiB", justify="right")
        table.add_column("pods known", justify="right")
        rows = {"watches them": CLUSTER, "watches, though none is ours": "yyyyy"}
        for title, cluster_id in rows.items():
            found = self._memory(cluster_id)
            if not table.rows:
                table.add_row("what all modules have", f"{found['before']:.0f}", "")
                table.add_row("module imported", f"{found['imported']:.0f}", "")
            table.add_row(title, f"{found['watching']:.0f}", f"{found['pods']:,.0f}")
        console.print(table)

    def purge(self) -> None:
        """See the base class."""
        until = time.monotonic() + PATIENCE_SECONDS
        while pods := self._client.list(self._client.pods()):
            if time.monotonic() > until:
                raise SystemExit(f"{len(pods):,} pods are left")
            self._client.many(self._end, pods)

    def open(self, *, takes_work: bool) -> None:
        """See the base class."""
        for node in NODES:
            self._client.patch_node(node, {"spec": {"unschedulable": not takes_work}})

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    # Inside.

    def _by_kubectl(self, jobs: int) -> int:
        accepted = 0
        for number in range(jobs):
            words = ("kubectl", "--namespace", NAMESPACE, "create", "-f", "-")
            pod = yaml.safe_dump(_pod(f"plain-{number}"))
            done = subprocess.run(
                words, input=pod.encode(), env=self.environment, capture_output=True, check=False
            )
            accepted += done.returncode == 0
        return accepted

    def _by_client(self, jobs: int) -> int:
        api_client = config.new_client_from_config(str(self._cluster.admin_kubeconfig))
        with api_client:
            api = client.CoreV1Api(api_client)
            for number in range(jobs):
                api.create_namespaced_pod(NAMESPACE, _pod(f"plain-{number}"))
        return jobs

    def _end(self, pod: Mapping[str, Any]) -> None:
        metadata = pod["metadata"]
        if metadata.get("finalizers"):
            self._client.patch_pod(metadata["name"], {"metadata": {"finalizers": None}})
        if "deletionTimestamp" not in metadata:
            self._client.delete_pod(metadata["name"], uid=metadata["uid"], grace_seconds=0)

    def _memory(self, cluster_id: str) -> dict[str, float]:
        kubeconfig = str(self._cluster.admin_kubeconfig)
        words = (sys.executable, str(_WATCHING), kubeconfig, NAMESPACE, cluster_id)
        done = subprocess.run(words, capture_output=True, check=True, text=True)
        found: dict[str, float] = json.loads(done.stdout)
        return found


@contextmanager
def kubernetes() -> Iterator[Kubernetes]:
    """Raises `KubernetesMissing`."""
    with ExitStack() as stack:
        cluster = stack.enter_context(KubernetesCluster())
        cluster.make_namespace(NAMESPACE)
        for node in NODES:
            stack.callback(_end_process, _start_node(cluster, node))
        cluster.wait_until(lambda: _ready(cluster) == len(NODES), 60, "its nodes are ready")
        yield stack.enter_context(closing(Kubernetes(cluster)))


def _start_node(cluster: KubernetesCluster, name: str) -> subprocess.Popen[bytes]:
    """Processes of their own: they would share an interpreter with what is measured."""
    words = (sys.executable, "-m", "tests.clusters.podlet", "--name", name, "--cpu", "60")
    where = ("--kubeconfig", cluster.admin_kubeconfig, "--root", cluster.directory / name)
    repository = Path(__file__).parents[1]
    return subprocess.Popen([*words, *map(str, where)], cwd=repository, stdout=subprocess.DEVNULL)


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(60)


def _ready(cluster: KubernetesCluster) -> int:
    conditions = [
        {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
        for node in cluster.api("GET", "/api/v1/nodes")["items"]
    ]
    return sum(each.get("Ready") == "True" for each in conditions)


def _pod(name: str) -> dict[str, Any]:
    """One that asks for as much as ours, and that no node is fit for."""
    amounts = {"cpu": "1", "memory": "16Mi"}
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sleep", "1000"],
        "resources": {"requests": amounts, "limits": {"memory": "16Mi"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels_of(CLUSTER, "bench"))},
        "spec": {
            "restartPolicy": "Never",
            "containers": [container],
            "nodeSelector": {"bench": "nowhere"},
        },
    }
