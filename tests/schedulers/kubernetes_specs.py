"""Jobs as the dispatcher makes them, generated, and the options of a cluster that takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from nodemanager.model import Resources
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.kubernetes.manifest import Manifests
from nodemanager.schedulers.kubernetes.options import KubernetesOptions
from nodemanager.work import ApiAccess, work_of

GIB = 1 << 30
UUID = "zzzzz-dz642-abcdefghijklmno"
OTHER = "zzzzz-dz642-000000000000000"
TOKEN = "v2/zzzzz-gj3su-000000000000000/secretofcontainer"
AUTHORITY = b"-----BEGIN CERTIFICATE-----\n"

OPTIONS = {
    "claims": "/shared store, /shared/inputs inputs",
    "runner_image": "registry.example/runner:1",
    "partition_label": "site.example/partition",
    "preemptible_label": "site.example/lifecycle=spot",
    "priority_classes": "1 low, 500 normal, 900 high",
    "node_selector": "site.example/pool=arvados",
    "tolerations": "dedicated=arvados:NoSchedule, gpu",
}


def context(**options: str) -> SchedulerContext:
    """What the module is given."""
    return SchedulerContext(
        "zzzzz",
        Path("/nonexistent"),
        options,
        dispatcher="north",
        store=Path("/shared/results"),
        input_dirs=(Path("/shared/inputs"),),
    )


def manifests(template: Mapping[str, Any] | None = None, /, **options: str) -> Manifests:
    """For `OPTIONS` and these."""
    its = context(**(OPTIONS | options))
    return Manifests(KubernetesOptions.of(its), its, template)


def job(
    record: Mapping[str, Any] | None = None,
    secret_mounts: Mapping[str, Any] | None = None,
    **changes: Any,
) -> JobSpec:
    """A job for a container with these fields."""
    full = {
        "uuid": UUID,
        "container_image": "debian:12",
        "command": ["true"],
        "output_path": "/out",
        "mounts": {"/out": {"kind": "tmp", "capacity": GIB}},
        **(record or {}),
    }
    work = work_of(full, secret_mounts or {}, ApiAccess("api.example:443", TOKEN, AUTHORITY))
    spec = JobSpec(
        UUID,
        ("arvados-container-runner",),
        Resources(2, 3 * GIB, GIB),
        stdin=b'{"api_token": "' + TOKEN.encode() + b'"}',
        priority=500,
        max_run_seconds=work.max_run_seconds + 600 if work.max_run_seconds else 0,
        work=work,
    )
    return replace(spec, **changes)


# Generated ones.

_texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=20
) | st.sampled_from(["$(HOME)", "$$", "$(A)$(B)", "a b;c", "`id`", '"', "'", "\n", "-c", ""])
_variables = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
_contents = st.fixed_dictionaries({"kind": st.just("text"), "content": _texts}) | (
    st.fixed_dictionaries({"kind": st.just("json"), "content": st.lists(st.integers(), max_size=3)})
)
_files = st.sampled_from(
    [
        {"kind": "file", "path": f"store:{OTHER}/output/deep/er.txt"},
        {"kind": "file", "path": "/shared/inputs/genome.fa"},
    ]
)
_tmps = st.fixed_dictionaries({"kind": st.just("tmp"), "capacity": st.sampled_from([0, GIB])})
_OUTPUTS = ("/out", "/work/out", "/work")
_NAMES = ("/work", "/out", "/work/out/in", "/out/a/b", "/etc/conf.json", "/work/x", "/tmp")


@st.composite
def _mounts(draw: st.DrawFn, output: str) -> dict[str, Any]:
    mounts = {}
    for name in draw(st.lists(st.sampled_from(_NAMES), unique=True)):
        is_directory = any(other.startswith(f"{name}/") for other in (*_NAMES, f"{output}/"))
        mounts[name] = draw(_tmps if is_directory else st.one_of(_contents, _files, _tmps))
    if draw(st.booleans()):
        mounts["stdin"] = draw(_contents | _files)
    for stream in ("stdout", "stderr"):
        if draw(st.booleans()):
            path = f"{output}/{draw(st.sampled_from(['log', 'deep/log']))}"
            mounts[stream] = {"kind": "file", "path": path}
    return mounts


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Containers that a pod can run."""
    output = draw(st.sampled_from(_OUTPUTS))
    return {
        "command": ["prog", *draw(st.lists(_texts, max_size=4))],
        "environment": draw(st.dictionaries(_variables, _texts, max_size=4)),
        "mounts": draw(_mounts(output)),
        "output_path": output,
        "cwd": draw(st.sampled_from([".", "/work"])),
        "runtime_constraints": {"API": draw(st.booleans())},
        "scheduling_parameters": {"max_run_time": draw(st.sampled_from([0, 1, 3600, 1 << 40]))},
    }


@st.composite
def jobs(draw: st.DrawFn) -> JobSpec:
    """Jobs of all kinds, with the container's work and without."""
    secrets = draw(st.dictionaries(st.sampled_from(["/secret", "/out/secret"]), _contents))
    record = draw(records())
    for target in secrets:
        record["mounts"].pop(target, None)
    spec = job(
        record,
        secrets,
        resources=Resources(
            draw(st.integers(1, 64)),
            draw(st.integers(1, 1 << 40)),
            draw(st.sampled_from([0, 1, 1 << 40])),
            draw(st.sampled_from([0, 1, 8])),
        ),
        priority=draw(st.integers(0, 1000) | st.integers(0, 1000 << 50)),
        partitions=tuple(draw(st.lists(st.sampled_from(["long", "highmem"]), unique=True))),
        preemptible=draw(st.booleans()),
        exclusive=draw(st.booleans()),
    )
    return spec if draw(st.integers(0, 4)) else replace(spec, work=None)


option_sets = st.fixed_dictionaries(
    {
        "keep_output": st.sampled_from(["yes", "no"]),
        "cpu_limit": st.sampled_from(["yes", "no"]),
        "run": st.sampled_from(["pod", "pod", "runner"]),
        "reserve_cpu": st.sampled_from(["0", "0.25", "1"]),
        "reserve_ram": st.sampled_from(["0", "512 MiB"]),
        "image_pull_policy": st.sampled_from(["Always", "Never"]),
    }
)
"""Options over `OPTIONS`."""

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"team": "genomics"}, "annotations": {"note": "of the site"}},
    "spec": {
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
                    ]
                }
            }
        },
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [{"key": "site", "operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "containers": [
            {
                "name": "main",
                "env": [{"name": "TMPDIR", "value": "/scratch"}, {"name": "A", "value": "site"}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/tmp", "subPath": "deep"}],
                "resources": {"limits": {"example.com/fuse": "1"}},
            },
            {
                "name": "beside",
                "image": "busybox",
                "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}},
            },
        ],
    },
}
"""What an operator may write."""
