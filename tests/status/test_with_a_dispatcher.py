"""A real dispatcher, arbiter and fake cloud, seen and told through the management server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nodemanager.actors.supervisor import GetGroup
from nodemanager.actors.watchdog import Pulse
from nodemanager.api.story import Story, read_story
from nodemanager.clouds.actor import CloudActor
from nodemanager.clouds.fake import Fate
from nodemanager.clouds.messages import CloudCounts, GetCloudCounts
from nodemanager.errors import ApiRefused
from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import NodePhase
from nodemanager.status.look import DaemonLook, OperatorMessage
from nodemanager.status.records import DispatcherEntry, list_dispatchers
from nodemanager.status.server import ManagementServer
from nodemanager.status.settings import ManageSettings
from nodemanager.status.tally import work_counts
from nodemanager.testing import GIB, Harness, Program
from tests.status.daemon import TOKEN, Client

SIZES = (NodeSize("small", Resources(2, 4 * GIB, 100 * GIB), 0.1),)
DISPATCH = "/arvados/v1/dispatch"


class World:
    """A harness as a `Source`. The harness's actors have their turns in the thread that asks."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def look(self, timeout_seconds: float) -> DaemonLook:
        return DaemonLook(
            version="1.2.3",
            taken_at=self._harness.clock.wall(),
            dispatcher=self._harness.status(),
            nodes=self._harness.nodes_status(),
            clouds=self._counts(),
            work=work_counts(),
        )

    def pulse(self) -> Pulse:
        return Pulse(0.0, 15.0)

    def tell_nodes(self, message: OperatorMessage) -> None:
        self._harness.arbiter().tell(message)

    def story(self, uuid: str) -> Story:
        return read_story(self._harness.root, uuid)

    def log_tail(self, uuid: str) -> bytes:
        raise ApiRefused(f"{uuid}: no logs are kept here", 404)

    def dispatchers(self) -> tuple[DispatcherEntry, ...]:
        return list_dispatchers(self._harness.root)

    def _counts(self) -> CloudCounts:
        supervisor = self._harness.site.supervisor
        assert supervisor is not None
        for actor in supervisor.ask(GetGroup("site1"), block=True):
            if issubclass(actor.actor_class, CloudActor):
                counts: CloudCounts = actor.ask(GetCloudCounts(), block=True)
                return counts
        raise AssertionError


@pytest.fixture
def world() -> Iterator[Harness]:
    policy = NodePolicy(max_nodes=2, shutdown_windows=(0.0, 999999.0), max_boot_failures=2)
    with Harness(
        nodes=(),
        sizes=SIZES,
        node_policy=policy,
        program=lambda _: Program(seconds=300),
        # Less to do in each virtual second.
        claim_poll_seconds=10.0,
        scheduler_poll_seconds=10.0,
        cloud_poll_seconds=20.0,
    ) as made:
        yield made


@pytest.fixture
def operator(world: Harness) -> Iterator[Client]:
    settings = ManageSettings(port=0, management_token=TOKEN, max_nodes=2)
    server = ManagementServer(settings, World(world), world.clock, sample_seconds=0)
    server.start()
    yield Client(server.url, TOKEN)
    assert server.stop(10.0)


def later(world: Harness, operator: Client, seconds: float = 60) -> dict[str, Any]:
    """status.json after so long."""
    world.advance(seconds)
    answer = operator.get("/status.json")
    assert answer.status == 200, answer.body
    shown: dict[str, Any] = answer.body
    return shown


def test_a_node_from_the_first_wish_to_its_end(world: Harness, operator: Client) -> None:
    before = later(world, operator, 15)
    assert before["nodes"] == []
    assert before["wishlist"] == {"sizes": {}, "waiting": 0, "unplaced": 0}

    world.submit()
    world.advance_until(lambda: bool(world.nodes_status().nodes))
    booting = later(world, operator, 1)
    assert booting["dispatcher"]["containers"] == {"Locked": 1}
    assert booting["nodes_booting"] + booting["nodes_unpaired"] == 1
    assert any("boot 1 x small" in made["sentence"] for made in booting["history"])

    busy = later(world, operator, 120)
    assert (busy["nodes_busy"], busy["boots"]["joined"]) == (1, 1)
    assert busy["dispatcher"]["containers"] == {"Running": 1}
    [instance] = operator.get(f"{DISPATCH}/instances").body["items"]
    [container] = operator.get(f"{DISPATCH}/containers").body["items"]
    assert instance["worker_state"] == "running"
    assert instance["containers"] == [container["container"]["uuid"]]
    assert container["host"] == instance["host"]

    gone = later(world, operator, 400)
    assert gone["nodes"] == []
    assert gone["dispatcher"]["containers"] == {}


def test_why_containers_wait_is_told(world: Harness, operator: Client) -> None:
    for _ in range(5):
        world.submit(runtime_constraints={"vcpus": 2, "ram": 1 << 28})
    shown = later(world, operator, 120)
    assert shown["nodes_busy"] == 2
    assert shown["wishlist"]["unplaced"] == shown["wishlist"]["waiting"] > 0
    told = {line["sentence"]: line["containers"] for line in shown["dispatcher"]["reasons"]}
    assert told == {"max_nodes (2) is reached": shown["wishlist"]["waiting"]}


def test_a_container_from_group_to_story(world: Harness, operator: Client) -> None:
    for _ in range(5):
        request = world.submit(runtime_constraints={"vcpus": 2, "ram": 1 << 28})
    shown = later(world, operator, 120)
    waiting, running = shown["groups"]
    assert (waiting["token"], waiting["containers"], waiting["claimed"]) == ("node-limit", 3, 3)
    assert (running["token"], running["containers"]) == ("running", 2)
    assert shown["work"]["tokens"] == {"node-limit": 3}
    assert 100 < shown["work"]["oldest_wait_seconds"] <= 120
    [size] = shown["sizes"]
    assert (size["size"], size["here"], size["price"]) == ("small", 2, 0.1)

    rows = operator.get(f"/containers.json?group={waiting['id']}").body
    uuid = world.container_of(request)["uuid"]
    assert uuid in [row["uuid"] for row in rows["items"]]
    story = operator.get(f"/story.json?uuid={uuid}").body
    assert (story["request"], story["attempts"][0]["state"]) == (request, "Locked")
    assert story["reasons"][0]["token"] == "node-limit"
    [dispatcher] = operator.get("/dispatchers.json").body["items"]
    assert (dispatcher["name"], dispatcher["state"]) == ("site1", "alive")


def test_an_operator_holds_a_node_and_lets_it_go(world: Harness, operator: Client) -> None:
    world.submit()
    [node] = later(world, operator, 180)["nodes"]
    assert node["phase"] == NodePhase.BUSY
    answer = operator.post(f"{DISPATCH}/instances/hold?instance_id={node['cloud_id']}")
    assert (answer.status, answer.body) == (200, {"told": node["name"]})
    [held] = later(world, operator, 600)["nodes"]
    assert (held["behaviour"], held["phase"], held["takes_work"]) == ("hold", "draining", False)

    assert operator.post(f"{DISPATCH}/instances/run?instance_id={node['name']}").status == 200
    assert later(world, operator, 200)["nodes"] == []


def test_an_operator_kills_a_node(world: Harness, operator: Client) -> None:
    world.submit()
    [node] = later(world, operator, 180)["nodes"]
    path = f"{DISPATCH}/instances/kill?instance_id={node['cloud_id']}&reason=smoke"
    assert operator.post(path).status == 200
    shown = later(world, operator, 30)
    assert node["name"] not in [n["name"] for n in shown["nodes"] if n["phase"] != "destroying"]
    assert any("smoke" in made["sentence"] for made in shown["history"])


def test_the_brake_is_seen_and_released(world: Harness, operator: Client) -> None:
    sky = world.site.sky
    assert sky is not None
    sky.fates = lambda _machine: Fate(boot_seconds=None, vanish_after=40)
    world.submit()
    world.advance_until(lambda: bool(world.nodes_status().brake))
    shown = later(world, operator, 30)
    assert "booting is stopped" in shown["dispatcher"]["reasons"][0]["sentence"]
    assert shown["limits"]["brake"]
    assert shown["boots"]["disappeared"] == 2

    sky.fates = lambda _machine: Fate()
    assert operator.post(f"{DISPATCH}/brake/release").status == 200
    shown = later(world, operator, 200)
    assert shown["limits"]["brake"] == ""
    assert shown["nodes_busy"] == 1
