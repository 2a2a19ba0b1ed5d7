"""Every reason appears for real: a whole dispatch in which a container waits just for that, read as a user reads it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from nodemanager.api.story import SaidReason, read_story
from nodemanager.clouds.fake import Fate, SkyFault
from nodemanager.dispatch import explaining
from nodemanager.dispatch.group import SchedulerPlant
from nodemanager.model import Node, NodeSize, NodeState, Resources, format_time
from nodemanager.nodes.policy import NodePolicy
from nodemanager.outcome import End, EndKind
from nodemanager.reason import Knob, Reason, ReasonToken
from nodemanager.reason.tokens import TABLE
from nodemanager.rule import Rule, Span
from nodemanager.schedulers.fake import Fault, Script
from nodemanager.schedulers.kubernetes.pending import reason_on_node
from nodemanager.schedulers.slurm.pending import reason_of
from nodemanager.testing import GIB, Harness, MemoryResource, Program

Scene: TypeAlias = Callable[[], Iterator[tuple[Harness, str]]]
"""Makes a world, gives it and the request that waits there once it does, and cleans up."""

ROOM = Resources(4, 8 * GIB, 100 * GIB)
SIZE = NodeSize("small", Resources(4, 8 * GIB, 100 * GIB), 0.1)
FOREVER = Program(seconds=None)
FOR_ALL = {"runtime_constraints": {"vcpus": 4, "ram": GIB}}

SCENES: dict[ReasonToken, Scene] = {}


def scene(token: ReasonToken) -> Callable[[Scene], Scene]:
    """What follows ends with a container that waits for this."""

    def note(made: Scene) -> Scene:
        SCENES[token] = made
        return made

    return note


def busy(**more: Any) -> Harness:
    """A world whose only node a job has for itself, and whose dispatcher claims more than has room."""
    world = Harness(program=lambda _record: FOREVER, max_claimed=9, **more)
    world.submit(**FOR_ALL)
    world.advance(10)
    return world


def elastic(**policy: Any) -> Harness:
    """A world that boots its nodes."""
    return Harness(
        nodes=(),
        sizes=(SIZE,),
        node_policy=NodePolicy(max_nodes=policy.pop("max_nodes", 1), **policy),
        program=lambda _record: FOREVER,
    )


def said_of_a_waiting_job(reason: Reason | None) -> Iterator[tuple[Harness, str]]:
    with busy() as world:
        world.site.cluster.waits_for = reason
        request = world.submit()
        world.advance(20)
        yield world, request


@scene(ReasonToken.NO_NODE_FITS)
def no_node_fits() -> Iterator[tuple[Harness, str]]:
    with Harness() as world:
        request = world.submit(runtime_constraints={"vcpus": 64, "ram": GIB})
        world.advance(10)
        yield world, request


@scene(ReasonToken.NO_PARTITION)
def no_partition() -> Iterator[tuple[Harness, str]]:
    node = Node("node1", NodeState.IDLE, ROOM, ROOM, ("main",))
    with Harness(nodes=(node,)) as world:
        request = world.submit(scheduling_parameters={"partitions": ["gpu"]})
        world.advance(10)
        yield world, request


@scene(ReasonToken.NO_SCHEDULER)
def no_scheduler() -> Iterator[tuple[Harness, str]]:
    with Harness() as world:
        site = world.site
        only = site.plant.schedulers[0]
        wide = SchedulerPlant(only.make, only.pace, "wide", Rule(cores=Span(2)))
        gpus = SchedulerPlant(only.make, only.pace, "gpus", Rule(gpus=Span(1)))
        world.kill(site)
        site.plant = replace(site.plant, schedulers=(wide, gpus))
        world.start(site)
        request = world.submit()
        world.advance(10)
        yield world, request


@scene(ReasonToken.SCHEDULER_REFUSES)
def scheduler_refuses() -> Iterator[tuple[Harness, str]]:
    yield from said_of_a_waiting_job(reason_of("PartitionTimeLimit"))


@scene(ReasonToken.ON_HOLD)
def on_hold() -> Iterator[tuple[Harness, str]]:
    deleted = Program(end=End(EndKind.OPERATOR_DELETED, detail="scancel"), reports=False)
    with Harness(program=lambda _record: deleted) as world:
        request = world.submit()
        world.advance(20)
        yield world, request


@scene(ReasonToken.CLAIMS_PAUSED)
def claims_paused() -> Iterator[tuple[Harness, str]]:
    with Harness() as world:
        world.call("dispatchers", "pause_all", body={"reason": "new switch until noon"})
        request = world.submit()
        world.advance(40)
        yield world, request


@scene(ReasonToken.SCHEDULER_HOLD)
def scheduler_hold() -> Iterator[tuple[Harness, str]]:
    yield from said_of_a_waiting_job(reason_of("JobHeldAdmin"))


@scene(ReasonToken.CLAIM_LIMIT)
def claim_limit() -> Iterator[tuple[Harness, str]]:
    with Harness(program=lambda _record: FOREVER, max_claimed=1) as world:
        world.submit()
        request = world.submit()
        world.advance(10)
        yield world, request


@scene(ReasonToken.SCHEDULER_LIMIT)
def scheduler_limit() -> Iterator[tuple[Harness, str]]:
    with Harness() as world:
        world.site.scheduler.faults.max_jobs = 0
        request = world.submit()
        world.advance(10)
        yield world, request


@scene(ReasonToken.NODE_LIMIT)
def node_limit() -> Iterator[tuple[Harness, str]]:
    with elastic() as world:
        world.submit(**FOR_ALL)
        request = world.submit(**FOR_ALL)
        world.advance(90)
        yield world, request


@scene(ReasonToken.CLOUD_QUOTA)
def cloud_quota() -> Iterator[tuple[Harness, str]]:
    with elastic(max_nodes=9) as world:
        assert world.site.sky is not None
        world.site.sky.quota = 1
        world.submit(**FOR_ALL)
        request = world.submit(**FOR_ALL)
        world.advance(90)
        yield world, request


@scene(ReasonToken.NO_CAPACITY)
def no_capacity() -> Iterator[tuple[Harness, str]]:
    with elastic() as world:
        assert world.site.sky is not None
        world.site.sky.no_capacity = {"small"}
        request = world.submit()
        world.advance(90)
        yield world, request


@scene(ReasonToken.BOOT_BRAKE)
def boot_brake() -> Iterator[tuple[Harness, str]]:
    with elastic(max_boot_failures=1, boot_fail_after=30.0) as world:
        assert world.site.sky is not None
        world.site.sky.fates = lambda _machine: Fate(boot_seconds=None)
        request = world.submit()
        world.advance(90)
        yield world, request


@scene(ReasonToken.RUN_AFTER)
def run_after() -> Iterator[tuple[Harness, str]]:
    with Harness() as world:
        request = world.submit(run_after=format_time(world.clock.wall() + 500))
        world.advance(10)
        yield world, request


@scene(ReasonToken.BACKOFF)
def backoff() -> Iterator[tuple[Harness, str]]:
    lost = Program(end=End(EndKind.NODE_LOST, detail="node1 is down"), reports=False)
    with Harness(program=lambda _record: lost) as world:
        request = world.submit()
        world.advance_until(lambda: len(world.attempts(request)) == 5)
        world.advance(3)
        yield world, request


@scene(ReasonToken.GIVEN_BACK)
def given_back() -> Iterator[tuple[Harness, str]]:
    with Harness(program=lambda _record: replace(FOREVER, confirms=False)) as world:
        request = world.submit()
        world.advance(10)
        uuid = world.container_of(request)["uuid"]
        me = MemoryResource(world.service, world.site.token, world.site.wire)
        me.containers().unlock(uuid=uuid).execute()
        world.advance(20)
        yield world, request


@scene(ReasonToken.SUBMITTING)
def submitting() -> Iterator[tuple[Harness, str]]:
    with busy() as world:
        request = world.submit()
        world.advance(10)
        world.site.scheduler.faults.unknown.add(world.container_of(request)["uuid"])
        world.restart(world.site)
        world.advance(20)
        yield world, request


@scene(ReasonToken.SCHEDULER_DOWN)
def scheduler_down() -> Iterator[tuple[Harness, str]]:
    with busy() as world:
        request = world.submit()
        world.advance(10)
        world.site.scheduler.faults.upcoming[Fault.POLL] = 1000
        world.advance(180)
        yield world, request


@scene(ReasonToken.NODES_UNKNOWN)
def nodes_unknown() -> Iterator[tuple[Harness, str]]:
    with elastic(poll_stale_after=30.0) as world:
        assert world.site.sky is not None
        world.advance(20)
        world.site.sky.upcoming[SkyFault.LIST] = 1000
        world.advance(60)
        request = world.submit()
        world.advance(20)
        yield world, request


@scene(ReasonToken.WAITING_FOR_RESOURCES)
def waiting_for_resources() -> Iterator[tuple[Harness, str]]:
    yield from said_of_a_waiting_job(reason_of("Resources"))


@scene(ReasonToken.SCHEDULER_WAIT)
def scheduler_wait() -> Iterator[tuple[Harness, str]]:
    yield from said_of_a_waiting_job(None)


@scene(ReasonToken.NODE_BOOTING)
def node_booting() -> Iterator[tuple[Harness, str]]:
    with elastic() as world:
        request = world.submit()
        world.advance(20)
        yield world, request


@scene(ReasonToken.START_TROUBLE)
def start_trouble() -> Iterator[tuple[Harness, str]]:
    words = 'manifest for "nope:1" not found'
    yield from said_of_a_waiting_job(reason_on_node("k1", "ErrImagePull", words))


@scene(ReasonToken.STARTING)
def starting() -> Iterator[tuple[Harness, str]]:
    with Harness(program=lambda _record: replace(FOREVER, confirms=False)) as world:
        request = world.submit()
        world.advance(10)
        yield world, request


@scene(ReasonToken.CANCELLING)
def cancelling() -> Iterator[tuple[Harness, str]]:
    with Harness(program=lambda _record: replace(FOREVER, confirms=False)) as world:
        world.site.cluster.script = lambda _spec: Script(seconds=None, term_seconds=None)
        world.site.cluster.kill_grace = 600.0
        request = world.submit()
        world.advance(10)
        world.cancel(request)
        world.advance(10)
        yield world, request


@scene(ReasonToken.NOT_SEEN)
def not_seen() -> Iterator[tuple[Harness, str]]:
    with Harness() as world:
        world.advance(1)
        world.kill(world.site)
        yield world, world.submit()


@contextmanager
def waiting(token: ReasonToken) -> Iterator[tuple[Harness, str]]:
    """The world of the token's scene, and its request."""
    made = SCENES[token]()
    try:
        yield next(made)
    finally:
        # Whatever the scene opened is closed.
        for _ in made:
            pass


def said_of(world: Harness, request: str) -> SaidReason:
    return read_story(world.root, request, world.clock).reasons[0]


@pytest.mark.parametrize("token", ReasonToken)
def test_every_reason_appears(token: ReasonToken) -> None:
    with waiting(token) as (world, request):
        said = said_of(world, request)
        reason = said.reason
        assert reason.token is token
        assert reason.advice or reason.knob is Knob.NOBODY
        assert set(reason.facts) <= known_facts(token), "the table names every fact"
        assert reason.since <= world.clock.wall()
        if said.dispatcher:
            assert said.last_checked is not None
            # It is written down with each ping.
            assert world.clock.wall() - said.last_checked <= world.ping_seconds + 1
            assert_shown_alike(world, reason)
        assert_just_what_waits_has_a_reason(world)


def known_facts(token: ReasonToken) -> set[str]:
    return {name for names in TABLE[token].facts for name in names.split(", ")}


def assert_shown_alike(world: Harness, reason: Reason) -> None:
    """The daemon itself shows what the API was told."""
    status = world.status()
    shown: list[Reason | None] = [held.reason for held in status.containers]
    shown += [queued.reason for queued in status.queued]
    assert any(each is not None and reason.same_as(each) for each in shown)


def assert_just_what_waits_has_a_reason(world: Harness) -> None:
    """Whatever else waits in this world has one, too, and nothing that does not."""
    for record in world.call("containers", "list", limit=100)["items"]:
        story = read_story(world.root, record["uuid"], world.clock)
        assert bool(story.reasons) is (str(story.current.state) in ("Queued", "Locked"))


class TestALongQueue:
    @pytest.fixture(autouse=True)
    def short_sight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(explaining, "EXPLAINED", 3)

    def test_the_most_urgent_ones_are_explained_and_the_rest_is_not_seen(self) -> None:
        with Harness(program=lambda _record: FOREVER, max_claimed=1) as world:
            requests = [world.submit() for _ in range(8)]
            world.advance(10)
            tokens = [said_of(world, request).reason.token for request in requests[1:]]
        assert tokens == [ReasonToken.CLAIM_LIMIT] * 3 + [ReasonToken.NOT_SEEN] * 4

    def test_who_is_overtaken_does_not_keep_the_words_of_better_days(self) -> None:
        with Harness(program=lambda _record: FOREVER, max_claimed=1) as world:
            world.submit()
            overtaken = world.submit(priority=100)
            world.advance(10)
            assert said_of(world, overtaken).reason.token is ReasonToken.CLAIM_LIMIT
            urgent = [world.submit(priority=900) for _ in range(3)]
            world.advance(10)
            reason = said_of(world, overtaken).reason
            assert reason.token is ReasonToken.NOT_SEEN
            assert "more urgent" in reason.sentence
            for request in urgent:
                world.cancel(request)
            world.advance(10)
            assert said_of(world, overtaken).reason.token is ReasonToken.CLAIM_LIMIT


def test_a_scheduler_that_answers_again_is_no_reason_any_more() -> None:
    with waiting(ReasonToken.SCHEDULER_DOWN) as (world, request):
        world.site.scheduler.faults.upcoming[Fault.POLL] = 0
        world.advance(300)
        assert said_of(world, request).reason.token is ReasonToken.SCHEDULER_WAIT


def test_what_a_dispatcher_says_is_fresh_although_it_claims_nothing_for_long() -> None:
    with waiting(ReasonToken.CLAIM_LIMIT) as (world, request):
        began = said_of(world, request)
        world.advance(200)
        said = said_of(world, request)
        assert said.reason == began.reason
        assert said.last_checked is not None
        assert world.clock.wall() - said.last_checked <= world.ping_seconds + 1


def test_nothing_said_is_fresh_while_the_api_cannot_be_asked_for_the_queue() -> None:
    with waiting(ReasonToken.CLAIM_LIMIT) as (world, request):
        world.kill(world.site)
        began = world.clock.wall()
        world.advance(200)
        checked = said_of(world, request).last_checked
        assert checked is not None
        assert checked <= began
