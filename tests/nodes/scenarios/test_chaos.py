"""A saboteur breaks every new node: the machines that are paid for stay under a bound, and people are told.

The bound comes from the policy alone. Before the first failure is known as many nodes are ordered as `max_nodes`
lets. While failures mount up, no more are on trial than are left until the brake goes on, so that at most
`max_boot_failures` others follow. From then on one node is tried at a time, each at least `brake_time` after the
failure of the last: ``hours * 3600 / brake_time`` of them, and one.
"""

from collections.abc import Callable

import pytest

from nodemanager.clouds.fake import FakeMachine, Fate
from nodemanager.nodes.messages import ReleaseBrake
from nodemanager.nodes.states import PROVED_SECONDS
from nodemanager.reason import ReasonToken
from nodemanager.testing import Program
from tests.nodes.scenarios.elastic import SMALL, Elastic, paced, policy

DAY_SECONDS = 24 * 3600.0
POLICY = policy(
    max_nodes=10, boot_fail_after=600.0, max_boot_failures=5, brake_time=900.0, quota_pause=60.0
)
BOUND = POLICY.max_nodes + POLICY.max_boot_failures + int(DAY_SECONDS / POLICY.brake_time) + 1


def never_joins(_machine: FakeMachine) -> Fate:
    return Fate(boot_seconds=None)


def joins_and_breaks_at_once(_machine: FakeMachine) -> Fate:
    return Fate(boot_seconds=30, break_after=0.0)


def breaks_under_its_first_job(_machine: FakeMachine) -> Fate:
    return Fate(boot_seconds=30, break_after=20.0)


def vanishes(_machine: FakeMachine) -> Fate:
    return Fate(boot_seconds=None, vanish_after=90.0)


def vanishes_unlisted(_machine: FakeMachine) -> Fate:
    return Fate(boot_seconds=None, vanish_after=1.0)


def vanishes_under_its_first_job(_machine: FakeMachine) -> Fate:
    return Fate(boot_seconds=30, vanish_after=60.0)


def is_broken_says_the_cloud(_machine: FakeMachine) -> Fate:
    return Fate(boot_seconds=None, starts_broken=True)


SABOTEURS = [
    never_joins,
    joins_and_breaks_at_once,
    breaks_under_its_first_job,
    vanishes,
    vanishes_unlisted,
    vanishes_under_its_first_job,
    is_broken_says_the_cloud,
]


def world_of(saboteur: Callable[[FakeMachine], Fate], pace: float = 30.0) -> Elastic:
    world = Elastic(sizes=[SMALL], node_policy=POLICY, **paced(pace))
    world.sky.fates = saboteur
    return world


@pytest.mark.parametrize("saboteur", SABOTEURS)
def test_a_day_of_sabotage(saboteur: Callable[[FakeMachine], Fate]) -> None:
    with world_of(saboteur, pace=150.0) as world:
        requests = world.ask_for(15)
        world.advance(DAY_SECONDS)
        assert world.creates <= BOUND, "machines are paid for"
        assert world.creates >= 20, "but it goes on trying"
        assert world.sky.most <= POLICY.max_nodes
        status = world.nodes_status()
        assert status.brake
        assert any("the brake is on" in decision.sentence for decision in status.history)
        tokens = {reason.token for request in requests for reason in world.reasons(request)}
        assert ReasonToken.BOOT_BRAKE in tokens
        world.sky.fates = lambda _machine: Fate()
        world.complete(requests, 6 * 3600)
        assert world.nodes_status().brake == ""
        world.until(lambda: world.deserted, 600)


@pytest.mark.parametrize("saboteur", [never_joins, joins_and_breaks_at_once, vanishes])
class TestTheBrake:
    def braked(self, world: Elastic) -> list[str]:
        requests = world.ask_for(60)
        world.until(lambda: bool(world.nodes_status().brake), 3600)
        return requests

    def test_is_released_by_an_operator(self, saboteur: Callable[[FakeMachine], Fate]) -> None:
        with world_of(saboteur) as world:
            requests = self.braked(world)
            world.sky.fates = lambda _machine: Fate()
            creates = world.creates
            world.arbiter().tell(ReleaseBrake())
            world.until(lambda: world.creates >= creates + 5, 120)
            assert world.nodes_status().brake == ""
            world.complete(requests)

    def test_is_released_by_a_node_that_proves_itself(
        self, saboteur: Callable[[FakeMachine], Fate]
    ) -> None:
        with world_of(saboteur) as world:
            requests = self.braked(world)
            world.sky.fates = lambda _machine: Fate()
            world.program = lambda _record: Program(seconds=600)
            creates = world.creates
            world.until(lambda: world.nodes_status().brake == "", 1500)
            world.complete(requests, 3 * 3600)
            first, second = [at for at, call, _ in world.sky.journal if call == "create"][
                creates : creates + 2
            ]
            assert second - first >= PROVED_SECONDS, "one at a time until then"

    def test_is_told_to_what_waits(self, saboteur: Callable[[FakeMachine], Fate]) -> None:
        with world_of(saboteur) as world:
            requests = self.braked(world)
            world.advance(60)
            states = world.states(requests)
            assert states["Locked"] > 0
            assert states["Queued"] > 0
            for request in requests:
                [reason] = world.reasons(request)
                assert reason.token is ReasonToken.BOOT_BRAKE
                assert "came to nothing" in reason.sentence
                assert "release the brake" in reason.advice
                assert reason.next_attempt_at is not None


def test_nodes_that_work_are_kept_while_others_break() -> None:
    """The brake lets no node go, and they do the work."""
    with world_of(lambda _machine: Fate()) as world:
        world.program = lambda _record: Program(seconds=300)
        first = world.ask_for(3)
        world.until(lambda: world.phases == {"busy": 3}, 300)
        world.sky.fates = never_joins
        others = world.ask_for(20)
        world.until(lambda: bool(world.nodes_status().brake), 3600)
        world.complete(first + others, 6 * 3600)
        assert world.creates <= 3 + POLICY.max_nodes + POLICY.max_boot_failures + 12


def test_one_failure_among_many_is_nothing() -> None:
    with world_of(lambda _machine: Fate()) as world:
        world.sky.fates = lambda machine: Fate(
            boot_seconds=None if machine.node.cloud_id.endswith("7") else 30
        )
        world.complete(world.ask_for(60), 6 * 3600)
        assert not any("the brake is on" in sentence for sentence in world.decisions())


def test_spot_nodes_that_are_taken_away_after_long_use_put_no_brake_on() -> None:
    with world_of(lambda _machine: Fate()) as world:
        world.program = lambda _record: Program(seconds=3000)
        world.ask_for(8)
        world.until(lambda: world.phases == {"busy": 8}, 300)
        world.advance(600)
        for machine in world.machines:
            world.sky.vanish(machine.node.name)
        world.until(lambda: world.creates == 16, 1200)
        assert world.nodes_status().brake == ""
