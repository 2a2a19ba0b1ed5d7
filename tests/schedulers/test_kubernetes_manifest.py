"""What pods are made of jobs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from nodemanager.model import PRIORITY_STEP, Resources
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.kubernetes.names import (
    ASKED,
    CLUSTER_LABEL,
    EXCLUSIVE,
    FINALIZER,
    RUNS,
    Asked,
)
from nodemanager.schedulers.kubernetes.pod import parse_pod
from nodemanager.schedulers.kubernetes.podnodes import Toleration
from nodemanager.schedulers.kubernetes.program import literal
from tests.schedulers.kubernetes_specs import (
    AUTHORITY,
    GIB,
    TEMPLATE,
    TOKEN,
    UUID,
    job,
    jobs,
    manifests,
    option_sets,
)


def main_of(pod: dict[str, Any]) -> dict[str, Any]:
    (main,) = [each for each in pod["spec"]["containers"] if each["name"] == "main"]
    return dict(main)


def expanded(text: str) -> str:
    """What Kubernetes makes of a text where no variable has the name in it."""
    return re.sub(r"\$\$", "$", text)


def env_of(pod: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in main_of(pod)["env"]}


def contents(secret: dict[str, Any] | None) -> dict[str, bytes]:
    return {key: base64.b64decode(text) for key, text in (secret or {"data": {}})["data"].items()}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    else:
        yield str(value)


LOST = [
    {
        "key": f"node.kubernetes.io/{trouble}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    for trouble in ("not-ready", "unreachable")
]


def test_a_pod_is_the_container() -> None:
    record = {
        "command": ["echo", "$(HOME)", "$$", "a b"],
        "environment": {"Z": "$(A)", "A": "1"},
        "cwd": "/work",
        "scheduling_parameters": {"max_run_time": 3600},
    }
    parts = manifests().parts(job(record))
    pod, main = parts.pod, main_of(parts.pod)
    assert (pod["apiVersion"], pod["kind"], pod["metadata"]["name"]) == ("v1", "Pod", UUID)
    assert [expanded(word) for word in main["command"]] == record["command"]
    assert main["command"][1] == "$$(HOME)"
    assert "args" not in main
    assert main["image"] == "debian:12"
    assert main["workingDir"] == "/work"
    assert list(env_of(pod)) == ["A", "ARVADOS_CONTAINER_UUID", "CONTAINER_ATTEMPT", "Z"]
    assert env_of(pod)["Z"] == "$$(A)"
    assert main["securityContext"] == {"allowPrivilegeEscalation": False}
    spec = pod["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] == 3600
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["priorityClassName"] == "normal"
    assert spec["nodeSelector"] == {"site.example/pool": "arvados"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "effect": "NoSchedule", "value": "arvados"},
        {"key": "gpu", "operator": "Exists"},
        *LOST,
    ]
    assert pod["metadata"]["finalizers"] == [FINALIZER]
    assert pod["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "arvados-node-manager",
        CLUSTER_LABEL: "zzzzz",
        "arvados.org/dispatcher": "north",
    }
    assert pod["metadata"]["annotations"] == {
        ASKED: Asked(3 * GIB, 3600).as_annotation(),
        RUNS: "command",
    }
    assert parts.secret is None


def test_memory_scratch_and_gpus_are_limits_and_cores_are_not() -> None:
    asked = Resources(2, 3 * GIB, GIB, 1)
    resources = main_of(manifests().parts(job(resources=asked)).pod)["resources"]
    limits = {
        "memory": str(3 * GIB),
        "ephemeral-storage": str(GIB),
        "nvidia.com/gpu": "1",
    }
    assert resources == {"limits": limits, "requests": {"cpu": "2", **limits}}


def test_cores_are_a_limit_where_the_operator_wants_that() -> None:
    made = manifests(cpu_limit="yes", reserve_cpu="0.25", reserve_ram="1 GiB")
    resources = main_of(made.parts(job()).pod)["resources"]
    assert resources["limits"]["cpu"] == resources["requests"]["cpu"] == "2250m"
    assert resources["limits"]["memory"] == resources["requests"]["memory"] == str(4 * GIB)


def test_the_token_comes_from_the_secret_and_the_authority_is_a_file() -> None:
    record = {"runtime_constraints": {"API": True}, "environment": {"ARVADOS_API_TOKEN": "mine"}}
    parts = manifests().parts(job(record))
    (token,) = [e for e in main_of(parts.pod)["env"] if e["name"] == "ARVADOS_API_TOKEN"]
    assert token["valueFrom"] == {"secretKeyRef": {"name": UUID, "key": "token"}}
    assert "value" not in token
    assert contents(parts.secret) == {"token": TOKEN.encode(), "authority": AUTHORITY}
    assert env_of(parts.pod)["ARVADOS_API_HOST"] == "api.example:443"
    (mount,) = [m for m in main_of(parts.pod)["volumeMounts"] if m.get("subPath") == "authority"]
    assert mount["mountPath"] == env_of(parts.pod)["SSL_CERT_FILE"]
    (volume,) = [v for v in parts.pod["spec"]["volumes"] if "secret" in v]
    assert [item["key"] for item in volume["secret"]["items"]] == ["authority"]
    assert parts.secret is not None
    assert parts.secret["metadata"]["name"] == UUID
    assert parts.secret["immutable"] is True
    assert TOKEN not in repr(parts)


def test_partitions_are_joined_with_the_terms_of_the_template() -> None:
    spec = job(partitions=("long", "highmem"))
    affinity = manifests(TEMPLATE).parts(spec).pod["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    said = [
        [(e["key"], e["operator"], *e.get("values", ())) for e in term["matchExpressions"]]
        for term in terms
    ]
    spot = ("site.example/lifecycle", "NotIn", "spot")
    chosen = ("site.example/partition", "In", "long", "highmem")
    free = ("site.example/partition", "DoesNotExist")
    assert said == [
        [("zone", "In", zone), partition, spot] for zone in "ab" for partition in (chosen, free)
    ]


def test_a_container_that_bears_it_gets_onto_any_node() -> None:
    assert "affinity" not in manifests().parts(job(preemptible=True)).pod["spec"]


def test_a_pod_with_a_node_to_itself_is_kept_apart_from_all_of_the_cluster() -> None:
    pod = manifests().parts(job(exclusive=True)).pod
    (term,) = pod["spec"]["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term == {
        "labelSelector": {"matchLabels": {CLUSTER_LABEL: "zzzzz"}},
        "topologyKey": "kubernetes.io/hostname",
    }
    assert EXCLUSIVE in pod["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("priority", "name"),
    [(0, None), (1, "low"), (499, "low"), (500, "normal"), (1000, "high")],
)
def test_priorities_become_classes(priority: int, name: str | None) -> None:
    for given_as in (priority, priority * PRIORITY_STEP - 1 if priority > 1 else priority):
        spec = manifests().parts(job(priority=given_as)).pod["spec"]
        assert spec.get("priorityClassName") == name


def test_a_template_stays_where_the_container_says_nothing() -> None:
    record = {"environment": {"A": "own"}, "mounts": {"/tmp": {"kind": "tmp"}}}
    pod = manifests(TEMPLATE).parts(job(record)).pod
    main = main_of(pod)
    assert env_of(pod)["A"] == "own"
    assert env_of(pod)["TMPDIR"] == "/scratch"
    assert [m for m in main["volumeMounts"] if m["mountPath"] == "/tmp"] == [
        {"name": "arvados-tmp-1", "mountPath": "/tmp"}
    ]
    assert main["resources"]["limits"]["example.com/fuse"] == "1"
    assert main["resources"]["limits"]["memory"] == str(3 * GIB)
    assert [each["name"] for each in pod["spec"]["containers"]] == ["main", "beside"]
    assert pod["metadata"]["labels"]["team"] == "genomics"
    assert {"key": "site", "operator": "Exists"} in pod["spec"]["tolerations"]
    assert len(pod["spec"]["tolerations"]) == 3 + len(LOST)
    assert pod["spec"]["securityContext"]["fsGroup"] == 1000


def test_a_template_may_have_the_token_of_a_service_account_mounted() -> None:
    pod = manifests({"spec": {"automountServiceAccountToken": True}}).parts(job()).pod
    assert pod["spec"]["automountServiceAccountToken"] is True


@pytest.mark.parametrize("run", ["runner", "pod"])
def test_a_job_without_work_is_run_by_its_argv(run: str) -> None:
    """Probes and the conformance suite submit such jobs."""
    parts = manifests(run=run).parts(job(work=None, max_run_seconds=77))
    main = main_of(parts.pod)
    assert main["image"] == "registry.example/runner:1"
    shell, flag, script, stdin, *argv = main["command"]
    assert (shell, flag) == ("/bin/sh", "-c")
    assert expanded(script) == 'exec "$@" <"$0"\n'
    assert argv == ["arvados-container-runner"]
    assert main["volumeMounts"] == [
        {"name": "arvados-files", "mountPath": stdin, "subPath": "stdin", "readOnly": True}
    ]
    assert TOKEN.encode() in contents(parts.secret)["stdin"]
    assert parts.pod["spec"]["activeDeadlineSeconds"] == 77
    assert parts.pod["metadata"]["annotations"][RUNS] == "runner"


def test_a_runner_gets_nothing_of_the_container() -> None:
    made = manifests(run="runner").parts(job({"environment": {"A": "1"}}))
    assert main_of(made.pod)["image"] == "registry.example/runner:1"
    assert list(env_of(made.pod)) == ["NODEMANAGER_NODE"]
    assert list(contents(made.secret)) == ["stdin"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (job(name="yyyyy-dz642-abcdefghijklmno"), "no name of a container of zzzzz"),
        (job(name="zzzzz-dz642-ABC"), "no name of a container"),
        (job({"container_image": ""}), "container_image: missing"),
        (job({"environment": {"A B": "1"}}), "environment: 'A B'"),
        (job({"environment": {"A": "x" * (1 << 20)}}), "environment: 10"),
        (job({"command": ["\ud800"]}), "command: it is no text"),
        (job({"mounts": {"/a:b": {"kind": "tmp"}}}), "colon"),
        (job(partitions=("not a label",)), "partition 'not a label'"),
        (
            job({"mounts": {"/a": {"kind": "text", "content": "x" * ((1 << 20) + 1)}}}),
            "1048577 bytes",
        ),
    ],
)
def test_what_no_pod_can_run_is_refused_in_words(spec: JobSpec, words: str) -> None:
    assert words in manifests().refusal(spec)


def test_partitions_are_refused_where_there_are_none() -> None:
    assert "partition_label" in manifests(partition_label="").refusal(job(partitions=("long",)))


def test_a_program_of_ours_is_refused_without_an_image() -> None:
    assert "runner_image" in manifests(runner_image="").refusal(job(work=None))


def test_what_can_be_run_is_not_refused() -> None:
    assert manifests().refusal(job()) == ""


def test_a_pod_keeps_of_its_node_what_all_its_containers_ask_for() -> None:
    made = manifests(TEMPLATE, reserve_cpu="0.5", reserve_ram="1 GiB")
    size = made.size(Resources(2, GIB, GIB, 1))
    assert size == Resources(3, 2 * GIB + (64 << 20), GIB, 1)


def test_nodes_are_those_of_template_and_options() -> None:
    rules = manifests(TEMPLATE | {"spec": {"nodeSelector": {"disk": "ssd"}}}).node_rules
    assert rules.node_selector == {"disk": "ssd", "site.example/pool": "arvados"}
    assert Toleration("gpu", "Exists") in rules.tolerations
    assert rules.partition_label == "site.example/partition"


@given(jobs(), option_sets)
def test_no_pod_has_a_host_path_a_privilege_or_a_token(
    spec: JobSpec, options: dict[str, str]
) -> None:
    parts = manifests(**options).parts(spec)
    words = set(strings(parts.pod))
    assert not words & {"hostPath", "hostNetwork", "hostPID", "hostIPC", "privileged"}
    assert TOKEN not in json.dumps(parts.pod)
    runner = options["run"] == "runner" or spec.work is None
    asked = spec.work is not None and spec.work.api is not None
    in_secret = any(TOKEN.encode() in value for value in contents(parts.secret).values())
    assert in_secret == (runner or asked)


@given(jobs(), option_sets)
def test_nothing_of_a_container_is_in_a_script(spec: JobSpec, options: dict[str, str]) -> None:
    """Every script is one of the two there are, and the command follows as it was given."""
    command = main_of(manifests(**options).parts(spec).pod)["command"]
    runner = options["run"] == "runner" or spec.work is None
    own = spec.argv if runner or spec.work is None else spec.work.command
    assert tuple(expanded(word) for word in command[-len(own) :]) == own
    if len(command) > len(own):
        plain = main_of(manifests(**options).parts(job(work=None)).pod)["command"][2]
        redirected = {"stdout": {"kind": "file", "path": "/out/x"}}
        wrapped = main_of(manifests().parts(job({"mounts": redirected})).pod)["command"][2]
        assert command[:2] == ["/bin/sh", "-c"]
        assert command[2] in (plain, wrapped)


@given(jobs(), option_sets)
def test_our_own_reading_of_a_pod_gives_what_was_asked_for(
    spec: JobSpec, options: dict[str, str]
) -> None:
    made = manifests(**options)
    pod = parse_pod(made.parts(spec).pod)
    assert pod.asked.ram_bytes == spec.resources.ram_bytes
    assert pod.exclusive == spec.exclusive
    assert pod.held
    assert pod.runs_command == (options["run"] == "pod" and spec.work is not None)
    ram = made.size(spec.resources).ram_bytes
    assert pod.requests.ram_bytes == pod.ram_limit_bytes == ram


@given(jobs())
def test_a_literal_text_survives_what_kubernetes_does_with_dollars(spec: JobSpec) -> None:
    for word in spec.work.command if spec.work else ():
        assert expanded(literal(word)) == word


def test_the_same_job_gives_the_same_pod() -> None:
    spec = job({"environment": {"B": "1", "A": "2"}})
    other = replace(spec, stdin=b"")
    assert manifests().parts(spec) == manifests().parts(other)
