"""Files that pods mount, looked at before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from nodemanager.mount_plan import MountPlan, RequestFaultError, plan_mounts
from nodemanager.schedulers.kubernetes.inputs import check_inputs
from nodemanager.schedulers.kubernetes.options import KubernetesOptions
from tests.schedulers.kubernetes_specs import OPTIONS, OTHER, UUID, context


@pytest.fixture
def options(tmp_path: Path) -> KubernetesOptions:
    output = tmp_path / "store" / OTHER / "output"
    output.mkdir(parents=True)
    (output / "there").touch()
    (output / "near").symlink_to("there")
    (tmp_path / "store" / UUID / "output").mkdir(parents=True)
    (tmp_path / "store" / UUID / "output" / "private").touch()
    (output / "far").symlink_to(f"../../{UUID}/output/private")
    (output / "loop").symlink_to("loop")
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "genome").touch()
    (tmp_path / "inputs" / "out").symlink_to(output / "there")
    return replace(
        KubernetesOptions.of(context(**OPTIONS)),
        store=PurePosixPath(tmp_path / "store"),
        input_dirs=(PurePosixPath(tmp_path / "inputs"),),
    )


def plan(path: str, target: str = "/a") -> MountPlan:
    mounts = {target: {"kind": "file", "path": path}}
    return plan_mounts({"mounts": mounts, "output_path": "/out"}, {})


@pytest.mark.parametrize("target", ["/a", "stdin"])
def test_regular_files_are_well(options: KubernetesOptions, target: str) -> None:
    for path in (f"store:{OTHER}/output/there", f"store:{OTHER}/output/near"):
        check_inputs(plan(path, target), options)
    check_inputs(plan(f"{options.input_dirs[0]}/genome", target), options)


@pytest.mark.parametrize("target", ["/a", "stdin"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"store:{OTHER}/output/missing", "No such file"),
        (f"store:{OTHER}/output/far", "is a link to elsewhere"),
        (f"store:{OTHER}/output/loop", "loop"),
        (f"store:{OTHER}/output/there/x", "Not a directory"),
        ("store:zzzzz-dz642-999999999999999/output/x", "No such file"),
        ("INPUTS/out", "is a link to elsewhere"),
        ("INPUTS/", "is not a regular file"),
    ],
)
def test_others_are_refused(options: KubernetesOptions, target: str, path: str, words: str) -> None:
    path = path.replace("INPUTS", str(options.input_dirs[0]))
    with pytest.raises(RequestFaultError, match=words):
        check_inputs(plan(path, target), options)


def test_what_cannot_be_seen_from_here_is_not_judged(options: KubernetesOptions) -> None:
    unseen = PurePosixPath("/nonexistent")
    elsewhere = replace(options, store=unseen, input_dirs=(unseen,))
    check_inputs(plan(f"store:{OTHER}/output/missing"), elsewhere)
    check_inputs(plan("/nonexistent/x"), elsewhere)


def test_standard_input_may_come_from_what_is_mounted(options: KubernetesOptions) -> None:
    mounts = {
        "/a": {"kind": "text", "content": ""},
        "stdin": {"kind": "file", "path": "/a"},
    }
    check_inputs(plan_mounts({"mounts": mounts, "output_path": "/out"}, {}), options)
