"""A real Kubernetes that fails in the ways it does: answers lost, server killed, pods meddled with, nodes lost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState, Resources, new_uuid
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers import probe
from nodemanager.schedulers.base import Job, JobSpec, SchedulerContext
from nodemanager.schedulers.kubernetes.scheduler import KubernetesScheduler
from nodemanager.schedulers.kubernetes.waits import Patience
from nodemanager.work import work_of
from tests.clusters.faultproxy import (
    LOST_AFTER,
    LOST_BEFORE,
    Answer,
    Call,
    Fault,
    FaultProxy,
    Forward,
    fault_proxy,
)
from tests.clusters.kubernetes import KubernetesCluster
from tests.clusters.kubernetes_conf import write_kubeconfig
from tests.clusters.podlet import Access, Podlet, PodletNode
from tests.clusters.processes import ClusterFailed

CLUSTER = "zzzzz"
LABEL = "tests.arvados.org/set"
MERGE = "application/merge-patch+json"
MIB = 1 << 20
FOREVER = ("sleep", "1000")
SOON = Patience(image_seconds=0.5, registry_seconds=0.5, config_seconds=0.5)


@pytest.fixture(scope="module")
def podlet(
    kubernetes: KubernetesCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Podlet]:
    access = Access.from_kubeconfig(kubernetes.admin_kubeconfig)
    # While no node at all is heard of Kubernetes takes itself for cut off, and gives no pod up.
    bystander = PodletNode(
        f"bystander-{uuid4().hex[:8]}", taints=("tests.arvados.org/no:NoExecute",)
    )
    directory = tmp_path_factory.mktemp("podlet")
    with Podlet(access, directory, [bystander], heartbeat_seconds=1.0) as podlet:
        yield podlet
        podlet.remove(bystander.name)


class Site:
    """A namespace and nodes of its own."""

    def __init__(
        self, cluster: KubernetesCluster, podlet: Podlet, folder: Path, stack: ExitStack
    ) -> None:
        self.cluster = cluster
        self.podlet = podlet
        self.folder = folder
        self.name = cluster.make_namespace(f"faults-{uuid4().hex[:8]}")
        self.pods = f"/api/v1/namespaces/{self.name}/pods"
        self._stack = stack
        self._nodes: list[str] = []

    def node(self, cpu: str = "4") -> str:
        name = f"{self.name}-{len(self._nodes)}"
        self.podlet.add(PodletNode(name, cpu, labels={LABEL: self.name}))
        self._nodes.append(name)
        return name

    def connect(
        self,
        kubeconfig: Path | None = None,
        *,
        dispatcher: str = "",
        seconds: float = 10.0,
        patience: Patience | None = None,
        **options: str,
    ) -> KubernetesScheduler:
        """An instance of the module, closed at the end."""
        given = {
            "kubeconfig": str(kubeconfig or self.cluster.admin_kubeconfig),
            "namespace": self.name,
            "image": "localhost/none:1",
            "keep_output": "no",
            "node_selector": f"{LABEL}={self.name}",
            "grace": "1",
        }
        context = SchedulerContext(
            CLUSTER, self.folder, {**given, **options}, seconds, dispatcher=dispatcher
        )
        scheduler = KubernetesScheduler(context, patience=patience)
        self._stack.callback(scheduler.close)
        return scheduler

    def pod(self, job: JobSpec) -> Any:
        return self.cluster.api("GET", f"{self.pods}/{job.name}")

    def secrets(self) -> list[str]:
        """All but those of service accounts."""
        found = self.cluster.api("GET", f"/api/v1/namespaces/{self.name}/secrets")["items"]
        return [each["metadata"]["name"] for each in found if each["type"] == "Opaque"]

    def kubectl(self, *words: str) -> None:
        self.cluster.run("kubectl", "-n", self.name, *words)

    def find(self, scheduler: KubernetesScheduler, job: JobSpec) -> Job | None:
        poll = scheduler.poll()
        assert poll.complete
        found = [each for each in poll.jobs if each.name == job.name]
        assert len(found) <= 1
        return found[0] if found else None

    def until(
        self, scheduler: KubernetesScheduler, job: JobSpec, condition: Callable[[Job], object]
    ) -> Job:
        seen: list[Job] = []

        def there() -> bool:
            found = self.find(scheduler, job)
            seen.extend([found] if found else ())
            return found is not None and bool(condition(found))

        try:
            self.cluster.wait_until(there, 60, f"{job.name} is as wanted")
        except ClusterFailed as failure:
            failure.add_note(f"seen last: {seen[-1:]}, {scheduler.nodes()}")
            raise
        return seen[-1]

    def running(self, scheduler: KubernetesScheduler, job: JobSpec) -> Job:
        return self.until(scheduler, job, lambda found: found.state is JobState.RUNNING)

    def end(self, scheduler: KubernetesScheduler, job: JobSpec) -> End:
        found = self.until(scheduler, job, lambda found: found.state is JobState.ENDED)
        assert found.end is not None
        assert scheduler.look_up([job.name]) == {job.name: found.end}
        return found.end

    def clean(self) -> None:
        for node in self._nodes:
            with suppress(KeyError):
                self.podlet.lose(node)
            with suppress(requests.HTTPError):
                self.cluster.api("DELETE", f"/api/v1/nodes/{node}")
        for pod in self.cluster.api("GET", self.pods)["items"]:
            path = f"{self.pods}/{pod['metadata']['name']}"
            with suppress(requests.HTTPError):
                self.cluster.api("PATCH", path, {"metadata": {"finalizers": None}}, kind=MERGE)
                self.cluster.api("DELETE", path, {"gracePeriodSeconds": 0})
        self.cluster.api("DELETE", f"/api/v1/namespaces/{self.name}")


@pytest.fixture
def site(kubernetes: KubernetesCluster, podlet: Podlet, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        site = Site(kubernetes, podlet, tmp_path, stack)
        stack.callback(site.clean)
        yield site


def spec(*argv: str, cores: int = 1, ram: int = 64, limit: int = 0, stdin: bytes = b"") -> JobSpec:
    name = new_uuid(CLUSTER, "container")
    return JobSpec(
        name, argv or FOREVER, Resources(cores, ram * MIB), stdin=stdin, max_run_seconds=limit
    )


def noting(path: Path, script: str) -> tuple[str, ...]:
    """A command that leaves a line for each time that it is started."""
    return ("sh", "-c", f'echo started >> "$0"; {script}', str(path))


def started(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def proxy(kubernetes: KubernetesCluster) -> Iterator[FaultProxy]:
    """In front of the API server. It passes on whole answers only, so watches are cut into short ones."""
    session = requests.Session()

    def around(call: Call, _: Forward) -> Answer:
        headers = {
            name: value
            for name, value in call.headers.items()
            if name.lower() in ("authorization", "content-type", "accept")
        }
        response = session.request(
            call.method,
            kubernetes.server + call.path.replace("timeoutSeconds=300", "timeoutSeconds=1"),
            data=call.body,
            headers=headers,
            verify=str(kubernetes.ca_file),
            timeout=30,
        )
        kind = response.headers.get("Content-Type", "application/json")
        return Answer(response.status_code, {"Content-Type": kind}, response.content)

    with session, fault_proxy(0, around) as proxy:
        yield proxy


@pytest.fixture
def spoilt(site: Site, proxy: FaultProxy) -> KubernetesScheduler:
    """The module by way of the proxy."""
    path = write_kubeconfig(
        site.folder / "proxy.kubeconfig",
        f"http://127.0.0.1:{proxy.port}",
        site.cluster.ca_file,
        {"token": site.cluster.admin_token},
    )
    return site.connect(path)


class TestLostAnswers:
    @pytest.mark.parametrize(
        ("kind", "stdin", "at_once"),
        [
            ("Pod", b"", True),
            ("Pod", b"hush", True),
            ("Pod", b"hush", False),
            ("Secret", b"hush", True),
        ],
    )
    def test_a_creation_whose_answer_is_lost_happens_once(
        self,
        site: Site,
        proxy: FaultProxy,
        spoilt: KubernetesScheduler,
        *,
        kind: str,
        stdin: bytes,
        at_once: bool,
    ) -> None:
        """Whether the pod has been seen when it is submitted again, or not."""
        site.node()
        path = site.folder / "started"
        job = spec(*noting(path, "sleep 1000"), stdin=stdin)
        spoilt.poll()
        proxy.spoil(LOST_AFTER, where=f'"kind":"{kind}"')
        with pytest.raises(SchedulerError, match="does not answer"):
            spoilt.submit([job])
        if not at_once:
            site.running(spoilt, job)
        answer = spoilt.submit([job])[0]
        assert answer.job_id == site.pod(job)["metadata"]["uid"]
        site.running(spoilt, job)
        fresh = site.connect()
        assert fresh.submit([job])[0] == answer
        assert started(path) == 1
        fresh.cancel([job.name])
        assert site.end(fresh, job).kind is EndKind.CANCELLED
        fresh.forget([job.name])
        site.cluster.wait_until(lambda: not site.secrets(), 20, "nothing of it is left")

    def test_of_many_only_those_without_answer_are_doubtful(
        self, site: Site, proxy: FaultProxy, spoilt: KubernetesScheduler
    ) -> None:
        jobs = [spec() for _ in range(6)]
        spoilt.poll()
        proxy.spoil(LOST_AFTER, where=jobs[2].name)
        proxy.spoil(LOST_BEFORE, where=jobs[4].name)
        with pytest.raises(SchedulerError):
            spoilt.submit(jobs)
        answers = spoilt.submit(jobs)
        uids = [site.pod(job)["metadata"]["uid"] for job in jobs]
        assert [answer.job_id for answer in answers] == uids
        assert proxy.count('"kind":"Pod"') <= 8, "who has an answer is not asked for again"

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_a_cancellation_whose_answer_is_lost_can_be_repeated(
        self, site: Site, proxy: FaultProxy, spoilt: KubernetesScheduler, method: str
    ) -> None:
        site.node()
        job = spec()
        spoilt.submit([job])
        site.running(spoilt, job)
        proxy.spoil(LOST_AFTER, where="cancelled" if method == "PATCH" else "DeleteOptions")
        with pytest.raises(SchedulerError):
            spoilt.cancel([job.name])
        spoilt.cancel([job.name])
        assert site.end(spoilt, job).kind is EndKind.CANCELLED

    def test_a_forgetting_whose_answer_is_lost_can_be_repeated(
        self, site: Site, proxy: FaultProxy, spoilt: KubernetesScheduler
    ) -> None:
        site.node()
        job = spec("true")
        spoilt.submit([job])
        assert site.end(spoilt, job) == End(EndKind.EXITED, 0)
        for where in ("DeleteOptions", "finalizers"):
            proxy.spoil(LOST_AFTER, where=where)
            with suppress(SchedulerError):
                spoilt.forget([job.name])
        spoilt.forget([job.name])
        assert site.find(spoilt, job) is None
        assert site.cluster.api("GET", site.pods)["items"] == []

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(500, {}, b"rubbish"),
            Answer(429, {"Retry-After": "1"}, b"{}"),
            Answer(503, {}, b""),
            Answer(200, {}, b"<html>"),
            Answer(401, {}, b"{}"),
        ],
        ids=lambda answer: str(answer.status),
    )
    def test_an_answer_that_is_none_refuses_nothing(
        self, site: Site, proxy: FaultProxy, spoilt: KubernetesScheduler, answer: Answer
    ) -> None:
        job = spec()
        spoilt.poll()
        # Who is not known any more logs in afresh, and asks once more.
        times = 2 if answer.status == 401 else 1
        proxy.spoil(Fault(answer), where='"kind":"Pod"', times=times)
        with pytest.raises(SchedulerError):
            spoilt.submit([job])
        assert spoilt.submit([job])[0].job_id


class TestServerGone:
    def test_a_server_that_is_killed_in_the_middle_loses_and_repeats_nothing(
        self, site: Site
    ) -> None:
        site.node(cpu="20")
        notes = site.folder / "notes"
        notes.mkdir()
        jobs = [spec(*noting(notes / str(n), f"sleep {n / 10}; exit 3")) for n in range(50)]
        names = {job.name for job in jobs}
        scheduler = site.connect()
        scheduler.submit(jobs)
        ends: dict[str, set[End]] = {name: set() for name in names}
        failures = 0

        def look() -> int:
            nonlocal failures
            try:
                poll = scheduler.poll()
            except SchedulerError:
                failures += 1
                return 0
            assert not poll.complete or names <= {job.name for job in poll.jobs}
            for job in poll.jobs:
                ends[job.name] |= {job.end} if job.end else set()
            return sum(job.state is JobState.ENDED for job in poll.jobs)

        site.cluster.wait_until(lambda: look() >= 5, 60, "some have ended")
        site.cluster.kill_apiserver()
        try:
            site.cluster.wait_until(lambda: look() < 0 or failures, 30, "it is noticed")
            with pytest.raises(SchedulerError):
                scheduler.submit([spec()])
            with pytest.raises(SchedulerError):
                scheduler.cancel([jobs[0].name])
            with pytest.raises(SchedulerError):
                scheduler.look_up([jobs[0].name])
        finally:
            site.cluster.start_apiserver()
        site.cluster.wait_until(lambda: look() == len(jobs), 90, "all have ended")
        assert set(map(frozenset, ends.values())) == {frozenset({End(EndKind.EXITED, 3)})}
        assert {started(path) for path in notes.iterdir()} == {1}


class TestRefusals:
    def test_a_quota_that_is_reached_is_a_reason_to_wait(self, site: Site) -> None:
        path = f"/api/v1/namespaces/{site.name}/resourcequotas"
        body = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}
        site.cluster.api("POST", path, body)
        site.cluster.wait_until(
            lambda: site.cluster.api("GET", f"{path}/few")["status"].get("hard"), 30, "it counts"
        )
        answers = site.connect(concurrency="1").submit([spec() for _ in range(4)])
        assert [bool(answer.job_id) for answer in answers] == [True, True, False, False]
        assert all("exceeded quota: few" in answer.busy for answer in answers[2:])

    def test_a_namespace_that_is_missing_is_no_fault_of_the_job(self, site: Site) -> None:
        scheduler = site.connect(namespace="nowhere")
        for job in (spec(), spec(stdin=b"hush")):
            with pytest.raises(SchedulerError, match='"nowhere" not found'):
                scheduler.submit([job])

    def test_a_right_that_is_missing_is_no_fault_of_the_job(self, site: Site) -> None:
        guest = site.cluster.kubeconfig(f"{site.name}-guest", site.cluster.guest_token)
        with pytest.raises(SchedulerError, match="forbidden"):
            site.connect(guest, seconds=1).submit([spec()])
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        rules = [{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["list", "watch"]}]
        role = {"metadata": {"name": site.name}, "rules": rules}
        reference = {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": site.name,
        }
        binding = {
            "metadata": {"name": site.name},
            "roleRef": reference,
            "subjects": [{"kind": "User", "name": "guest"}],
        }
        site.cluster.api("POST", f"{rbac}/clusterroles", role)
        site.cluster.api("POST", f"{rbac}/clusterrolebindings", binding)
        try:
            scheduler = site.connect(guest)
            assert scheduler.poll().jobs == ()
            with pytest.raises(SchedulerError, match=r"cannot create.*see etc/kubernetes"):
                scheduler.submit([spec()])
        finally:
            site.cluster.api("DELETE", f"{rbac}/clusterrolebindings/{site.name}")
            site.cluster.api("DELETE", f"{rbac}/clusterroles/{site.name}")

    def test_what_the_server_finds_invalid_is_refused_in_its_words(self, site: Site) -> None:
        job = spec()
        record = {
            "uuid": job.name,
            "container_image": " spaced:1 ",
            "command": ["true"],
            "cwd": "/out",
            "output_path": "/out",
            "mounts": {"/out": {"kind": "tmp", "capacity": MIB}},
            "runtime_constraints": {"vcpus": 1, "ram": 64 * MIB},
        }
        bad = JobSpec(job.name, job.argv, job.resources, work=work_of(record, {}, None))
        good = spec()
        answers = site.connect().submit([bad, good])
        assert "must not have leading or trailing whitespace" in answers[0].refused
        assert answers[1].job_id, "the others are none the worse for it"

    def test_a_priority_class_that_is_missing_is_named(self, site: Site) -> None:
        job = replace(spec(stdin=b"hush"), priority=1 << 50)
        answer = site.connect(priority_classes="1 nosuchclass").submit([job])[0]
        assert "no PriorityClass with name nosuchclass" in answer.refused
        assert site.secrets() == []

    def test_a_pod_of_that_name_that_is_not_ours_is_left_alone(self, site: Site) -> None:
        job = spec(stdin=b"hush")
        container = {"name": "theirs", "image": "none"}
        body = {"metadata": {"name": job.name}, "spec": {"containers": [container]}}
        uid = site.cluster.api("POST", site.pods, body)["metadata"]["uid"]
        scheduler = site.connect()
        answer = scheduler.submit([job])[0]
        assert "already exists" in answer.refused
        assert site.secrets() == []
        assert site.find(scheduler, job) is None
        scheduler.cancel([job.name])
        scheduler.forget([job.name])
        assert site.pod(job)["metadata"]["uid"] == uid

    def test_a_secret_of_an_earlier_try_is_made_anew(self, site: Site) -> None:
        site.node()
        job = spec("cat", stdin=b"new")
        secret = {
            "metadata": {"name": job.name},
            "immutable": True,
            "stringData": {"stdin": "old"},
        }
        site.cluster.api("POST", f"/api/v1/namespaces/{site.name}/secrets", secret)
        scheduler = site.connect()
        scheduler.submit([job])
        assert site.end(scheduler, job) == End(EndKind.EXITED, 0)
        printed: list[bytes] = []
        scheduler.fetch_log(job.name, printed.append)
        assert b"".join(printed) == b"new"


class TestMeddling:
    def test_a_pod_that_an_operator_deletes_while_it_waits(self, site: Site) -> None:
        """No node has it, or its node has not started it."""
        scheduler, unbound = site.connect(), spec(cores=90)
        unpulled = site.connect(image="localhost/unreachable:1")
        bound = spec()
        site.node()
        scheduler.submit([unbound])
        unpulled.submit([bound])
        site.until(scheduler, bound, lambda job: "cannot be fetched" in job.reason)
        for job in (unbound, bound):
            site.kubectl("delete", "pod", job.name, "--wait=false")
            end = site.end(scheduler, job)
            assert end == End(EndKind.OPERATOR_DELETED, detail="before it started")

    @pytest.mark.parametrize(
        "how", [(), ("--grace-period=0", "--force")], ids=["in order", "by force"]
    )
    def test_a_pod_that_an_operator_deletes_while_it_runs(
        self, site: Site, how: tuple[str, ...]
    ) -> None:
        scheduler, job = site.connect(), spec()
        site.node()
        scheduler.submit([job])
        site.running(scheduler, job)
        site.kubectl("delete", "pod", job.name, "--wait=false", *how)
        end = site.end(scheduler, job)
        assert end == End(EndKind.OPERATOR_DELETED, detail="while it ran")
        assert site.end(site.connect(), job) == end, "who is started now sees the same"
        scheduler.forget([job.name])
        assert site.cluster.api("GET", site.pods)["items"] == []

    def test_what_we_cancelled_is_known_to_any_dispatcher(self, site: Site) -> None:
        site.node()
        one, other = site.connect(dispatcher="one"), site.connect(dispatcher="other")
        jobs = [spec(), spec(cores=90)]
        answers = one.submit(jobs)
        site.running(other, jobs[0])
        assert other.submit(jobs) == answers
        assert {job.name for job in other.poll().jobs} == {job.name for job in jobs}
        other.cancel([job.name for job in jobs])
        for job in jobs:
            for scheduler in (one, other, site.connect()):
                end = site.end(scheduler, job)
                assert end.kind is EndKind.CANCELLED
                assert end.detail.startswith("by other at ")

    def test_a_pod_taken_from_us_by_force_left_no_trace(self, site: Site) -> None:
        """By an operator who removes the finalizer, too."""
        scheduler, job = site.connect(), spec()
        site.node()
        scheduler.submit([job])
        site.running(scheduler, job)
        patch = '{"metadata":{"finalizers":null}}'
        site.kubectl("patch", "pod", job.name, "--type=merge", "-p", patch)
        site.kubectl("delete", "pod", job.name, "--grace-period=0", "--force")
        site.cluster.wait_until(lambda: site.find(scheduler, job) is None, 20, "it is gone")
        assert scheduler.look_up([job.name]) == {}

    def test_a_pod_that_a_more_urgent_one_displaces(self, site: Site) -> None:
        site.node(cpu="2")
        scheduler, job = site.connect(), spec(cores=2)
        scheduler.submit([job])
        site.running(scheduler, job)
        classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
        site.cluster.api("POST", classes, {"metadata": {"name": site.name}, "value": 1000})
        container = {
            "name": "theirs",
            "image": "none",
            "command": ["sleep", "1000"],
            "resources": {"requests": {"cpu": "2"}},
        }
        body = {
            "metadata": {"name": "urgent"},
            "spec": {
                "containers": [container],
                "priorityClassName": site.name,
                "nodeSelector": {LABEL: site.name},
            },
        }
        site.cluster.api("POST", site.pods, body)
        try:
            end = site.end(scheduler, job)
        finally:
            site.cluster.api("DELETE", f"{classes}/{site.name}")
        assert end.kind is EndKind.NODE_LOST
        assert "it was preempted" in end.detail
        assert "urgent" in end.detail


class TestNodes:
    def test_a_node_that_is_lost_takes_its_pods_with_it(self, site: Site) -> None:
        """After what it is given for coming back."""
        scheduler, job = site.connect(lost_after="1 s"), spec()
        node = site.node()
        scheduler.submit([job])
        site.running(scheduler, job)
        # Where more than half of the nodes are silent, Kubernetes takes itself for the one that is cut off.
        for _ in range(3):
            site.node()
        site.podlet.lose(node)
        assert site.end(scheduler, job) == End(
            EndKind.NODE_LOST, detail=f"node {node} is not ready"
        )
        scheduler.forget([job.name])
        assert site.find(scheduler, job) is None

    def test_a_node_that_comes_back_in_time_has_lost_nothing(self, site: Site) -> None:
        scheduler, job = site.connect(patience=SOON), spec()
        node = site.node()
        scheduler.submit([job])
        site.running(scheduler, job)
        site.podlet.freeze(node)
        site.cluster.wait_until(
            lambda: all(each.reason for each in scheduler.nodes()), 30, "the node is missed"
        )
        assert site.running(scheduler, job).end is None
        site.podlet.thaw(node)
        site.cluster.wait_until(
            lambda: not any(each.reason for each in scheduler.nodes()), 30, "it is back"
        )
        assert site.running(scheduler, job).end is None

    def test_a_node_under_pressure_throws_a_pod_out(self, site: Site) -> None:
        scheduler, job = site.connect(), spec()
        site.node()
        scheduler.submit([job])
        site.running(scheduler, job)
        site.podlet.evict_under_pressure(job.name, namespace=site.name, usage="300Mi")
        end = site.end(scheduler, job)
        assert end.kind is EndKind.NODE_LOST
        assert "low on resource: memory" in end.detail


class TestEnds:
    @pytest.mark.parametrize(
        ("image", "words"),
        [
            ("localhost/missing:1", "its image cannot be had"),
            ("localhost/denied:1", "pull access denied"),
            ("localhost/unreachable:1", "connection refused"),
            ("INVALID:", "invalid reference format"),
        ],
    )
    def test_a_pod_whose_image_cannot_be_had_is_given_up(
        self, site: Site, image: str, words: str
    ) -> None:
        scheduler, job = site.connect(image=image, patience=SOON), spec()
        site.node()
        scheduler.submit([job])
        found = site.until(scheduler, job, lambda found: found.hopeless)
        assert found.state is JobState.WAITING
        assert words in found.hopeless
        assert "given up after" in found.hopeless
        scheduler.cancel([job.name])
        end = site.end(site.connect(), job)
        assert end.kind is EndKind.SCHEDULER_ERROR
        assert words in end.detail

    def test_a_pod_is_waited_for_as_long_as_there_is_hope(self, site: Site) -> None:
        scheduler, job = site.connect(image="localhost/missing:1"), spec()
        site.node()
        scheduler.submit([job])
        found = site.until(scheduler, job, lambda found: "cannot be had" in found.reason)
        assert not found.hopeless
        scheduler.cancel([job.name])
        assert site.end(scheduler, job).kind is EndKind.CANCELLED

    def test_a_time_limit_comes_with_its_numbers(self, site: Site) -> None:
        scheduler, job = site.connect(), spec(limit=1)
        site.node()
        scheduler.submit([job])
        assert site.end(scheduler, job) == End(EndKind.TIME_LIMIT, asked=1, limit=1)

    def test_a_memory_limit_comes_with_its_numbers(self, site: Site) -> None:
        command = (sys.executable, probe.__file__, "eat", str(site.folder / "e"), str(256 * MIB))
        scheduler, job = site.connect(reserve_ram="8 MiB"), spec(*command, ram=32)
        site.node()
        scheduler.submit([job])
        assert site.end(scheduler, job) == End(
            EndKind.OUT_OF_MEMORY, asked=32 * MIB, limit=40 * MIB
        )


def test_a_thousand_jobs_take_no_more_requests_than_they_must(site: Site) -> None:
    scheduler = site.connect(node_selector="tests.arvados.org/no=node", concurrency="16")
    scheduler.poll()
    jobs = [spec() for _ in range(1000)]
    names = [job.name for job in jobs]
    before = scheduler.commands_run

    def spent() -> float:
        nonlocal before
        before, since = scheduler.commands_run, before
        return (before - since) / len(jobs)

    assert all(answer.job_id for answer in scheduler.submit(jobs))
    assert spent() == pytest.approx(1, abs=0.01)
    polls = [scheduler.poll() for _ in range(10)]
    assert spent() == pytest.approx(0, abs=0.01)
    assert {job.name for job in polls[-1].jobs} == set(names)
    scheduler.cancel(names)
    assert spent() == pytest.approx(2, abs=0.01), "a note and a deletion"
    site.cluster.wait_until(
        lambda: all(job.state is JobState.ENDED for job in scheduler.poll().jobs), 60, "all ended"
    )
    assert {job.end and job.end.kind for job in scheduler.poll().jobs} == {EndKind.CANCELLED}
    spent()
    scheduler.forget(names)
    assert spent() == pytest.approx(2, abs=0.01), "a look at who else holds it, and letting go"
    assert scheduler.poll().jobs == ()
    assert site.cluster.api("GET", site.pods)["items"] == []
