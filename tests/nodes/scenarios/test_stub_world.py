"""The stub world of Arvados' Go dispatcher (TestDispatchToStubDriver): everything goes wrong now and then.

200 containers of 24 shapes on seven sizes; ten machines at most; one create and one destroy in ten fails; one size
cannot be had at all, the nodes of another come to nothing at first; of the other machines one in seven never
joins, one breaks, one hangs until the scheduler gives it up; one job in ten vanishes from the scheduler; and the
API is away for a minute when half of the work is done.

Each seed is another course of events, in another order of the actors' turns. More of them:
STUB_WORLD_SEEDS=100 pytest tests/nodes/scenarios/test_stub_world.py
"""

import os
import random

import pytest

from nodemanager.clouds.fake import FakeMachine, Fate
from nodemanager.model import NodeSize, Resources
from nodemanager.server.policy import Policy
from nodemanager.testing import GIB, ROOT_TOKEN, Program
from tests.nodes.scenarios.elastic import Elastic, policy

SEEDS = range(int(os.environ.get("STUB_WORLD_SEEDS", "3")))
CONTAINERS = 200
QUOTA = 10
WINDOW_SECONDS = 1200.0
"""Something is completed in each such while."""
BROKEN_AT_FIRST_SECONDS = 300.0

SIZES = [
    NodeSize(f"type{n}", Resources(n, n * GIB, 100 * GIB), 0.123 * n)
    for n in (1, 2, 3, 4, 6, 8, 16)
]


class StubWorld(Elastic):
    """See the module's docstring."""

    def begin(self) -> list[str]:
        self.draws = random.Random(self.seed)
        self.looked_at = 0
        self.sky.quota = QUOTA
        self.sky.no_capacity = {"type6"}
        self.sky.spoils = lambda _method: self.draws.random() < 0.1
        self.sky.fates = self.fate
        return [
            self.ask(cores=i % 8 + 1, ram_gib=i % 3 + 1, priority=i % 20 + 1)
            for i in range(CONTAINERS)
        ]

    def fate(self, machine: FakeMachine) -> Fate:
        draws, boots = self.draws, self.draws.uniform(10, 60)
        if machine.size.name == "type4" and machine.created_at < BROKEN_AT_FIRST_SECONDS:
            return Fate(boot_seconds=None)
        match draws.randrange(7):
            case 0:
                return Fate(boot_seconds=None)
            case 1:
                return Fate(boots, break_after=draws.uniform(0, 200))
            case 2:
                hangs = draws.uniform(0, 90)
                return Fate(boots, hang_after=hangs, break_after=hangs + 300)
            case _:
                return Fate(boots)

    def step(self) -> None:
        """Ten seconds, in which one of ten jobs that start vanishes."""
        self.advance(10)
        for uuid, _ in self.ledger[self.looked_at :]:
            if self.draws.random() < 0.1:
                self.site.cluster.lose(uuid)
        self.looked_at = len(self.ledger)

    @property
    def done(self) -> int:
        answer = self.call(
            "container_requests", "list", filters=[["state", "=", "Final"]], limit=0, count="exact"
        )
        return int(answer["items_available"])

    def play(self) -> None:
        """Until all is done; fails when nothing is for a whole window."""
        progress, done, outage = self.clock.elapsed(), 0, False
        while done < CONTAINERS:
            self.step()
            if self.done > done:
                done, progress = self.done, self.clock.elapsed()
            assert self.clock.elapsed() - progress < WINDOW_SECONDS, f"{done} are done"
            if done >= CONTAINERS / 2 and not outage:
                outage = self.site.wire.down = True
                self.advance(60)
                self.site.wire.down = False


def stub_world(seed: int) -> StubWorld:
    """Of three seeds one gives each container a node to itself, as Go does."""
    return StubWorld(
        seed=seed,
        sizes=SIZES,
        claim_poll_seconds=5.0,
        node_policy=policy(
            max_nodes=64,
            boot_fail_after=150.0,
            idle_time=30.0,
            brake_time=120.0,
            one_per_node=seed % 3 == 0,
        ),
        policy=Policy(root_token=ROOT_TOKEN, retry_backoff_max=60.0),
        program=lambda record: Program(seconds=20.0 + int(record["priority"]) % 40),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_ends_well(seed: int) -> None:
    with stub_world(seed) as world:
        requests = world.begin()
        world.play()
        for request in requests:
            states = [attempt["state"] for attempt in world.attempts(request)]
            assert states == ["TempFail"] * (len(states) - 1) + ["Complete"]
        started = [uuid for uuid, _ in world.ledger]
        assert len(started) == len(set(started)), "each attempt's command starts at most once"
        assert world.sky.most <= QUOTA
        world.until(lambda: world.deserted, 1200)
        assert world.site.cluster.live_count == 0


def test_a_seed_can_be_replayed() -> None:
    def course() -> tuple[object, ...]:
        with stub_world(1) as world:
            world.begin()
            for _ in range(8):
                world.step()
            return world.sky.journal, world.done, len(world.ledger), world.decisions()

    assert course() == course()
