"""The module on a real kubelet: what containers ask for is what their commands find, and how they end is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nodemanager.model import JobState, Resources, new_uuid
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import Job, JobSpec, SchedulerContext
from nodemanager.schedulers.kubernetes.scheduler import KubernetesScheduler
from nodemanager.work import ApiAccess, work_of
from tests.clusters.daemons import REPOSITORY, Site
from tests.clusters.kubelet import RealKubelet
from tests.clusters.kubernetes import KubernetesCluster

BUSYBOX, PYTHON = "localhost/busybox:1", "localhost/python:1"
MIB = 1 << 20
ON_KUBELET = {"node_selector": "pool=real", "tolerations": "only=real"}


class Bench:
    """The module on a namespace of its own, whose store is a claim."""

    def __init__(self, cluster: KubernetesCluster, namespace: str, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.store = folder / "store"
        self.inputs = folder / "inputs"
        for directory, name in ((self.store, "store"), (self.inputs, "inputs")):
            directory.mkdir()
            cluster.make_claim(namespace, name, directory)
        self.options = {
            "kubeconfig": str(cluster.admin_kubeconfig),
            "namespace": namespace,
            "claims": f"{self.store} store, {self.inputs} inputs",
            "grace": "2 s",
            **ON_KUBELET,
        }
        self._folder = folder
        self.scheduler = self.connect()

    def connect(self, **more: str) -> KubernetesScheduler:
        return KubernetesScheduler(
            SchedulerContext(
                "zzzzz",
                self._folder,
                {**self.options, **more},
                store=self.store,
                input_dirs=(self.inputs,),
            )
        )

    def submit(
        self,
        command: list[str],
        *,
        ram: int = 64 * MIB,
        api: ApiAccess | None = None,
        **record: Any,
    ) -> str:
        """The name of a job that runs the command."""
        name = new_uuid("zzzzz", "container")
        secret_mounts = record.pop("secret_mounts", {})
        full = {
            "uuid": name,
            "container_image": BUSYBOX,
            "command": command,
            "cwd": "/work",
            "output_path": "/work/out",
            "mounts": {"/work": {"kind": "tmp"}, "/work/out": {"kind": "tmp"}},
            **record,
        }
        spec = JobSpec(name, ("runner",), Resources(1, ram), work=work_of(full, secret_mounts, api))
        (answer,) = self.scheduler.submit([spec])
        assert answer.job_id, answer
        return name

    def job(self, name: str) -> Job:
        return next(job for job in self.scheduler.poll().jobs if job.name == name)

    def until(self, name: str, condition: Callable[[Job], Any], what: str) -> Job:
        deadline = time.monotonic() + 60
        while not condition(job := self.job(name)):
            assert time.monotonic() < deadline, f"not in time: {what}: {job}"
            time.sleep(0.05)
        return job

    def end(self, name: str) -> End:
        job = self.until(name, lambda job: job.state is JobState.ENDED, "its end")
        assert job.end is not None
        return job.end

    def log(self, name: str) -> str:
        pieces: list[bytes] = []
        self.scheduler.fetch_log(name, pieces.append)
        return b"".join(pieces).decode()

    def clear(self) -> None:
        """Until it is forgotten a pod that was deleted before it started keeps its part of the node."""
        names = [job.name for job in self.scheduler.poll().jobs]
        self.scheduler.cancel(names)
        for name in names:
            self.end(name)
        self.scheduler.forget(names)

    def run(self, script: str, **record: Any) -> tuple[End, str]:
        """The end of a script, and what it printed."""
        name = self.submit(["sh", "-c", script], **record)
        end = self.end(name)
        return end, self.log(name)


@pytest.fixture(scope="module")
def bench(
    kubernetes: KubernetesCluster, kubelet: RealKubelet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    del kubelet  # it only has to be there
    namespace = kubernetes.make_namespace(f"real-{uuid4().hex[:8]}")
    bench = Bench(kubernetes, namespace, tmp_path_factory.mktemp("real"))
    yield bench
    bench.clear()
    assert bench.scheduler.poll().jobs == ()
    bench.scheduler.close()
    kubernetes.api("DELETE", f"/api/v1/namespaces/{namespace}")


def test_exit_statuses_and_logs(bench: Bench) -> None:
    end, log = bench.run("echo out; echo err >&2")
    assert end == End(EndKind.EXITED, 0)
    # Two pipes on their way into one log.
    assert sorted(log.split()) == ["err", "out"]
    end, _ = bench.run("exit 7")
    assert (end.kind, end.code) == (EndKind.EXITED, 7)
    # Not the first process of the container, which no signal of its own kills.
    end, _ = bench.run("sh -c 'kill -SEGV $$'; exit $?")
    assert (end.kind, end.code) == (EndKind.SIGNALLED, 11)


def test_it_runs_as_the_container_under_its_own_id(bench: Bench) -> None:
    name = bench.submit(["sleep", "1"])
    running = bench.until(name, lambda job: job.state is JobState.RUNNING, "it runs")
    ended = bench.until(name, lambda job: job.state is JobState.ENDED, "its end")
    pod_id = running.runner_id
    assert ended.runner_id == pod_id
    pod = bench.cluster.api("GET", f"/api/v1/namespaces/{bench.namespace}/pods/{name}")
    assert pod["metadata"]["uid"] == pod_id


def test_what_needs_too_much_memory_is_told_with_numbers(bench: Bench) -> None:
    eat = "a = b''\nwhile True: a += bytes(1 << 20)"
    name = bench.submit(["python3", "-c", eat], container_image=PYTHON, ram=32 * MIB)
    end = bench.end(name)
    assert (end.kind, end.asked, end.limit) == (EndKind.OUT_OF_MEMORY, 32 * MIB, 32 * MIB)


def test_what_runs_too_long_is_stopped(bench: Bench) -> None:
    end, _ = bench.run("sleep 600", scheduling_parameters={"max_run_time": 2})
    assert (end.kind, end.asked, end.limit) == (EndKind.TIME_LIMIT, 2, 2)


def test_a_command_that_does_not_exist_is_the_programs_fault(bench: Bench) -> None:
    name = bench.submit(["no-such-program"])
    job = bench.until(name, lambda job: job.state is JobState.ENDED, "its end")
    assert job.end is not None
    assert (job.end.kind, job.end.code) == (EndKind.EXITED, 127)
    assert job.runner_id


def test_a_cancelled_command_gets_term(bench: Bench) -> None:
    script = (
        "trap 'echo told > out/told; exit 5' TERM; echo up > out/up; while :; do sleep 0.1; done"
    )
    name = bench.submit(["sh", "-c", script])
    up = bench.store / name / "output" / "up"
    bench.until(name, lambda job: job.state is JobState.RUNNING and up.exists(), "it is up")
    bench.scheduler.cancel([name])
    assert bench.end(name).kind is EndKind.CANCELLED
    assert up.with_name("told").read_text() == "told\n"


def test_nothing_of_a_command_is_ever_read_by_a_shell_or_by_kubernetes(bench: Bench) -> None:
    odd = [
        "$(HOME)",
        "$$(HOME)",
        "$HOME",
        "$$",
        "`id`",
        "a b",
        "",
        "'",
        '"',
        "\n",
        "*",
        "-n",
        "\u4f60",
    ]
    script = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['ODD']]))"
    environment = {"ODD": "$(HOME) $$ $(X)", "X": "y", "HOME": "/"}
    name = bench.submit(
        ["python3", "-c", script, *odd], container_image=PYTHON, environment=environment
    )
    assert bench.end(name) == End(EndKind.EXITED, 0)
    assert json.loads(bench.log(name)) == [odd, environment["ODD"]]


def test_texts_files_and_secrets_are_where_they_belong(bench: Bench) -> None:
    (bench.inputs / "deep").mkdir()
    (bench.inputs / "deep" / "genome.fa").write_text(">g\nACGT\n")
    mounts = {
        "/work": {"kind": "tmp", "capacity": 10 * MIB},
        "/work/out": {"kind": "tmp"},
        "/work/in.json": {"kind": "json", "content": {"a": [1, 2]}},
        "/etc/note": {"kind": "text", "content": "hello"},
        "/work/genome.fa": {"kind": "file", "path": str(bench.inputs / "deep" / "genome.fa")},
    }
    secret = {"/run/key": {"kind": "text", "content": "hidden"}}
    # One stream: of two, lines may come in any order.
    script = (
        "exec 2>&1;"
        "cat in.json /etc/note genome.fa /run/key; pwd; echo x > genome.fa; cp in.json out/copy"
    )
    end, log = bench.run(script, mounts=mounts, secret_mounts=secret)
    assert end == End(EndKind.EXITED, 0)
    assert '{"a": [1, 2]}hello>g\nACGT\nhidden/work\n' in log
    assert "Read-only file system" in log
    assert (bench.inputs / "deep" / "genome.fa").read_text() == ">g\nACGT\n"


def test_an_output_is_in_the_store_and_is_an_input_of_the_next(bench: Bench) -> None:
    first = bench.submit(["sh", "-c", "mkdir out/sub; echo made > out/sub/file"])
    assert bench.end(first) == End(EndKind.EXITED, 0)
    assert (bench.store / first / "output" / "sub" / "file").read_text() == "made\n"
    mounts = {
        "/work/out": {"kind": "tmp"},
        "/work/in": {"kind": "file", "path": f"store:{first}/output/sub/file"},
    }
    assert bench.run("cat in", mounts=mounts) == (End(EndKind.EXITED, 0), "made\n")


def test_streams_are_redirected(bench: Bench) -> None:
    mounts = {
        "/work/out": {"kind": "tmp"},
        "stdin": {"kind": "text", "content": "given"},
        "stdout": {"kind": "file", "path": "/work/out/deep/both"},
        "stderr": {"kind": "file", "path": "/work/out/deep/both"},
    }
    name = bench.submit(["sh", "-c", "cat; echo err >&2"], mounts=mounts)
    assert bench.end(name) == End(EndKind.EXITED, 0)
    assert (bench.store / name / "output" / "deep" / "both").read_text() == "givenerr\n"
    assert bench.log(name) == ""


@pytest.mark.parametrize("asks", [True, False])
def test_the_token_is_only_where_it_was_asked_for(bench: Bench, *, asks: bool) -> None:
    access = ApiAccess("api.example:443", "v2/the/token", b"a certificate\n")
    script = "env; cat $SSL_CERT_FILE; ls /run /var/run/secrets 2>/dev/null"
    end, log = bench.run(script, api=access, runtime_constraints={"API": asks})
    assert end.kind is EndKind.EXITED
    assert ("ARVADOS_API_TOKEN=v2/the/token" in log) is asks
    assert ("ARVADOS_API_HOST=api.example:443" in log) is asks
    assert ("a certificate" in log) is asks
    assert "kubernetes.io" not in log


def test_an_image_that_is_not_there_is_waited_for_with_a_reason(bench: Bench) -> None:
    name = bench.submit(["true"], container_image="localhost/no-such-image:1")
    job = bench.until(name, lambda job: "image" in job.reason, "a reason")
    assert job.state is JobState.WAITING
    bench.scheduler.cancel([name])
    assert bench.end(name).kind in (EndKind.CANCELLED, EndKind.SCHEDULER_ERROR)


def test_a_pod_is_a_runner_where_it_is_told_to_be(bench: Bench) -> None:
    runner = bench.connect(run="runner", image=PYTHON)
    try:
        assert not runner.runs_commands
        name = new_uuid("zzzzz", "container")
        argv = ("python3", "-c", "import sys; print(sys.stdin.read())")
        spec = JobSpec(name, argv, Resources(1, 64 * MIB), stdin=b"a private specification")
        assert runner.submit([spec])[0].job_id
        job = bench.until(name, lambda job: job.state is JobState.ENDED, "its end")
        assert (job.end, job.runner_id) == (End(EndKind.EXITED, 0), "")
        assert bench.log(name) == "a private specification\n"
        pod = bench.cluster.api("GET", f"/api/v1/namespaces/{bench.namespace}/pods/{name}")
        assert "a private specification" not in str(pod)
    finally:
        runner.close()


def test_a_forgotten_pod_leaves_nothing(bench: Bench) -> None:
    name = bench.submit(["true"], secret_mounts={"/run/key": {"kind": "text", "content": "x"}})
    bench.end(name)
    bench.scheduler.forget([name])
    assert name not in {job.name for job in bench.scheduler.poll().jobs}
    base = f"/api/v1/namespaces/{bench.namespace}"

    def left() -> list[str]:
        kinds = ("pods", "secrets")
        found = [
            item for kind in kinds for item in bench.cluster.api("GET", f"{base}/{kind}")["items"]
        ]
        return [item["metadata"]["name"] for item in found if item["metadata"]["name"] == name]

    bench.cluster.wait_until(lambda: not left(), 30, "pod and secret are gone")


@pytest.mark.processes
def test_the_example_requests_complete(
    bench: Bench, site: Site, kubernetes: KubernetesCluster
) -> None:
    bench.clear()
    examples = REPOSITORY / "etc" / "examples"
    kubernetes.make_claim(bench.namespace, "examples", examples)
    options = {
        **bench.options,
        "image": PYTHON,
        "claims": f"{bench.store} store, {examples} examples",
    }
    lines = "".join(f"{name} = {value}\n" for name, value in options.items())
    site.use("kubernetes", lines)
    text = site.config.read_text()
    site.config.write_text(text.replace("[Runner]\n", f"[Runner]\nstore = {bench.store}\n"))
    status, output = site.run("--run", str(examples / "genomes.yml"))
    assert status == 0, output
    assert "8 Complete" in output
