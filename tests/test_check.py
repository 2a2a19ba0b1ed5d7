"""What `--check` says of the cloud and of the sizes that can be booted there."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from nodemanager.check import check, findings
from nodemanager.clouds.base import Cloud, CloudContext, CloudNode, CloudSize, NodeOrder
from nodemanager.clouds.errors import CloudError, Denied
from nodemanager.config import parse
from nodemanager.model import Finding

GIB = 2**30


class PaperCloud(Cloud):
    """A cloud that only has a price list."""

    name = "paper"
    contexts: ClassVar[list[CloudContext]] = []
    closed: ClassVar[int] = 0
    error: ClassVar[CloudError | None] = None

    def __init__(self, context: CloudContext) -> None:
        super().__init__(context)
        self.contexts.append(context)

    def check(self) -> Sequence[Finding]:
        if self.error is not None:
            raise self.error
        return [Finding("image", "ami-1")]

    def sizes(self) -> Sequence[CloudSize]:
        return [
            CloudSize("m4.large", "Large", 8 * GIB, 32 * 10**9, 0.1, cores=2),
            CloudSize("p2.xlarge", "GPU", 64 * GIB, 0, 0.9, cores=4, gpus=1),
        ]

    def list(self) -> Sequence[CloudNode]:
        raise AssertionError("--check lists no nodes itself")

    def create(self, order: NodeOrder) -> CloudNode:
        raise AssertionError(f"--check creates nothing: {order}")

    def destroy(self, node: CloudNode) -> None:
        raise AssertionError(f"--check destroys nothing: {node}")

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        raise AssertionError(f"--check changes nothing: {node} {tags}")

    def close(self) -> None:
        type(self).closed += 1


PROVIDER = f"[Cloud]\nprovider = {__name__}:PaperCloud\n"


@pytest.fixture(autouse=True)
def fresh() -> None:
    PaperCloud.contexts.clear()
    PaperCloud.closed = 0
    PaperCloud.error = None


def said(text: str, tmp_path: Path) -> list[tuple[str, str]]:
    """What is found about the cloud: subject, and detail or problem."""
    found = findings(parse(text, tmp_path / "x.cfg"))
    about = ("cloud", "size", "image")
    return [(f.subject, f.problem or f.detail) for f in found if f.subject.startswith(about)]


def test_the_sizes_in_effect_are_listed(tmp_path: Path) -> None:
    text = f"""
{PROVIDER}
[Size m4.large]
[Size spot]
instance_type = Large
price = 0.04
preemptible = yes
partitions = short, long
[Size p2.xlarge]
[Size m9.huge]
cores = 99
ram = 1048576
price = 12.5
scratch = 1000000
"""
    found = said(text, tmp_path)
    assert found[0] == ("image", "ami-1")
    assert [subject for subject, _ in found[1:]] == [
        "size spot",
        "size m4.large",
        "size p2.xlarge",
        "size m9.huge",
    ]
    assert [detail for _, detail in found[1:]] == [
        (
            "2 cores, 7.6 GiB RAM, 29.8 GiB scratch, no GPUs, 0.04 per hour, preemptible,"
            " partitions short long; instance type Large"
        ),
        "2 cores, 7.6 GiB RAM, 29.8 GiB scratch, no GPUs, 0.1 per hour; instance type m4.large",
        "4 cores, 60.8 GiB RAM, no scratch, 1 GPU, 0.9 per hour; instance type p2.xlarge",
        (
            "99 cores, 1 TiB RAM, 931.3 GiB scratch, no GPUs, 12.5 per hour; instance type m9.huge;"
            " check the name: the cloud does not list it"
        ),
    ]
    assert PaperCloud.closed == 1


def test_the_driver_gets_the_sections_about_the_cloud(tmp_path: Path) -> None:
    text = f"""
[Arvados]
cluster_id = xvhdp
{PROVIDER}
driver_class = a.b
operation_timeout = 5
[Cloud Credentials]
key = hush
[Cloud List]
tag_x = y
[Cloud Create]
image_id = ami-1
"""
    said(text, tmp_path)
    assert PaperCloud.contexts == [
        CloudContext(
            cluster_id="xvhdp",
            state_dir=tmp_path / "state" / "cloud",
            credentials={"key": "hush"},
            list_options={"tag_x": "y"},
            create_options={"image_id": "ami-1"},
            driver_class="a.b",
            timeout_seconds=5.0,
        )
    ]


def test_every_problem_with_sizes_is_a_line(tmp_path: Path) -> None:
    found = said(f"{PROVIDER}[Size m4.lage]\n[Size nothing]\n", tmp_path)
    subject = f"cloud {__name__}:PaperCloud"
    assert [where for where, _ in found] == ["image", subject, subject]
    assert "m4.lage" in found[1][1]
    assert "nothing" in found[2][1]


def test_a_cloud_that_refuses_us_does_not_hide_the_sizes(tmp_path: Path) -> None:
    PaperCloud.error = Denied("no such key")
    found = said(f"{PROVIDER}[Size m4.large]\n", tmp_path)
    assert found[0] == (f"cloud {__name__}:PaperCloud", "no such key")
    assert found[1][0] == "size m4.large"
    assert PaperCloud.closed == 1


def test_an_unknown_provider_is_a_problem(tmp_path: Path) -> None:
    found = said("[Cloud]\nprovider = ec3\n", tmp_path)
    assert found[0][0] == "cloud ec3"
    assert "there is no cloud 'ec3'; did you mean ec2?" in found[0][1]


def test_without_a_provider_no_cloud_is_looked_at(tmp_path: Path) -> None:
    assert said("[Size m4.large]\n", tmp_path) == []


def test_a_problem_with_the_cloud_fails_the_check(tmp_path: Path) -> None:
    output = io.StringIO()
    config = parse(f"{PROVIDER}\n", tmp_path / "x.cfg")
    assert check(config, Console(file=output, width=80)) == 1
    assert "no valid node sizes are configured" in output.getvalue()
