"""A reload: every option that is called live really takes effect, on actors that run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pykka
import pytest

from nodemanager.actors.driver import settle
from nodemanager.actors.pool import InlinePool, use_pool
from nodemanager.actors.supervisor import SupervisorActor
from nodemanager.actors.timer import TimerActor
from nodemanager.api.endpoint import Endpoint
from nodemanager.clock import ManualClock
from nodemanager.clouds.actor import CloudPace
from nodemanager.clouds.fake import Fate
from nodemanager.config import Config, parse
from nodemanager.config.reload import LIVE, merge
from nodemanager.daemon import Daemon, _changed, _plant
from nodemanager.dispatch.group import Plant
from nodemanager.errors import NodeManagerError
from nodemanager.model import ContainerState, NodeSize, Resources
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import NodePhase
from nodemanager.schedulers.actor import Pace
from nodemanager.status.settings import settings_from
from nodemanager.testing import GIB, Harness, Program

BASE = """\
[Cloud]
provider = loopback
[Size worker]
cores = 2
ram = 1536
scratch = 4000
price = 0.1
"""

SAMPLES = {
    "Dispatch": {
        "ping_interval": "7 s",
        "max_claimed": "7",
        "poll_time": "7 s",
        "full_list_interval": "7 min",
    },
    "Scheduler": {
        "poll_time": "7 s",
        "max_poll_time": "77 s",
        "commands_per_second": "7",
        "submit_batch": "7",
    },
    "Runner": {
        "command": "/opt/runner -x",
        "container_engine": "podman",
        "scratch": "/scratch7",
        "keep_scratch": "yes",
        "tempfail_exits": "7",
        "heartbeat": "7 s",
        "fenced_after": "77 s",
        "kill_grace": "7 s",
        "max_log_bytes": "7 MiB",
    },
    "Daemon": {
        "min_nodes": "1",
        "max_nodes": "7",
        "max_total_price": "7",
        "poll_time": "7 s",
        "max_poll_time": "7 min",
        "cloudlist_poll_time": "7 s",
        "nodelist_poll_time": "7 s",
        "wishlist_poll_time": "7 s",
        "poll_stale_after": "7 min",
        "boot_fail_after": "7 min",
        "consecutive_idle_count": "7",
    },
    "Cloud": {
        "shutdown_windows": "7, 8",
        "max_price_factor": "7",
        "boots_per_turn": "7",
        "turn_time": "7 s",
        "idle_time": "7 s",
        "max_boot_failures": "7",
        "brake_time": "7 min",
        "quota_pause": "7 min",
        "capacity_pause": "7 min",
        "capacity_pause_max": "77 min",
        "operations_per_second": "7",
    },
}
"""Another value for each live option that actors take up; the others have tests of their own."""

ELSEWHERE = {("Daemon", "watchdog")}


def with_option(section: str, option: str, text: str) -> str:
    line = f"{option} = {text}\n"
    return (
        BASE.replace("[Cloud]\n", f"[Cloud]\n{line}")
        if section == "Cloud"
        else f"{BASE}[{section}]\n{line}"
    )


def plant_of(config: Config) -> Plant:
    endpoint = Endpoint("https://127.0.0.1:1", "token-of-no-use", None)
    return _plant(config, endpoint, ManualClock(), object())  # type: ignore[arg-type]  # no timer is needed


def told(plant: Plant) -> list[Any]:
    """Everything that a reload can tell the actors."""
    assert plant.nodes is not None
    return [
        plant.settings,
        plant.template,
        plant.ping_seconds,
        [each.pace for each in plant.schedulers],
        plant.nodes.policy,
        plant.nodes.pace,
    ]


def test_there_is_a_sample_of_every_live_option() -> None:
    sampled = {(section, option) for section, options in SAMPLES.items() for option in options}
    live = {(section, option) for section, keys in LIVE.items() for option in keys or ()}
    # Those of [Scheduler NAME] are those of [Scheduler].
    assert sampled | ELSEWHERE == {(s, o) for s, o in live if s != "Scheduler NAME"}
    assert LIVE["Scheduler NAME"] == LIVE["Scheduler"]


@pytest.mark.parametrize(
    ("section", "option", "text"),
    [(section, o, text) for section, options in SAMPLES.items() for o, text in options.items()],
)
def test_each_live_option_reaches_the_actors(
    tmp_path: Path, section: str, option: str, text: str
) -> None:
    """What they would be told is what a restart would have told them."""
    file = tmp_path / "nodemanager.cfg"
    running, read = parse(BASE, file), parse(with_option(section, option, text), file)
    before = plant_of(running)
    changed = _changed(before, merge(running, read), Endpoint("https://127.0.0.1:1", "x", None))
    assert told(changed) != told(before)
    assert told(changed) == told(plant_of(read))


def test_limits_of_the_management_server_follow(tmp_path: Path) -> None:
    running = parse(BASE, tmp_path / "x.cfg")
    read = parse(f"{BASE}[Daemon]\nmax_nodes = 7\n[Manage]\nport = 0\n", tmp_path / "x.cfg")
    assert settings_from(merge(running, read)).max_nodes == 7
    assert settings_from(merge(running, read)).port == 0


def test_a_supervisor_that_is_gone_refuses_the_reload(tmp_path: Path) -> None:
    """Whoever asked would otherwise believe that everything was taken up."""
    running, read = (
        parse(f"{BASE}[Daemon]\nmax_nodes = {n}\n", tmp_path / "x.cfg") for n in (1, 7)
    )
    clock = ManualClock()
    with use_pool(pool := InlinePool()):
        daemon = Daemon(running, Endpoint("https://127.0.0.1:1", "x", None), clock)
        plant = daemon._plant = plant_of(running)
        supervisor = daemon._supervisor = SupervisorActor.start(TimerActor.start(clock), clock)
        daemon.reload(merge(running, read))
        changed = daemon._plant
        assert changed.nodes != plant.nodes
        supervisor.stop(block=False)
        settle(pool)
        with pytest.raises(NodeManagerError, match="cannot be told"):
            daemon.reload(running)
        pykka.ActorRegistry.stop_all()
    assert daemon._plant is changed


# What the actors do then.

SMALL = (NodeSize("small", Resources(2, 4 * GIB, 100 * GIB), 0.1),)


def for_ever(_record: Any) -> Program:
    return Program(seconds=None)


def running(world: Harness) -> int:
    return sum(held.container.state is ContainerState.RUNNING for held in world.status().containers)


def test_max_claimed_is_taken_up_at_once() -> None:
    with Harness(max_claimed=2, program=for_ever) as world:
        for _ in range(9):
            world.submit()
        world.advance(30)
        assert len(world.status().containers) == 2
        settings = replace(world.site.plant.settings, max_claimed=5)
        world.change(replace(world.site.plant, settings=settings))
        world.advance(2)
        assert len(world.status().containers) == 5


def test_a_template_holds_for_containers_that_come_from_then_on() -> None:
    with Harness(program=for_ever) as world:
        world.submit()
        world.advance(10)
        plant = world.site.plant
        world.change(replace(plant, template=replace(plant.template, command=("/opt/runner",))))
        world.submit()
        world.advance(10)
        jobs = sorted(world.site.cluster.jobs(), key=lambda job: job.job_id)
        programs = [job.spec.argv[0] for job in jobs]
        assert programs[0] != "/opt/runner"
        assert programs[1] == "/opt/runner"


def test_pings_come_at_the_new_interval() -> None:
    with Harness(ping_seconds=15.0) as world:
        world.advance(31)
        world.change(replace(world.site.plant, ping_seconds=2.0))
        world.advance(1)
        ages = []
        for _ in range(10):
            world.advance(1)
            ages.append(world.status().news.api_age_seconds or 0.0)
        assert max(ages) <= 2.0
        world.change(replace(world.site.plant, ping_seconds=60.0))
        world.advance(40)
        assert (world.status().news.api_age_seconds or 0.0) >= 39.0


def test_the_api_is_asked_at_the_new_interval() -> None:
    with Harness(claim_poll_seconds=1.0, max_claimed=100) as world:

        def calls(seconds: float) -> int:
            before = world.site.wire.calls
            world.advance(seconds)
            return world.site.wire.calls - before

        world.advance(60)
        often = calls(60)
        settings = replace(world.site.plant.settings, turn_seconds=20.0)
        world.change(replace(world.site.plant, settings=settings))
        world.advance(20)
        assert calls(60) < often / 5


def polls(world: Harness, seconds: float) -> int:
    before = len(world.site.scheduler.calls("poll"))
    world.advance(seconds)
    return len(world.site.scheduler.calls("poll")) - before


def test_the_scheduler_is_polled_at_the_new_pace() -> None:
    with Harness(scheduler_poll_seconds=5.0) as world:
        world.advance(60)
        assert polls(world, 60) == pytest.approx(12, abs=1)
        [only] = world.site.plant.schedulers
        slower = replace(only, pace=Pace(poll_seconds=20.0))
        world.change(replace(world.site.plant, schedulers=(slower,)))
        world.advance(20)
        assert polls(world, 60) == pytest.approx(3, abs=1)
        faster = replace(only, pace=Pace(poll_seconds=1.0))
        world.change(replace(world.site.plant, schedulers=(faster,)))
        assert polls(world, 10) >= 9, "nobody waits for the end of the long pause"


def elastic(**policy: Any) -> Harness:
    return Harness(
        nodes=(),
        sizes=SMALL,
        node_policy=NodePolicy(**{"max_nodes": 1, "shutdown_windows": (0.0, 999999.0), **policy}),
        program=for_ever,
        # Less to do in each virtual second.
        claim_poll_seconds=10.0,
        scheduler_poll_seconds=10.0,
    )


def follow(world: Harness, **policy: Any) -> None:
    plant = world.site.plant
    assert plant.nodes is not None
    nodes = replace(plant.nodes, policy=replace(plant.nodes.policy, **policy))
    world.change(replace(plant, nodes=nodes))


def here(world: Harness) -> int:
    phases = {NodePhase.IDLE, NodePhase.BUSY}
    return sum(node.phase in phases for node in world.nodes_status().nodes)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"max_nodes": 1}, {"max_nodes": 3}),
        ({"max_nodes": 9, "max_total_price": 0.1}, {"max_total_price": 0.3}),
    ],
)
def test_more_nodes_are_booted_as_soon_as_they_may(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    with elastic(**before) as world:
        for _ in range(9):
            world.submit(runtime_constraints={"vcpus": 2, "ram": 1 << 28})
        world.advance(150)
        assert here(world) == 1
        follow(world, **after)
        world.advance(150)
        assert here(world) == 3


def test_nodes_that_are_kept_up_come_and_go() -> None:
    with elastic(max_nodes=4) as world:
        world.advance(30)
        assert here(world) == 0
        follow(world, min_nodes=2)
        world.advance(150)
        assert here(world) == 2
        follow(world, min_nodes=0)
        world.advance(150)
        assert here(world) == 0


def test_nodes_that_are_there_follow_the_new_policy() -> None:
    """Their own actors judge by it: how long a boot may take, when a node may be shut."""
    with elastic(boot_fail_after=3600.0) as world:
        assert world.site.sky is not None
        world.site.sky.fates = lambda _machine: Fate(boot_seconds=None)
        world.submit()
        world.advance(120)
        [node] = world.nodes_status().nodes
        assert node.phase is NodePhase.BOOTING
        follow(world, boot_fail_after=100.0)
        world.advance(15)
        assert node.name not in {
            n.name for n in world.nodes_status().nodes if n.phase is NodePhase.BOOTING
        }


def test_the_cloud_is_listed_at_the_new_pace() -> None:
    with elastic() as world:
        sky = world.site.sky
        assert sky is not None

        def lists(seconds: float) -> int:
            before = sky.calls("list")
            world.advance(seconds)
            return sky.calls("list") - before

        world.advance(60)
        assert lists(100) == pytest.approx(10, abs=1)
        plant = world.site.plant
        assert plant.nodes is not None
        slow = replace(plant.nodes, pace=CloudPace(list_seconds=50.0, operations_per_second=100.0))
        world.change(replace(plant, nodes=slow))
        world.advance(50)
        assert lists(100) == pytest.approx(2, abs=1)


def test_actors_that_are_started_anew_have_it_too() -> None:
    with Harness(max_claimed=2, program=for_ever) as world:
        for _ in range(9):
            world.submit()
        settings = replace(world.site.plant.settings, max_claimed=5)
        world.change(replace(world.site.plant, settings=settings))
        world.restart(world.site)
        world.advance(30)
        assert len(world.status().containers) == 5
