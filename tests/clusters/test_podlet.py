"""Hand-made nodes must do to pods what a real kubelet does: other tests rely on it."""

import base64
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from nodemanager.schedulers import probe
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.podlet import Access, Podlet, PodletNode
from tests.clusters.processes import Daemon

MERGE = "application/merge-patch+json"
FOREVER = ["sleep", "1000"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]


class Bench:
    """A node of our own and pods on it."""

    def __init__(
        self, cluster: KubernetesCluster, namespace: str, podlet: Podlet, node: str
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.podlet = podlet
        self.node = node

    def pod(
        self, command: list[str], *, image: str = "none", metadata: Any = None, spec: Any = None, **container: Any
    ) -> str:  # fmt: skip
        name = f"p-{uuid4().hex[:8]}"
        container = {"name": "main", "image": image, "command": command, **container}
        spec = {
            "restartPolicy": "Never",
            "nodeSelector": {"kubernetes.io/hostname": self.node},
            "containers": [container],
            **(spec or {}),
        }
        body = {"metadata": {"name": name, **(metadata or {})}, "spec": spec}
        self.cluster.api("POST", self._path(), body)
        return name

    def get(self, name: str) -> Any:
        return self.cluster.api("GET", self._path(name))

    def state(self, name: str) -> Any:
        statuses = self.get(name)["status"].get("containerStatuses", [{"state": {}}])
        return statuses[0]["state"]

    def until(self, condition: Callable[[], object], what: str) -> None:
        self.cluster.wait_until(condition, 20, what)

    def phase(self, path: str, phase: str) -> Any:
        def reached() -> bool:
            return bool(self.cluster.api("GET", path)["status"].get("phase") == phase)

        self.until(reached, f"{path} is {phase}")
        return self.cluster.api("GET", path)["status"]

    def reaches(self, name: str, phase: str) -> Any:
        return self.phase(self._path(name), phase)

    def pid(self, started: Path) -> int:
        """Of a probe, once it runs."""
        self.until(lambda: started.exists() and started.read_text().endswith("\n"), "it runs")
        return int(started.read_text())

    def says(self, name: str, reason: str) -> Any:
        def waiting() -> Any:
            return self.state(name).get("waiting", {})

        self.until(lambda: waiting().get("reason") == reason, f"{name} says {reason}")
        return self.state(name)["waiting"]

    def ended(self, name: str) -> Any:
        self.until(lambda: "terminated" in self.state(name), f"{name} has ended")
        return self.state(name)["terminated"]

    def delete(self, name: str, grace: int = 30) -> None:
        self.cluster.api("DELETE", self._path(name), {"gracePeriodSeconds": grace})

    def is_gone(self, name: str) -> bool:
        return name not in {
            pod["metadata"]["name"] for pod in self.cluster.api("GET", self._path())["items"]
        }

    def log(self, name: str) -> str:
        return self.cluster.run("kubectl", "-n", self.namespace, "logs", name)

    def make_secret(self, name: str, key: str, value: bytes) -> None:
        data = {key: base64.b64encode(value).decode()}
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        self.cluster.api("POST", path, {"metadata": {"name": name}, "data": data})

    def node_ready(self) -> str:
        conditions = self.cluster.api("GET", f"/api/v1/nodes/{self.node}")["status"]["conditions"]
        return next(str(each["status"]) for each in conditions if each["type"] == "Ready")

    def _path(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{name}".rstrip("/")


@pytest.fixture
def bench(kubernetes: KubernetesCluster, tmp_path: Path) -> Iterator[Bench]:
    access = Access(kubernetes.server, kubernetes.ca_file, kubernetes.admin_token)
    namespace = kubernetes.make_namespace(f"t-{uuid4().hex[:8]}")
    node = f"n-{uuid4().hex[:8]}"
    with Podlet(access, tmp_path / "pods", [PodletNode(node)], heartbeat_seconds=0.5) as podlet:
        yield Bench(kubernetes, namespace, podlet, node)
    kubernetes.api("DELETE", f"/api/v1/namespaces/{namespace}")
    with suppress(requests.HTTPError):
        kubernetes.api("DELETE", f"/api/v1/nodes/{node}")


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Ends.


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (1, "Failed"), (255, "Failed")])
def test_an_exit_status_is_reported(bench: Bench, code: int, phase: str) -> None:
    name = bench.pod(["sh", "-c"], args=[f"exit {code}"])
    status = bench.reaches(name, phase)
    end = status["containerStatuses"][0]["state"]["terminated"]
    assert (end["exitCode"], end["reason"]) == (code, "Error" if code else "Completed")
    assert end["startedAt"] <= end["finishedAt"]
    assert status["startTime"]
    words = {
        each["type"]: (each["status"], each.get("reason", "")) for each in status["conditions"]
    }
    if code:
        assert words["Ready"] == ("False", "ContainersNotReady")
    else:
        assert words["Ready"] == ("False", "PodCompleted")


def test_a_death_by_signal_is_128_and_its_number(bench: Bench, tmp_path: Path) -> None:
    name = bench.pod([sys.executable, probe.__file__, "die", str(tmp_path / "started"), "11"])
    assert bench.ended(name)["exitCode"] == 128 + signal.SIGSEGV


def test_a_running_pod_is_ready(bench: Bench) -> None:
    status = bench.reaches(bench.pod(FOREVER), "Running")
    assert {each["type"]: each["status"] for each in status["conditions"]} == dict.fromkeys(
        ("Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )
    assert status["hostIP"] == "127.0.0.1"
    assert status["containerStatuses"][0]["ready"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("/tmp", 'exec: "/tmp": permission denied'),
    ],
)
def test_a_command_that_cannot_be_run_ends_in_a_start_error(
    bench: Bench, command: str, words: str
) -> None:
    end = bench.ended(bench.pod([command]))
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert words in end["message"]


def test_what_eats_more_than_its_limit_is_killed(bench: Bench, tmp_path: Path) -> None:
    command = [sys.executable, probe.__file__, "eat", str(tmp_path / "started"), str(256 << 20)]
    name = bench.pod(command, resources={"limits": {"memory": "32Mi"}})
    end = bench.ended(name)
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


def test_what_keeps_to_its_limit_is_not(bench: Bench, tmp_path: Path) -> None:
    code = "import time; x = b'x' * (8 << 20); time.sleep(0.4)"
    name = bench.pod([sys.executable, "-c", code], resources={"limits": {"memory": "32Mi"}})
    assert bench.ended(name)["exitCode"] == 0


def test_a_pod_past_its_deadline_is_failed_and_killed(bench: Bench, tmp_path: Path) -> None:
    termed = tmp_path / "termed"
    command = [sys.executable, probe.__file__, "polite", str(tmp_path / "started"), str(termed)]
    name = bench.pod(command, spec={"activeDeadlineSeconds": 1})
    status = bench.reaches(name, "Failed")
    assert status["reason"] == "DeadlineExceeded"
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    bench.until(termed.exists, "it was asked to end")


def test_whatever_a_container_leaves_behind_ends_with_it(bench: Bench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = tmp_path / "started"
    name = bench.pod([sys.executable, probe.__file__, "spawn", str(started), str(pids)])
    pid = bench.pid(started)
    left = [int(pid) for pid in pids.read_text().split()]
    assert all(map(runs, left))
    os.kill(pid, signal.SIGKILL)
    assert bench.ended(name)["exitCode"] == 137
    assert not any(map(runs, left))


def test_containers_end_with_who_starts_them(bench: Bench, tmp_path: Path) -> None:
    started, pids = tmp_path / "started", tmp_path / "pids"
    name = bench.pod([sys.executable, probe.__file__, "spawn", str(started), str(pids)])
    pid = bench.pid(started)
    left = [pid, *map(int, pids.read_text().split())]
    bench.reaches(name, "Running")
    os.kill(bench.podlet._processes._shim.pid, signal.SIGKILL)
    assert bench.ended(name)["exitCode"] == 137
    bench.until(lambda: not any(map(runs, left)), "nothing of it runs")


# Deletion.


def test_a_deleted_pod_is_asked_to_end_first(bench: Bench, tmp_path: Path) -> None:
    started, termed = tmp_path / "started", tmp_path / "termed"
    name = bench.pod([sys.executable, probe.__file__, "polite", str(started), str(termed)])
    bench.until(started.exists, "it runs")
    bench.delete(name)
    bench.until(lambda: bench.is_gone(name), "it is gone")
    assert termed.exists()


def test_a_stubborn_pod_is_killed_when_its_grace_is_over(bench: Bench) -> None:
    name = bench.pod(STUBBORN, metadata={"finalizers": ["test/keep"]})
    bench.reaches(name, "Running")
    bench.until(lambda: bench.log(name) == "ready", "it does not hear TERM")
    bench.delete(name, grace=1)
    assert bench.ended(name)["exitCode"] == 137


def test_a_pod_with_a_finalizer_stays_and_says_how_it_ended(bench: Bench) -> None:
    name = bench.pod(FOREVER, metadata={"finalizers": ["test/keep"]})
    bench.reaches(name, "Running")
    bench.delete(name)
    assert bench.ended(name)["exitCode"] == 143
    bench.until(
        lambda: bench.get(name)["metadata"]["deletionGracePeriodSeconds"] == 0, "the node let go"
    )
    path = f"/api/v1/namespaces/{bench.namespace}/pods/{name}"
    bench.cluster.api("PATCH", path, {"metadata": {"finalizers": None}}, kind=MERGE)
    bench.until(lambda: bench.is_gone(name), "it is gone")


def test_a_pod_is_deleted_before_it_could_start(bench: Bench) -> None:
    name = bench.pod(FOREVER, image="localhost/missing:1")
    bench.says(name, "ImagePullBackOff")
    bench.delete(name)
    bench.until(lambda: bench.is_gone(name), "it is gone")


# What keeps it from starting.


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("localhost/missing:1", "localhost/missing:1: not found"),
        ("localhost/denied:1", "pull access denied"),
        ("localhost/unreachable:1", "connect: connection refused"),
    ],
)
def test_an_image_that_cannot_be_had(bench: Bench, image: str, words: str) -> None:
    seen = set()
    name = bench.pod(FOREVER, image=image)

    def pulled() -> bool:
        waiting = bench.state(name).get("waiting", {})
        seen.add((waiting.get("reason"), waiting.get("message", "")))
        return "ErrImagePull" in {reason for reason, _ in seen}

    bench.until(pulled, "the pull has failed")
    assert any(words in message for reason, message in seen if reason == "ErrImagePull")
    assert bench.says(name, "ImagePullBackOff")["message"] == f'Back-off pulling image "{image}"'


def test_an_image_name_that_is_none(bench: Bench) -> None:
    assert "invalid reference" in bench.says(bench.pod(["x"], image="INVALID:"), "InvalidImageName")["message"]  # fmt: skip


def test_a_pod_starts_when_its_secret_is_there(bench: Bench) -> None:
    variable = {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "late", "key": "word"}}}
    name = bench.pod(["sh", "-c", "echo $WORD"], env=[variable])
    waiting = bench.says(name, "CreateContainerConfigError")
    assert waiting["message"] == 'secret "late" not found'
    bench.make_secret("late", "word", b"hush")
    bench.reaches(name, "Succeeded")
    assert bench.log(name) == "hush"


def test_a_pod_starts_when_the_secret_of_its_volume_is_there(bench: Bench) -> None:
    volumes = [{"name": "stdin", "secret": {"secretName": "late"}}]
    mounts = [{"name": "stdin", "mountPath": "/given/stdin", "subPath": "stdin"}]
    name = bench.pod(["sh", "-c", "cat < /given/stdin"], spec={"volumes": volumes}, volumeMounts=mounts)  # fmt: skip
    bench.says(name, "ContainerCreating")
    bench.make_secret("late", "stdin", bytes(range(33, 127)))
    bench.reaches(name, "Succeeded")
    assert bench.log(name) == bytes(range(33, 127)).decode()


# What it is given.


def test_variables_are_expanded_as_the_kubelet_does(bench: Bench) -> None:
    env = [
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "TWICE", "value": "$(NODE)$(NODE)"},
    ]
    name = bench.pod(["echo", "$(TWICE)", "$(nothing)", "$$(NODE)", "$HOME", "$(open"], env=env)
    bench.reaches(name, "Succeeded")
    assert bench.log(name) == f"{bench.node}{bench.node} $(nothing) $(NODE) $HOME $(open"


def test_a_working_directory_in_a_volume(bench: Bench) -> None:
    name = bench.pod(
        ["sh", "-c", "echo yes > file && cat /work/a/file"],
        workingDir="/work/a",
        spec={"volumes": [{"name": "scratch", "emptyDir": {}}]},
        volumeMounts=[{"name": "scratch", "mountPath": "/work"}],
    )
    bench.reaches(name, "Succeeded")
    assert bench.log(name) == "yes"


def test_a_claim_of_a_directory_of_the_host(bench: Bench, tmp_path: Path) -> None:
    name = f"v-{uuid4().hex[:8]}"
    size, modes = {"storage": "1Gi"}, ["ReadWriteMany"]
    volume = {"hostPath": {"path": str(tmp_path / "host")}, "capacity": size, "accessModes": modes}
    volumes = "/api/v1/persistentvolumes"
    body = {"metadata": {"name": name}, "spec": {**volume, "storageClassName": ""}}
    bench.cluster.api("POST", volumes, body)
    claim = {"accessModes": modes, "resources": {"requests": size}, "volumeName": name}
    body = {"metadata": {"name": name}, "spec": {**claim, "storageClassName": ""}}
    claims = f"/api/v1/namespaces/{bench.namespace}/persistentvolumeclaims"
    bench.cluster.api("POST", claims, body)
    pod = bench.pod(
        ["sh", "-c", "echo out > /out/file"],
        spec={
            "volumes": [{"name": "out", "persistentVolumeClaim": {"claimName": name}}],
            "nodeName": bench.node,  # the controllers that bind claims may take long
        },
        volumeMounts=[{"name": "out", "mountPath": "/out", "subPath": "below"}],
    )
    bench.reaches(pod, "Succeeded")
    assert (tmp_path / "host" / "below" / "file").read_text() == "out\n"
    bench.cluster.api("DELETE", f"{volumes}/{name}")


# Logs.


def test_a_log_is_followed_to_its_end(bench: Bench) -> None:
    name = bench.pod(["sh", "-c", "for i in 1 2 3 4; do echo $i; echo e$i >&2; sleep 0.1; done"])
    bench.reaches(name, "Running")
    logs = ("kubectl", "-n", bench.namespace, "logs", name)
    assert bench.cluster.run(*logs, "-f").split() == [f"{e}{n}" for n in range(1, 5) for e in ("", "e")]  # fmt: skip
    assert bench.cluster.run(*logs, "--tail=1") == "e4"


# Trouble with nodes.


def test_a_lost_node_is_not_ready_and_its_processes_are_dead(bench: Bench, tmp_path: Path) -> None:
    started = tmp_path / "started"
    name = bench.pod([sys.executable, probe.__file__, "hold", str(started), "never"])
    pid = bench.pid(started)
    bench.podlet.lose(bench.node)
    bench.until(lambda: not runs(pid), "its process is dead")
    bench.until(lambda: bench.node_ready() == "Unknown", "the node is found to be lost")
    assert bench.get(name)["status"]["phase"] == "Running"
    bench.podlet.add(PodletNode(bench.node))
    assert bench.ended(name)["reason"] == "ContainerStatusUnknown"
    bench.until(lambda: bench.node_ready() == "True", "the node is back")
    assert len(started.read_text().splitlines()) == 1


def test_pods_go_on_while_a_node_is_not_heard_of(bench: Bench) -> None:
    name = bench.pod(FOREVER)
    bench.reaches(name, "Running")
    bench.podlet.freeze(bench.node)
    bench.until(lambda: bench.node_ready() == "Unknown", "the node is missed")
    assert "running" in bench.state(name)
    bench.podlet.thaw(bench.node)
    bench.until(lambda: bench.node_ready() == "True", "the node is heard of again")


def test_a_node_under_pressure_throws_a_pod_out(bench: Bench) -> None:
    name = bench.pod(FOREVER, resources={"requests": {"memory": "64Mi"}})
    bench.reaches(name, "Running")
    bench.podlet.evict_under_pressure(name, namespace=bench.namespace, usage="300Mi")
    status = bench.reaches(name, "Failed")
    assert status["reason"] == "Evicted"
    assert status["message"] == (
        "The node was low on resource: memory. "
        "Container main was using 300Mi, which exceeds its request of 64Mi. "
    )


def test_an_end_is_reported_when_the_server_can_be_reached_again(
    bench: Bench, tmp_path: Path
) -> None:
    started, release = tmp_path / "started", tmp_path / "release"
    name = bench.pod([sys.executable, probe.__file__, "hold", str(started), str(release)])
    pid = bench.pid(started)
    bench.reaches(name, "Running")
    bench.cluster.kill_apiserver()
    release.touch()
    bench.until(lambda: not runs(pid), "the pod has ended")
    bench.cluster.start_apiserver()
    assert bench.ended(name)["exitCode"] == 0
    later = bench.pod(["true"], spec={"nodeName": bench.node})  # the scheduler takes its time
    bench.reaches(later, "Succeeded")


# As a program.


def test_a_machine_with_a_bootstrap_token_joins(bench: Bench, tmp_path: Path) -> None:
    token = bench.cluster.bootstrap_token(uuid4().hex[:6], uuid4().hex[:16])
    name = f"m-{uuid4().hex[:8]}"
    started = tmp_path / "started"
    daemon = Daemon(
        [
            sys.executable, "-m", "tests.clusters.podlet", "--name", name, "--bootstrap",
            "--kubeconfig", str(bench.cluster.kubeconfig(name, token)), "--root", str(tmp_path / "m"),
            "--label", "pool=elastic", "--taint", "new=yes:NoSchedule", "--provider-id", f"x://{name}",
        ],
        env=os.environ, directory=Path(__file__).parents[2], log=tmp_path / "podlet.log",
    )  # fmt: skip
    toleration = {"key": "new", "value": "yes", "effect": "NoSchedule"}
    try:
        pod = bench.pod(
            [sys.executable, probe.__file__, "hold", str(started), "never"],
            spec={"nodeSelector": {"pool": "elastic"}, "tolerations": [toleration]},
        )
        pid = bench.pid(started)
        assert bench.get(pod)["spec"]["nodeName"] == name
        node = bench.cluster.api("GET", f"/api/v1/nodes/{name}")
        assert node["spec"]["providerID"] == f"x://{name}"
        daemon.kill()
        bench.until(lambda: not runs(pid), "its processes die with it")
    finally:
        daemon.wipe_out()
        with suppress(requests.HTTPError):
            bench.cluster.api("DELETE", f"/api/v1/nodes/{name}")
