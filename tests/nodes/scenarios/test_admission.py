"""Nodes that the scheduler has to admit before their machines are ordered, as Slurm does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pykka
import pytest

from nodemanager.clouds.base import HOST_TAG
from nodemanager.clouds.fake import Fate, SkyFault
from nodemanager.nodes.node import NodeActor
from nodemanager.nodes.orphans import ORPHAN_SECONDS
from nodemanager.reason import ReasonToken
from nodemanager.schedulers.fake import FakeCluster, Fault
from nodemanager.testing import Program
from tests.nodes.scenarios.elastic import SMALL, Elastic, paced, policy

DEFINED = ("slot1", "slot2", "slot3")


def elastic(places: Sequence[str] = (), **more: object) -> Elastic:
    """A site whose scheduler admits nodes: under the `places` it has defined, or any that are announced."""
    world = Elastic(**more)  # type: ignore[arg-type]
    cluster = world.site.cluster
    cluster.admits, cluster.places = True, places
    world.restart(world.site)
    return world


def cluster_of(world: Elastic) -> FakeCluster:
    return world.site.cluster


def joined(world: Elastic) -> set[str]:
    return {node.name for node in cluster_of(world).nodes()}


class TestNamesThatTheSiteHasDefined:
    def test_nodes_join_under_them_each_under_one_of_its_own(self) -> None:
        """Three are ordered in one turn, and none of them shows before it has joined."""
        with elastic(DEFINED) as world:
            requests = world.ask_for(3)
            world.until(lambda: len(world.machines) == 3, 60)
            assert {machine.node.tags[HOST_TAG] for machine in world.machines} == set(DEFINED)
            world.until(lambda: world.phases["busy"] == 3, 60)
            assert {node.host for node in world.fleet} == set(DEFINED) == joined(world)
            world.complete(requests)
            world.until(lambda: world.deserted, 120)
            world.advance(10)
            assert not joined(world)
            assert not cluster_of(world).admitted
            assert not cluster_of(world).unannounced

    def test_a_place_that_was_given_back_is_used_again(self) -> None:
        with elastic(DEFINED) as world:
            for _ in range(3):
                world.complete(world.ask_for(3))
                world.until(lambda: world.deserted, 120)
            assert world.creates == 9
            assert not cluster_of(world).unannounced

    def test_when_none_is_left_the_others_wait_and_can_read_why(self) -> None:
        with elastic(DEFINED, sizes=(SMALL,)) as world:
            requests = world.ask_for(5)
            world.until(lambda: world.phases["busy"] == 3, 60)
            world.advance(5)
            assert world.creates == 3
            waiting = [reason for request in requests for reason in world.reasons(request)]
            assert {reason.token for reason in waiting} == {ReasonToken.NO_CAPACITY}
            assert waiting[0].sentence.startswith(
                "the scheduler has no place for another small: fake:"
            )
            assert "administrators" in waiting[0].advice
            status = world.nodes_status()
            assert not status.brake
            assert status.outcomes["refused"] >= 1
            assert "failed" not in status.outcomes
            world.complete(requests)

    def test_another_size_is_tried(self) -> None:
        with elastic(DEFINED, node_policy=policy(max_price_factor=10.0)) as world:
            world.site.scheduler.faults.upcoming[Fault.ADMIT] = 1
            world.ask()
            world.until(lambda: bool(world.machines), 10)
            assert world.booted_sizes == ["large"]

    def test_the_record_at_the_api_has_the_same_name(self) -> None:
        """Else the answer to the machine's ping would give it another."""
        with elastic(DEFINED, node_records=True) as world:
            world.ask()
            world.until(lambda: world.phases["busy"] == 1, 120)
            [record] = world.call("nodes", "list")["items"]
            assert record["hostname"] == "slot1"
            [admit] = world.site.scheduler.calls("admit")
            assert admit.names == ("compute1",), "proposed was the name that the API had given it"


class TestNodesThatAreCreatedInTheScheduler:
    def test_they_are_removed_with_their_machines(self) -> None:
        with elastic() as world:
            world.complete(world.ask_for(3))
            world.until(lambda: world.deserted, 120)
            world.advance(10)
            removed = {call.names[0] for call in world.site.scheduler.calls("remove")}
            assert removed == {call.names[0] for call in world.site.scheduler.calls("admit")}
            assert not joined(world)

    def test_one_whose_machine_the_cloud_refuses_is_removed(self) -> None:
        with elastic() as world:
            world.sky.no_capacity = {"small", "large"}
            world.ask()
            world.until(lambda: world.creates >= 1, 60)
            world.advance(10)
            assert world.site.scheduler.calls("remove")
            assert not cluster_of(world).admitted

    def test_removing_is_repeated_until_it_is_done(self) -> None:
        with elastic() as world:
            world.site.scheduler.faults.upcoming[Fault.REMOVE] = 3
            world.complete([world.ask()])
            world.until(lambda: world.deserted, 120)
            world.until(lambda: not cluster_of(world).admitted, 60)
            assert len(world.site.scheduler.calls("remove")) == 4

    def test_one_that_never_joins_is_removed_and_counts_as_failed(self) -> None:
        with elastic(node_policy=policy(boot_fail_after=120.0)) as world:
            world.sky.fates = lambda _machine: Fate(boot_seconds=None)
            world.ask()
            world.until(lambda: world.nodes_status().outcomes.get("failed", 0) == 1, 300)
            world.sky.fates = lambda _machine: Fate()
            world.until(lambda: bool(world.site.scheduler.calls("remove")), 300)

    def test_one_whose_create_was_lost_keeps_its_place_until_it_turns_up(self) -> None:
        with elastic() as world:
            world.advance(1)
            world.sky.upcoming[SkyFault.CREATE_AFTER] = 1
            world.sky.upcoming[SkyFault.SHORT_LIST] = 3
            request = world.ask()
            world.until(lambda: world.creates == 1)
            world.complete([request])
            world.until(lambda: world.deserted, 300)
            assert not cluster_of(world).unannounced, "the scheduler was ready for it"


SLOW = paced(10.0)


class TestAfterACrash:
    def test_a_defined_name_that_was_given_out_and_never_used_is_given_out_again(self) -> None:
        with elastic(DEFINED) as world:
            cluster_of(world).admitted["slot1"] = SMALL
            world.ask_for(3)
            world.until(lambda: world.phases["busy"] == 3, 60)

    def test_a_node_that_was_created_and_never_used_is_removed_after_a_while(self) -> None:
        with elastic(**SLOW) as world:
            cluster_of(world).admitted["compute-old-zzzzz"] = SMALL
            world.advance(ORPHAN_SECONDS - 60)
            assert joined(world) == {"compute-old-zzzzz"}
            world.advance(120)
            assert not cluster_of(world).admitted

    def test_with_old_news_of_the_cloud_nothing_is_removed(self) -> None:
        with elastic(node_policy=policy(poll_stale_after=120.0), **SLOW) as world:
            cluster_of(world).admitted["compute-old-zzzzz"] = SMALL
            world.advance(60)
            world.sky.upcoming[SkyFault.LIST] = 1000
            world.advance(2000)
            assert joined(world) == {"compute-old-zzzzz"}

    def test_the_place_of_an_actor_that_crashed_is_not_given_out_while_its_machine_may_come(
        self,
    ) -> None:
        with elastic(DEFINED, **SLOW) as world:
            world.ask()
            world.until(lambda: world.phases["booting"] == 1, 60)
            [actor] = pykka.ActorRegistry.get_by_class(NodeActor)
            actor.tell("nonsense")
            world.ask_for(2)
            world.until(lambda: world.phases["busy"] == 3, 120)
            assert {node.host for node in world.fleet} == set(DEFINED)
            assert world.creates == 3

    def test_nodes_that_work_are_taken_up_and_removed_in_the_end(self) -> None:
        with elastic(DEFINED, **SLOW) as world:
            world.program = lambda _record: Program(seconds=300)
            requests = world.ask_for(2)
            world.until(lambda: world.phases["busy"] == 2, 120)
            world.restart(world.site)
            requests += world.ask_for(1)
            world.until(lambda: world.phases["busy"] == 3, 120)
            assert {node.host for node in world.fleet} == set(DEFINED)
            world.complete(requests)
            world.until(lambda: world.deserted, 300)
            world.until(lambda: not cluster_of(world).admitted, 60)

    def test_a_node_that_is_up_is_nobodys_orphan(self) -> None:
        """It may be the machine of another daemon, whose cloud this one does not see."""
        with elastic(**SLOW) as world:
            cluster = cluster_of(world)
            for name in ("theirs", "lost"):
                cluster.admitted[name] = SMALL
            has = SMALL.resources
            cluster.add_node(replace(cluster.nodes()[0], name="theirs", state="idle", total=has))  # type: ignore[arg-type]
            world.advance(ORPHAN_SECONDS - 60)
            assert joined(world) == {"theirs", "lost"}
            world.advance(120)
            assert joined(world) == {"theirs"}


class TestUnplacedJobs:
    """A scheduler that takes no job which none of its nodes could hold."""

    @pytest.mark.parametrize("places", [(), DEFINED])
    def test_nodes_are_booted_for_them_and_then_they_are_submitted(
        self, places: Sequence[str]
    ) -> None:
        with elastic(places, scheduler_poll_seconds=20.0) as world:
            cluster_of(world).leaves_unplaced = True
            requests = world.ask_for(2)
            world.until(lambda: world.phases["booting"] == 2, 60)
            world.advance(2)
            assert not cluster_of(world).live_count
            # Why it waits is for the arbiter to say: it knows of the node.
            for request in requests:
                [reason] = world.reasons(request)
                assert reason.token is ReasonToken.NODE_BOOTING
                assert reason.sentence == "waits for a node of size small that is booting"
            world.until(lambda: world.phases["idle"] + world.phases["busy"] == 2, 60)
            world.settle()
            assert cluster_of(world).live_count == 2, "not only when the next poll is due"
            world.complete(requests)

    def test_without_a_node_that_could_be_booted_the_reason_says_so(self) -> None:
        with elastic(node_policy=policy(max_nodes=1)) as world:
            cluster_of(world).leaves_unplaced = True
            world.program = lambda _record: Program(seconds=None)
            first = world.ask()
            world.until(lambda: world.phases["busy"] == 1, 60)
            second = world.ask(cores=8)
            world.advance(20)
            [reason] = world.reasons(second)
            assert reason.token is ReasonToken.NODE_LIMIT
            assert world.states([first, second]) == {"Running": 1, "Locked": 1}
