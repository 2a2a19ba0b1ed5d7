"""The pages about clouds: each has an example, and leaves no option out."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from nodemanager.clouds import azure_body, ec2_options, gce_body, openstack_body
from nodemanager.config.kinds import Kind
from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "how-to" / "run-nodes-in-a-cloud.md"
EXAMPLES = [block.text for block in blocks("ini") if "provider = " in block.text]
OPTIONS: Mapping[str, Mapping[str, Kind]] = {
    "gce": gce_body.OPTIONS,
    "azure": azure_body.OPTIONS,
    "openstack": openstack_body.OPTIONS,
    "ec2": ec2_options.CREATE_OPTIONS,
}


def test_there_is_an_example_for_each() -> None:
    """Which drivers take, says tests/docs/test_examples.py."""
    providers = set(re.findall(r"^provider = (\w+)$", "".join(EXAMPLES), re.MULTILINE))
    assert providers == {*OPTIONS, "dummy", "loopback"}


@pytest.mark.parametrize("provider", OPTIONS)
def test_no_option_is_left_out(provider: str) -> None:
    own = PAGE.with_name(f"run-nodes-on-{provider}.md")
    written = set(re.findall(r"`([a-z_]+)`", PAGE.read_text() + own.read_text()))
    assert set(OPTIONS[provider]) <= written
