"""What is sent is what Kubernetes knows: the fields of a current release, and a real server's own answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from kubernetes.client import models
from kubernetes.utils.quantity import parse_quantity

from nodemanager.schedulers.base import JobSpec
from tests.clusters.kubernetes import KubernetesCluster
from tests.schedulers.kubernetes_specs import (
    TEMPLATE,
    jobs,
    manifests,
    option_sets,
)


def unknown(value: Any, kind: str, path: str = "") -> Iterator[str]:
    """Paths in `value` that the client's models of a current release do not have under `kind`."""
    if inner := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        assert isinstance(value, list), path
        for number, each in enumerate(value):
            yield from unknown(each, inner[1], f"{path}[{number}]")
    elif inner := re.fullmatch(r"[Dd]ict[(\[]str, (.+)[)\]]", kind):
        assert isinstance(value, dict), path
        for key, each in value.items():
            yield from unknown(each, inner[1], f"{path}[{key}]")
    elif model := getattr(models, kind, None):
        types = {model.attribute_map[name]: its for name, its in model.openapi_types.items()}
        for key, each in value.items():
            if key in types:
                yield from unknown(each, types[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    else:
        expected = {"str": str, "bytes": str, "int": int, "bool": bool}[kind]
        if type(value) is not expected:
            yield f"{path}: {value!r} is no {kind}"


def test_what_is_not_known_is_found() -> None:
    pod = {"spec": {"containers": [{"name": "x", "imgae": "y"}], "activeDeadlineSeconds": "3"}}
    assert list(unknown(pod, "V1Pod")) == [
        ".spec.containers[0].imgae",
        ".spec.activeDeadlineSeconds: '3' is no int",
    ]


@given(jobs(), option_sets)
def test_a_current_release_knows_every_field(spec: JobSpec, options: dict[str, str]) -> None:
    parts = manifests(TEMPLATE, **options).parts(spec)
    assert list(unknown(parts.pod, "V1Pod")) == []
    if parts.secret is not None:
        assert list(unknown(parts.secret, "V1Secret")) == []


# A server drops what it does not know in silence: so what comes back is compared.

_QUANTITIES = re.compile(r".*\.((requests|limits)\..*|sizeLimit)")
_CLASSES = "1 pods-low, 500 pods-normal, 900 pods-high"


def lost(sent: Any, got: Any, path: str = "") -> Iterator[str]:
    """What was sent and did not come back."""
    if isinstance(sent, dict) and isinstance(got, dict):
        for key, each in sent.items():
            yield from lost(each, got.get(key), f"{path}.{key}")
    elif isinstance(sent, list) and isinstance(got, list) and len(sent) <= len(got):
        for number, (each, back) in enumerate(zip(sent, got, strict=False)):
            yield from lost(each, back, f"{path}[{number}]")
    elif _QUANTITIES.fullmatch(path) and got is not None:
        if parse_quantity(sent) != parse_quantity(got):
            yield path
    elif sent != got and (sent or got):
        yield f"{path}: {sent!r} became {got!r}"


@pytest.fixture(scope="module")
def namespace(kubernetes: KubernetesCluster) -> str:
    for each in _CLASSES.split(", "):
        value, name = each.split()
        kubernetes.api(
            "POST",
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            {"metadata": {"name": name}, "value": int(value)},
        )
    return kubernetes.make_namespace("pods-as-made")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs(), option_sets)
def test_a_real_server_takes_every_pod_and_drops_nothing(
    kubernetes: KubernetesCluster, namespace: str, spec: JobSpec, options: dict[str, str]
) -> None:
    parts = manifests(TEMPLATE, priority_classes=_CLASSES, **options).parts(spec)
    path = f"/api/v1/namespaces/{namespace}"
    answer = kubernetes.api("POST", f"{path}/pods?dryRun=All", parts.pod)
    assert list(lost(parts.pod, answer)) == []
    if parts.secret is not None:
        answer = kubernetes.api("POST", f"{path}/secrets?dryRun=All", parts.secret)
        assert list(lost(parts.secret, answer)) == []
