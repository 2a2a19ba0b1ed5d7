"""kill -9 of the daemon in each phase of a node's life: everything is known again from tags and scheduler."""

from collections.abc import Callable

import pytest

from nodemanager.clouds.fake import Fate, SkyFault
from nodemanager.nodes.messages import Behave, Kill
from nodemanager.nodes.states import Behaviour
from nodemanager.schedulers.fake import Fault
from nodemanager.testing import Program
from tests.nodes.scenarios.elastic import Elastic, policy


def booting(world: Elastic) -> list[str]:
    requests = world.ask_for(2)
    world.until(lambda: world.phases == {"booting": 2}, 30)
    return requests


def busy(world: Elastic) -> list[str]:
    requests = world.ask_for(2)
    world.until(lambda: world.phases == {"busy": 2}, 60)
    return requests


def idle(world: Elastic) -> list[str]:
    requests = world.ask_for(2)
    world.complete(requests)
    world.until(lambda: world.phases["idle"] == 2, 60)
    return requests


def draining(world: Elastic) -> list[str]:
    """An operator has drained them; they work on."""
    requests = busy(world)
    for node in world.fleet:
        world.arbiter().tell(Behave(node.name, Behaviour.DRAIN))
    world.until(lambda: world.phases == {"draining": 2}, 30)
    return requests


def leaving(world: Elastic) -> list[str]:
    """The arbiter has let them go, and the scheduler refuses to drain them."""
    world.site.scheduler.faults.upcoming[Fault.DRAIN] = 2
    requests = idle(world)
    world.until(lambda: world.phases == {"draining": 2}, 60)
    return requests


def destroying(world: Elastic) -> list[str]:
    world.sky.destroy_seconds = 120.0
    requests = idle(world)
    world.until(lambda: world.phases == {"destroying": 2}, 60)
    return requests


def lost(world: Elastic) -> list[str]:
    requests = busy(world)
    for node in world.fleet:
        world.site.cluster.fail_node(node.host)
    world.advance(1)
    return requests


@pytest.mark.parametrize(
    ("phase", "creates"),
    [
        (booting, 2),
        (busy, 2),
        (idle, 2),
        (draining, 2),
        (leaving, 2),
        (destroying, 2),
        (lost, 4),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("dead_seconds", [0, 40])
def test_no_node_is_lost_and_none_booted_twice(
    phase: Callable[[Elastic], list[str]], creates: int, dead_seconds: float
) -> None:
    with Elastic() as world:
        requests = phase(world)
        there = set(world.sky.machines)
        world.kill(world.site)
        world.advance(dead_seconds)
        world.start(world.site)
        world.advance(11)
        known = {node.cloud_id for node in world.fleet}
        assert known >= there & set(world.sky.machines)
        world.complete(requests)
        world.until(lambda: world.deserted, 300)
        assert world.creates == creates


@pytest.mark.parametrize("moment", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 31.0, 33.0])
def test_at_any_moment_after_something_was_asked_for(moment: float) -> None:
    with Elastic() as world:
        requests = world.ask_for(3)
        world.advance(moment)
        world.restart(world.site)
        world.complete(requests)
        assert world.creates == 3


def test_orders_that_the_cloud_had_not_been_asked_for_are_given_anew() -> None:
    with Elastic() as world:
        world.advance(5)
        world.sky.upcoming[SkyFault.RATE] = 2
        world.sky.retry_after = 30.0
        requests = world.ask_for(3)
        world.until(lambda: world.phases == {"asked": 3}, 30)
        world.restart(world.site)
        world.complete(requests)
        assert world.sky.most == 3


@pytest.mark.parametrize("joined", [False, True])
def test_hold_survives(joined: bool) -> None:
    with Elastic(node_policy=policy(boot_fail_after=300.0)) as world:
        world.all_fates(boot_seconds=30.0 if joined else None)
        world.program = lambda _record: Program(seconds=100)
        [request, _] = busy(world) if joined else booting(world)
        held = world.fleet[0].name
        world.arbiter().tell(Behave(held, Behaviour.HOLD))
        world.advance(1)
        world.restart(world.site)
        world.all_fates()
        world.complete([request])
        world.until(lambda: len(world.machines) == 1, 600)
        world.advance(600)
        [node] = world.fleet
        assert (node.name, node.behaviour) == (held, Behaviour.HOLD)
        world.arbiter().tell(Kill(held, "looked at"))
        world.until(lambda: not world.machines, 30)


def test_nodes_older_than_boot_fail_after_are_no_failed_boots() -> None:
    with Elastic(node_policy=policy(boot_fail_after=60.0, max_boot_failures=2)) as world:
        world.program = lambda _record: Program(seconds=600)
        busy(world)
        world.advance(200)
        world.restart(world.site)
        world.advance(30)
        assert world.nodes_status().outcomes == {"joined": 2}
        assert world.nodes_status().brake == ""
        world.complete([world.ask()])


def test_a_size_that_is_configured_no_more() -> None:
    """Old node manager, 13868: the node works on, and goes when it is idle."""
    with Elastic() as world:
        requests = busy(world)
        for machine in world.machines:
            world.sky.set_tags(machine.node.cloud_id, {"arvados-node-size": "retired"})
        world.restart(world.site)
        world.until(lambda: world.phases == {"busy": 2}, 30)
        assert [node.size for node in world.fleet] == [None, None]
        world.complete(requests)
        world.until(lambda: not world.machines, 120)
        assert world.creates == 2


def test_a_crash_of_the_whole_group_is_a_restart() -> None:
    with Elastic() as world:
        requests = busy(world)
        world.arbiter().tell("nonsense")
        world.advance(30)
        world.complete(requests)
        world.until(lambda: not world.machines, 120)
        assert world.creates == 2


def test_a_create_whose_answer_never_came() -> None:
    """The daemon dies while the cloud is at it: the machine turns up in a list, and is used."""
    with Elastic() as world:
        world.sky.fates = lambda _machine: Fate(boot_seconds=60)
        request = world.ask()
        world.until(lambda: bool(world.machines), 30)
        world.restart(world.site)
        world.complete([request])
        assert world.creates == 1
