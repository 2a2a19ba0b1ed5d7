"""The page for operators: its examples load, and it leaves no option out."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from nodemanager.clouds import azure_body, ec2_options, gce_body, openstack_body
from nodemanager.clouds.base import CloudContext
from nodemanager.clouds.libcloud import LibcloudCloud
from nodemanager.clouds.registry import find_cloud
from nodemanager.config.kinds import Kind

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-nodes-in-a-cloud.md"
EXAMPLES = re.findall(r"^```ini\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
OPTIONS: Mapping[str, Mapping[str, Kind]] = {
    "gce": gce_body.OPTIONS,
    "azure": azure_body.OPTIONS,
    "openstack": openstack_body.OPTIONS,
    "ec2": ec2_options.CREATE_OPTIONS,
}


def read(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: read(text)["Cloud"]["provider"])
def test_the_example_is_all_that_a_driver_needs(text: str, tmp_path: Path) -> None:
    parser = read(text)
    credentials, listed, created = (
        dict(parser[name]) if name in parser else {}
        for name in ("Cloud Credentials", "Cloud List", "Cloud Create")
    )
    context = CloudContext("zzzzz", tmp_path, credentials, listed, created)
    cloud = find_cloud(parser["Cloud"]["provider"])(context)
    assert isinstance(cloud, LibcloudCloud)


def test_there_is_an_example_for_each() -> None:
    providers = {read(text)["Cloud"]["provider"] for text in EXAMPLES}
    assert providers == {*OPTIONS, "dummy"}


@pytest.mark.parametrize("provider", OPTIONS)
def test_no_option_is_left_out(provider: str) -> None:
    shared, *sections = re.split(r"^## .*$", PAGE.read_text(), flags=re.MULTILINE)
    (section,) = [text for text in sections if f"provider = {provider}\n" in text]
    written = set(re.findall(r"`([a-z_]+)`", shared + section))
    assert set(OPTIONS[provider]) <= written
