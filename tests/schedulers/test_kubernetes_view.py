"""Our pods, the nodes and what others keep of them, as a real API server has them."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from nodemanager.clock import ManualClock, SystemClock
from nodemanager.model import JobState, Node, NodeState, new_uuid
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job
from nodemanager.schedulers.kubernetes.client import Access, KubeClient
from nodemanager.schedulers.kubernetes.names import CANCELLED
from nodemanager.schedulers.kubernetes.podnodes import NodeRules
from nodemanager.schedulers.kubernetes.reflector import Pace
from nodemanager.schedulers.kubernetes.view import View, ViewRules
from nodemanager.schedulers.kubernetes.waits import Patience
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.tcpproxy import TcpProxy, tcp_proxy
from tests.schedulers.kubernetes_objects import (
    GIB,
    OURS,
    THEIRS,
    Hands,
    exited,
    kubeconfig,
    node_json,
    pod_json,
    running,
    until,
)

PACE = Pace(3600, 20, 0.05, 0.2)
POOL = NodeRules(node_selector={"pool": "view"}, partition_label="part")


class Bench:
    """A view by way of a proxy, and the server by itself."""

    def __init__(self, kubernetes_api: KubernetesCluster, stack: ExitStack) -> None:
        self.server = kubernetes_api
        self.proxy: TcpProxy = stack.enter_context(tcp_proxy(kubernetes_api.port))
        self.client = stack.enter_context(
            closing(KubeClient(Access(kubeconfig(kubernetes_api)), "default"))
        )
        self.hands = Hands(self.client)
        self.changes = 0
        self.clock: SystemClock | ManualClock = SystemClock()
        self._stack = stack
        self._pods: list[str] = []
        self._nodes: list[str] = []

    def view(self, user: str = "admin", patience: Patience | None = None) -> View:
        """One that is current."""
        path = kubeconfig(self.server, user, self.proxy.port)
        access = Access(path, connect_seconds=0.5, read_seconds=2.0)
        client = self._stack.enter_context(closing(KubeClient(access, "default")))
        rules = ViewRules(POOL, patience=patience or Patience(), pace=PACE)
        view = View(client, OURS, clock=self.clock, rules=rules, on_change=self._changed)
        self._stack.callback(view.close)
        view.start()
        assert view.wait_current(20), view.why_not
        return view

    def make_pod(self, cluster: str = OURS, node: str = "") -> str:
        name = new_uuid(cluster, "container")
        self._pods.append(name)
        self.client.create_pod(pod_json(cluster, name))
        if node:
            self.hands.bind(name, node)
        return name

    def make_node(self, name: str, **labels: str) -> str:
        self._nodes.append(name)
        self.hands.make_node(node_json(name, pool="view", **labels))
        return name

    def clean(self) -> None:
        for pod in self._pods:
            self.hands.release(pod)
        for node in self._nodes:
            self.client.delete_node(node)

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def bench(kubernetes_api: KubernetesCluster) -> Iterator[Bench]:
    with ExitStack() as stack:
        bench = Bench(kubernetes_api, stack)
        yield bench
        bench.clean()


def find(view: View, name: str) -> Job | None:
    found = [job for job in view.jobs() if job.name == name]
    return found[0] if found else None


def node_of(view: View, name: str) -> Node:
    return next(node for node in view.nodes() if node.name == name)


def test_pods_are_jobs(bench: Bench) -> None:
    bench.make_node("view1")
    theirs = bench.make_pod(THEIRS)
    early = bench.make_pod()
    view = bench.view()
    name = bench.make_pod(node="view1")
    until(lambda: (job := find(view, name)) is not None and job.node == "view1")
    bench.hands.tell(name, running())
    until(lambda: (job := find(view, name)) is not None and job.state is JobState.RUNNING)
    bench.hands.tell(name, exited(3))
    until(lambda: (job := find(view, name)) is not None and job.state is JobState.ENDED)
    job = find(view, name)
    assert job is not None
    assert job.end == End(EndKind.EXITED, 3)
    waiting = find(view, early)
    assert waiting is not None
    assert (waiting.state, waiting.reason) == (
        JobState.WAITING,
        "the scheduler has not looked at it yet",
    )
    assert find(view, theirs) is None


def test_what_was_made_is_shown_though_the_watch_is_held_up(bench: Bench) -> None:
    view = bench.view()
    bench.proxy.hold()
    name = new_uuid(OURS, "container")
    bench._pods.append(name)
    view.created(bench.client.create_pod(pod_json(name=name)))
    assert find(view, name) is not None
    pod = view.pod(name)
    assert pod is not None
    bench.proxy.thaw()
    until(lambda: not view._pods._awaited)
    assert find(view, name) is not None
    bench.proxy.hold()
    bench.hands.release(name)
    assert find(view, name) is not None
    view.forgotten(name, pod.uid)
    assert find(view, name) is None
    bench.proxy.thaw()
    until(lambda: not view._pods._forgotten)
    assert find(view, name) is None


def test_a_pod_made_while_the_server_was_away_for_the_watch_is_shown_through_a_new_list(
    bench: Bench,
) -> None:
    view = bench.view()
    bench.proxy.freeze()
    bench.proxy.cut()
    until(lambda: not view.is_current)
    name = new_uuid(OURS, "container")
    bench._pods.append(name)
    view.created(bench.client.create_pod(pod_json(name=name)))
    assert find(view, name) is not None
    bench.proxy.cut()
    bench.proxy.thaw()
    shown = []

    def listed() -> bool:
        shown.append(find(view, name) is not None)
        return not view._pods._awaited and view.is_current

    until(listed)
    assert all(shown)


def test_nothing_is_gone_while_nothing_is_known(bench: Bench) -> None:
    bench.make_node("view2")
    name = bench.make_pod(node="view2")
    view = bench.view()
    bench.hands.tell(name, running())
    until(lambda: (job := find(view, name)) is not None and job.state is JobState.RUNNING)
    bench.server.kill_apiserver()
    until(lambda: "does not answer" in view.why_not)
    assert not view.is_current
    job = find(view, name)
    assert job is not None
    assert job.state is JobState.RUNNING
    assert not view.wait_current(0.1)
    bench.server.start_apiserver()
    assert view.wait_current(20)


def test_nodes_show_what_all_leave_free(bench: Bench) -> None:
    bench.make_node("view3", part="large")
    view = bench.view()
    assert node_of(view, "view3").state is NodeState.IDLE
    ours = bench.make_pod(node="view3")
    bench.make_pod(THEIRS, node="view3")
    until(lambda: node_of(view, "view3").free.cores == 2)
    node = node_of(view, "view3")
    assert (node.state, node.free.ram_bytes, node.partitions) == (
        NodeState.BUSY,
        14 * GIB,
        ("large",),
    )
    bench.hands.tell(ours, exited(0))
    until(lambda: node_of(view, "view3").state is NodeState.IDLE)
    assert node_of(view, "view3").free.cores == 3


def test_a_cordoned_node_is_told_at_once(bench: Bench) -> None:
    bench.make_node("view4")
    view = bench.view()
    before = bench.changes
    bench.client.patch_node("view4", {"spec": {"unschedulable": True}})
    until(lambda: node_of(view, "view4").state is NodeState.DRAINED)
    assert bench.changes > before
    assert "view4" in [node.name for node in view.kube_nodes()]


def test_a_nodes_heartbeat_and_pods_of_others_are_not_told(bench: Bench) -> None:
    bench.make_node("view5")
    view = bench.view()
    before = bench.changes
    versions = {node.version for node in view.kube_nodes()}
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-25T09:03:00Z"}
    bench.hands.tell_node("view5", {"conditions": [ready]})
    bench.make_pod(THEIRS, node="view5")
    until(lambda: node_of(view, "view5").free.cores == 3)
    until(lambda: {node.version for node in view.kube_nodes()} != versions)
    assert bench.changes == before


def grant(bench: Bench) -> None:
    """The guest may see nodes, and pods of its own namespace."""
    rights = {
        "ClusterRole": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}],
        "Role": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}],
    }
    base = "/apis/rbac.authorization.k8s.io/v1"
    for kind, rules in rights.items():
        path = base if kind == "ClusterRole" else f"{base}/namespaces/default"
        plural = f"{kind.lower()}s"
        bench.client._ask(
            "POST", f"{path}/{plural}", {"metadata": {"name": "guest"}, "rules": rules}
        )
        binding = {
            "metadata": {"name": "guest"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "guest"},
            "subjects": [{"kind": "User", "name": "guest"}],
        }
        bench.client._ask("POST", f"{path}/{kind.lower()}bindings", binding)


def test_without_the_right_to_see_others_it_goes_on_and_says_so_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    grant(bench)
    bench.make_node("view6")
    bench.make_pod(THEIRS, node="view6")
    with caplog.at_level(logging.WARNING):
        view = bench.view("guest")
        assert view.room_is_partial
        assert view.is_current
        assert node_of(view, "view6").free.cores == 4
        name = bench.make_pod()
        until(lambda: find(view, name) is not None)
        assert view.is_current
    assert len([r for r in caplog.records if "may not be seen" in r.message]) == 1


def test_who_may_see_others_is_not_told_of_partial_room(bench: Bench) -> None:
    assert not bench.view().room_is_partial


def note(bench: Bench, name: str, reason: str, message: str) -> None:
    uid = bench.client.get_pod(name)["metadata"]["uid"]
    event = {
        "metadata": {"name": f"{name}.{reason.lower()}"},
        "involvedObject": {"kind": "Pod", "uid": uid, "namespace": "default"},
        "reason": reason,
        "message": message,
    }
    bench.client._ask("POST", "/api/v1/namespaces/default/events", event)


def killed(bench: Bench, name: str) -> None:
    """It runs; somebody has it deleted, and its kubelet does that."""
    bench.hands.tell(name, running())
    bench.client.delete_pod(name)
    status = exited(137)
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    terminated["finishedAt"] = "2099-01-01T00:00:00Z"
    bench.hands.tell(name, status)


def ended(view: View, name: str) -> End:
    until(lambda: (job := find(view, name)) is not None and job.state is JobState.ENDED)
    job = find(view, name)
    assert job is not None
    assert job.end is not None
    return job.end


def test_events_tell_who_had_a_pod_deleted(bench: Bench) -> None:
    bench.make_node("view7")
    view = bench.view()
    preempted, deleted, cancelled = (bench.make_pod(node="view7") for _ in range(3))
    note(bench, preempted, "Preempted", "Preempted by default/x")
    bench.client.patch_pod(cancelled, {"metadata": {"annotations": {CANCELLED: "us"}}})
    for name in (preempted, deleted, cancelled):
        killed(bench, name)
    assert ended(view, preempted) == End(
        EndKind.NODE_LOST, detail="it was preempted: Preempted by default/x"
    )
    assert ended(view, deleted) == End(EndKind.OPERATOR_DELETED, detail="while it ran")
    assert ended(view, cancelled) == End(EndKind.CANCELLED, detail="us")


def test_what_events_say_is_awaited_while_the_server_does_not_say_it(bench: Bench) -> None:
    bench.make_node("view8")
    view = bench.view()
    name = bench.make_pod(node="view8")
    killed(bench, name)
    until(lambda: (pod := view.pod(name)) is not None and pod.phase == "Failed")
    bench.proxy.freeze()
    bench.proxy.cut()
    job = find(view, name)
    assert job is not None
    assert (job.state, job.end) == (JobState.RUNNING, None)
    bench.proxy.cut()
    bench.proxy.thaw()
    assert ended(view, name).kind is EndKind.OPERATOR_DELETED


def test_who_may_not_read_events_does_without(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(KubeClient(Access(kubeconfig(bench.server, "guest")), "default")) as guest:
        view = bench.view()
        view._events._client = guest
        names = [bench.make_pod() for _ in range(2)]
        for name in names:
            bench.client.delete_pod(name)
        with caplog.at_level(logging.WARNING):
            for name in names:
                assert ended(view, name) == End(
                    EndKind.OPERATOR_DELETED, detail="before it started"
                )
    assert len([r for r in caplog.records if "events of pods cannot be read" in r.message]) == 1


def test_an_end_once_told_stays(bench: Bench) -> None:
    """Whatever becomes of the node afterwards."""
    bench.make_node("view9")
    view = bench.view()
    name = bench.make_pod(node="view9")
    killed(bench, name)
    assert ended(view, name).kind is EndKind.OPERATOR_DELETED
    bench.client.patch_node("view9", {"spec": {"unschedulable": True}})
    until(lambda: node_of(view, "view9").state is NodeState.DRAINED)
    assert ended(view, name).kind is EndKind.OPERATOR_DELETED
    fresh = bench.view()
    assert ended(fresh, name).kind is EndKind.NODE_LOST


def creating(reason: str = "ContainerCreating", message: str = "") -> dict[str, object]:
    status = running()
    waiting = {"reason": reason, "message": message}
    status["containerStatuses"][0]["state"] = {"waiting": waiting}
    status["phase"] = "Pending"
    return status


def test_a_volume_that_does_not_come_is_known_from_events(bench: Bench) -> None:
    bench.clock = ManualClock(SystemClock().wall())
    bench.make_node("view10")
    view = bench.view()
    name = bench.make_pod(node="view10")
    note(bench, name, "FailedMount", 'secret "nope" not found')
    bench.hands.tell(name, creating())
    until(lambda: (pod := view.pod(name)) is not None and bool(pod.waiting_reason))
    job = find(view, name)
    assert job is not None
    assert job.reason == "its image is being pulled, or its container created"
    bench.clock.advance(100)
    job = find(view, name)
    assert job is not None
    assert job.reason == 'its container cannot be created: secret "nope" not found'
    assert job.hopeless == ""
    bench.clock.advance(300)
    job = find(view, name)
    assert job is not None
    assert job.hopeless.startswith('its container cannot be created: secret "nope" not found;')


def test_an_image_that_does_not_exist_is_hopeless_after_the_patience_of_the_operator(
    bench: Bench,
) -> None:
    bench.make_node("view11")
    view = bench.view(patience=Patience(image_seconds=0))
    name = bench.make_pod(node="view11")
    bench.hands.tell(name, creating("ErrImagePull", "x: not found"))
    until(lambda: (job := find(view, name)) is not None and bool(job.hopeless))
    bench.hands.tell(name, creating("ImagePullBackOff", 'Back-off pulling image "x"'))
    until(lambda: (pod := view.pod(name)) is not None and "Back" in pod.waiting_reason)
    job = find(view, name)
    assert job is not None
    assert "x: not found" in job.hopeless


def test_a_node_is_not_gone_because_the_watch_of_nodes_broke(bench: Bench) -> None:
    """A pod was made to be forgotten at once, which says nothing about its container."""
    bench.make_node("view13")
    view = bench.view()
    name = bench.make_pod(node="view13")
    bench.hands.tell(name, running())
    bench.client.delete_pod(name, grace_seconds=0)
    until(lambda: (pod := view.pod(name)) is not None and pod.runs and pod.deleted_at is not None)
    bench.proxy.freeze()
    bench.proxy.cut()
    until(lambda: not view._node_reflector.is_current)
    view._nodes.replace([], 0.0)
    job = find(view, name)
    assert job is not None
    assert job.state is JobState.RUNNING


def test_a_pod_whose_node_is_gone_ends_as_lost(bench: Bench) -> None:
    bench.hands.make_node(node_json("view12", pool="view"))
    view = bench.view()
    name = bench.make_pod(node="view12")
    bench.hands.tell(name, running())
    until(lambda: (job := find(view, name)) is not None and job.state is JobState.RUNNING)
    bench.client.delete_node("view12")
    until(lambda: "view12" not in [node.name for node in view.kube_nodes()])
    job = find(view, name)
    assert job is not None
    assert job.state is JobState.RUNNING
    # As Kubernetes does after a while.
    bench.client.delete_pod(name, grace_seconds=0)
    assert ended(view, name) == End(EndKind.NODE_LOST, detail="node view12 is gone")
