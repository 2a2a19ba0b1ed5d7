"""The scenarios of the old node manager's integration test, with its numbers.

The three `single_node` scenarios of its cloud drivers are one here. Times are what that test allowed: 30 seconds
for each event, at polls of half a second.
"""

import pytest

from nodemanager.clouds.fake import SkyFault
from nodemanager.reason import ReasonToken, Tier
from nodemanager.testing import Program
from tests.nodes.scenarios.elastic import SMALL, Elastic, policy


def test_unsatisfiable_jobs() -> None:
    """The old manager cancelled them; here they are told so and wait for a size that fits."""
    with Elastic() as world:
        request = world.ask(cores=1, ram_gib=100)
        world.advance(300)
        [reason] = world.reasons(request)
        assert reason.token is ReasonToken.NO_NODE_FITS
        assert reason.tier is Tier.NEVER
        assert "wants 100 GiB" in reason.sentence
        assert world.creates == 0


def test_single_node() -> None:
    with Elastic() as world:
        request = world.ask()
        world.complete([request])
        assert world.creates == 1
        world.until(lambda: not world.machines, 60)
        assert world.nodes_status().outcomes == {"joined": 1, "proved": 1}


def test_multiple_nodes() -> None:
    """Four up, four down."""
    with Elastic(node_policy=policy(one_per_node=True)) as world:
        requests = world.ask_for(4, cores=1)
        world.until(lambda: world.phases == {"busy": 4}, 60)
        world.complete(requests)
        world.until(lambda: not world.machines, 60)
        assert (world.creates, world.sky.most) == (4, 4)


def test_hit_quota() -> None:
    with Elastic(sizes=[SMALL]) as world:
        world.sky.quota = 2
        requests = world.ask_for(4)
        world.until(lambda: world.phases == {"busy": 2}, 60)
        assert world.creates <= 5
        assert world.nodes_status().quota == 2
        tokens = [reason.token for request in requests for reason in world.reasons(request)]
        assert tokens == [ReasonToken.CLOUD_QUOTA] * 2
        world.complete(requests)
        assert world.sky.most == 2


def test_probe_quota() -> None:
    """The quota rises while nothing is there: six nodes come in all, and at most nine are asked for."""
    with Elastic(sizes=[SMALL]) as world:
        world.sky.quota = 2
        world.program = lambda _record: Program(seconds=10)
        world.complete(world.ask_for(4))
        world.until(lambda: not world.machines, 60)
        world.sky.quota = 4
        world.program = lambda _record: Program(seconds=300)
        requests = world.ask_for(4)
        world.until(lambda: world.phases == {"busy": 4}, 120)
        assert world.nodes_status().outcomes["joined"] == 6
        assert world.creates <= 9
        world.complete(requests)


@pytest.mark.parametrize("fault", [SkyFault.BARE, SkyFault.CREATE])
def test_no_hang_failing_node_create(fault: SkyFault) -> None:
    with Elastic() as world:
        world.sky.upcoming[fault] = 4
        request = world.ask()
        world.until(lambda: world.creates == 5, 150)
        world.complete([request])
        assert world.creates == 5
        assert world.nodes_status().outcomes["refused"] == 4


def test_retry_create() -> None:
    """429 with Retry-After 2, then 1."""
    with Elastic() as world:
        world.advance(1)
        world.sky.upcoming[SkyFault.RATE] = 2
        waits = iter([2.0, 1.0])
        world.sky.retry_after = next(waits)
        request = world.ask()
        world.until(lambda: world.creates == 1)
        world.sky.retry_after = next(waits)
        world.complete([request])
        tried = [at for at, method, _ in world.sky.journal if method == "create"]
        assert [at - tried[0] for at in tried] == pytest.approx([0, 2, 3])
        assert world.nodes_status().outcomes == {"joined": 1}, "nothing was refused"
