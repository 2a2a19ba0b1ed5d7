"""Faults, restarts and operators together, with the actors' turns in a random order: the same end each time."""

import os
import random

import pytest

from nodemanager.clouds.fake import FakeMachine, Fate, SkyFault
from nodemanager.model import NodeState
from nodemanager.nodes.messages import Behave, Kill
from nodemanager.nodes.orphans import ORPHAN_SECONDS
from nodemanager.nodes.states import Behaviour
from nodemanager.schedulers.fake import Fault
from nodemanager.testing import Program
from tests.nodes.scenarios.elastic import Elastic, policy

CLOUD_FAULTS = [fault for fault in SkyFault if fault is not SkyFault.DENIED]
SCHEDULER_FAULTS = [fault for fault in Fault if fault is not Fault.LOSS]
SEEDS = range(int(os.environ.get("ANY_ORDER_SEEDS", "6")))
MOST_NODES = 6
PLACES: list[tuple[str, ...] | None] = [None, (), tuple(f"slot{n}" for n in range(MOST_NODES))]
"""Names that the scheduler has defined for nodes; without any it creates them; None: it takes whatever comes."""


@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_leads_to_the_same_end(seed: int) -> None:
    draws = random.Random(seed)

    def fate(_machine: FakeMachine) -> Fate:
        return draws.choice(
            [Fate(30), Fate(30), Fate(30), Fate(None), Fate(20, vanish_after=70), Fate(20, 40)]
        )

    with Elastic(
        seed=seed, node_policy=policy(max_nodes=MOST_NODES, boot_fail_after=120.0, brake_time=60.0)
    ) as world:
        cluster, places = world.site.cluster, PLACES[seed % len(PLACES)]
        if places is not None:
            cluster.admits, cluster.places, cluster.leaves_unplaced = True, places, True
            world.restart(world.site)
        world.sky.fates = fate
        killed: set[str] = set()
        robbed: list[str] = []

        def look(method: str) -> bool:
            """Before each create and destroy: jobs run on no node that is destroyed, unless it was killed."""
            _, _, name = world.sky.journal[-1]
            at_work = (NodeState.BUSY, NodeState.DRAINING)
            busy = {node.name for node in cluster.nodes() if node.state in at_work}
            if method == "destroy" and name in busy - killed:
                robbed.append(name)
            return False

        world.sky.spoils = look
        world.sky.destroy_seconds = draws.choice([0.0, 20.0])
        world.program = lambda _record: Program(seconds=draws.choice([5, 60, 120]))
        requests = world.ask_for(12)
        held: set[str] = set()
        for _ in range(30):
            world.advance(draws.uniform(1, 15))
            match draws.randrange(9):
                case 0:
                    world.restart(world.site)
                case 1:
                    world.sky.upcoming[draws.choice(CLOUD_FAULTS)] = 1
                case 2:
                    world.site.scheduler.faults.upcoming[draws.choice(SCHEDULER_FAULTS)] = 1
                case 3 if world.fleet and not held:
                    name = draws.choice(world.fleet).name
                    held.add(name)
                    world.arbiter().tell(Behave(name, Behaviour.HOLD))
                case 4 if world.fleet:
                    name = draws.choice(world.fleet).name
                    killed.add(name)
                    world.arbiter().tell(Kill(name, "a mistake"))
                case 5:
                    requests += world.ask_for(1, cores=8)
                case 6 if held:
                    world.arbiter().tell(Behave(held.pop(), Behaviour.RUN))
                case _:
                    pass
        world.sky.fates = lambda _machine: Fate(30)
        world.advance(2)
        # All of them: a word whose tag the cloud refused is lost when the daemon dies before it tries again.
        for node in world.fleet:
            world.arbiter().tell(Behave(node.name, Behaviour.RUN))
        world.complete(requests, 4 * 3600)
        world.until(lambda: world.deserted, 3600)
        assert cluster.live_count == 0
        assert world.sky.most <= MOST_NODES
        assert robbed == []
        if places is not None:
            world.advance(ORPHAN_SECONDS + 120)
            assert not cluster.nodes(), "nothing that was announced is left"
            assert not world.fleet
