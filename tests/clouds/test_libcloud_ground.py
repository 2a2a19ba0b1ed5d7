"""What every driver on libcloud has from the common ground, seen through libcloud drivers of our own making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from libcloud.common.base import ConnectionKey
from libcloud.common.exceptions import BaseHTTPError
from libcloud.compute.base import Node, NodeDriver, NodeSize
from libcloud.compute.types import NodeState

from nodemanager.clock import ManualClock
from nodemanager.clouds.base import CLUSTER_TAG, CloudContext, CloudNode, CloudState, NodeOrder
from nodemanager.clouds.errors import CloudError, Denied, Gone, NoCapacity
from nodemanager.clouds.libcloud import STATES, LibcloudCloud
from nodemanager.clouds.options import CREATE, Given, read_given
from nodemanager.clouds.sorting import Rule
from nodemanager.config.kinds import Integer, Kind
from nodemanager.errors import ConfigError
from nodemanager.model import Finding

HERE = __name__


class Nebula(NodeDriver):
    """A libcloud driver as somebody might write it."""

    name = "Nebula"
    connectionCls = ConnectionKey  # noqa: N815 (libcloud's name)
    failures: ClassVar[list[Exception]] = []
    """What the next calls raise; making a driver is one of them."""

    def __init__(
        self, key: str, region: str = "r1", *, fast: bool = False, tries: int = 3, **others: Any
    ) -> None:
        self.said = {"key": key, "region": region, "fast": fast, "tries": tries, **others}
        self._next()
        super().__init__(key, secure=False, host="127.0.0.1", port=9)  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self.is_willing = True

    def list_nodes(self) -> list[Node]:
        self._next()
        return self.nodes

    def list_sizes(self, location: Any = None) -> list[NodeSize]:
        self._next()
        return [
            NodeSize("1", "small", 2048, 20, 0, 0.5, self),
            NodeSize("2", "odd", 0, 0, 0, 0, self),
        ]

    def destroy_node(self, node: Node) -> bool:
        self._next()
        return self.is_willing

    def create_node(  # type: ignore[override]
        self, name: str, ex_zone: str | None = None, *, ex_fast: bool = False, ex_own: int = 0
    ) -> Node:
        raise NotImplementedError

    def _next(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class NebulaCloud(LibcloudCloud):
    """Ours, on top of it."""

    name = "nebula"
    libcloud_class = f"{HERE}:Nebula"
    credential_options: ClassVar[Mapping[str, Kind]] = {"tries": Integer(1)}
    error_table = (Rule(Gone, statuses=(404,)), Rule(NoCapacity, texts=("no room",)))
    late_seconds = 60.0

    def check(self) -> Sequence[Finding]:
        return [self.finding("nodes", lambda: f"{len(self.driver.list_nodes())} there")]

    def create(self, order: NodeOrder) -> CloudNode:
        raise NotImplementedError

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        raise NotImplementedError


def a_cloud(tmp_path: Path, driver_class: str = "", **credentials: str) -> NebulaCloud:
    Nebula.failures.clear()
    return NebulaCloud(
        CloudContext(
            "zzzzz",
            tmp_path,
            credentials={"key": "k", **credentials},
            driver_class=driver_class,
            timeout_seconds=17.0,
        )
    )


def a_node(
    cloud: NebulaCloud, state: NodeState = NodeState.RUNNING, cluster: str = "zzzzz"
) -> Node:
    extra = {"tags": {CLUSTER_TAG: cluster}}
    number = len(cloud.driver.nodes)
    made = Node(
        f"i{number}", f"n{number}", state, ["1.2.3.4"], ["10.0.0.1"], cloud.driver, extra=extra,
        created_at=datetime(2027, 1, 15, 8, tzinfo=UTC),
    )  # fmt: skip
    cloud.driver.nodes.append(made)
    return made


def test_the_libcloud_driver_is_made_when_it_is_needed_and_again_if_that_fails(
    tmp_path: Path,
) -> None:
    cloud = a_cloud(tmp_path)
    Nebula.failures += [TimeoutError("timed out"), BaseHTTPError(500, "oops")]
    for _ in range(2):
        with pytest.raises(CloudError, match="nebula: listing nodes"):
            cloud.list()
    assert cloud.list() == ()


def test_arguments_are_of_the_kind_that_the_library_wants(tmp_path: Path) -> None:
    cloud = a_cloud(tmp_path, region="r9", fast="yes", tries="5", port="80", secure="no")
    said = cloud.driver.said
    assert {name: said[name] for name in ("region", "fast", "tries", "port", "secure")} == {
        "region": "r9",
        "fast": True,
        "tries": 5,
        "port": 80,
        "secure": False,
    }
    assert said["timeout"] == 17.0
    assert a_cloud(tmp_path, timeout="3 s").driver.said["timeout"] == 3.0


def test_another_library_class_takes_the_place(tmp_path: Path) -> None:
    for path in (f"{HERE}.Nebula", f"{HERE}:Nebula"):
        assert isinstance(a_cloud(tmp_path, path).driver, Nebula)
    with pytest.raises(
        ConfigError, match=r"\[Cloud\] driver_class: .* has no Nebola; did you mean Nebula"
    ):
        a_cloud(tmp_path, f"{HERE}.Nebola")
    with pytest.raises(ConfigError, match="not a class"):
        a_cloud(tmp_path, f"{HERE}:HERE")


def test_a_missing_argument_is_denied_with_its_name(tmp_path: Path) -> None:
    Nebula.failures.clear()
    cloud = NebulaCloud(CloudContext("zzzzz", tmp_path))
    with pytest.raises(Denied, match=r"\[Cloud Credentials\].*'key'"):
        cloud.list()


def test_the_librarys_own_retries_are_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBCLOUD_RETRY_FAILED_HTTP_REQUESTS", "1")
    cloud = a_cloud(tmp_path)
    tried = []

    def refuse(**_: Any) -> None:
        tried.append(1)
        raise ConnectionRefusedError

    monkeypatch.setattr(cloud.driver.connection, "_retryable_request", refuse)
    with pytest.raises(CloudError), cloud.talking("trying"):
        cloud.driver.connection.request("/")
    assert tried == [1]


def test_only_our_nodes_that_are_not_gone_are_listed(tmp_path: Path) -> None:
    cloud = a_cloud(tmp_path)
    ours = a_node(cloud)
    a_node(cloud, cluster="xyzzy")
    a_node(cloud, NodeState.TERMINATED)
    (listed,) = cloud.list()
    assert listed == CloudNode(
        cloud_id="i0",
        name=ours.name,
        instance_type="",
        state=CloudState.RUNNING,
        tags={CLUSTER_TAG: "zzzzz"},
        created_at=1_800_000_000.0,
        addresses=("10.0.0.1", "1.2.3.4"),
    )


def test_every_state_of_the_library_has_a_meaning(tmp_path: Path) -> None:
    words = {state.value for state in NodeState}
    assert words - STATES.keys() == {"unknown"}
    cloud = a_cloud(tmp_path)
    assert cloud.state_of(a_node(cloud, NodeState.UNKNOWN)) is CloudState.UNKNOWN
    assert cloud.state_of(a_node(cloud, NodeState.STOPPED)) is CloudState.BROKEN


def test_destroying_what_is_gone_is_no_error_unless_it_is_new(tmp_path: Path) -> None:
    cloud = a_cloud(tmp_path)
    a_node(cloud)
    (node,) = cloud.list()
    cloud.clock = clock = ManualClock(1_800_000_000.0 + 59)
    Nebula.failures.append(BaseHTTPError(404, "no such node"))
    with pytest.raises(CloudError, match="may not show yet"):
        cloud.destroy(node)
    clock.advance(1)
    Nebula.failures.append(BaseHTTPError(404, "no such node"))
    cloud.destroy(node)


def test_a_destruction_that_was_not_done_is_an_error(tmp_path: Path) -> None:
    cloud = a_cloud(tmp_path)
    a_node(cloud)
    (node,) = cloud.list()
    cloud.driver.is_willing = False
    with pytest.raises(CloudError, match="did not do it"):
        cloud.destroy(node)


def test_sizes_are_in_our_units(tmp_path: Path) -> None:
    small, odd = a_cloud(tmp_path).sizes()
    assert (small.ram_bytes, small.disk_bytes, small.price) == (2 << 30, 20 * 10**9, 0.5)
    assert (odd.price, odd.cores) == (None, None)


def test_a_finding_is_what_was_seen_or_what_went_wrong(tmp_path: Path) -> None:
    cloud = a_cloud(tmp_path)
    assert cloud.check() == [Finding("nodes", "0 there")]
    Nebula.failures.append(Exception("no room"))
    (finding,) = cloud.check()
    assert finding.problem == "nebula: looking at nodes: no room"


def test_after_closing_a_new_driver_is_made(tmp_path: Path) -> None:
    cloud = a_cloud(tmp_path)
    before = cloud.driver
    cloud.close()
    cloud.close()
    assert cloud.driver is not before


def read(given: Mapping[str, str]) -> Given:
    known = {"size": Integer(1), "ex_zone": Kind()}
    return read_given(
        CREATE, "the x driver", given, known, passed_to=Nebula.create_node, ours=["ex_own"]
    )


def test_options_are_named_passed_on_or_tags() -> None:
    given = {"SIZE": "3", "ex_zone": "z", "ex_fast": "yes", "tag_Project": "a: b"}
    assert read(given) == Given(
        named={"size": 3, "ex_zone": "z"},
        passed={"ex_fast": True},
        tags={"Project": "a: b"},
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ex_fats": "yes"}, "[Cloud Create] ex_fats: the x driver has no such option; did you mean ex_fast?"),
        ({"ex_fast": "maybe"}, "[Cloud Create] ex_fast: expected yes or no"),
        ({"name": "x"}, "[Cloud Create] name: the x driver has no such option"),
        ({"ex_own": "x"}, "[Cloud Create] ex_own: the x driver has no such option"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_used_is_named(given: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(given)
    assert words in str(caught.value)
