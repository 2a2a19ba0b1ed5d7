"""Which class does `[Cloud] provider` mean?"""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from nodemanager.clouds.ec2 import Ec2
from nodemanager.clouds.registry import CLOUDS, find_cloud, known_clouds
from nodemanager.errors import ConfigError


def test_a_built_in_name_and_a_dotted_path() -> None:
    assert find_cloud("ec2") is Ec2
    assert find_cloud("nodemanager.clouds.ec2:Ec2") is Ec2


def test_the_drivers_of_the_house_are_known() -> None:
    house = {"ec2", "gce", "azure", "openstack", "dummy", "loopback", "fake"}
    assert set(known_clouds()) >= house
    points = {point.name: point.value for point in entry_points(group=CLOUDS.group)}
    assert points == dict(CLOUDS.built_in)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("ecc2", ["[Cloud] provider: there is no cloud 'ecc2'; did you mean ec2?"]),
        ("mysite_absent:Cloud", ["importing mysite_absent failed"]),
        ("nodemanager.clouds.base:Cloud", ["does not define", "create", "list"]),
        ("nodemanager.clouds.base:CloudNode", ["not a subclass of nodemanager.clouds.base.Cloud"]),
    ],
)
def test_an_error_says_what_was_tried(word: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        find_cloud(word)
    for part in words:
        assert part in str(caught.value)
