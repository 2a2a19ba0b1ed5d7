"""The rights in etc/kubernetes: nothing more is needed, and nothing less suffices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from nodemanager.config import parse
from nodemanager.errors import SchedulerError
from nodemanager.model import JobState, NodeState, Resources, new_uuid
from nodemanager.mount_plan import MountPlan, plan_mounts
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job, JobSpec, SchedulerContext
from nodemanager.schedulers.kubernetes.check import RIGHTS
from nodemanager.schedulers.kubernetes.scheduler import KubernetesScheduler
from nodemanager.work import ApiAccess, Work
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.podlet import Access, Podlet, PodletNode
from tests.schedulers.kubernetes_etc import (
    ACCOUNT,
    BOOTED_NODES,
    ETC,
    NAMESPACE,
    Grant,
    grants,
    without,
)

CLUSTER = "rbac1"
LABEL = "tests.arvados.org/set"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
PATIENCE = 30.0


def test_check_asks_for_what_the_manifests_grant() -> None:
    asked = {
        ("ClusterRole" if right.namespace == "" else "Role", right.resource, verb, right.joining)
        for right in RIGHTS
        for verb in right.verbs
    }
    granted = {(g.kind, g.resource, g.verb, g.role.endswith("booted-nodes")) for g in grants()}
    assert granted == asked


@dataclass
class Bench:
    """The module as the daemon's service account, and an administrator beside it."""

    cluster: KubernetesCluster
    podlet: Podlet
    label: str
    kubeconfig: Path
    directory: Path
    guests: str
    """A namespace of somebody else."""
    nodes: list[str] = field(default_factory=list)

    def scheduler(self) -> KubernetesScheduler:
        """One as the manifests have it, apart from its volumes and nodes."""
        options = dict(parse((ETC / "nodemanager.cfg").read_text(), ETC, TOKENS).scheduler.options)
        del options["claims"], options["template"]
        options |= {
            "kubeconfig": str(self.kubeconfig),
            "image": "localhost/none:1",
            "keep_output": "no",
            "node_selector": f"{LABEL}={self.label}",
            "grace": "1",
            "nodes": "joining",
        }
        return KubernetesScheduler(SchedulerContext(CLUSTER, self.directory, options))

    def add_node(self) -> str:
        """A machine comes up."""
        name = f"{self.label}-{len(self.nodes)}"
        self.podlet.add(PodletNode(name, labels={LABEL: self.label}))
        self.nodes.append(name)
        return name

    def is_gone(self, path: str) -> bool:
        """There is no such object (any more)."""
        try:
            self.cluster.api("GET", path)
        except requests.HTTPError as error:
            if error.response is None or error.response.status_code != requests.codes.not_found:
                raise
            return True
        return False

    def until(self, condition: Callable[[], object], what: str) -> None:
        self.cluster.wait_until(condition, PATIENCE, what)


TOKENS = {"NODE_MANAGER_ARVADOS_TOKEN": "v2/x/y", "NODE_MANAGER_MANAGE_MANAGEMENTTOKEN": "m"}
"""Instead of the files that the pod has."""


@pytest.fixture(scope="module")
def bench(
    kubernetes: KubernetesCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """Everything of etc/kubernetes applied; but that its own pod has no image here."""
    for directory in (ETC, BOOTED_NODES):
        kubernetes.run("kubectl", "apply", "-k", str(directory))
    label = f"rights-{uuid4().hex[:8]}"
    guests = kubernetes.make_namespace(label)
    owned = f"{PODS}?labelSelector=app.kubernetes.io/name={ACCOUNT}"
    kubernetes.wait_until(
        lambda: kubernetes.api("GET", owned)["items"], PATIENCE, "the Deployment has its pod"
    )
    kubernetes.run("kubectl", "-n", NAMESPACE, "scale", "deployment", ACCOUNT, "--replicas=0")
    kubernetes.wait_until(
        lambda: not kubernetes.api("GET", owned)["items"], PATIENCE, "its pod is gone"
    )
    kubeconfig = kubernetes.service_account_kubeconfig(NAMESPACE, ACCOUNT)
    directory = tmp_path_factory.mktemp("rights")
    with Podlet(Access.from_kubeconfig(kubernetes.admin_kubeconfig), directory / "nodes") as podlet:
        bench = Bench(kubernetes, podlet, label, kubeconfig, directory, guests)
        yield bench
    for name in bench.nodes:
        if not bench.is_gone(f"/api/v1/nodes/{name}"):
            kubernetes.api("DELETE", f"/api/v1/nodes/{name}")
    kubernetes.api("DELETE", f"/api/v1/namespaces/{guests}")
    for directory in (BOOTED_NODES, ETC):
        kubernetes.run("kubectl", "delete", "--wait=false", "-k", str(directory))


# Nothing more.


def test_the_module_needs_no_other_right_and_uses_every_one(bench: Bench) -> None:
    node = bench.add_node()
    with closing(bench.scheduler()) as scheduler:
        assert not [finding for finding in scheduler.check() if finding.problem]
        bench.until(lambda: [n.name for n in scheduler.nodes()] == [node], "its node is seen")
        run_to_the_end(bench, scheduler)
        cancel(bench, scheduler)
        lose_one_to_an_operator(bench, scheduler)
        let_a_node_go(bench, scheduler, node)
    granted = {("ours" if g.kind == "Role" else "all", g.resource, g.verb) for g in grants()}
    watches = {each for each in granted if each[-1] == "watch"}
    bench.until(lambda: watches <= used(bench), "watches are noted, as they are at their end")
    assert not granted - used(bench)
    asked = bench.cluster.asked_by(NAMESPACE, ACCOUNT)
    assert not [each for each in asked if each.status == requests.codes.forbidden]


def used(bench: Bench) -> set[tuple[str, str, str]]:
    return {
        ("ours" if each.namespace == NAMESPACE else "all", each.resource, each.verb)
        for each in bench.cluster.asked_by(NAMESPACE, ACCOUNT)
    }


def run_to_the_end(bench: Bench, scheduler: KubernetesScheduler) -> None:
    plain = a_job("echo hello")
    script = 'cat /text; test "$ARVADOS_API_TOKEN" = secret'
    api = ApiAccess("api.example.org:443", token="secret")
    private = a_job(script, {"/text": {"kind": "text", "content": "hello"}}, api)
    # Of an earlier try that did not come as far as a pod.
    bench.cluster.api("POST", SECRETS, {"metadata": {"name": private.name}, "immutable": True})
    submit(scheduler, plain, private)
    classes = {
        bench.cluster.api("GET", f"{PODS}/{spec.name}")["spec"]["priorityClassName"]
        for spec in (plain, private)
    }
    assert classes == {"arvados-normal"}
    for spec in (plain, private):
        assert ended(bench, scheduler, spec) == End(EndKind.EXITED, 0)
        log: list[bytes] = []
        scheduler.fetch_log(spec.name, log.append)
        assert b"".join(log).strip() == b"hello"
    scheduler.forget([plain.name, private.name])
    for spec in (plain, private):
        bench.until(partial(bench.is_gone, f"{PODS}/{spec.name}"), "its pod is gone")
    bench.until(partial(bench.is_gone, f"{SECRETS}/{private.name}"), "and the secret with it")


def cancel(bench: Bench, scheduler: KubernetesScheduler) -> None:
    spec = running(bench, scheduler)
    scheduler.cancel([spec.name])
    end = ended(bench, scheduler, spec)
    assert end.kind is EndKind.CANCELLED
    scheduler.forget([spec.name])


def lose_one_to_an_operator(bench: Bench, scheduler: KubernetesScheduler) -> None:
    spec = running(bench, scheduler)
    bench.cluster.api("DELETE", f"{PODS}/{spec.name}")
    end = ended(bench, scheduler, spec)
    assert end.kind is EndKind.OPERATOR_DELETED
    scheduler.forget([spec.name])


def let_a_node_go(bench: Bench, scheduler: KubernetesScheduler, node: str) -> None:
    guests = f"/api/v1/namespaces/{bench.guests}/pods"
    container = {"name": "main", "image": "none", "command": ["sleep", "1000"]}
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    bench.cluster.api("POST", guests, {"metadata": {"name": "guest"}, "spec": spec})
    scheduler.drain(node, "to be shut")
    bench.until(partial(bench.is_gone, f"{guests}/guest"), "the guest has left")
    assert [each.state for each in scheduler.nodes()] == [NodeState.DRAINED]
    scheduler.resume(node)
    bench.until(
        lambda: [each.state for each in scheduler.nodes()] == [NodeState.IDLE], "it takes work"
    )
    bench.podlet.lose(node)
    scheduler.remove(node)
    bench.until(partial(bench.is_gone, f"/api/v1/nodes/{node}"), "its node is gone")


# Nothing less.


@pytest.mark.parametrize("grant", tuple(grants()), ids=str)
def test_a_right_that_lacks_is_named(bench: Bench, grant: Grant) -> None:
    with closing(bench.scheduler()) as scheduler, taken_away(bench, grant):
        where = f" in {NAMESPACE}" if grant.kind == "Role" else ""
        words = f"missing: {grant.verb} {grant.resource}{where}; see etc/kubernetes"
        bench.until(lambda: missing(scheduler) == [words], words)


def test_without_a_right_the_daemon_says_where_it_is_to_be_had(bench: Bench) -> None:
    grant = next(g for g in grants() if (g.resource, g.verb) == ("pods", "create"))
    with closing(bench.scheduler()) as scheduler, taken_away(bench, grant):
        bench.until(lambda: missing(scheduler), "it is gone")
        with pytest.raises(SchedulerError, match="etc/kubernetes"):
            scheduler.submit([a_job("true")])


@contextmanager
def taken_away(bench: Bench, grant: Grant) -> Iterator[None]:
    """One verb of one role, for a while."""
    kind = "clusterroles" if grant.kind == "ClusterRole" else f"namespaces/{NAMESPACE}/roles"
    path = f"{RBAC}/{kind}/{grant.role}"
    rules = bench.cluster.api("GET", path)["rules"]

    def put(rules: Sequence[dict[str, Any]]) -> None:
        patch = {"rules": rules}
        bench.cluster.api("PATCH", path, patch, kind="application/merge-patch+json")

    put(without(grant))
    try:
        yield
    finally:
        put(rules)
        with closing(bench.scheduler()) as scheduler:
            bench.until(lambda: not missing(scheduler), "it is back")


def missing(scheduler: KubernetesScheduler) -> list[str]:
    return [each.problem for each in scheduler.check() if each.problem]


# Jobs.


def a_job(
    script: str, mounts: dict[str, Any] | None = None, api: ApiAccess | None = None
) -> JobSpec:
    name = new_uuid(CLUSTER, "container")
    record = {"mounts": mounts or {}, "output_path": "/out"}
    plan: MountPlan = plan_mounts(record, {})
    work = Work("localhost/none:1", ("sh", "-c", script), {}, plan, api=api)
    return JobSpec(name, ("runner",), Resources(1, 64 << 20), priority=500, work=work)


def running(bench: Bench, scheduler: KubernetesScheduler) -> JobSpec:
    spec = a_job("sleep 1000")
    submit(scheduler, spec)
    bench.until(lambda: find(scheduler, spec).state is JobState.RUNNING, "it runs")
    return spec


def submit(scheduler: KubernetesScheduler, *specs: JobSpec) -> None:
    for answer in scheduler.submit(specs):
        assert answer.job_id, answer


def ended(bench: Bench, scheduler: KubernetesScheduler, spec: JobSpec) -> End:
    bench.until(lambda: find(scheduler, spec).state is JobState.ENDED, f"{spec.name} has ended")
    end = find(scheduler, spec).end
    assert end is not None
    return end


def find(scheduler: KubernetesScheduler, spec: JobSpec) -> Job:
    (job,) = (job for job in scheduler.poll().jobs if job.name == spec.name)
    return job
