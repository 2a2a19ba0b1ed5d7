"""The real node that tests use; and what real nodes do, on which the Kubernetes scheduler module relies."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from tests.clusters.cgroups import Cgroups
from tests.clusters.images import BUSYBOX, PYTHON
from tests.clusters.kubelet import RealKubelet
from tests.clusters.kubelet_conf import KERNEL_SETTINGS
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.processes import wait_until

ROOT = Path(__file__).parents[2]
GROUPS = Path("/sys/fs/cgroup")
ALLOCATES = "x = ' ' * (200 << 20); print('too much')"
CALLS_API = """
import os, ssl, urllib.request
own = "/var/run/secrets/kubernetes.io/serviceaccount/"
request = urllib.request.Request(
    f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}/version",
    headers={"Authorization": "Bearer " + open(own + "token").read()},
)
trusted = ssl.create_default_context(cafile=own + "ca.crt")
print(urllib.request.urlopen(request, context=trusted, timeout=10).status, os.getuid())
"""


class Bench:
    """Pods in a namespace of their own."""

    def __init__(self, cluster: KubernetesCluster, namespace: str, node: str = "k1") -> None:
        self.cluster = cluster
        self.path = f"/api/v1/namespaces/{namespace}"
        self.namespace = namespace
        self.node = node

    def spec(self, *command: str, image: str = BUSYBOX, **more: Any) -> dict[str, Any]:
        """Of a pod; `main` in `more` is what else its container has."""
        container = {
            "name": "main",
            "image": image,
            "command": list(command),
            **more.pop("main", {}),
        }
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"pool": "real", "kubernetes.io/hostname": self.node},
            "tolerations": [{"key": "only", "value": "real"}],
            "containers": [container],
            **more,
        }

    def pod(self, *command: str, **spec: Any) -> str:
        name = f"p-{uuid4().hex[:8]}"
        body = {"metadata": {"name": name}, "spec": self.spec(*command, **spec)}
        self.cluster.api("POST", f"{self.path}/pods", body)
        return name

    def ended(self, name: str) -> Any:
        """Its status, once it has ended."""
        status: Any = {}

        def has_ended() -> bool:
            nonlocal status
            status = self.cluster.api("GET", f"{self.path}/pods/{name}")["status"]
            return status["phase"] in {"Succeeded", "Failed"}

        self.cluster.wait_until(has_ended, 40, f"{name} has ended")
        return status

    def exit(self, name: str) -> Any:
        return self.ended(name)["containerStatuses"][0]["state"]["terminated"]

    def log(self, name: str) -> str:
        return self.cluster.run("kubectl", "-n", self.namespace, "logs", name)

    def names(self, selector: str = "") -> list[str]:
        pods = self.cluster.api("GET", f"{self.path}/pods?labelSelector={selector}")["items"]
        return [pod["metadata"]["name"] for pod in pods]


@pytest.fixture
def bench(kubernetes: KubernetesCluster, kubelet: RealKubelet) -> Iterator[Bench]:
    namespace = kubernetes.make_namespace(f"t-{uuid4().hex[:8]}")
    yield Bench(kubernetes, namespace, kubelet.name)
    kubernetes.api("DELETE", f"/api/v1/namespaces/{namespace}")


# The node.


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (7, "Failed")])
def test_an_exit_status_and_a_log_come_back(bench: Bench, code: int, phase: str) -> None:
    name = bench.pod("sh", "-c", f"echo said; exit {code}")
    assert bench.ended(name)["phase"] == phase
    assert bench.exit(name)["exitCode"] == code
    assert bench.log(name) == "said"


def test_what_needs_too_much_memory_is_killed(bench: Bench) -> None:
    limit = {"limits": {"memory": "64Mi"}}
    name = bench.pod("python3", "-c", ALLOCATES, image=PYTHON, main={"resources": limit})
    assert bench.exit(name)["reason"] == "OOMKilled"
    assert bench.exit(name)["exitCode"] == 137


def test_what_runs_too_long_is_ended(bench: Bench) -> None:
    name = bench.pod("sleep", "1000", activeDeadlineSeconds=2)
    assert bench.ended(name)["reason"] == "DeadlineExceeded"


def test_anybodys_python_finds_the_api_server(bench: Bench) -> None:
    name = bench.pod(
        "python3", "-c", CALLS_API, image=PYTHON, securityContext={"runAsUser": 1000, "fsGroup": 1000}
    )  # fmt: skip
    assert bench.exit(name)["exitCode"] == 0, bench.log(name)
    assert bench.log(name) == "200 1000"


def test_an_image_that_is_not_there_is_waited_for(bench: Bench) -> None:
    name = bench.pod("true", image="localhost/missing:1")

    def reason() -> Any:
        status = bench.cluster.api("GET", f"{bench.path}/pods/{name}")["status"]
        return (
            status.get("containerStatuses", [{"state": {}}])[0]["state"]
            .get("waiting", {})
            .get("reason")
        )

    bench.cluster.wait_until(
        lambda: reason() in {"ErrImagePull", "ImagePullBackOff"}, 20, "a refusal"
    )


def test_the_kernel_settings_of_this_machine_stay_as_they_are(kubelet: RealKubelet) -> None:
    """Which a kubelet wants: it has written them, but to files of its own."""
    wanted = {name: kubelet.setting(name).read_text().strip() for name in KERNEL_SETTINGS}
    assert wanted == {
        "kernel/keys/root_maxbytes": "25000000",
        "kernel/keys/root_maxkeys": "1000000",
        "kernel/panic": "10",
        "kernel/panic_on_oops": "1",
        "vm/overcommit_memory": "1",
        "vm/panic_on_oom": "0",
    }


# What mounts are made of.


def test_a_file_of_a_secret_is_mounted_at_any_path(bench: Bench) -> None:
    secret = {"metadata": {"name": "texts"}, "stringData": {"m0": "content"}}
    bench.cluster.api("POST", f"{bench.path}/secrets", secret)
    mount = {"name": "texts", "mountPath": "/deep/down/file.txt", "subPath": "m0", "readOnly": True}
    name = bench.pod(
        "sh", "-c", "cat /deep/down/file.txt; echo x >> /deep/down/file.txt",
        main={"volumeMounts": [mount]},
        volumes=[{"name": "texts", "secret": {"secretName": "texts"}}],
    )  # fmt: skip
    assert bench.exit(name)["exitCode"] == 1
    log = bench.log(name)
    assert "content" in log
    assert "Read-only file system" in log


def test_a_part_of_a_claim_is_written_to(bench: Bench, tmp_path: Path) -> None:
    size = {"storage": "1Gi"}
    volume = {
        "metadata": {"name": bench.namespace},
        "spec": {
            "capacity": size,
            "accessModes": ["ReadWriteMany"],
            "storageClassName": bench.namespace,
            "hostPath": {"path": str(tmp_path)},
        },
    }
    bench.cluster.api("POST", "/api/v1/persistentvolumes", volume)
    claim = {
        "metadata": {"name": "store"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": bench.namespace,
            "resources": {"requests": size},
        },
    }
    bench.cluster.api("POST", f"{bench.path}/persistentvolumeclaims", claim)
    mount = {"name": "store", "mountPath": "/out", "subPath": "one/output"}
    name = bench.pod(
        "sh", "-c", "echo result > /out/file",
        main={"volumeMounts": [mount]},
        volumes=[{"name": "store", "persistentVolumeClaim": {"claimName": "store"}}],
    )  # fmt: skip
    assert bench.exit(name)["exitCode"] == 0
    assert (tmp_path / "one/output/file").read_text() == "result\n"
    bench.cluster.api("DELETE", f"/api/v1/persistentvolumes/{bench.namespace}")


# Why containers are bare pods.


def test_a_job_runs_its_command_again_when_its_pod_is_deleted_but_a_bare_pod_does_not(
    bench: Bench, tmp_path: Path
) -> None:
    runs = {kind: tmp_path / kind for kind in ("job", "pod")}
    spec = {
        kind: bench.spec(
            "sh", "-c", f"echo began >> /runs/{kind}; exec sleep 1000",
            main={"volumeMounts": [{"name": "runs", "mountPath": "/runs"}]},
            volumes=[{"name": "runs", "hostPath": {"path": str(tmp_path)}}],
        )
        for kind in runs
    }  # fmt: skip
    job = {
        "metadata": {"name": "job"},
        "spec": {"backoffLimit": 0, "template": {"spec": spec["job"]}},
    }
    bench.cluster.api("POST", f"/apis/batch/v1/namespaces/{bench.namespace}/jobs", job)
    bench.cluster.api(
        "POST", f"{bench.path}/pods", {"metadata": {"name": "bare"}, "spec": spec["pod"]}
    )

    def began(kind: str) -> int:
        return len(runs[kind].read_text().splitlines()) if runs[kind].exists() else 0

    bench.cluster.wait_until(lambda: began("job") == began("pod") == 1, 40, "both run")
    old = bench.names()
    for name in old:
        bench.cluster.api("DELETE", f"{bench.path}/pods/{name}")
    bench.cluster.wait_until(lambda: began("job") == 2, 40, "the job's command runs twice")
    bench.cluster.wait_until(lambda: not set(old) & set(bench.names()), 40, "the first are gone")
    assert began("pod") == 1
    assert len(bench.names()) == 1


# Coming and going.


def test_a_machine_with_nothing_but_a_token_joins_and_leaves_nothing(
    bench: Bench, kubernetes: KubernetesCluster
) -> None:
    with RealKubelet(kubernetes, "k2", bootstrap=True) as machine:
        joined = Bench(kubernetes, bench.namespace, machine.name)
        assert joined.exit(joined.pod("true"))["exitCode"] == 0
        left = joined.pod("sleep", "1000")
        joined.cluster.wait_until(
            lambda: kubernetes.api("GET", f"{bench.path}/pods/{left}")["status"]["phase"] == "Running",
            20,
            "a pod runs that is to be left",
        )  # fmt: skip
        directory = machine.directory
        assert processes_in(directory)
        assert groups()
    assert not directory.exists()
    assert not processes_in(directory)
    assert not [group for group in groups() if group.name.endswith("-k2")]
    with pytest.raises(requests.HTTPError, match="404"):
        kubernetes.api("GET", machine.path)
    assert left not in bench.names()


@pytest.mark.timeout(180)
def test_a_session_that_is_killed_leaves_nothing_that_lives(kubelet: RealKubelet) -> None:
    del kubelet  # it can run here
    session = subprocess.Popen(
        (sys.executable, "-m", "tests.clusters.kubelet"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    with session:
        assert session.stdout is not None
        *_, cluster, _, node = next(line for line in session.stdout if "removes" in line).split()
        session.kill()
    directories = [Path(cluster), Path(node.rstrip("."))]
    wait_until(
        lambda: not any(path.exists() or processes_in(path) for path in directories),
        20,
        "its directories and processes are gone",
        str,
    )  # fmt: skip
    assert [group for group in groups() if f"-{session.pid}-" in group.name]
    others = Cgroups("next")
    wait_until(others.is_removed, 20, "the next session's groups are removed", str)
    assert not [group for group in groups() if f"-{session.pid}-" in group.name]


def processes_in(directory: Path) -> list[str]:
    """Those that this machine has with that directory, or something below it, in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(directory) in path.read_text("utf-8", "replace"):
                found.append(path.parent.name)
    return found


def groups() -> list[Path]:
    """All that tests have in the control groups."""
    return [path for path in GROUPS.glob("*/arvados-node-manager-test-*") if path.is_dir()]
