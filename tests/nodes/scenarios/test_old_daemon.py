"""What the old node manager's test_daemon asked of its daemon, asked of the arbiter and its node actors.

Each test says which of the 50 it stands for. Without a meaning here are: clean_shutdown_waits_for_node_setup_finish
(the daemon ends at once; whoever comes next takes up what was being made, see test_restarts), and
select_stale_node_records_with_slot_numbers_first (the API's `nodes` gives out records and slots itself).
"""

import pykka
import pytest

from nodemanager.clouds.base import CloudState
from nodemanager.clouds.fake import FakeMachine, Fate, SkyFault
from nodemanager.model import NodeState
from nodemanager.nodes.messages import Behave, Dissolve, NodeStanding
from nodemanager.nodes.node import NodeActor
from nodemanager.nodes.states import Behaviour
from nodemanager.schedulers.fake import Fault
from nodemanager.testing import GIB, Program
from tests.nodes.scenarios.elastic import LARGE, SMALL, Elastic, policy

FOR_EVER = Program(seconds=None)
PATIENT = {"idle_time": 300.0}


def busy(world: Elastic, count: int = 1, cores: int = 2) -> list[str]:
    """So many nodes that work for as long as the test does not end their jobs."""
    world.program = lambda _record: FOR_EVER
    requests = world.ask_for(count, cores)
    world.until(lambda: world.phases["busy"] == count, 120)
    return requests


def state_of(node: NodeStanding) -> NodeState | None:
    return None if node.node is None else node.node.state


def end_job(world: Elastic, request: str) -> None:
    world.site.cluster.finish(world.container_of(request)["uuid"])


class TestBooting:
    def test_easy_node_creation(self) -> None:
        with Elastic() as world:
            world.ask()
            world.advance(10)
            assert [machine.size.name for machine in world.machines] == ["small"]
            [machine] = world.machines
            tags = machine.node.tags
            assert tags["arvados-cluster"] == "zzzzz"
            assert tags["arvados-dispatcher"] == "site1"
            assert tags["arvados-node-size"] == "small"
            assert float(tags["booted_at"]) == pytest.approx(world.clock.wall(), abs=10)

    def test_node_count_satisfied(self) -> None:
        with Elastic(node_policy=policy(**PATIENT)) as world:
            world.complete([world.ask()])
            world.complete([world.ask()])
            assert world.creates == 1

    def test_booting_nodes_counted(self) -> None:
        with Elastic() as world:
            world.ask_for(2)
            world.advance(25)
            assert world.phases == {"booting": 2}
            world.ask()
            world.advance(4)
            assert world.phases == {"booting": 3}

    def test_boot_new_node_when_all_nodes_busy(self) -> None:
        with Elastic() as world:
            busy(world)
            world.ask()
            world.until(lambda: world.phases == {"busy": 2}, 60)

    def test_boot_new_node_below_min_nodes(self) -> None:
        """Of the cheapest size, and beside them what is wished for."""
        with Elastic(node_policy=policy(min_nodes=2)) as world:
            world.until(lambda: world.booted_sizes == ["small", "small"], 10)
            world.ask(cores=8)
            world.until(lambda: world.booted_sizes == ["large", "small", "small"], 20)

    def test_no_new_node_when_ge_min_nodes_busy(self) -> None:
        with Elastic(node_policy=policy(min_nodes=2)) as world:
            busy(world, 3)
            world.advance(300)
            assert world.phases == {"busy": 3}

    def test_no_new_node_when_max_nodes_busy(self) -> None:
        with Elastic(node_policy=policy(max_nodes=2)) as world:
            busy(world, 2)
            world.ask()
            world.advance(300)
            assert world.creates == 2

    def test_new_node_when_booted_node_not_usable(self) -> None:
        with Elastic(node_policy=policy(boot_fail_after=120.0)) as world:
            world.all_fates(boot_seconds=None)
            request = world.ask()
            world.advance(100)
            assert world.creates == 1
            world.all_fates()
            world.complete([request])
            assert world.creates == 2
            assert world.nodes_status().outcomes["failed"] == 1

    def test_node_that_pairs_not_considered_failed_boot(self) -> None:
        """Also node_that_pairs_busy_not_considered_failed_boot."""
        with Elastic(node_policy=policy(boot_fail_after=60.0, idle_time=300.0)) as world:
            world.all_fates(boot_seconds=50.0)
            request = world.ask()
            world.complete([request])
            world.advance(200)
            assert world.phases == {"idle": 1}
            assert "failed" not in world.nodes_status().outcomes

    def test_booting_nodes_shut_down(self) -> None:
        """Also all_booting_nodes_tried_to_shut_down: what the cloud was not asked for yet is not asked for."""
        with Elastic() as world:
            world.advance(5)
            world.sky.upcoming[SkyFault.RATE] = 2
            world.sky.retry_after = 60.0
            requests = world.ask_for(3)
            world.until(lambda: world.phases == {"asked": 3}, 30)
            for request in requests:
                world.cancel(request)
            world.until(lambda: not world.fleet, 30)
            world.advance(120)
            assert world.machines == []
            assert world.nodes_status().outcomes == {"aborted": 3}


class TestMissingNodes:
    """What the old manager calls missing had joined and is gone from the scheduler: here it is lost."""

    def test_dont_count_missing_as_busy(self) -> None:
        """A lost node is no capacity: another is booted in its place."""
        with Elastic(node_policy=policy(shutdown_windows=(60, 1))) as world:
            [request] = busy(world)
            world.site.cluster.fail_node(world.fleet[0].host)
            world.program = lambda _record: Program(seconds=10)
            world.complete([request])
            assert world.phases["lost"] == 1
            assert world.creates == 2

    def test_missing_counts_towards_max(self) -> None:
        with Elastic(node_policy=policy(max_nodes=1, shutdown_windows=(10, 9999))) as world:
            [request] = busy(world)
            world.site.cluster.fail_node(world.fleet[0].host)
            world.program = lambda _record: Program(seconds=10)
            world.advance(300)
            assert world.phases == {"lost": 1}
            assert world.creates == 1
            world.complete([request])

    def test_excess_counts_missing(self) -> None:
        """Also missing_shutdown_not_excess: a lost node does not fill up min_nodes, so the idle one stays."""
        with Elastic(node_policy=policy(min_nodes=1, shutdown_windows=(60, 1))) as world:
            requests = busy(world, 2)
            lost, idle = world.fleet
            world.site.cluster.fail_node(lost.host)
            world.cancel(requests[0])
            for request in requests:
                end_job(world, request)
            world.advance(600)
            assert world.phases["lost"] == 1
            assert idle.name in {node.name for node in world.fleet if node.phase == "idle"}


class TestLists:
    """Lists of the cloud come early, late, or lack what is there."""

    def test_no_duplication_when_booting_node_listed_fast(self) -> None:
        """Also no_duplication_when_booted_node_listed: a list before and after the create is answered."""
        with Elastic() as world:
            world.ask()
            world.advance(29)
            assert world.phases == {"booting": 1}
            assert sum(method == "list" for _, method, _ in world.sky.journal) >= 3
            assert len(pykka.ActorRegistry.get_by_class(NodeActor)) == 1

    def test_node_counted_after_boot_with_slow_listing(self) -> None:
        """Also booted_unlisted_node_counted."""
        with Elastic() as world:
            world.sky.upcoming[SkyFault.SHORT_LIST] = 8
            world.all_fates(boot_seconds=100.0)
            request = world.ask()
            world.advance(90)
            assert world.phases == {"booting": 1}
            world.complete([request])
            assert world.creates == 1

    def test_booted_node_shut_down_when_never_listed(self) -> None:
        with Elastic() as world:
            world.sky.upcoming[SkyFault.SHORT_LIST] = 1000
            world.all_fates(boot_seconds=None)
            unlisted = world.ask()
            world.advance(30)
            [machine] = world.machines
            machine.created_at = float("inf")
            world.until(lambda: world.sky.calls("destroy") == 1, 600)
            assert world.nodes_status().outcomes["failed"] == 1
            world.sky.upcoming.clear()
            world.all_fates()
            world.complete([unlisted])


class TestLeaving:
    def test_booted_node_lifecycle(self) -> None:
        """Also booted_node_can_shutdown."""
        with Elastic() as world:
            seen = [world.phases]
            request = world.ask()
            while world.machines or world.container_of(request)["state"] != "Complete":
                world.advance(0.25)
                seen += [world.phases] if world.phases != seen[-1] else []
            world.advance(10)
            order = [phase for phases in seen for phase in phases]
            assert order == ["booting", "busy", "idle", "destroying"], "draining takes no time here"
            assert world.fleet == []

    def test_shutdown_declined_at_wishlist_capacity(self) -> None:
        """Also shutdown_declined_when_idle_and_job_queued: an idle node that something waits for stays."""
        with Elastic() as world:
            [first] = busy(world)
            second = world.ask()
            world.site.cluster.set_drain(world.fleet[0].host, "held for the test")
            end_job(world, first)
            world.until(lambda: world.states([second]) == {"Running": 1}, 120)
            assert world.sky.calls("destroy") == 0, "somebody else has drained the first"

    def test_shutdown_declined_below_min_nodes(self) -> None:
        with Elastic(node_policy=policy(min_nodes=1)) as world:
            world.complete([world.ask()])
            world.advance(600)
            assert world.phases == {"idle": 1}

    def test_shutdown_accepted_below_capacity(self) -> None:
        with Elastic(node_policy=policy(min_nodes=1)) as world:
            world.complete(world.ask_for(3))
            world.until(lambda: world.phases == {"idle": 1}, 120)

    def test_node_disappearing_during_shutdown(self) -> None:
        """Also shutdown_actor_stopped_when_cloud_node_delisted, and the idle time it clears in the status."""
        with Elastic() as world:
            world.sky.destroy_seconds = 600.0
            world.complete([world.ask()])
            world.until(lambda: world.phases == {"destroying": 1}, 120)
            world.sky.vanish(world.fleet[0].name)
            world.until(lambda: not world.fleet, 60)
            assert pykka.ActorRegistry.get_by_class(NodeActor) == []
            assert "disappeared" not in world.nodes_status().outcomes

    def test_idle_node_disappearing_clears_status_idle_time_counter(self) -> None:
        with Elastic(node_policy=policy(**PATIENT)) as world:
            world.complete([world.ask()])
            world.until(lambda: "idle for" in world.fleet[0].not_ready, 60)
            world.sky.vanish(world.fleet[0].name)
            world.until(lambda: not world.fleet, 120)

    @pytest.mark.parametrize(
        "fate",
        [
            pytest.param(Fate(boot_seconds=None), id="never_paired"),
            pytest.param(Fate(starts_broken=True, boot_seconds=None), id="never_working"),
            pytest.param(Fate(boot_seconds=10, break_after=0.0), id="breaks_at_once"),
        ],
    )
    def test_booted_node_shut_down_when(self, fate: Fate) -> None:
        """Never paired, never working: not wanted or not, it goes."""
        with Elastic(node_policy=policy(boot_fail_after=120.0)) as world:
            world.sky.fates = lambda _machine: fate
            world.ask()
            world.until(lambda: world.creates == 1, 30)
            world.sky.fates = lambda _machine: Fate()
            first = world.machines[0].node.cloud_id
            world.until(lambda: first not in world.sky.machines, 200)

    def test_shutdown_actor_cleanup_copes_with_dead_actors(self) -> None:
        """A node actor that crashes is started anew from the next list; its machine is not lost."""
        with Elastic() as world:
            [request] = busy(world)
            [actor] = pykka.ActorRegistry.get_by_class(NodeActor)
            actor.tell("nonsense")
            world.advance(1)
            world.until(lambda: world.phases == {"busy": 1}, 60)
            assert world.creates == 1
            end_job(world, request)
            world.until(lambda: not world.machines, 120)


class TestCancelledShutdowns:
    """A drain that waits for jobs to end can be taken back."""

    def draining(self, world: Elastic) -> None:
        """A large node is to leave, and a job has slipped in before it was drained."""
        world.site.scheduler.faults.upcoming[Fault.DRAIN] = 1
        world.complete([world.ask(cores=8)])
        world.until(lambda: world.phases == {"draining": 1}, 60)
        world.program = lambda _record: Program(seconds=300)
        world.ask()
        world.until(lambda: state_of(world.fleet[0]) is NodeState.DRAINING, 60)

    def test_nodes_shutting_down_cancelled(self) -> None:
        with Elastic() as world:
            self.draining(world)
            world.ask()
            world.until(lambda: world.phases == {"busy": 1}, 30)
            assert world.creates == 1
            assert any("keep" in sentence for sentence in world.decisions())

    def test_node_shutdown_after_cancelled_shutdown(self) -> None:
        with Elastic() as world:
            self.draining(world)
            world.complete([world.ask()])
            world.until(lambda: not world.machines, 120)
            assert world.creates == 1

    def test_nodes_shutting_down_replaced_below_max_nodes(self) -> None:
        """One that is being destroyed already is replaced."""
        with Elastic(node_policy=policy(max_nodes=2)) as world:
            world.sky.destroy_seconds = 600.0
            world.complete([world.ask()])
            world.until(lambda: world.phases == {"destroying": 1}, 120)
            world.complete([world.ask()])
            assert world.creates == 2

    def test_nodes_shutting_down_not_replaced_at_max_nodes(self) -> None:
        """Also nodes_shutting_down_count_against_excess."""
        with Elastic(node_policy=policy(max_nodes=1)) as world:
            world.sky.destroy_seconds = 600.0
            world.complete([world.ask()])
            world.until(lambda: world.phases == {"destroying": 1}, 120)
            request = world.ask()
            world.advance(400)
            assert world.creates == 1
            world.complete([request])


class TestSizes:
    def test_node_create_two_sizes(self) -> None:
        with Elastic() as world:
            world.ask_for(2)
            world.ask(cores=8)
            world.until(lambda: world.phases.total() == 3, 30)
            assert world.booted_sizes == ["large", "small", "small"]

    def test_node_max_nodes_two_sizes(self) -> None:
        with Elastic(node_policy=policy(max_nodes=2)) as world:
            world.program = lambda _record: FOR_EVER
            world.ask_for(3, cores=8)
            world.ask_for(3)
            world.advance(300)
            assert world.phases == {"busy": 2}
            assert world.creates == 2

    def test_wishlist_ordering(self) -> None:
        """What is more urgent comes first, not what is larger."""
        with Elastic(node_policy=policy(max_nodes=1, one_per_node=True)) as world:
            urgent = world.ask(priority=900)
            world.ask(cores=8, priority=1)
            world.until(lambda: world.phases.total() == 1, 30)
            assert world.booted_sizes == ["small"]
            world.complete([urgent])

    def test_wishlist_reconfigure(self) -> None:
        """The demand changes from one size to another: the new one comes, the old one goes."""
        with Elastic(node_policy=policy(max_nodes=2, shutdown_windows=(60, 1))) as world:
            world.complete(world.ask_for(2))
            world.until(lambda: world.phases == {"idle": 2}, 60)
            large = world.ask(cores=8)
            world.complete([large])
            assert world.booted_sizes in (["large", "small"], ["large"])

    def test_node_max_price(self) -> None:
        with Elastic(node_policy=policy(max_total_price=0.75)) as world:
            world.program = lambda _record: FOR_EVER
            world.ask(cores=8, priority=900)
            world.ask_for(4)
            world.advance(300)
            assert world.booted_sizes == ["large", "small", "small"]
            assert world.nodes_status().price == pytest.approx(0.7)


class TestRecords:
    """The API's `nodes`: a record before the create, a host name, pings."""

    def test_node_pairing(self) -> None:
        """Also node_pairing_after_arvados_update: the machine pings, joins under its name, and has work."""
        with Elastic(node_records=True) as world:
            request = world.ask()
            world.complete([request])
            [node] = world.fleet
            assert node.host.startswith("compute")
            assert node.record_uuid
            assert node.node is not None

    def test_old_arvados_node_not_double_assigned(self) -> None:
        with Elastic(node_records=True) as world:
            busy(world, 3)
            assert len({node.host for node in world.fleet}) == 3
            assert len({node.record_uuid for node in world.fleet}) == 3

    def test_arvados_node_un_and_re_paired(self) -> None:
        """A restart in between: the same machine, the same record."""
        with Elastic(node_records=True) as world:
            busy(world)
            [before] = world.fleet
            world.restart(world.site)
            world.until(lambda: world.phases == {"busy": 1}, 60)
            [after] = world.fleet
            assert (after.host, after.record_uuid) == (before.host, before.record_uuid)


class TestTheEnd:
    def test_wishlist_ignored_after_shutdown(self) -> None:
        """When the daemon ends for good nothing is booted, and whatever is idle goes."""
        with Elastic(node_policy=policy(min_nodes=2, **PATIENT)) as world:
            [request] = busy(world)
            world.until(lambda: world.phases == {"busy": 1, "idle": 1}, 60)
            world.arbiter().tell(Dissolve())
            world.program = lambda _record: Program(seconds=10)
            world.ask_for(5)
            world.advance(60)
            assert world.phases == {"busy": 1}
            assert world.creates == 2
            end_job(world, request)
            world.until(lambda: not world.machines, 300)
            assert world.creates == 2


def test_held_nodes_are_never_shut() -> None:
    with Elastic() as world:
        [request] = busy(world)
        [node] = world.fleet
        world.arbiter().tell(Behave(node.name, Behaviour.HOLD))
        end_job(world, request)
        world.ask()
        world.until(lambda: world.phases == {"draining": 1, "busy": 1}, 120)
        world.advance(600)
        assert world.phases == {"draining": 1, "busy": 1}
        assert world.sky.calls("destroy") == 0


def test_a_machine_that_says_it_is_broken_takes_no_more_work() -> None:
    """Old node manager: shutdown_running_broken, but not under its jobs."""
    with Elastic() as world:
        [request] = busy(world)
        [machine] = world.machines
        _break(machine)
        world.until(lambda: world.phases["failed"] == 1, 30)
        other = world.ask(cores=1)
        world.until(lambda: world.states([other]) == {"Running": 1}, 120)
        assert world.states([request]) == {"Running": 1}
        assert machine.node.cloud_id in world.sky.machines
        end_job(world, request)
        world.until(lambda: machine.node.cloud_id not in world.sky.machines, 60)


def _break(machine: FakeMachine) -> None:
    machine.node = type(machine.node)(
        machine.node.cloud_id,
        machine.node.name,
        machine.node.instance_type,
        CloudState.BROKEN,
        machine.node.tags,
    )


def test_the_sizes_hold_what_these_tests_ask_for() -> None:
    assert (SMALL.resources.cores, LARGE.resources.cores) == (2, 8)
    assert SMALL.resources.ram_bytes == 4 * GIB
