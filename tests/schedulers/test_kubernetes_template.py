"""An operator's pod template, and merging as Kubernetes does it."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodemanager.errors import ConfigError
from nodemanager.schedulers.kubernetes.template import (
    MERGE_KEYS,
    merge,
    parse_template,
    read_template,
)
from tests.clusters.kubernetes_build import KubernetesMissing, find

SPEC = {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "main", "env": []}]}
AS_YAML = json.dumps(SPEC)

PUBLISHED = """
ObjectMeta finalizers -
ObjectMeta ownerReferences uid
PodSpec containers name
PodSpec ephemeralContainers name
PodSpec hostAliases ip
PodSpec imagePullSecrets name
PodSpec initContainers name
PodSpec topologySpreadConstraints topologyKey
PodSpec volumes name
Container env name
Container ports containerPort
Container volumeDevices devicePath
Container volumeMounts mountPath
"""
"""Every list of a pod that has `x-kubernetes-patch-strategy` in the OpenAPI document of Kubernetes 1.20, and its
`x-kubernetes-patch-merge-key`; but for `LabelSelectorRequirement.key`, which is no list."""


def test_lists_are_merged_by_the_keys_that_kubernetes_publishes() -> None:
    rows = [line.split() for line in PUBLISHED.strip().splitlines()]
    assert {field: key for _, field, key in rows if key != "-"} == dict(MERGE_KEYS)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"spec": {AS_YAML}}}',
        f'{{"apiVersion": "v1", "kind": "Pod", "metadata": {{}}, "spec": {AS_YAML}}}',
        f'{{"kind": "PodTemplate", "metadata": {{"name": "x"}}, "template": {{"spec": {AS_YAML}}}}}',
    ],
)
def test_a_template_is_a_pod_or_a_pod_template_or_a_part_of_one(text: str) -> None:
    assert parse_template(text, "t") == {"spec": SPEC}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "t:1: is not YAML"),
        ("[]", "t: expected a pod template"),
        ("{}\n---\n{}", "is not YAML"),
        ("kind: Deployment", "t: kind: expected Pod or PodTemplate, found 'Deployment'"),
        ("{kind: Pod, apiVersion: v2}", "t: apiVersion: expected v1, found 'v2'"),
        ("kind: PodTemplate", "t: template: expected metadata and spec"),
        ("{kind: PodTemplate, spec: {}, template: {}}", "t: spec: expected metadata and template"),
        ("status: {}", "t: status: not known here"),
        ("spec: 1", "t: spec: expected an object"),
        ("metadata: {name: x}", "t: metadata.name: the pod's own"),
        ("metadata: {labels: {a: 1}}", "t: metadata.labels.a: expected a text, found 1"),
        (
            "metadata: {labels: {arvados.org/cluster: x}}",
            "t: metadata.labels.arvados.org/cluster: names with arvados.org/ are",
        ),
        ("spec: {restartPolicy: Always}", "t: spec.restartPolicy: expected Never, found 'Always'"),
        ("spec: {activeDeadlineSeconds: 3}", "it comes from the container's max_run_time"),
        ("spec: {terminationGracePeriodSeconds: 3}", "set the option grace"),
        ("spec: {nodeName: n}", "write a nodeSelector"),
        ("spec: {containers: {}}", "t: spec.containers: expected a list of objects"),
        ("spec: {containers: [{image: x}]}", "t: spec.containers[0].name: expected a name"),
        ("spec: {containers: [{name: side}]}", "t: spec.containers: none is named main"),
        ("spec: {containers: [{name: main}, {name: main}]}", "main is there twice"),
        ("spec: {containers: [{name: main, image: x}]}", "t: spec.containers[0].image: leave it"),
        (
            "spec: {containers: [{name: main, env: [{value: x}]}]}",
            "t: spec.containers[0].env[0].name: expected a name",
        ),
        ("spec: {volumes: [{name: arvados-tmp-0}]}", "names with arvados- are the node manager's"),
        ("kind: PodTemplate\ntemplate: {spec: {nodeName: x}}", "t: template.spec.nodeName: leave"),
    ],
)
def test_what_a_template_cannot_say_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse_template(text, "t")


def test_a_template_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        read_template(tmp_path / "nowhere.yaml")


def test_objects_of_one_key_are_merged_and_others_added() -> None:
    base = {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}]}
    patch = {
        "containers": [
            {"name": "b"},
            {"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "3"}]},
        ]
    }
    merged = merge(base, patch)["containers"]
    assert merged == [
        {
            "name": "a",
            "image": "1",
            "env": [{"name": "X", "value": "3"}, {"name": "Y", "value": "2"}],
        },
        {"name": "b"},
    ]


def test_other_lists_are_replaced_and_tolerations_added_to() -> None:
    base = {"command": ["a", "b"], "tolerations": [{"key": "a"}], "finalizers": ["x"]}
    patch = {
        "command": ["c"],
        "tolerations": [{"key": "b"}, {"key": "a"}],
        "finalizers": ["x", "y"],
    }
    assert merge(base, patch) == {
        "command": ["c"],
        "tolerations": [{"key": "a"}, {"key": "b"}],
        "finalizers": ["x", "y"],
    }


def test_null_removes() -> None:
    assert merge({"a": 1, "b": {"c": 1, "d": 2}}, {"a": None, "b": {"c": None}}) == {"b": {"d": 2}}


# Pods as generated for the merge.

_few = st.sampled_from(["a", "b", "c"])


def _objects(key: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    each = st.fixed_dictionaries({key: _few}, optional=fields)
    return st.lists(each, max_size=3, unique_by=lambda value: str(value[key]))


_containers = _objects(
    "name",
    image=_few,
    command=st.lists(_few, max_size=2),
    env=_objects("name", value=_few),
    volumeMounts=st.lists(
        st.fixed_dictionaries(
            {"mountPath": st.sampled_from(["/a", "/b"]), "name": _few}, optional={"subPath": _few}
        ),
        max_size=2,
        unique_by=lambda value: value["mountPath"],
    ),
    resources=st.fixed_dictionaries({}, optional={"limits": st.dictionaries(_few, _few)}),
    securityContext=st.fixed_dictionaries({}, optional={"privileged": st.booleans()}),
)
_pods = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(_few, _few),
                "finalizers": st.lists(_few, unique=True, max_size=2),
            },
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": _containers,
                "initContainers": _containers,
                "imagePullSecrets": _objects("name"),
                "nodeSelector": st.dictionaries(_few, _few),
                "hostname": _few,
            },
        ),
    },
)


@given(_pods, _pods)
def test_merging_changes_neither_and_what_the_patch_says_holds(
    base: dict[str, Any], patch: dict[str, Any]
) -> None:
    before = copy.deepcopy((base, patch))
    once = merge(base, patch)
    assert (base, patch) == before
    assert merge(once, patch) == once
    assert merge({}, patch) == merge(patch, patch)


def in_order(value: Any) -> Any:
    """Where the order of objects with a key of their own does not matter; and nothing for what is empty."""
    if isinstance(value, dict):
        known = {key: in_order(each) for key, each in value.items()}
        return {key: each for key, each in known.items() if each not in ({}, [], None)}
    if isinstance(value, list):
        each = [in_order(each) for each in value]
        if all(isinstance(one, dict) for one in each):
            return sorted(each, key=lambda one: json.dumps(one, sort_keys=True))
        return each
    return value


@pytest.fixture(scope="module")
def kubectl() -> str:
    try:
        return str(find() / "kubectl")
    except KubernetesMissing as error:
        pytest.skip(str(error))


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(base=_pods, patch=_pods)
def test_pods_are_merged_as_kubectl_merges_them(
    kubectl: str, tmp_path: Path, base: dict[str, Any], patch: dict[str, Any]
) -> None:
    file = tmp_path / "pod.json"
    head = {"apiVersion": "v1", "kind": "Pod"}
    metadata = {"name": "x", **base.get("metadata", {})}
    file.write_text(json.dumps({**head, **base, "metadata": metadata}))
    options = ["--local", "-o", "json", "--type", "strategic", "-f", str(file)]
    answer = subprocess.run(
        [kubectl, "patch", *options, "-p", json.dumps(patch)],
        check=True,
        capture_output=True,
        text=True,
    )
    theirs = json.loads(answer.stdout)
    ours = merge({**head, **base, "metadata": metadata}, patch)
    theirs["metadata"].pop("creationTimestamp", None)
    assert in_order(ours) == in_order(theirs)
