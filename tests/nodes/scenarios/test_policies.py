"""What operators set, and what containers ask for beyond cores and RAM."""

import pytest

from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.messages import Behave
from nodemanager.nodes.states import Behaviour
from nodemanager.reason import ReasonToken
from nodemanager.testing import GIB, Program
from tests.nodes.scenarios.elastic import LARGE, SLOWLY, SMALL, Elastic, policy

SPOT = NodeSize("spot", Resources(8, 16 * GIB, 100 * GIB), 0.15, preemptible=True)
GPU = NodeSize("gpu", Resources(8, 16 * GIB, 100 * GIB, gpus=1), 2.0, partitions=("gpu",))
CPU = NodeSize("cpu", Resources(8, 16 * GIB, 100 * GIB), 0.3, partitions=("cpu",))


class TestSharingNodes:
    def test_several_containers_share_a_node(self) -> None:
        with Elastic() as world:
            world.complete(world.ask_for(8, cores=1))
            assert world.creates <= 4
            assert sum(machine.size.price for machine in world.machines) <= 0.5

    def test_one_per_node(self) -> None:
        with Elastic(node_policy=policy(one_per_node=True)) as world:
            requests = world.ask_for(5, cores=1)
            world.until(lambda: world.phases == {"busy": 5}, 120)
            world.complete(requests)
            assert world.creates == 5

    def test_one_per_node_uses_a_node_again_when_it_is_free(self) -> None:
        with Elastic(node_policy=policy(one_per_node=True, max_nodes=2)) as world:
            world.complete(world.ask_for(6, cores=1))
            assert world.creates == 2


class TestWhenNodesLeave:
    def test_idle_time(self) -> None:
        with Elastic(node_policy=policy(idle_time=300.0)) as world:
            world.complete([world.ask()])
            world.until(lambda: world.phases == {"idle": 1}, 30)
            assert world.until(lambda: not world.machines) == pytest.approx(300, abs=20)

    def test_idle_time_begins_anew_with_each_job(self) -> None:
        with Elastic(node_policy=policy(idle_time=300.0)) as world:
            for _ in range(4):
                world.complete([world.ask()])
                world.advance(200)
            assert world.creates == 1
            assert world.sky.calls("destroy") == 0

    def test_shutdown_windows_count_from_the_order(self) -> None:
        """Billed by the hour: it leaves near the end of the hour that is paid for."""
        with Elastic(node_policy=policy(shutdown_windows=(54.0, 5.0, 1.0)), **SLOWLY) as world:
            request = world.ask()
            world.complete([request])
            [ordered] = [at for at, call, _ in world.sky.journal if call == "create"]
            world.advance_until(lambda: not world.machines, 3600)
            assert 54 * 60 <= world.clock.elapsed() - ordered <= 56 * 60

    def test_a_window_that_was_missed_comes_again(self) -> None:
        with Elastic(node_policy=policy(shutdown_windows=(10.0, 2.0)), **SLOWLY) as world:
            world.program = lambda _record: Program(seconds=13 * 60)
            request = world.ask()
            world.complete([request])
            [ordered] = [at for at, call, _ in world.sky.journal if call == "create"]
            world.advance_until(lambda: not world.machines, 3600)
            assert 22 * 60 <= world.clock.elapsed() - ordered <= 24 * 60

    def test_work_that_comes_in_time_keeps_the_node(self) -> None:
        with Elastic(node_policy=policy(idle_time=120.0)) as world:
            world.complete([world.ask()])
            world.advance(100)
            world.complete([world.ask()])
            assert world.creates == 1

    def test_the_dearest_goes_first_and_min_nodes_stay(self) -> None:
        with Elastic(node_policy=policy(min_nodes=1)) as world:
            world.complete([world.ask(cores=8), *world.ask_for(2)])
            world.until(lambda: world.phases == {"idle": 1}, 120)
            assert world.booted_sizes == ["small"]

    def test_makes_room_for_another_size_at_once(self) -> None:
        with Elastic(node_policy=policy(max_nodes=1, shutdown_windows=(600.0, 1.0))) as world:
            world.complete([world.ask()])
            world.advance(60)
            assert world.phases == {"idle": 1}
            large = world.ask(cores=8)
            world.complete([large], 300)
            assert world.booted_sizes == ["large"]


class TestLessThanPromised:
    """Old node manager, 11139: jobs for which a node's RAM does not suffice waited for ever, on ever more nodes."""

    def test_what_fits_only_on_paper_is_told_so(self) -> None:
        with Elastic(sizes=[SMALL]) as world:
            world.all_fates(lacks_ram=GIB)
            request = world.ask(cores=1, ram_gib=4)
            world.advance(600)
            assert world.creates == 1
            [reason] = world.reasons(request)
            assert reason.token is ReasonToken.NO_NODE_FITS
            later = world.ask(cores=1, ram_gib=4)
            world.advance(30)
            [reason] = world.reasons(later)
            assert reason.token is ReasonToken.NO_NODE_FITS
            assert world.container_of(later)["state"] == "Queued", "it is not even claimed"

    def test_what_fits_a_larger_size_gets_one(self) -> None:
        with Elastic() as world:
            world.all_fates(lacks_ram=GIB)
            request = world.ask(cores=1, ram_gib=4)
            world.complete([request])
            assert world.creates == 2
            assert world.nodes_status().outcomes["joined"] == 2

    def test_what_fits_all_the_same_runs(self) -> None:
        with Elastic(sizes=[SMALL]) as world:
            world.all_fates(lacks_ram=GIB)
            world.complete(world.ask_for(4, cores=1, ram_gib=3))
            assert world.creates <= 4


class TestPreemptible:
    SIZES = (SPOT, LARGE)

    def test_only_what_bears_it_runs_there(self) -> None:
        with Elastic(sizes=self.SIZES) as world:
            bears = world.ask(cores=8, scheduling_parameters={"preemptible": True})
            world.until(lambda: world.booted_sizes == ["spot"], 30)
            other = world.ask(cores=8)
            world.until(lambda: world.booted_sizes == ["large", "spot"], 30)
            world.complete([bears, other])

    def test_an_idle_spot_node_is_no_room_for_others(self) -> None:
        with Elastic(sizes=self.SIZES, node_policy=policy(idle_time=600.0)) as world:
            world.complete([world.ask(scheduling_parameters={"preemptible": True})])
            world.complete([world.ask()])
            assert world.booted_sizes == ["large", "spot"]

    def test_what_bears_it_runs_elsewhere_when_there_is_room(self) -> None:
        with Elastic(sizes=self.SIZES, node_policy=policy(idle_time=600.0)) as world:
            world.complete([world.ask()])
            world.complete([world.ask(scheduling_parameters={"preemptible": True})])
            assert world.booted_sizes == ["large"]


class TestPartitions:
    SIZES = (CPU, GPU)

    def test_each_gets_a_node_of_its_partition(self) -> None:
        with Elastic(sizes=self.SIZES) as world:
            gpu = world.ask(scheduling_parameters={"partitions": ["gpu"]})
            cpu = world.ask(scheduling_parameters={"partitions": ["cpu"]})
            world.until(lambda: world.booted_sizes == ["cpu", "gpu"], 30)
            world.complete([gpu, cpu])

    def test_one_that_names_none_gets_the_cheapest(self) -> None:
        with Elastic(sizes=self.SIZES) as world:
            world.complete([world.ask()])
            assert world.creates == 1
            assert world.booted_sizes in (["cpu"], [])

    def test_one_that_nobody_serves_is_told_so(self) -> None:
        with Elastic(sizes=self.SIZES) as world:
            request = world.ask(scheduling_parameters={"partitions": ["tpu"]})
            world.advance(60)
            [reason] = world.reasons(request)
            assert reason.token is ReasonToken.NO_PARTITION
            assert world.creates == 0


class TestOperators:
    def test_drain_lets_it_finish_and_go(self) -> None:
        with Elastic() as world:
            world.program = lambda _record: Program(seconds=120)
            request = world.ask()
            world.until(lambda: world.phases == {"busy": 1}, 60)
            world.arbiter().tell(Behave(world.fleet[0].name, Behaviour.DRAIN))
            other = world.ask()
            world.complete([request, other])
            assert world.creates == 2

    def test_run_takes_a_hold_back(self) -> None:
        with Elastic(node_policy=policy(idle_time=300.0)) as world:
            world.complete([world.ask()])
            [node] = world.fleet
            world.arbiter().tell(Behave(node.name, Behaviour.HOLD))
            world.advance(60)
            assert world.phases == {"draining": 1}
            world.arbiter().tell(Behave(node.name, Behaviour.RUN))
            world.until(lambda: world.phases == {"idle": 1}, 30)
            world.until(lambda: world.deserted, 400)

    def test_decisions_are_kept_with_their_numbers(self) -> None:
        with Elastic() as world:
            world.complete(world.ask_for(2))
            world.until(lambda: world.deserted, 120)
            history = world.nodes_status().history
            boots = [decision for decision in history if decision.sentence.startswith("boot")]
            assert sum(decision.numbers["waiting"] for decision in boots) >= 2
            assert any("let go of" in decision.sentence for decision in history)
            assert [decision.at for decision in history] == sorted(d.at for d in history)


def test_every_reason_on_the_way_is_told() -> None:
    """From the order to the start a container that waits says what for."""
    with Elastic(node_policy=policy(max_nodes=1)) as world:
        first, second = world.ask_for(2)
        seen: dict[str, list[str]] = {first: [], second: []}

        def look() -> bool:
            for request, tokens in seen.items():
                for reason in world.reasons(request):
                    if tokens[-1:] != [reason.token.value]:
                        tokens.append(reason.token.value)
            return world.states([first, second]) == {"Complete": 2}

        world.until(look, 300)
        assert "node-booting" in seen[first]
        assert "node-limit" in seen[second]


def test_sizes_are_chosen_by_price() -> None:
    with Elastic(sizes=(SMALL, CPU, LARGE)) as world:
        world.ask(cores=8)
        world.until(lambda: world.booted_sizes == ["cpu"], 30)
