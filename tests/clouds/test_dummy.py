"""The cloud without machines: does it behave like one?"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nodemanager.clock import ManualClock
from nodemanager.clouds.base import BEHAVIOUR_TAG, CloudState
from nodemanager.clouds.dummy import Dummy
from nodemanager.clouds.errors import Denied, Gone
from nodemanager.clouds.registry import find_cloud
from nodemanager.errors import ConfigError
from tests.clouds.orders import TAGS, context, order, size


@pytest.fixture
def cloud(tmp_path: Path) -> Dummy:
    return Dummy(context(tmp_path, {}, {}, {}))


def test_is_found_by_its_name() -> None:
    assert find_cloud("dummy") is Dummy


def test_the_machines_that_are_there_from_the_start_are_foreign(cloud: Dummy) -> None:
    with cloud.talking("looking"):
        assert len(cloud.driver.list_nodes()) == 2
    assert list(cloud.list()) == []


def test_credentials_say_how_many_foreign_machines_there_are(tmp_path: Path) -> None:
    cloud = Dummy(context(tmp_path, {"creds": "5"}, {}, {}))
    assert len(cloud.driver.list_nodes()) == 5
    assert list(cloud.list()) == []


def test_what_is_created_is_listed_with_all_that_was_given(tmp_path: Path) -> None:
    cloud = Dummy(context(tmp_path, {}, {}, {"tag_group": "genomics"}))
    cloud.clock = ManualClock(1_800_000_000.0)
    made = cloud.create(order(size("Medium")))
    (listed,) = cloud.list()
    assert listed == made
    assert listed.name == "zzzzz-compute-x1"
    assert listed.instance_type == "Medium"
    assert listed.state is CloudState.RUNNING
    assert listed.tags == {**TAGS, "group": "genomics"}
    assert listed.created_at == 1_800_000_000.0


def test_creating_twice_makes_one(cloud: Dummy) -> None:
    assert cloud.create(order(size("Medium"))) == cloud.create(order(size("Medium")))
    assert len(cloud.list()) == 1


def test_an_id_is_never_given_again(cloud: Dummy) -> None:
    ids = set()
    for n in range(5):
        node = cloud.create(order(size("1"), f"n{n}"))
        ids.add(node.cloud_id)
        cloud.destroy(node)
    assert len(ids) == 5
    assert list(cloud.list()) == []


def test_a_size_that_does_not_exist_is_denied(cloud: Dummy) -> None:
    with pytest.raises(Denied, match="no size 'Giant'"):
        cloud.create(order(size("Giant")))


def test_destroying_what_is_gone_is_no_error(cloud: Dummy) -> None:
    node = cloud.create(order(size("Big")))
    cloud.destroy(node)
    cloud.destroy(node)
    assert list(cloud.list()) == []


def test_set_tags_changes_these_and_leaves_the_others(cloud: Dummy) -> None:
    node = cloud.create(order(size("Big")))
    cloud.set_tags(node, {BEHAVIOUR_TAG: "hold"})
    assert cloud.list()[0].tags == {**TAGS, BEHAVIOUR_TAG: "hold"}


def test_tagging_what_is_gone_says_so(cloud: Dummy) -> None:
    node = cloud.create(order(size("Big")))
    cloud.destroy(node)
    with pytest.raises(Gone, match="zzzzz-compute-x1"):
        cloud.set_tags(node, {BEHAVIOUR_TAG: "hold"})


def test_all_drivers_of_a_daemon_see_the_same_machines(tmp_path: Path) -> None:
    first, second = (Dummy(context(tmp_path, {}, {}, {})) for _ in range(2))
    node = first.create(order(size("Big")))
    first.close()
    assert list(second.list()) == [node]
    second.destroy(node)
    assert list(first.list()) == []


def test_another_daemon_sees_none_of_them(cloud: Dummy, tmp_path: Path) -> None:
    cloud.create(order(size("Big")))
    assert list(Dummy(context(tmp_path / "other", {}, {}, {})).list()) == []


def test_several_threads_may_create_at_a_time(tmp_path: Path) -> None:
    def create(n: int) -> None:
        cloud = Dummy(context(tmp_path, {}, {}, {}))
        for m in range(20):
            cloud.create(order(size("Small"), f"n{n}-{m}"))

    threads = [threading.Thread(target=create, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = Dummy(context(tmp_path, {}, {}, {})).list()
    assert len({node.cloud_id for node in listed}) == len({node.name for node in listed}) == 100


def test_sizes_are_libclouds(cloud: Dummy) -> None:
    sizes = {size.name: size for size in cloud.sizes()}
    assert sizes["Big"].ram_bytes == 4 << 30
    assert sizes["Big"].price == 32.0
    assert sizes["Big"].cores is None


def test_check_finds_everything_well(cloud: Dummy) -> None:
    assert not any(finding.problem for finding in cloud.check())


def test_an_unknown_option_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[Cloud Credentials\] cred: .*did you mean creds"):
        Dummy(context(tmp_path, {"cred": "5"}, {}, {}))
    with pytest.raises(ConfigError, match=r"\[Cloud Create\] image"):
        Dummy(context(tmp_path, {}, {}, {"image": "x"}))
