"""What `GET /metrics` tells: pure, over HTTP, and of a whole dispatch."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nodemanager import __version__, metrics
from nodemanager.actors.actor import Actor
from nodemanager.actors.census import Census, ClassCount, take_census
from nodemanager.actors.pool import ActorPool, use_pool
from nodemanager.api.base import Identity
from nodemanager.clouds.fake import Fate, SkyFault
from nodemanager.dispatch.messages import HeldContainer, QueuedContainer, Status
from nodemanager.errors import NodeManagerError, SchedulerError
from nodemanager.model import Container, ContainerState, NodeSize, Resources
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import NodePhase
from nodemanager.outcome import End, EndKind
from nodemanager.reason import Reason, ReasonToken
from nodemanager.schedulers.commands import Commands
from nodemanager.schedulers.fake import Fault
from nodemanager.status.look import DaemonLook
from nodemanager.status.metrics import FAMILIES, reading_of, text_of
from nodemanager.status.settings import ManageSettings
from nodemanager.status.waits import TOKENS, waits_of
from nodemanager.testing import GIB, Harness, Program
from tests.status.conftest import Serve
from tests.status.daemon import DISPATCHER, LOOK, NODES, NOW, TOKEN, Client, StandIn, container

SETTINGS = ManageSettings(port=0, max_nodes=8, max_total_price=2.5, sizes=("small", "big", "huge"))
BOUND_SECONDS = 20.0


@dataclass(frozen=True)
class Shown:
    """A scrape, to look values up in."""

    text: str

    def value(self, name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                if sample.name == metrics.PREFIX + name and sample.labels == labels:
                    return float(sample.value)
        return None

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """By the values of the labels, in the order of their names; only those that are not 0."""
        return {
            tuple(text for _, text in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == metrics.PREFIX + name and sample.value
        }

    def label_values(self) -> set[str]:
        return {
            text
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            for text in sample.labels.values()
        }


def shown(look: DaemonLook | None = LOOK, census: Census | None = None) -> Shown:
    return Shown(text_of(reading_of(SETTINGS, census or Census(), look)).decode())


def counted(name: str, **labels: str) -> float:
    """A counter, or the number of observations, so far."""
    return metrics.REGISTRY.get_sample_value(metrics.PREFIX + name, labels) or 0.0


def held(token: ReasonToken | None, age: float = 900, **changes: Any) -> HeldContainer:
    given = replace(container("zzzzz-dz642-aaaaaaaaaaaaaaa"), created_at=NOW - age, **changes)
    return HeldContainer(given, None if token is None else Reason(token, "words"))


def queued(token: ReasonToken | None, age: float = 900, **changes: Any) -> QueuedContainer:
    given = replace(held(None, age).container, state=ContainerState.QUEUED, **changes)
    return QueuedContainer(given, None if token is None else Reason(token, "words"))


def with_containers(
    claimed: tuple[HeldContainer, ...] = (), unclaimed: tuple[QueuedContainer, ...] = ()
) -> DaemonLook:
    return replace(LOOK, dispatcher=replace(DISPATCHER, containers=claimed, queued=unclaimed))


# Gauges.


def test_what_waits_is_counted_by_reason() -> None:
    seen = shown(
        with_containers(
            (
                held(ReasonToken.NODE_BOOTING),
                held(ReasonToken.NODE_BOOTING),
                held(ReasonToken.STARTING),
                held(None, state=ContainerState.RUNNING),
            ),
            (queued(ReasonToken.NO_NODE_FITS), queued(None)),
        )
    )
    assert seen.values("queue_depth") == {
        ("no", "no-node-fits"): 1,
        ("no", "none"): 1,
        ("yes", "node-booting"): 2,
        ("yes", "starting"): 1,
    }
    assert seen.values("containers") == {("Locked",): 3, ("Running",): 1, ("Queued",): 2}


def test_a_token_that_nobody_waits_for_is_told_as_0() -> None:
    seen = shown(with_containers())
    for token in TOKENS:
        assert seen.value("queue_depth", claimed="yes", reason=token) == 0
        assert seen.value("oldest_wait_seconds", reason=token) == 0


def test_the_longest_wait_begins_when_a_container_could_have_run() -> None:
    seen = shown(
        with_containers(
            (held(ReasonToken.NODE_LIMIT, age=100), held(ReasonToken.NODE_LIMIT, age=3000)),
            (
                queued(ReasonToken.NODE_LIMIT, age=500),
                queued(ReasonToken.CLAIM_LIMIT, age=9000, run_after=NOW - 70),
                queued(ReasonToken.RUN_AFTER, age=9000, run_after=NOW + 70),
            ),
        )
    )
    assert seen.values("oldest_wait_seconds") == {("node-limit",): 3000, ("claim-limit",): 70}


def test_containers_that_cost_too_much_are_counted() -> None:
    dear = Reason(ReasonToken.NODE_LIMIT, "words", {"price": 2.4, "max_total_price": 2.5})
    many = Reason(ReasonToken.NODE_LIMIT, "words", {"nodes": 8, "max_nodes": 8})
    claimed = held(None).container
    seen = shown(
        with_containers(
            (HeldContainer(claimed, dear), HeldContainer(claimed, many)),
            (QueuedContainer(claimed, dear),),
        )
    )
    assert seen.value("cost_limited_containers") == 2


def test_nodes_and_what_they_cost() -> None:
    seen = shown()
    assert seen.values("nodes") == {
        ("busy", "small"): 1,
        ("booting", "big"): 1,
        ("draining", "unknown"): 1,
    }
    assert seen.value("nodes", phase="idle", size="huge") == 0
    assert seen.values("wishlist_nodes") == {("small",): 2, ("big",): 1}
    assert seen.value("wishlist_containers") == 7
    assert seen.value("wishlist_unplaced_containers") == 1
    assert (seen.value("cost_per_hour"), seen.value("cost_limit_per_hour")) == (0.9, 2.5)
    assert (seen.value("nodes_limit"), seen.value("nodes_quota")) == (8, 3)
    assert seen.values("size_unavailable_seconds") == {("huge",): 41.23456}
    assert (seen.value("boot_brake"), seen.value("nodes_stale")) == (1, 0)
    assert seen.value("bootable_cores") == 16
    assert seen.values("scheduler_nodes") == {("busy",): 1, ("draining",): 1}


def test_the_node_that_is_idle_longest() -> None:
    assert shown().value("idle_longest_seconds") == 0
    idle = replace(NODES, idle_times={"a": 5.0, "b": 7.5})
    assert shown(replace(LOOK, nodes=idle)).value("idle_longest_seconds") == 7.5


def test_a_lease_that_is_over_is_0() -> None:
    assert shown().value("lease_left_seconds") == 555.55
    assert shown().value("dispatcher_registered") == 1
    over = replace(DISPATCHER, lease_seconds=-3.0)
    assert shown(replace(LOOK, dispatcher=over)).value("lease_left_seconds") == 0
    anew = replace(DISPATCHER, me=None, lease_seconds=float("-inf"))
    assert shown(replace(LOOK, dispatcher=anew)).value("lease_left_seconds") == 0
    assert shown(replace(LOOK, dispatcher=anew)).value("dispatcher_registered") == 0
    assert shown(replace(LOOK, dispatcher=None)).value("lease_left_seconds") == 0


def test_what_nobody_can_tell_has_no_sample() -> None:
    blind = shown(None)
    assert blind.value("look_success") == 0
    assert blind.value("lease_left_seconds") is None
    assert blind.value("cost_per_hour") is None
    assert blind.value("cost_limit_per_hour") == 2.5
    without_nodes = shown(replace(LOOK, nodes=None))
    assert without_nodes.value("look_success") == 1
    assert without_nodes.value("boot_brake") is None
    assert shown(replace(LOOK, nodes=replace(NODES, quota=None))).value("nodes_quota") is None
    unlimited = text_of(reading_of(ManageSettings(), Census(), LOOK)).decode()
    assert Shown(unlimited).value("cost_limit_per_hour") is None


def test_actors_are_told_without_a_look() -> None:
    classes = {"NodeActor": ClassCount(3, 5, 4, 1.5), "Timer": ClassCount(1)}
    seen = shown(None, Census(classes, {"NodeActor": 2, "Gone": 1}))
    assert seen.values("actors") == {("NodeActor",): 3, ("Timer",): 1}
    assert seen.values("mailbox_messages") == {("NodeActor",): 5}
    assert seen.values("mailbox_longest_messages") == {("NodeActor",): 4}
    assert seen.values("unfinished_work_seconds") == {("NodeActor",): 1.5}
    assert seen.values("actor_failures_total") == {("NodeActor",): 2, ("Gone",): 1}
    assert seen.value("actor_failures_total", actor="Timer") == 0, "it is there before it counts"


def test_the_build_is_told() -> None:
    [labels] = shown().values("build_info")
    assert {"local", "none", __version__} <= set(labels)


REASONS = st.none() | st.builds(Reason, st.sampled_from(ReasonToken), st.text(max_size=5))
CONTAINERS = st.builds(
    Container,
    uuid=st.just("zzzzz-dz642-aaaaaaaaaaaaaaa"),
    state=st.sampled_from(ContainerState),
    priority=st.just(1),
    resources=st.just(Resources(1, 1)),
    created_at=st.floats(NOW - 1e6, NOW + 1e3),
    run_after=st.none() | st.floats(NOW - 1e6, NOW + 1e6),
)


@given(
    st.lists(st.builds(HeldContainer, CONTAINERS, REASONS), max_size=8),
    st.lists(st.builds(QueuedContainer, CONTAINERS, REASONS), max_size=8),
)
def test_all_that_wait_are_counted_once(
    claimed: list[HeldContainer], unclaimed: list[QueuedContainer]
) -> None:
    status = Status(Identity("d", 1), 1.0, (), tuple(claimed), tuple(unclaimed))
    waits = waits_of(status, NOW)
    assert sum(waits.claimed.values()) == sum(c.reason is not None for c in claimed)
    assert sum(waits.queued.values()) == len(unclaimed)
    assert sum(waits.states.values()) == len(claimed) + len(unclaimed)
    assert waits.longest_seconds.keys() == waits.claimed.keys() | waits.queued.keys()
    assert all(seconds >= 0 for seconds in waits.longest_seconds.values())
    assert waits.longest_seconds.keys() <= set(TOKENS)


# Over HTTP.


def fetch(client: Client, token: str | None = TOKEN) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(*client.address, timeout=BOUND_SECONDS)
    try:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode(), dict(response.getheaders())
    finally:
        connection.close()


def test_a_scrape(client: Client, daemon: StandIn) -> None:
    status, text, headers = fetch(client)
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert Shown(text).value("cost_per_hour") == 0.9
    assert TOKEN not in text


def test_a_scrape_needs_the_token_where_there_is_one(client: Client, serve: Serve) -> None:
    assert fetch(client, None)[0] == 401
    assert fetch(client, "another")[0] == 403
    assert fetch(serve(management_token=""), None)[0] == 200


def test_scrapes_share_the_look_of_all_readers(client: Client, daemon: StandIn) -> None:
    for _ in range(3):
        assert fetch(client)[0] == 200
    Client(client.url, TOKEN).get("/status.json")
    assert daemon.looks == 1


def test_actors_that_do_not_answer_do_not_silence_the_rest(serve: Serve, daemon: StandIn) -> None:
    client = serve(patience_seconds=0.1)
    daemon.answers.clear()
    status, text, _ = fetch(client)
    assert status == 200
    assert Shown(text).value("look_success") == 0
    assert Shown(text).value("nodes_limit") == 8
    assert "arvados_node_manager_containers_claimed_total" in text


def test_a_look_that_fails_is_told(client: Client, daemon: StandIn) -> None:
    daemon.answer = NodeManagerError("the dispatcher is in the bath")
    status, text, _ = fetch(client)
    assert (status, Shown(text).value("look_success")) == (200, 0)
    assert "bath" not in text


def test_every_family_is_named_also_without_samples(client: Client, daemon: StandIn) -> None:
    daemon.answer = NodeManagerError("no")
    text = fetch(client)[1]
    for family in FAMILIES:
        assert f"# HELP {metrics.PREFIX}{family.name.removesuffix('_total')}" in text


# Actors, seen from outside.


class Sleeper(Actor):
    """Does what it is told: waits for an event."""

    def on_receive(self, message: Any) -> None:
        message.wait(BOUND_SECONDS)


@pytest.fixture
def sleeper() -> Iterator[pykka.ActorRef[Sleeper]]:
    pool = ActorPool()
    with use_pool(pool):
        yield Sleeper.start()
        assert pool.close(BOUND_SECONDS)


def test_a_stuck_actor_shows_and_its_mailbox_fills(sleeper: pykka.ActorRef[Sleeper]) -> None:
    wake, busy = threading.Event(), threading.Event()

    class Telling(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            busy.set()
            return wake.wait(timeout)

    sleeper.tell(Telling())
    assert busy.wait(BOUND_SECONDS)
    done = threading.Event()
    done.set()
    for _ in range(3):
        sleeper.tell(done)
    first = take_census()
    assert first.classes["Sleeper"].messages == 3
    assert first.classes["Sleeper"].longest_mailbox == 3
    began = first.classes["Sleeper"].longest_work_seconds
    assert began > 0
    while (now := take_census().classes["Sleeper"].longest_work_seconds) <= began:
        pass
    assert first.pool is not None
    assert first.pool.workers > 0
    wake.set()
    sleeper.ask(done, timeout=BOUND_SECONDS)
    last = take_census().classes["Sleeper"]
    assert now > began
    assert last.messages == 0
    assert last.longest_work_seconds < now


# Counters, of a whole dispatch.

SIZES = (NodeSize("small", Resources(2, 4 * GIB, 100 * GIB), 0.1),)


@pytest.fixture
def elastic() -> Iterator[Harness]:
    policy = NodePolicy(max_nodes=2, shutdown_windows=(0.0, 999999.0), max_boot_failures=2)
    with Harness(
        nodes=(),
        sizes=SIZES,
        node_policy=policy,
        program=lambda record: PROGRAMS[record["command"][0]],
        claim_poll_seconds=10.0,
        scheduler_poll_seconds=10.0,
        cloud_poll_seconds=20.0,
    ) as made:
        yield made


PROGRAMS = {
    "good": Program(seconds=30),
    "bad": Program(seconds=30, end=End(EndKind.EXITED, 3)),
    "unlucky": Program(seconds=30, end=End(EndKind.NODE_LOST), reports=False),
    "long": Program(seconds=None),
}


class Increase:
    """By how much counters grow within the block."""

    def __init__(self) -> None:
        self._before = self._all()

    @staticmethod
    def _all() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in metrics.REGISTRY.collect()
            for sample in family.samples
        }

    def of(self, name: str, **labels: str) -> float:
        key = (metrics.PREFIX + name, frozenset(labels.items()))
        return self._all().get(key, 0.0) - self._before.get(key, 0.0)


def test_a_container_leaves_its_traces(elastic: Harness) -> None:
    grown = Increase()
    request = elastic.submit(command=["good"])
    elastic.advance_until(lambda: elastic.request(request)["state"] == "Final")
    elastic.advance(60)
    assert grown.of("containers_claimed_total") == 1
    assert grown.of("containers_started_total") == 1
    assert grown.of("containers_finished_total", state="Complete", end="exited") == 1
    assert grown.of("jobs_submitted_total", scheduler="fake", outcome="accepted") == 1
    for stage in ("claim", "submit", "start", "run"):
        assert grown.of("container_stage_duration_seconds_count", stage=stage) == 1, stage
    # It is told of changes every 10 s.
    assert 20 <= grown.of("container_stage_duration_seconds_sum", stage="run") <= 40
    assert grown.of("boot_outcomes_total", outcome="joined", size="small") == 1
    assert grown.of("boot_duration_seconds_count", outcome="joined", size="small") == 1
    assert grown.of("cloud_requests_total", operation="create", outcome="ok") == 1
    assert grown.of("cloud_requests_total", operation="list", outcome="ok") > 1
    assert grown.of("api_calls_total", method="containers.claim", outcome="ok") > 0
    assert grown.of(
        "scheduler_call_duration_seconds_count", scheduler="fake", call="poll", outcome="ok"
    )
    assert grown.of("packing_duration_seconds_count") > 0
    assert grown.of("container_retries_total", kind="temp") == 0
    now = elastic.clock.wall()
    assert now - counted("last_poll_timestamp_seconds", source="scheduler", scheduler="fake") < 30
    assert now - counted("last_poll_timestamp_seconds", source="cloud", scheduler="") < 40
    assert now - counted("last_poll_timestamp_seconds", source="queue", scheduler="") < 30
    assert now - counted("last_poll_timestamp_seconds", source="changes", scheduler="") < 30
    assert now - counted("last_ping_timestamp_seconds") <= elastic.ping_seconds


def test_failures_and_retries_are_told_apart(elastic: Harness) -> None:
    grown = Increase()
    bad = elastic.submit(command=["bad"])
    elastic.submit(command=["unlucky"])
    elastic.advance_until(lambda: elastic.request(bad)["state"] == "Final")
    elastic.advance_until(lambda: grown.of("container_retries_total", kind="temp") > 0)
    assert grown.of("containers_finished_total", state="PermFail", end="exited") == 1
    assert grown.of("containers_finished_total", state="TempFail", end="node-lost") >= 1
    assert grown.of("container_retries_total", kind="perm") == 0


def test_a_second_try_after_a_fault_of_the_program_is_a_retry_of_another_kind(
    elastic: Harness,
) -> None:
    grown = Increase()
    bad = elastic.submit(command=["bad"], container_count_max=2)
    elastic.advance_until(lambda: elastic.request(bad)["state"] == "Final")
    assert grown.of("container_retries_total", kind="perm") == 1


def test_a_cancelled_container_is_counted_and_no_stage_is_timed(elastic: Harness) -> None:
    request = elastic.submit(command=["long"])
    elastic.advance_until(lambda: elastic.container_of(request)["state"] == "Locked")
    grown = Increase()
    elastic.cancel(request)
    elastic.advance(120)
    cancelled = sum(
        grown.of("containers_finished_total", state="Cancelled", end=end)
        for end in ("none", *EndKind)
    )
    assert cancelled == 1
    assert grown.of("container_stage_duration_seconds_count", stage="start") == 0
    assert grown.of("container_stage_duration_seconds_count", stage="run") == 0


def test_what_is_adopted_is_not_claimed_again(elastic: Harness) -> None:
    request = elastic.submit(command=["long"])
    elastic.advance_until(lambda: elastic.container_of(request)["state"] == "Running")
    grown = Increase()
    elastic.restart(elastic.site)
    elastic.advance(60)
    assert grown.of("containers_adopted_total") == 1
    assert grown.of("containers_claimed_total") == 0
    assert grown.of("dispatcher_registrations_total") == 1
    elastic.cancel(request)
    elastic.advance(120)
    assert grown.of("container_stage_duration_seconds_count", stage="run") == 0, "unknown how long"


def test_boots_that_come_to_nothing(elastic: Harness) -> None:
    sky = elastic.site.sky
    assert sky is not None
    sky.fates = lambda _machine: Fate(boot_seconds=None, vanish_after=40)
    grown = Increase()
    elastic.submit(command=["good"])
    elastic.advance_until(lambda: bool(elastic.nodes_status().brake))
    assert grown.of("boot_outcomes_total", outcome="disappeared", size="small") == 2
    assert grown.of("boot_duration_seconds_count", outcome="disappeared", size="small") == 2


def test_an_api_that_is_away(elastic: Harness) -> None:
    elastic.advance(30)
    grown = Increase()
    elastic.site.wire.down = True
    elastic.advance(60)
    assert grown.of("api_calls_total", method="dispatchers.ping", outcome="unavailable") > 1
    pinged = counted("last_ping_timestamp_seconds")
    assert elastic.clock.wall() - pinged >= 60
    elastic.site.wire.down = False
    elastic.advance(60)
    assert counted("last_ping_timestamp_seconds") > pinged


def test_a_scheduler_that_does_not_answer(elastic: Harness) -> None:
    elastic.advance(30)
    polled = counted("last_poll_timestamp_seconds", source="scheduler", scheduler="fake")
    grown = Increase()
    elastic.site.scheduler.faults.upcoming[Fault.POLL] = 1000
    elastic.advance(60)
    assert grown.of(
        "scheduler_call_duration_seconds_count", scheduler="fake", call="poll", outcome="failed"
    )
    now = counted("last_poll_timestamp_seconds", source="scheduler", scheduler="fake")
    assert now - polled <= 10


def test_crashed_actors_are_counted_as_they_start_again(elastic: Harness) -> None:
    request = elastic.submit(command=["long"])
    elastic.advance_until(lambda: elastic.container_of(request)["state"] == "Running")
    grown = Increase()

    def crash(kind: str) -> None:
        for ref in pykka.ActorRegistry.get_all():
            if ref.actor_class.__name__ == kind:
                ref.tell("a message that nobody knows")
        elastic.advance(30)

    before = metrics.REGISTRY.get_sample_value(
        f"{metrics.PREFIX}actor_restarts_total", {"actor": "SchedulerActor"}
    )
    assert before is not None, "it is there before it counts"
    crash("ContainerActor")
    assert grown.of("actor_restarts_total", actor="ContainerActor") == 1
    crash("NodeActor")
    assert grown.of("actor_restarts_total", actor="NodeActor") == 1
    crash("LeaseActor")
    assert grown.of("actor_restarts_total", actor="LeaseActor") == 1
    assert grown.of("actor_restarts_total", actor="DispatcherActor") == 0


def test_a_cloud_that_is_asked_too_often(elastic: Harness) -> None:
    sky = elastic.site.sky
    assert sky is not None
    elastic.advance(30)
    grown = Increase()
    sky.upcoming[SkyFault.RATE] = 2
    elastic.advance(120)
    assert grown.of("cloud_throttles_total") == 2
    assert grown.of("cloud_requests_total", operation="list", outcome="rate-limited") == 2
    requests = sum(
        grown.of("cloud_requests_total", operation="list", outcome=outcome)
        for outcome in ("ok", "rate-limited")
    )
    assert grown.of("cloud_request_duration_seconds_count", operation="list") == requests > 2


def test_jobs_that_were_cancelled_or_perhaps_submitted(elastic: Harness) -> None:
    request = elastic.submit(command=["long"])
    elastic.advance_until(lambda: elastic.container_of(request)["state"] == "Running")
    grown = Increase()
    elastic.cancel(request)
    elastic.advance(60)
    assert grown.of("jobs_cancelled_total", scheduler="fake") == 1
    elastic.site.scheduler.faults.upcoming[Fault.SUBMIT_AFTER] = 1
    again = elastic.submit(command=["good"])
    elastic.advance_until(lambda: elastic.request(again)["state"] == "Final")
    assert grown.of("jobs_submitted_total", scheduler="fake", outcome="unknown") == 1
    assert grown.of("containers_finished_total", state="Complete", end="exited") == 1


def test_calls_of_the_api_are_timed(elastic: Harness) -> None:
    grown = Increase()
    elastic.advance(60)
    calls = grown.of("api_calls_total", method="dispatchers.ping", outcome="ok")
    assert calls >= 3
    timed = grown.of("api_call_duration_seconds_count", method="dispatchers.ping")
    assert timed == calls


def test_claims_that_an_operator_paused(elastic: Harness) -> None:
    elastic.advance(30)
    assert counted("claims_paused") == 0
    elastic.call("dispatchers", "pause_all", body={"reason": "the disk is full"})
    elastic.advance(60)
    assert counted("claims_paused") == 1
    elastic.call("dispatchers", "resume_all", body={})
    elastic.advance(60)
    assert counted("claims_paused") == 0


def test_whoever_never_answered_is_as_old_as_the_actors() -> None:
    """And what is counted is there, as 0, before there is something to count."""
    for labelled in (
        metrics.LAST_POLL,
        metrics.ACTOR_RESTARTS,
        metrics.JOBS_CANCELLED,
        metrics.JOBS_SUBMITTED,
    ):
        labelled.clear()
    metrics.LAST_PING.set(0)
    with Harness(sizes=SIZES) as world:
        began = world.clock.wall()
        elastic_sky = world.site.sky
        assert elastic_sky is not None
        world.kill(world.site)
        metrics.LAST_POLL.clear()
        metrics.LAST_PING.set(0)
        world.clock.advance(100)
        world.site.scheduler.faults.upcoming[Fault.POLL] = 10**6
        elastic_sky.upcoming[SkyFault.LIST] = 10**6
        world.site.wire.down = True
        world.start(world.site)
        world.advance(500)
        for source, scheduler in (("scheduler", "fake"), ("cloud", "")):
            at = counted("last_poll_timestamp_seconds", source=source, scheduler=scheduler)
            assert at == began + 100
        assert counted("last_ping_timestamp_seconds") == began + 100
        for name, labels in (
            ("actor_restarts_total", {"actor": "ContainerActor"}),
            ("actor_restarts_total", {"actor": "NodeActor"}),
            ("actor_restarts_total", {"actor": "SchedulerActor"}),
            ("jobs_cancelled_total", {"scheduler": "fake"}),
            ("jobs_submitted_total", {"scheduler": "fake", "outcome": "accepted"}),
        ):
            assert metrics.REGISTRY.get_sample_value(metrics.PREFIX + name, labels) == 0, name


def test_a_dispatcher_that_is_lost(elastic: Harness) -> None:
    request = elastic.submit(command=["long"])
    elastic.advance_until(lambda: elastic.container_of(request)["state"] == "Running")
    grown = Increase()
    me = elastic.status().me
    assert me is not None
    elastic.call("dispatchers", "lose", uuid=me.dispatcher)
    elastic.advance(60)
    assert grown.of("dispatcher_losses_total") == 1
    assert grown.of("dispatcher_registrations_total") == 1
    lost = [
        grown.of("containers_finished_total", state="Abandoned", end=e) for e in ("none", *EndKind)
    ]
    assert (
        sum(lost)
        + sum(
            grown.of("containers_finished_total", state="TempFail", end=e)
            for e in ("none", *EndKind)
        )
        >= 1
    )


UUID_OR_HOST = re.compile(r"[a-z0-9]{5}-[a-z0-9]{5}-|compute-|^node\d|i-\w{8}|/")


def test_labels_never_name_a_container_or_a_host(elastic: Harness) -> None:
    # The registry is the process's: other tests have put there what their own schedulers ran.
    before = Shown(text_of(reading_of(SETTINGS, take_census(), None)).decode())
    known = set(before.label_values())
    for command in ("good", "bad", "unlucky", "long"):
        elastic.submit(command=[command])
    elastic.submit(command=["good"], runtime_constraints={"vcpus": 99, "ram": 1 << 28})
    elastic.advance(300)
    look = DaemonLook("1", elastic.clock.wall(), elastic.status(), elastic.nodes_status())
    seen = Shown(text_of(reading_of(SETTINGS, take_census(), look)).decode())
    assert seen.value("queue_depth", claimed="no", reason="no-node-fits") == 1
    named = [t for t in seen.label_values() if t not in known and UUID_OR_HOST.search(t)]
    assert not named
    assert len(seen.text.splitlines()) < len(before.text.splitlines()) + 3000


# Commands of a scheduler.


def test_commands_are_timed_by_how_they_end() -> None:
    commands = Commands(0.3, {})
    grown = Increase()
    commands.run("true")
    commands.run("false")
    with pytest.raises(SchedulerError):
        commands.run("sleep", "30")
    with pytest.raises(SchedulerError):
        commands.run("/nonexistent/squeue")
    name = "scheduler_command_duration_seconds_count"
    assert grown.of(name, command="true", outcome="ok") == 1
    assert grown.of(name, command="false", outcome="failed") == 1
    assert grown.of(name, command="sleep", outcome="silent") == 1
    assert grown.of(name, command="squeue", outcome="silent") == 1


def test_phases_of_nodes_that_are_told_are_all_but_the_last() -> None:
    phases = {key[0] for key in shown().values("nodes")}
    assert phases <= {phase.value for phase in NodePhase}
    assert shown().value("nodes", phase="gone", size="small") is None


def test_a_container_is_shown_by_the_same_value_until_it_changes(elastic: Harness) -> None:
    request = elastic.submit(command=["good"])
    elastic.advance_until(lambda: elastic.container_of(request)["state"] == "Locked")
    elastic.settle()
    [waits] = elastic.status().containers
    assert elastic.status().containers[0] is waits
    elastic.advance_until(lambda: elastic.container_of(request)["state"] == "Running")
    elastic.advance(10)
    [runs] = elastic.status().containers
    assert waits.reason is not None
    assert (waits.node, waits.container.state) == ("", ContainerState.LOCKED)
    assert runs.reason is None
    assert (bool(runs.node), runs.container.state) == (True, ContainerState.RUNNING)
