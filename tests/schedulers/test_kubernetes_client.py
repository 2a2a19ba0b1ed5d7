"""Requests to a real API server, and to one that answers what we tell it to."""

import json
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kubernetes.config import incluster_config

from nodemanager.errors import NodeManagerError, SchedulerError
from nodemanager.schedulers.kubernetes.client import (
    Access,
    KubeClient,
    KubeRefused,
    NoAnswer,
    Silence,
)
from nodemanager.schedulers.kubernetes.names import not_ours, ours
from tests.clusters.faultproxy import Answer, Fault, FaultProxy, fault_proxy
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.kubernetes_conf import write_kubeconfig
from tests.clusters.tcpproxy import TcpProxy, tcp_proxy
from tests.schedulers.kubernetes_objects import OURS, Hands, kubeconfig, node_json, pod_json

NOBODY = 1
"""A port on which nobody listens."""


@pytest.fixture
def client(kubernetes_api: KubernetesCluster) -> Iterator[KubeClient]:
    with closing(KubeClient(Access(kubeconfig(kubernetes_api)), "default")) as client:
        yield client


@pytest.fixture
def hands(client: KubeClient) -> Hands:
    return Hands(client)


@pytest.fixture
def proxy(kubernetes_api: KubernetesCluster) -> Iterator[TcpProxy]:
    with tcp_proxy(kubernetes_api.port) as proxy:
        yield proxy


# What it can do.


def test_a_pod_comes_and_goes(client: KubeClient, hands: Hands) -> None:
    made = client.create_pod(pod_json())
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]
    assert client.get_pod(name)["metadata"]["uid"] == uid
    patched = client.patch_pod(name, {"metadata": {"annotations": {"a": "b"}}})
    assert patched["metadata"]["annotations"]["a"] == "b"
    client.delete_pod(name, uid=uid)
    held = client.get_pod(name)
    assert held["metadata"]["deletionTimestamp"]
    client.patch_pod(name, {"metadata": {"finalizers": None}})
    with pytest.raises(KubeRefused) as refusal:
        client.get_pod(name)
    assert refusal.value.is_missing


def test_a_name_that_is_taken_is_told_from_other_conflicts(
    client: KubeClient, hands: Hands
) -> None:
    pod = pod_json()
    name = pod["metadata"]["name"]
    client.create_pod(pod)
    with pytest.raises(KubeRefused) as refusal:
        client.create_pod(pod)
    assert refusal.value.is_there_already
    for attempt in (
        lambda: client.delete_pod(name, uid="another"),
        lambda: client.patch_pod(name, {"metadata": {"uid": "another", "labels": {"a": "b"}}}),
    ):
        with pytest.raises(KubeRefused) as refusal:
            attempt()
        assert refusal.value.status in (409, 422)
        assert not refusal.value.is_there_already
    hands.release(name)


def test_what_is_wrong_with_a_pod_is_told(client: KubeClient) -> None:
    with pytest.raises(KubeRefused, match="Invalid value") as refusal:
        client.create_pod(pod_json(name="Not_A_Name"))
    assert (refusal.value.status, refusal.value.reason) == (422, "Invalid")


def test_two_thousand_pods_are_listed_in_pages_that_show_one_moment(client: KubeClient) -> None:
    cluster = "pages"
    pods = [pod_json(cluster) for _ in range(2000)]
    for pod in pods:
        del pod["metadata"]["finalizers"]
    made = client.many(client.create_pod, pods)
    assert not [answer for answer in made if isinstance(answer, NodeManagerError)]
    listing = client.pods(f"arvados.org/cluster={cluster}")
    pages = []
    for page in client.pages(listing):
        pages.append(page)
        if len(pages) == 1:
            client.create_pod(pod_json(cluster, name="late"))
    assert len(pages) >= 4
    assert all(len(page.items) <= 500 for page in pages)
    assert len({page.version for page in pages}) == 1
    listed = {item["metadata"]["name"] for page in pages for item in page.items}
    assert listed == {pod["metadata"]["name"] for pod in pods}
    Hands(client).release("late")
    names = [pod["metadata"]["name"] for pod in pods]
    client.many(lambda name: client.delete_pod(name, grace_seconds=0), names)
    assert not client.list(listing)


def test_turning_pages_too_slowly_is_told(
    kubernetes_api: KubernetesCluster, client: KubeClient
) -> None:
    names = [client.create_pod(pod_json("slow1"))["metadata"]["name"] for _ in range(2)]
    pages = client.pages(client.pods("arvados.org/cluster=slow1"), limit=1)
    next(pages)
    changed = client.patch_pod(names[0], {"metadata": {"labels": {"a": "b"}}})
    kubernetes_api.compact(changed["metadata"]["resourceVersion"])
    with pytest.raises(KubeRefused) as refusal:
        next(pages)
    assert refusal.value.is_outdated
    for name in names:
        Hands(client).release(name)


def test_nodes_are_cordoned_and_removed(client: KubeClient, hands: Hands) -> None:
    hands.make_node(node_json("client-node"))
    assert not client.get_node("client-node")["spec"].get("unschedulable")
    client.patch_node("client-node", {"spec": {"unschedulable": True}})
    assert client.get_node("client-node")["spec"]["unschedulable"]
    client.delete_node("client-node")
    with pytest.raises(KubeRefused) as refusal:
        client.delete_node("client-node")
    assert refusal.value.is_missing


def test_secrets_come_and_go(client: KubeClient) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"a": "YQ=="},
    }
    for namespace in ("", "kube-system"):
        client.create_secret(secret, namespace)
        client.patch_secret("s", {"data": {"b": "Yg=="}}, namespace)
        assert client.get_secret("s", namespace)["data"] == {"a": "YQ==", "b": "Yg=="}
        assert "s" in [s["metadata"]["name"] for s in client.list(client.secrets("", namespace))]
        client.delete_secret("s", namespace)


def test_an_eviction_is_refused_by_a_budget(client: KubeClient, hands: Hands) -> None:
    hands.make_node(node_json("evict-node"))
    pod = client.create_pod(pod_json())
    name = pod["metadata"]["name"]
    hands.bind(name, "evict-node")
    hands.tell(name, {"phase": "Running"})
    budget = {
        "apiVersion": "policy/v1beta1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": pod["metadata"]["labels"]}},
    }
    path = "/apis/policy/v1beta1/namespaces/default/poddisruptionbudgets"
    client._ask("POST", path, budget)
    with pytest.raises(KubeRefused) as refusal:
        client.evict_pod(name, "default")
    assert (refusal.value.status, refusal.value.reason) == (429, "DisruptionBudget")
    client._ask("DELETE", f"{path}/b")
    client.evict_pod(name, "default", uid=pod["metadata"]["uid"], grace_seconds=0)
    assert client.get_pod(name)["metadata"]["deletionTimestamp"]
    hands.release(name)
    client.delete_node("evict-node")


def test_rights_are_known(kubernetes_api: KubernetesCluster, client: KubeClient) -> None:
    assert client.may("create", "pods")
    with closing(KubeClient(Access(kubeconfig(kubernetes_api, "guest")), "default")) as guest:
        assert not guest.may("get", "pods/log")
        assert not guest.may("list", "nodes", namespace="")
        with pytest.raises(KubeRefused) as refusal:
            guest.create_pod(pod_json())
    assert refusal.value.status == 403


def test_version_and_priority_classes_are_told(client: KubeClient) -> None:
    assert client.version().startswith("v1.")
    names = {each["metadata"]["name"] for each in client.priority_classes()}
    assert "system-node-critical" in names


def test_the_log_of_a_pod_without_a_node_is_empty(client: KubeClient, hands: Hands) -> None:
    name = client.create_pod(pod_json())["metadata"]["name"]
    assert b"".join(client.pod_log(name, "main")) == b""
    with pytest.raises(KubeRefused):
        client.pod_log("nobody", "main")
    hands.release(name)


def test_events_of_one_pod_are_found(client: KubeClient, hands: Hands) -> None:
    pod = client.create_pod(pod_json())
    metadata = pod["metadata"]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "uid": metadata["uid"], "namespace": "default"},
        "reason": "Preempted",
        "message": "by another",
    }
    client._ask("POST", "/api/v1/namespaces/default/events", event)
    assert [e["reason"] for e in client.pod_events(metadata["uid"])] == ["Preempted"]
    assert not client.pod_events("another")
    hands.release(metadata["name"])


# Many at a time.


def test_many_answers_come_in_their_order(client: KubeClient) -> None:
    names = ["a", "b", "c"] * 10
    before = client.requests_made
    answers = client.many(client.get_pod, names)
    assert [
        f'pods "{name}" not found' in str(answer)
        for name, answer in zip(names, answers, strict=True)
    ]
    assert all(isinstance(answer, KubeRefused) and answer.is_missing for answer in answers)
    assert client.requests_made == before + 30
    assert client.many(str, [1, 2]) == ["1", "2"]


def test_errors_that_are_not_ours_are_raised(client: KubeClient) -> None:
    def fail(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.many(fail, [1, 2])


def test_a_dead_server_is_not_asked_for_each_of_many(
    kubernetes_api: KubernetesCluster, proxy: TcpProxy
) -> None:
    access = Access(
        kubeconfig(kubernetes_api, port=proxy.port),
        connect_seconds=0.3,
        read_seconds=0.3,
        concurrency=4,
    )
    with closing(KubeClient(access, "default")) as client:
        client.version()
        proxy.freeze()
        begin = time.monotonic()
        answers = client.many(client.get_pod, [f"p{number}" for number in range(1000)])
        assert time.monotonic() - begin < 5
        assert all(isinstance(answer, NoAnswer) for answer in answers)
        assert client.requests_made < 20


# Silence.


def test_nobody_there_is_no_answer(tmp_path: Path, kubernetes_api: KubernetesCluster) -> None:
    client = KubeClient(Access(kubeconfig(kubernetes_api, port=NOBODY)), "default")
    with pytest.raises(NoAnswer, match=r"127\.0\.0\.1:1 does not answer GET /version"):
        client.version()
    client.close()


def test_a_server_that_hangs_is_no_answer(
    kubernetes_api: KubernetesCluster, proxy: TcpProxy
) -> None:
    access = Access(kubeconfig(kubernetes_api, port=proxy.port), read_seconds=0.3)
    with closing(KubeClient(access, "default")) as client:
        client.version()
        proxy.freeze()
        with pytest.raises(NoAnswer, match="timed out"):
            client.version()
        proxy.thaw()
        assert client.version()


def test_a_connection_that_was_cut_is_made_anew(
    kubernetes_api: KubernetesCluster, proxy: TcpProxy
) -> None:
    access = Access(kubeconfig(kubernetes_api, port=proxy.port))
    with closing(KubeClient(access, "default")) as client:
        client.version()
        proxy.cut()
        assert client.version()


# What servers answer that cannot, or will not.


def plain(folder: Path, port: int, token: str) -> Path:
    """A kubeconfig for a server that does not encrypt."""
    server = f"http://127.0.0.1:{port}"
    return write_kubeconfig(folder / "kubeconfig", server, folder, {"token": token})


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[tuple[KubeClient, FaultProxy]]:
    with fault_proxy(NOBODY) as proxy:
        path = plain(tmp_path, proxy.port, "t")
        with closing(KubeClient(Access(path), "default")) as client:
            yield client, proxy


def status(code: int, message: str = "", **fields: Any) -> Fault:
    body = {"kind": "Status", "code": code, "message": message, **fields}
    return Fault(Answer(code, {"Content-Type": "application/json"}, json.dumps(body).encode()))


BUDGET = {"causes": [{"reason": "DisruptionBudget"}]}
ANONYMOUS = 'pods "x" is forbidden: User "system:anonymous" cannot get resource "pods"'


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (status(400), KubeRefused),
        (status(403, "exceeded quota"), KubeRefused),
        (status(404), KubeRefused),
        (status(410, reason="Expired"), KubeRefused),
        (status(429, details=BUDGET), KubeRefused),
        (status(408), SchedulerError),
        (status(429), SchedulerError),
        (status(500), SchedulerError),
        (status(504, "the server timed out"), SchedulerError),
        (Fault(Answer(503, {}, b"<html>no backend</html>")), SchedulerError),
        (Fault(Answer(302, {"Location": "http://127.0.0.1:1/login"}, b"")), SchedulerError),
        (Fault(Answer(200, {}, b"<html>log in</html>")), SchedulerError),
        (Fault(Answer(200, {}, b"[]")), SchedulerError),
        (Fault(dropped=True), NoAnswer),
    ],
)
def test_a_refusal_is_told_from_a_server_that_cannot(
    answering: tuple[KubeClient, FaultProxy], fault: Fault, error: type[Exception]
) -> None:
    client, proxy = answering
    proxy.spoil(fault, where="/pods/x")
    with pytest.raises(error) as raised:
        client.get_pod("x")
    assert isinstance(raised.value, KubeRefused) == (error is KubeRefused)
    assert proxy.count("/pods/x") == 1


@pytest.mark.parametrize("fault", [status(401, "Unauthorized"), status(403, ANONYMOUS)])
def test_a_server_that_does_not_know_us_is_asked_again_once(
    answering: tuple[KubeClient, FaultProxy], fault: Fault
) -> None:
    client, proxy = answering
    proxy.spoil(fault, where="/pods/x")
    proxy.spoil(Fault(Answer(200, {}, b"{}")), where="/pods/x")
    assert client.get_pod("x") == {}
    proxy.spoil(fault, where="/pods/x", times=2)
    with pytest.raises(NoAnswer, match="renew the credentials"):
        client.get_pod("x")
    assert proxy.count("/pods/x") == 4


def test_no_secret_is_in_an_error(answering: tuple[KubeClient, FaultProxy], tmp_path: Path) -> None:
    client, proxy = answering
    plain(tmp_path, proxy.port, "very-secret")
    proxy.spoil(status(401, "Unauthorized"), where="/pods/x", times=2)
    with pytest.raises(NoAnswer) as raised:
        client.get_pod("x")
    assert "very-secret" in proxy.calls[-1].headers["authorization"]
    assert "very-secret" not in str(raised.value)


def test_a_file_with_no_sense_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(NoAnswer, match=f"kubeconfig {missing}"):
        KubeClient(Access(missing), "default").version()
    spoilt = tmp_path / "spoilt"
    spoilt.write_text("{")
    with pytest.raises(NoAnswer, match=f"kubeconfig {spoilt}"):
        KubeClient(Access(spoilt), "default").version()
    path = plain(tmp_path, NOBODY, "t")
    with pytest.raises(NoAnswer, match="context other"):
        KubeClient(Access(path, context="other"), "default").version()


EXCUSE = b"unable to retrieve container logs for containerd://683ed0bf8"


def test_what_a_kubelet_says_for_want_of_a_log_is_none(
    answering: tuple[KubeClient, FaultProxy],
) -> None:
    """It says so with the status of success, when it has removed the containers of a pod that was deleted."""
    client, proxy = answering
    proxy.spoil(Fault(Answer(200, {}, EXCUSE)), where="/pods/x/log")
    with pytest.raises(KubeRefused) as refusal:
        list(client.pod_log("x", "main"))
    assert refusal.value.is_missing


@pytest.mark.parametrize(
    "content", [b"", b"unable", EXCUSE + b"\n", EXCUSE + b"x" * 1000, b"a\n" * 100_000]
)
def test_a_log_is_passed_on_as_it_is(
    answering: tuple[KubeClient, FaultProxy], content: bytes
) -> None:
    client, proxy = answering
    proxy.spoil(Fault(Answer(200, {}, content)), where="/pods/x/log")
    assert b"".join(client.pod_log("x", "main")) == content


# Credentials that change.


def test_a_token_file_that_changed_is_read_again(
    tmp_path: Path, kubernetes_api: KubernetesCluster
) -> None:
    token = tmp_path / "token"
    token.write_text("outdated")
    path = write_kubeconfig(
        tmp_path / "kubeconfig",
        kubernetes_api.server,
        kubernetes_api.ca_file,
        {"tokenFile": str(token)},
    )
    with closing(KubeClient(Access(path), "default")) as client:
        with pytest.raises(NoAnswer):
            client.priority_classes()
        token.write_text(kubernetes_api.admin_token)
        assert client.priority_classes()


def test_a_plugin_is_run_again_when_its_token_is_not_taken_any_more(
    tmp_path: Path, kubernetes_api: KubernetesCluster
) -> None:
    plugin, runs = tmp_path / "plugin", tmp_path / "runs"
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "outdated"},
    }
    answer = tmp_path / "answer"
    answer.write_text(json.dumps(credential))
    plugin.write_text(f"#!/bin/sh\necho >> {runs}\ncat {answer}\n")
    plugin.chmod(stat.S_IRWXU)
    user: dict[str, Any] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    path = write_kubeconfig(
        tmp_path / "kubeconfig", kubernetes_api.server, kubernetes_api.ca_file, user
    )
    with closing(KubeClient(Access(path), "default")) as client:
        with pytest.raises(NoAnswer):
            client.priority_classes()
        credential["status"] = {"token": kubernetes_api.admin_token}
        answer.write_text(json.dumps(credential))
        ran = len(runs.read_text())
        client.many(lambda _: client.priority_classes(), range(20))
        assert client.priority_classes()
        assert len(runs.read_text()) == ran + 1


@pytest.fixture
def in_pod(
    tmp_path: Path, kubernetes_api: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """As in a pod; what is returned lets the kubelet renew the token."""
    token = tmp_path / "token"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(kubernetes_api.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(kubernetes_api.ca_file))

    def renew(text: str) -> None:
        token.write_text(text)

    return renew


def test_in_a_pod_its_service_account_is_used(
    kubernetes_api: KubernetesCluster, in_pod: Callable[[str], None]
) -> None:
    in_pod(kubernetes_api.guest_token)
    client = KubeClient(Access(), "default")
    with pytest.raises(KubeRefused, match='User "guest" cannot'):
        client.get_pod("x")
    client.close()


def test_a_pods_token_is_read_again_as_it_grows_old(
    kubernetes_api: KubernetesCluster,
    in_pod: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long before the server refuses the old one: here, it does not."""
    in_pod(kubernetes_api.guest_token)
    with closing(KubeClient(Access(), "default")) as client:
        with pytest.raises(KubeRefused, match='User "guest" cannot'):
            client.get_pod("x")
        in_pod(kubernetes_api.admin_token)
        now = incluster_config.datetime.datetime.now()

        class Later(incluster_config.datetime.datetime):  # type: ignore[misc]
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return now + incluster_config.datetime.timedelta(seconds=61)

        monkeypatch.setattr(incluster_config.datetime, "datetime", Later)
        with pytest.raises(KubeRefused) as refusal:
            client.get_pod("x")
        assert refusal.value.is_missing


def test_a_pods_token_that_is_not_taken_is_read_again_at_once(
    kubernetes_api: KubernetesCluster, in_pod: Callable[[str], None]
) -> None:
    in_pod("outdated")
    with closing(KubeClient(Access(), "default")) as client:
        with pytest.raises(NoAnswer):
            client.get_pod("x")
        in_pod(kubernetes_api.admin_token)
        with pytest.raises(KubeRefused) as refusal:
            client.get_pod("x")
        assert refusal.value.is_missing


# Watches.


def test_changes_are_told_as_they_come(client: KubeClient, hands: Hands) -> None:
    listing = client.pods("arvados.org/cluster=watch")
    *_, page = client.pages(listing)
    watch = client.watch(listing, page.version, server_seconds=30, silence_seconds=10)
    events = iter(watch)
    name = client.create_pod(pod_json("watch"))["metadata"]["name"]
    assert next(events).type == "ADDED"
    client.patch_pod(name, {"metadata": {"labels": {"a": "b"}}})
    assert next(events).object["metadata"]["labels"]["a"] == "b"
    hands.release(name)
    kinds = [next(events).type]
    while kinds[-1] != "DELETED":
        kinds.append(next(events).type)
    assert set(kinds) == {"MODIFIED", "DELETED"}
    watch.close()
    assert not list(events)


def test_the_server_ends_a_watch_in_order_and_says_how_far_it_got(client: KubeClient) -> None:
    listing = client.pods("arvados.org/cluster=nobody")
    *_, page = client.pages(listing)
    watch = client.watch(listing, page.version, server_seconds=4, silence_seconds=10)
    name = client.create_pod(pod_json("other"))["metadata"]["name"]
    events = list(watch)
    assert {event.type for event in events} == {"BOOKMARK"}
    assert int(events[-1].object["metadata"]["resourceVersion"]) > int(page.version)
    Hands(client).release(name)


def test_a_watch_is_closed_while_somebody_waits_for_its_next_event(client: KubeClient) -> None:
    listing = client.pods("arvados.org/cluster=nobody")
    *_, page = client.pages(listing)
    watch = client.watch(listing, page.version, server_seconds=60, silence_seconds=60)
    waiting = threading.Thread(target=lambda: list(watch))
    waiting.start()
    time.sleep(0.2)
    watch.close()
    waiting.join(2)
    assert not waiting.is_alive()


def test_a_watch_over_which_nothing_comes_is_dead(
    kubernetes_api: KubernetesCluster, proxy: TcpProxy
) -> None:
    access = Access(kubeconfig(kubernetes_api, port=proxy.port))
    with closing(KubeClient(access, "default")) as client:
        listing = client.pods("arvados.org/cluster=nobody")
        *_, page = client.pages(listing)
        watch = client.watch(listing, page.version, server_seconds=60, silence_seconds=0.5)
        proxy.freeze()
        begin = time.monotonic()
        with pytest.raises(Silence):
            list(watch)
        assert time.monotonic() - begin < 5


def test_a_watch_that_is_cut_off_has_not_ended_in_order(
    kubernetes_api: KubernetesCluster, proxy: TcpProxy
) -> None:
    access = Access(kubeconfig(kubernetes_api, port=proxy.port))
    with closing(KubeClient(access, "default")) as client:
        listing = client.pods("arvados.org/cluster=nobody")
        *_, page = client.pages(listing)
        watch = client.watch(listing, page.version, server_seconds=60, silence_seconds=60)
        proxy.cut()
        with pytest.raises(NoAnswer, match="broke off"):
            list(watch)


def test_a_watch_from_a_version_that_is_forgotten_is_outdated(
    kubernetes_api: KubernetesCluster, client: KubeClient
) -> None:
    kubernetes_api.kill_apiserver()
    kubernetes_api.start_apiserver()
    listing = client.pods("arvados.org/cluster=nobody")
    with pytest.raises(KubeRefused) as refusal:
        list(client.watch(listing, "1", server_seconds=3, silence_seconds=10))
    assert refusal.value.is_outdated


@pytest.mark.parametrize("garbage", [b"x\n", b"[]\n", b'{"type": "ADDED"}\n', b'{"type": "ADDED"'])
def test_garbage_is_no_event(answering: tuple[KubeClient, FaultProxy], garbage: bytes) -> None:
    client, proxy = answering
    proxy.spoil(Fault(Answer(200, {}, garbage)), where="watch=true")
    with pytest.raises(NoAnswer):
        list(client.watch(client.nodes(), "1", server_seconds=3, silence_seconds=3))


def test_the_clusters_are_told_apart_by_the_selectors(client: KubeClient, hands: Hands) -> None:
    name = client.create_pod(pod_json(OURS))["metadata"]["name"]
    assert name in [p["metadata"]["name"] for p in client.list(client.pods(ours(OURS)))]
    assert name not in [p["metadata"]["name"] for p in client.list(client.all_pods(not_ours(OURS)))]
    hands.release(name)
