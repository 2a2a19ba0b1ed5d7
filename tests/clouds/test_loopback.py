"""The cloud that is this machine: what it gives, what it refuses, and how it fails when told to."""

from __future__ import annotations

import re
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodemanager.clock import ManualClock
from nodemanager.clouds.base import (
    CLUSTER_TAG,
    HOST_TAG,
    CloudContext,
    CloudNode,
    CloudState,
    NodeOrder,
)
from nodemanager.clouds.errors import CloudError, Denied, Gone, NoCapacity, QuotaExceeded
from nodemanager.clouds.loopback import Loopback
from nodemanager.clouds.loopback_options import OPTIONS
from nodemanager.clouds.make import make_cloud
from nodemanager.clouds.registry import find_cloud
from nodemanager.config import load
from nodemanager.errors import ConfigError
from nodemanager.model import NodeSize, NodeState, Resources
from nodemanager.nodes.catalogue import read_catalogue
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.conformance import Bench
from nodemanager.schedulers.local import LocalScheduler
from nodemanager.schedulers.shares import Shares

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "try-nodes-on-one-machine.md"
GIB = 1 << 30
SMALL = NodeSize("small", Resources(1, GIB), 0.1)
LARGE = NodeSize(
    "large", Resources(2, 2 * GIB), 0.2, "big.one", preemptible=True, partitions=("a", "b")
)


class Site:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.options = {"cores": "4", "ram": "6 GiB"}

    def cloud(self, cluster_id: str = "zzzzz", **options: str) -> Loopback:
        """A new driver object, as a daemon makes when it starts."""
        given = {**self.options, **options}
        context = CloudContext(cluster_id, self.path / "loopback", create_options=given)
        return Loopback(context, self.clock)

    @property
    def shares(self) -> Shares:
        return Shares(self.path / "loopback")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def order(name: str, size: NodeSize = SMALL, **tags: str) -> NodeOrder:
    return NodeOrder(name, size, {CLUSTER_TAG: "zzzzz", **tags})


def names(cloud: Loopback) -> list[str]:
    return [node.name for node in cloud.list()]


# What it gives.


def test_it_is_found_by_its_name() -> None:
    assert find_cloud("loopback") is Loopback
    assert Loopback.in_process
    assert not Loopback.pings


def test_a_machine_is_listed_as_it_was_ordered_also_after_a_restart(site: Site) -> None:
    made = site.cloud().create(order("m1", LARGE, role="test"))
    assert made == CloudNode(
        cloud_id=made.cloud_id,
        name="m1",
        instance_type="big.one",
        state=CloudState.RUNNING,
        tags={CLUSTER_TAG: "zzzzz", "role": "test"},
        created_at=site.clock.wall(),
        addresses=("127.0.0.1",),
    )
    assert site.cloud().list() == [made]
    [share] = site.shares.read()
    assert (share.resources, share.partitions, share.preemptible) == (
        LARGE.resources,
        ("a", "b"),
        True,
    )


def test_it_joins_after_its_boot_time_under_its_host_name(site: Site) -> None:
    site.cloud(boot_time="3 s").create(order("m1", SMALL, **{HOST_TAG: "node-1"}))
    [share] = site.shares.read()
    assert (share.host, share.breaks_at) == ("node-1", None)
    assert not share.has_joined(site.clock.wall() + 2.9)
    assert share.has_joined(site.clock.wall() + 3)


def test_a_name_is_made_once(site: Site) -> None:
    cloud = site.cloud()
    assert cloud.create(order("m1")) == cloud.create(order("m1", LARGE))
    assert names(cloud) == ["m1"]


def test_machines_are_listed_in_the_order_of_their_creation(site: Site) -> None:
    cloud = site.cloud()
    for name in ("c", "a", "b"):
        cloud.create(order(name))
        site.clock.advance(1)
    assert names(cloud) == ["c", "a", "b"]


def test_destroying_gives_back_and_can_be_repeated(site: Site) -> None:
    cloud = site.cloud()
    first = cloud.create(order("m1"))
    cloud.destroy(first)
    cloud.destroy(first)
    assert names(cloud) == []
    cloud.create(order("m1"))
    cloud.destroy(first)
    assert names(cloud) == ["m1"], "another machine that has its name now"


def test_tags_are_set_beside_those_there_are(site: Site) -> None:
    cloud = site.cloud()
    node = cloud.create(order("m1", one="1", two="2"))
    cloud.set_tags(node, {"two": "zwei", HOST_TAG: "node-1"})
    [found] = cloud.list()
    assert found.tags == {CLUSTER_TAG: "zzzzz", "one": "1", "two": "zwei", HOST_TAG: "node-1"}
    assert site.shares.read()[0].host == "node-1"
    cloud.destroy(node)
    with pytest.raises(Gone, match="no machine m1"):
        cloud.set_tags(node, {})


def test_machines_of_other_clusters_are_left_alone(site: Site) -> None:
    theirs = site.cloud("yyyyy").create(NodeOrder("m1", SMALL, {CLUSTER_TAG: "yyyyy"}))
    ours = site.cloud()
    assert names(ours) == []
    for action in (
        lambda: ours.destroy(theirs),
        lambda: ours.set_tags(theirs, {}),
        lambda: ours.create(order("m1")),
    ):
        with pytest.raises(Denied, match="another cluster"):
            action()
    assert names(site.cloud("yyyyy")) == ["m1"]


@pytest.mark.parametrize("name", ["", "../m1", "a" * 64, "a.b", "-a", "a\n"])
def test_a_name_that_cannot_be_a_file_is_denied(site: Site, name: str) -> None:
    with pytest.raises(Denied, match="letters, digits and dashes"):
        site.cloud().create(order(name))


# What it refuses.


def test_cores_and_ram_are_given_once(site: Site) -> None:
    cloud = site.cloud()
    cloud.create(order("m1", LARGE))
    first = cloud.create(order("m2", LARGE))
    with pytest.raises(QuotaExceeded, match="this machine has 4 cores, 4 are given to nodes"):
        cloud.create(order("m3"))
    cloud.destroy(first)
    fat = replace(SMALL, resources=Resources(1, 5 * GIB))
    with pytest.raises(QuotaExceeded, match="has 6 GiB of RAM to give, 2 GiB is given to nodes"):
        cloud.create(order("m3", fat))
    cloud.create(order("m3"))
    assert names(cloud) == ["m1", "m3"]


def test_without_options_there_is_what_the_machine_has(site: Site) -> None:
    site.options = {}
    whole = replace(SMALL, resources=Resources(10_000, 1))
    with pytest.raises(
        NoCapacity, match="size small is larger than this machine: cores: wants 10000"
    ):
        site.cloud().create(order("m1", whole))


def test_a_size_larger_than_the_machine_cannot_be_had(site: Site) -> None:
    huge = NodeSize("huge", Resources(5, GIB, gpus=1), 1.0)
    words = "size huge is larger than this machine: cores: wants 5 of 4, GPUs: wants 1 of 0"
    with pytest.raises(NoCapacity, match=words):
        site.cloud().create(order("m1", huge))


def test_a_quota_counts_machines(site: Site) -> None:
    cloud = site.cloud(quota="2")
    nodes = [cloud.create(order(name)) for name in ("m1", "m2")]
    with pytest.raises(QuotaExceeded, match="at most 2 machines, 2 are there"):
        cloud.create(order("m3"))
    cloud.destroy(nodes[0])
    cloud.create(order("m3"))


@pytest.mark.parametrize("word", ["large", "big.one"])
def test_a_size_can_be_out_of_stock(site: Site, word: str) -> None:
    cloud = site.cloud(no_capacity=f"other, {word}")
    with pytest.raises(NoCapacity, match="no machine of size large is left"):
        cloud.create(order("m1", LARGE))
    cloud.create(order("m2"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 5), st.integers(1, 7)),
        max_size=25,
    )
)
def test_never_more_is_given_than_there_is(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, int, int]]
) -> None:
    site = Site(tmp_path_factory.mktemp("site"))
    site.shares.make_directory()
    made: dict[str, CloudNode] = {}
    for is_order, number, cores, ram in steps:
        name = f"m{number}"
        if is_order:
            try:
                size = NodeSize("x", Resources(cores, ram * GIB), 1.0)
                made[name] = site.cloud().create(order(name, size))
            except (QuotaExceeded, NoCapacity):
                pass
        elif name in made:
            site.cloud().destroy(made.pop(name))
        given = [share.resources for share in site.shares.read()]
        assert sum(r.cores for r in given) <= 4
        assert sum(r.ram_bytes for r in given) <= 6 * GIB
        assert sorted(names(site.cloud())) == sorted(made)


def test_side_by_side_they_give_no_more_than_there_is(site: Site) -> None:
    def order_all(number: int) -> None:
        cloud = site.cloud()
        for n in range(5):
            try:
                cloud.create(order(f"m{number}-{n}"))
            except QuotaExceeded:
                denied.append(n)

    denied: list[int] = []
    threads = [threading.Thread(target=order_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(site.cloud())) == 4
    assert len(denied) == 16


# How it fails when told to.


def refused(cloud: Loopback) -> dict[str, str]:
    """Which of two hundred orders fail, with the words."""
    failed: dict[str, str] = {}
    for n in range(200):
        try:
            cloud.create(order(f"m{n}"))
        except CloudError as error:
            failed[f"m{n}"] = str(error)
    return failed


def test_creates_fail_as_often_as_told_and_make_nothing(site: Site) -> None:
    site.options = {"cores": "1000", "ram": "1000 GiB", "fail_create": "0.3"}
    failed = refused(site.cloud())
    assert 40 <= len(failed) <= 80
    assert all(f"creating {name} fails, as fail_create" in words for name, words in failed.items())
    assert set(names(site.cloud())) == {f"m{n}" for n in range(200)} - set(failed)
    # The same for another driver object, or after a restart; another seed has other fates.
    for name in names(site.cloud()):
        site.shares.remove(name)
    assert refused(site.cloud()) == failed
    assert refused(site.cloud(seed="other")).keys() != failed.keys()


def test_some_never_join_and_some_break(site: Site) -> None:
    options = {"never_join": "0.25", "break_after": "1 min", "break_share": "0.5"}
    site.options = {"cores": "1000", "ram": "1000 GiB"}
    for n in range(200):
        site.cloud(**options).create(order(f"m{n}"))
    shares = site.shares.read()
    joining = [share for share in shares if share.joins_at is not None]
    breaking = [share for share in joining if share.breaks_at is not None]
    assert 130 <= len(joining) <= 170
    assert 50 <= len(breaking) <= 100
    assert {share.breaks_at for share in breaking} == {site.clock.wall() + 2 + 60}
    assert all(share.breaks_at is None for share in shares if share.joins_at is None)
    fates = {share.name: (share.joins_at, share.breaks_at) for share in shares}
    for share in shares:
        site.shares.remove(share.name)
    for n in range(200):
        site.cloud(**options).create(order(f"m{n}"))
    assert {s.name: (s.joins_at, s.breaks_at) for s in site.shares.read()} == fates


def test_all_break_when_no_share_is_given(site: Site) -> None:
    site.cloud(break_after="0 s").create(order("m1"))
    assert site.shares.read()[0].breaks_at == site.clock.wall() + 2


def test_a_file_that_cannot_be_read_proves_nothing(site: Site) -> None:
    cloud = site.cloud()
    node = cloud.create(order("m1"))
    path = site.path / "loopback" / "m1.json"
    path.write_text("{")
    for action in (
        cloud.list,
        lambda: cloud.create(order("m2")),
        lambda: cloud.destroy(node),
        lambda: cloud.set_tags(node, {}),
    ):
        with pytest.raises(CloudError, match=r"cannot read .*m1\.json.*repair or remove it"):
            action()
    assert "m1.json" in cloud.check()[0].problem


def test_a_directory_that_cannot_be_is_an_error(site: Site) -> None:
    (site.path / "loopback").touch()
    with pytest.raises(CloudError, match="loopback"):
        site.cloud().list()
    assert site.cloud().check()[0].problem


def test_a_directory_that_goes_away_is_not_one_without_machines(site: Site) -> None:
    cloud = site.cloud()
    cloud.create(order("m1"))
    (site.path / "loopback").rename(site.path / "elsewhere")
    with pytest.raises(CloudError, match="No such file or directory"):
        cloud.list()


# The options.


def test_check_says_what_there_is(site: Site) -> None:
    [found] = site.cloud().check()
    assert "4 cores and 6 GiB of RAM to give to nodes" in found.detail
    assert found.problem == ""
    assert not (site.path / "loopback").exists(), "nothing is changed"


@pytest.mark.parametrize(
    ("section", "options", "words"),
    [
        ("create_options", {"boot": "1"}, r"\[Cloud Create\] boot: .* did you mean boot_time\?"),
        ("create_options", {"never_join": "2"}, r"\[Cloud Create\] never_join: .*found '2'"),
        ("create_options", {"quota": "-1"}, r"\[Cloud Create\] quota"),
        ("credentials", {"key": "x"}, r"\[Cloud Credentials\] key: the loopback cloud has no such"),
        ("list_options", {"quota": "1"}, r"\[Cloud List\] quota: the loopback cloud has no such"),
    ],
)
def test_a_wrong_option_is_named(
    tmp_path: Path, section: str, options: dict[str, str], words: str
) -> None:
    context = CloudContext("zzzzz", tmp_path, **{section: options})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=words):
        Loopback(context)


def test_the_page_about_it_shows_a_configuration_that_works(tmp_path: Path) -> None:
    page = PAGE.read_text()
    [text] = re.findall(r"^```ini\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    path = tmp_path / "nodemanager.cfg"
    path.write_text(text)
    config = load(path, {})
    cloud = make_cloud(config)
    assert isinstance(cloud, Loopback)
    sizes = read_catalogue(config, cloud.sizes).sizes
    assert {size.name: size.resources.cores for size in sizes} == {"small": 1, "large": 2}
    told = set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)?", page, re.MULTILINE))
    assert {name for names in told for name in names if name} == set(OPTIONS)


def test_sizes_are_for_the_config_file_to_say(site: Site) -> None:
    assert site.cloud().sizes() == ()


# With the local scheduler.


@pytest.mark.processes
def test_jobs_run_on_what_was_ordered_and_end_with_it(site: Site, tmp_path: Path) -> None:
    cloud = site.cloud(boot_time="20 s")
    options = {"cores": "4", "kill_grace": "1 s", "machines": str(tmp_path / "loopback")}
    (tmp_path / "shared").mkdir()
    bench = Bench(
        lambda cluster_id: LocalScheduler(
            SchedulerContext(cluster_id, tmp_path / "scheduler", options), site.clock
        ),
        tmp_path / "shared",
        sys.executable,
        30.0,
        settle=lambda: time.sleep(0.01),
    )
    size = NodeSize("small", Resources(1, GIB, GIB), 0.1)
    node = cloud.create(order("m1", size, **{HOST_TAG: "node-1"}))
    spec = bench.holder(Resources(1, 64 << 20, 64 << 20))
    bench.submit(spec)
    bench.waiting(spec)
    site.clock.advance(20)
    bench.started(spec)
    [found] = bench.scheduler.nodes()
    assert (found.name, found.state) == ("node-1", NodeState.BUSY)
    assert found.free == Resources(0, GIB - (64 << 20), GIB - (64 << 20))
    cloud.destroy(node)
    assert bench.end(spec) == End(EndKind.NODE_LOST, detail="node-1 was destroyed")
    assert bench.scheduler.nodes() == ()
    bench.scheduler.close()
