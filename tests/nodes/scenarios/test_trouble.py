"""Clouds, schedulers and APIs that fail, fall silent or tell less than the truth; machines that are not ours."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from nodemanager.clouds.base import CLUSTER_TAG, DISPATCHER_TAG, CloudState
from nodemanager.clouds.fake import Fate, SkyFault
from nodemanager.model import Node, NodeState
from nodemanager.nodes.messages import Kill
from nodemanager.reason import ReasonToken
from nodemanager.schedulers.fake import Fault
from nodemanager.testing import Program
from tests.nodes.scenarios.elastic import LARGE, SLOWLY, SMALL, Elastic, policy, sky_of

STALE = policy(poll_stale_after=120.0, idle_time=60.0)


class TestLostAnswers:
    def test_a_create_that_failed_and_succeeded_all_the_same(self) -> None:
        """Old node manager, 6702: it is found by its name."""
        with Elastic() as world:
            world.sky.upcoming[SkyFault.CREATE_AFTER] = 2
            requests = world.ask_for(2)
            world.complete(requests)
            assert world.creates == 2
            assert world.nodes_status().outcomes["joined"] == 2
            assert "refused" not in world.nodes_status().outcomes

    def test_one_that_no_list_shows_yet_turns_up_and_is_used(self) -> None:
        with Elastic() as world:
            world.advance(1)
            world.sky.upcoming[SkyFault.CREATE_AFTER] = 1
            # A list, the look by name after the create, and one more.
            world.sky.upcoming[SkyFault.SHORT_LIST] = 2
            request = world.ask()
            world.until(lambda: world.creates == 1)
            world.complete([request])
            world.until(lambda: world.deserted, 300)
            assert world.creates <= 2

    def test_a_destroy_that_failed_and_succeeded_all_the_same(self) -> None:
        """Old node manager, 11413: such nodes leaked."""
        with Elastic() as world:
            world.sky.upcoming[SkyFault.DESTROY_AFTER] = 1
            world.complete([world.ask()])
            world.until(lambda: world.deserted, 120)
            assert world.sky.calls("destroy") == 1

    def test_a_destroy_that_fails_is_tried_again(self) -> None:
        """Old node manager, 7713."""
        with Elastic() as world:
            world.sky.upcoming[SkyFault.DESTROY] = 3
            world.complete([world.ask()])
            world.until(lambda: world.deserted, 300)
            assert world.sky.calls("destroy") == 4


class TestOtherNames:
    def test_a_node_with_a_name_of_its_own_is_known_by_its_machine(self) -> None:
        """As Kubernetes names it by the cloud's private name, and says which machine it is."""
        with Elastic() as world:
            cluster, sky = world.site.cluster, world.sky
            names: dict[str, str] = {}

            def join(node: Node) -> None:
                machine = next(m for m in sky.machines.values() if m.host == node.name)
                names[node.name] = f"ip-{len(names)}"
                cluster.add_node(
                    replace(node, name=names[node.name], machine=machine.node.cloud_id)
                )

            sky.join = join
            sky.leave = lambda name: cluster.remove_node(names[name])
            world.complete([world.ask()])
            world.until(lambda: world.deserted, 300)
            assert world.creates == 1
            assert names
            drained = {call.names for call in world.site.scheduler.calls("drain")}
            assert drained <= {(name,) for name in names.values()}
            assert "lost" not in world.nodes_status().outcomes


class TestVanishing:
    @pytest.mark.parametrize("vanish_after", [3.0, 20.0, 45.0, 95.0])
    def test_a_machine_that_vanishes_is_replaced(self, vanish_after: float) -> None:
        """Before a list has shown it, while it boots, under its job, when it is idle."""
        with Elastic(node_policy=policy(idle_time=60.0)) as world:
            world.sky.fates = lambda machine: Fate(
                vanish_after=vanish_after if machine.node.cloud_id.endswith("1") else None
            )
            request = world.ask()
            world.complete([request])
            world.until(lambda: world.deserted, 600)
            outcomes = Counter(world.nodes_status().outcomes)
            assert outcomes["failed"] + outcomes["disappeared"] == 1, "it has not proved itself"
            assert world.creates == (1 if vanish_after > 90 else 2)

    def test_a_spot_machine_that_is_taken_away_takes_no_more_work(self) -> None:
        with Elastic() as world:
            world.program = lambda _record: Program(seconds=200)
            [first] = [world.ask(cores=8)]
            world.until(lambda: world.phases == {"busy": 1}, 60)
            [machine] = world.machines
            machine.node = replace(machine.node, state=CloudState.STOPPING)
            world.until(lambda: world.phases == {"destroying": 1}, 20)
            world.sky.vanish(machine.node.name)
            world.complete([first])
            assert world.creates == 2


class TestOthersMachines:
    def test_are_neither_counted_nor_touched(self) -> None:
        tags = {
            "of another cluster": {CLUSTER_TAG: "xxxxx", DISPATCHER_TAG: "site1"},
            "of another dispatcher": {CLUSTER_TAG: "zzzzz", DISPATCHER_TAG: "site2"},
            "of an old node manager": {CLUSTER_TAG: "zzzzz"},
            "of nobody": {},
        }
        with Elastic(node_policy=policy(max_nodes=1)) as world:
            for name, theirs in tags.items():
                world.sky.add_foreign(name, theirs)
            world.complete([world.ask()])
            world.until(lambda: not world.fleet, 300)
            world.advance(300)
            assert [machine.node.name for machine in world.machines] == list(tags)
            assert world.creates == 1
            touched = {name for _, method, name in world.sky.journal if method != "list"}
            assert touched.isdisjoint(tags)

    def test_two_sites_share_the_queue_and_not_their_nodes(self) -> None:
        with Elastic(node_policy=policy(max_nodes=2)) as world:
            other = world.add_site("site2")
            requests = world.ask_for(30)
            world.complete(requests)
            holders = {world.container_of(request)["dispatcher"] for request in requests}
            assert len(holders) == 2
            for site in (world.site, other):
                assert 1 <= sky_of(site).most <= 2
            world.until(lambda: not world.machines and not sky_of(other).machines, 300)

    def test_nodes_of_the_scheduler_that_are_not_ours_are_used_first(self) -> None:
        with Elastic() as world:
            world.site.cluster.add_node(
                Node("static", NodeState.IDLE, LARGE.resources, LARGE.resources)
            )
            world.complete(world.ask_for(4))
            assert world.creates == 0


def silence_the_cloud(world: Elastic) -> None:
    world.sky.upcoming[SkyFault.LIST] = 10**6


def silence_the_scheduler(world: Elastic) -> None:
    world.site.scheduler.faults.upcoming[Fault.POLL] = 10**6


def silence_the_nodes(world: Elastic) -> None:
    world.site.scheduler.faults.upcoming[Fault.NODES] = 10**6


def silence_the_api(world: Elastic) -> None:
    world.site.wire.down = True


def all_well(world: Elastic) -> None:
    world.sky.upcoming.clear()
    world.site.scheduler.faults.upcoming.clear()
    world.site.wire.down = False


@pytest.mark.parametrize(
    "silence", [silence_the_cloud, silence_the_scheduler, silence_the_nodes, silence_the_api]
)
class TestOldNews:
    """With anything older than poll_stale_after nothing is booted and nothing shut."""

    def test_nothing_is_booted(self, silence: Callable[[Elastic], None]) -> None:
        with Elastic(node_policy=replace(STALE, min_nodes=1)) as world:
            world.until(lambda: world.phases == {"idle": 1}, 60)
            silence(world)
            world.advance(200)
            assert world.nodes_status().stale
            world.sky.vanish(world.fleet[0].name)
            if silence is not silence_the_api:
                world.ask(cores=8)
            world.advance(600)
            assert world.creates == 1
            all_well(world)
            world.until(lambda: world.creates >= 2, 400)
            assert world.nodes_status().stale == ""

    def test_nothing_is_shut(self, silence: Callable[[Elastic], None]) -> None:
        with Elastic(node_policy=replace(STALE, idle_time=150.0)) as world:
            request = world.ask()
            world.until(lambda: world.phases == {"busy": 1}, 60)
            world.site.cluster.finish(world.container_of(request)["uuid"])
            world.until(lambda: world.phases == {"idle": 1}, 60)
            silence(world)
            world.advance(600)
            assert world.sky.calls("destroy") == 0
            assert len(world.machines) == 1
            all_well(world)
            world.until(lambda: world.deserted, 600)

    def test_one_that_never_joins_is_not_judged(self, silence: Callable[[Elastic], None]) -> None:
        with Elastic(node_policy=replace(STALE, boot_fail_after=300.0)) as world:
            world.all_fates(boot_seconds=None)
            world.ask()
            world.until(lambda: world.creates == 1)
            silence(world)
            world.advance(500)
            assert world.sky.calls("destroy") == 0 or silence is silence_the_api
            world.all_fates()
            all_well(world)
            world.until(lambda: world.sky.calls("destroy") >= 1, 400)


def test_what_waits_is_told_that_the_news_are_old() -> None:
    with Elastic(node_policy=STALE) as world:
        world.program = lambda _record: Program(seconds=3000)
        world.ask()
        world.until(lambda: world.phases == {"busy": 1}, 60)
        silence_the_cloud(world)
        world.advance(150)
        waiting = world.ask()
        world.advance(30)
        [reason] = world.reasons(waiting)
        assert reason.token is ReasonToken.NODES_UNKNOWN
        assert "no news of the cloud" in reason.sentence


def test_without_a_lease_nothing_is_created_or_destroyed() -> None:
    with Elastic(node_policy=policy(idle_time=60.0)) as world:
        world.complete([world.ask()])
        world.site.wire.down = True
        world.advance(700)
        calls = (world.creates, world.sky.calls("destroy"))
        world.arbiter().tell(Kill(world.fleet[0].name, "even then")) if world.fleet else None
        world.advance(300)
        assert (world.creates, world.sky.calls("destroy")) == calls
        world.site.wire.down = False
        world.until(lambda: world.deserted, 900)


def test_the_cloud_is_asked_too_often() -> None:
    """Old node manager, 11345, 12195: throttling is waited out, and everything comes in the end."""
    with Elastic() as world:
        world.sky.upcoming[SkyFault.RATE] = 25
        world.sky.retry_after = 7.0
        world.complete(world.ask_for(5))
        world.until(lambda: world.deserted, 300)
        assert world.nodes_status().outcomes["joined"] <= 5


@pytest.mark.parametrize("fault", [Fault.POLL, Fault.NODES, Fault.PARTIAL_POLL, Fault.DRAIN])
def test_a_scheduler_that_fails_now_and_then(fault: Fault) -> None:
    with Elastic() as world:
        world.site.scheduler.faults.upcoming[fault] = 5
        world.complete(world.ask_for(3))
        world.site.scheduler.faults.upcoming[fault] = 5
        world.until(lambda: world.deserted, 600)
        assert world.creates <= 4


def test_a_size_that_is_sold_out_is_replaced_by_the_next() -> None:
    with Elastic(node_policy=policy(max_price_factor=5.0)) as world:
        world.sky.no_capacity = {"small"}
        request = world.ask()
        world.until(lambda: world.booted_sizes == ["large"], 30)
        assert world.nodes_status().unavailable["small"] == pytest.approx(60, abs=5)
        world.complete([request])
        assert world.nodes_status().outcomes["refused"] == 1


def test_a_size_that_is_sold_out_is_asked_for_more_and_more_rarely() -> None:
    with Elastic(sizes=[SMALL], **SLOWLY) as world:
        world.sky.no_capacity = {"small"}
        request = world.ask()
        world.advance(4 * 3600)
        # 60 s, doubling up to half an hour: 60 + 120 + ... + 960 is half an hour, then every half hour.
        assert world.creates == pytest.approx(5 + 8, abs=2)
        [reason] = world.reasons(request)
        assert reason.token is ReasonToken.NO_CAPACITY
        assert reason.next_attempt_at is not None
        world.sky.no_capacity.clear()
        world.complete([request])
