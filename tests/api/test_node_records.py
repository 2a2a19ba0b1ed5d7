"""Records of nodes at the API: made, cleaned, listed and paired, whatever the API does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pykka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.actors.actor import Actor
from nodemanager.actors.driver import advance, settle
from nodemanager.actors.inline import InlinePool
from nodemanager.actors.pool import use_pool
from nodemanager.actors.timer import TimerActor
from nodemanager.api.node_records import (
    CleanRecord,
    ListRecords,
    MakeRecord,
    RecordActor,
    RecordList,
    RecordMade,
    RecordRefused,
)
from nodemanager.api.nodes import ArvadosNodes, NodeRecord, NodesApi, pairs, spare
from nodemanager.clock import ManualClock
from nodemanager.errors import ApiRefused, ApiUnavailable
from nodemanager.server.database import IN_MEMORY, Database
from nodemanager.server.policy import Policy
from nodemanager.server.service import Service
from nodemanager.testing import MemoryResource, Wire

HOUR = 3600.0
ROOT_TOKEN = "root-token-of-the-tests"


class Arbiter(Actor):
    """Keeps what it is told."""

    def __init__(self, told: list[Any]) -> None:
        super().__init__()
        self.told = told

    def on_receive(self, message: Any) -> None:
        self.told.append(message)


class Bench:
    """An API with three slots, and two daemons that keep node records there."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pool = InlinePool()
        policy = Policy(root_token=ROOT_TOKEN, max_compute_nodes=3)
        self.service = Service(Database(IN_MEMORY, self.clock), policy, "zzzzz", lambda: 0.5)
        self.wire = Wire()
        self.root = MemoryResource(self.service, ROOT_TOKEN, Wire())
        self.told: list[Any] = []
        self.tokens = {n: self.service.create_dispatcher_token(n).text for n in ("one", "two")}
        with use_pool(self.pool):
            self.timer: pykka.ActorRef[Any] = TimerActor.start(self.clock)
            self.arbiter: pykka.ActorRef[Any] = Arbiter.start(self.told)
            self.one = self.daemon("one")
            self.two = self.daemon("two")
            self.settle()

    def daemon(self, name: str) -> pykka.ActorRef[Any]:
        return RecordActor.start(
            lambda: self.api(name),
            self.timer,
            self.clock,
            dispatcher=name,
            stale_after_seconds=2 * HOUR,
        )

    def api(self, name: str) -> NodesApi:
        return ArvadosNodes(MemoryResource(self.service, self.tokens[name], self.wire), name)

    def settle(self) -> None:
        settle(self.pool)

    def advance(self, seconds: float) -> None:
        advance(self.clock, self.timer, self.pool, seconds)

    def ask(self, daemon: pykka.ActorRef[Any], message: Any) -> list[Any]:
        """What the daemon's actor answers."""
        self.told.clear()
        daemon.tell(message)
        self.settle()
        return list(self.told)

    def order(self, name: str, in_use: frozenset[str] = frozenset()) -> MakeRecord:
        return MakeRecord(name, "m4.large", 0.1, self.arbiter, in_use)

    def make(self, name: str, daemon: pykka.ActorRef[Any] | None = None) -> NodeRecord:
        """The record that an order gets."""
        (answer,) = self.ask(daemon or self.one, self.order(name))
        assert isinstance(answer, RecordMade)
        assert answer.order_name == name
        return answer.record

    def ping(self, record: NodeRecord, instance_id: str, address: str = "10.0.0.1") -> None:
        """What the machine does."""
        body = {
            "ping_secret": record.ping_secret,
            "instance_id": instance_id,
            "local_ipv4": address,
            "total_cpu_cores": 2,
        }
        self.root.nodes().ping(uuid=record.uuid, body=body).execute()

    def records(self) -> dict[str, NodeRecord]:
        """What is listed, by the order it was made for."""
        return {record.order: record for record in self.api("one").node_records()}


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with use_pool(bench.pool):
        yield bench
    for actor in (bench.one, bench.two, bench.arbiter, bench.timer):
        actor.stop(block=False)
    bench.settle()
    bench.service.database.close()


def test_a_record_has_a_slot_a_name_and_a_secret(bench: Bench) -> None:
    record = bench.make("order-1")
    assert (record.slot, record.hostname) == (1, "compute1")
    assert record.properties == {"cloud_node": {"size": "m4.large", "price": 0.1}}
    assert (record.dispatcher, record.order) == ("one", "order-1")
    assert (record.first_ping_at, record.instance_id) == (None, "")
    assert len(record.ping_secret) == 64
    assert record.ping_secret not in repr(record)
    assert bench.make("order-2").hostname == "compute2"


def test_the_machine_pings_with_what_it_was_given(bench: Bench) -> None:
    record = bench.make("order-1")
    bench.clock.advance(60)
    bench.ping(record, "i-1")
    (answer,) = bench.ask(bench.one, ListRecords(bench.arbiter))
    assert isinstance(answer, RecordList)
    (listed,) = answer.records
    assert (listed.uuid, listed.instance_id, listed.ip_address) == (record.uuid, "i-1", "10.0.0.1")
    assert listed.first_ping_at == listed.last_ping_at == bench.clock.wall()
    assert listed.ping_secret == ""
    assert listed.order == "order-1", "the ping takes nothing away"
    assert listed.properties["total_cpu_cores"] == 2


def test_an_administrators_list_shows_no_secrets(bench: Bench) -> None:
    bench.make("order-1")
    (listed,) = ArvadosNodes(bench.root, "root").node_records()
    assert listed.ping_secret == ""


def test_a_record_is_cleaned_when_its_machine_is_gone(bench: Bench) -> None:
    record = bench.make("order-1")
    bench.ping(record, "i-1")
    assert bench.ask(bench.one, CleanRecord(record.uuid, "idle for 10 min")) == []
    (cleaned,) = bench.api("one").node_records()
    assert cleaned.is_clean
    assert cleaned == NodeRecord(
        uuid=record.uuid,
        modified_at=cleaned.modified_at,
        dispatcher="one",
        last_action="idle for 10 min",
    )
    with pytest.raises(Exception, match="Incorrect ping_secret"):
        bench.ping(record, "i-1")


def test_cleaning_what_is_gone_is_no_failure(bench: Bench) -> None:
    bench.one.tell(CleanRecord("zzzzz-7ekkf-000000000000000", "gone"))
    bench.one.tell(CleanRecord("nonsense", "gone"))
    assert bench.make("order-1").slot == 1


def test_without_a_free_slot_there_is_no_record(bench: Bench) -> None:
    for number in range(3):
        bench.make(f"order-{number}")
    (answer,) = bench.ask(bench.one, bench.order("order-3"))
    assert isinstance(answer, RecordRefused)
    assert answer.order_name == "order-3"
    assert "No available node slots" in answer.error


def test_a_cleaned_record_gives_its_place_to_a_new_one(bench: Bench) -> None:
    first = bench.make("order-1")
    bench.ask(bench.one, CleanRecord(first.uuid, "done"))
    second = bench.make("order-2")
    assert list(bench.records()) == ["order-2"]
    assert (second.slot, second.uuid != first.uuid) == (1, True)
    assert second.ping_secret


def test_a_record_that_was_silent_for_too_long_does_too(bench: Bench) -> None:
    for number in range(3):
        bench.make(f"order-{number}")
        bench.clock.advance(60)
    bench.clock.advance(2 * HOUR - 60)
    assert bench.make("order-3").slot == 1
    assert set(bench.records()) == {"order-1", "order-2", "order-3"}


def test_a_record_that_is_pinged_or_used_is_not_stale(bench: Bench) -> None:
    used, pinged, silent = (bench.make(f"order-{number}") for number in range(3))
    bench.clock.advance(HOUR)
    bench.ping(pinged, "i-1")
    bench.clock.advance(1.5 * HOUR)
    (answer,) = bench.ask(bench.one, bench.order("order-3", frozenset({used.uuid})))
    assert answer.record.slot == silent.slot == 3


def test_another_daemons_records_are_left_alone(bench: Bench) -> None:
    record = bench.make("order-1", bench.two)
    bench.ask(bench.two, CleanRecord(record.uuid, "done"))
    bench.make("order-2")
    assert len(bench.api("one").node_records()) == 2
    bench.make("order-3", bench.two)
    assert set(bench.records()) == {"order-2", "order-3"}


def test_records_of_an_older_node_manager_are_taken_over_when_stale(bench: Bench) -> None:
    body: dict[str, Any] = {"node": {"info": {"last_action": "Shutdown by Node Manager"}}}
    for _ in range(3):
        bench.root.nodes().create(body=body, assign_slot=True).execute()
    bench.clock.advance(2 * HOUR + 1)
    assert bench.make("order-1").slot is not None
    assert len(bench.api("one").node_records()) == 3


def test_while_the_api_is_down_everything_is_kept_and_tried_again(bench: Bench) -> None:
    old = bench.make("order-0")
    bench.wire.down = True
    asked = [
        CleanRecord(old.uuid, "done"),
        bench.order("order-1"),
        ListRecords(bench.arbiter),
        ListRecords(bench.arbiter),
    ]
    assert [bench.ask(bench.one, message) for message in asked] == [[], [], [], []]
    before = bench.wire.calls
    bench.advance(300)
    assert 8 <= bench.wire.calls - before <= 20, "at longer and longer pauses"
    assert bench.told == []
    bench.wire.down = False
    bench.advance(30)
    made, listed = bench.told
    assert isinstance(made, RecordMade)
    assert isinstance(listed, RecordList), "one list for whoever asked twice"
    assert [record.uuid for record in listed.records] == [made.record.uuid]


class LosesCreates(ArvadosNodes):
    """The answers to its first creates do not arrive."""

    def __init__(self, resource: Any, dispatcher: str, lost: int) -> None:
        super().__init__(resource, dispatcher)
        self.lost = lost

    def make_node_record(self, order: str, size_name: str, price: float) -> NodeRecord:
        record = super().make_node_record(order, size_name, price)
        if self.lost:
            self.lost -= 1
            raise ApiUnavailable("the answer is lost")
        return record


def test_creates_whose_answers_are_lost_hold_no_slots(bench: Bench) -> None:
    """The secret was in the answer, so what was made is of no use; there are only three slots."""
    client = LosesCreates(MemoryResource(bench.service, bench.tokens["one"], bench.wire), "one", 5)
    actor = RecordActor.start(
        lambda: client, bench.timer, bench.clock, dispatcher="one", stale_after_seconds=HOUR
    )
    assert bench.ask(actor, bench.order("order-1")) == []
    bench.advance(120)
    (made,) = bench.told
    assert made.record.slot == 1
    assert [record.uuid for record in bench.api("one").node_records()] == [made.record.uuid]
    actor.stop(block=False)


class SeesGhosts(ArvadosNodes):
    """Lists a record that another daemon has removed in the meantime."""

    def node_records(self) -> list[NodeRecord]:
        gone = NodeRecord("zzzzz-7ekkf-000000000000000", 0.0, slot=3, dispatcher=self._dispatcher)
        return [*super().node_records(), gone]


def test_who_comes_too_late_to_remove_a_record_makes_one_all_the_same(bench: Bench) -> None:
    client = SeesGhosts(MemoryResource(bench.service, bench.tokens["one"], bench.wire), "one")
    actor = RecordActor.start(
        lambda: client, bench.timer, bench.clock, dispatcher="one", stale_after_seconds=HOUR
    )
    (answer,) = bench.ask(actor, bench.order("order-1"))
    assert answer.record.slot == 1
    actor.stop(block=False)


def test_a_refusal_is_told_and_stops_nothing(bench: Bench) -> None:
    class Refused(ArvadosNodes):
        def node_records(self) -> list[NodeRecord]:
            raise ApiRefused("not yours", 403)

    client = Refused(bench.root, "one")
    actor = RecordActor.start(
        lambda: client, bench.timer, bench.clock, dispatcher="one", stale_after_seconds=HOUR
    )
    assert bench.ask(actor, ListRecords(bench.arbiter)) == []
    assert bench.ask(actor, bench.order("order-1")) == [RecordRefused("order-1", "not yours")]
    actor.stop(block=False)


# Pure.

NOW = 1_000_000.0


def record(uuid: str, age: float = 0.0, **said: Any) -> NodeRecord:
    return NodeRecord(uuid, NOW - age, **said)


def chosen(*records: NodeRecord, in_use: frozenset[str] = frozenset()) -> str | None:
    found = spare(records, "me", in_use=in_use, now=NOW, stale_after_seconds=100.0)
    return None if found is None else found.uuid


def test_stale_records_with_slots_come_first() -> None:
    clean = record("clean", 500, last_action="done")
    older = record("older", 300, slot=2, dispatcher="me")
    stale = record("stale", 200, slot=1)
    assert chosen(clean, stale, older) == "older"
    assert chosen(clean, stale, older, in_use=frozenset({"older"})) == "stale"
    assert chosen(clean) == "clean"
    assert chosen() is None


@pytest.mark.parametrize(
    "kept",
    [
        record("fresh", 100, slot=1),
        record("pinged", 200, slot=1, last_ping_at=NOW - 50),
        record("theirs", 200, slot=1, dispatcher="another"),
        record("without a slot, not yet pinged", 50),
        record("named", 50, hostname="oak", last_action="made by hand"),
    ],
)
def test_what_is_no_spare(kept: NodeRecord) -> None:
    assert chosen(kept) is None


def test_a_record_is_paired_by_the_machines_id() -> None:
    mine = record("a", instance_id="i-1", first_ping_at=50.0)
    assert pairs([mine], {"i-1": 50.0, "i-2": 0.0}) == {"i-1": mine}
    assert pairs([mine], {"i-2": 0.0}) == {}


def test_a_ping_older_than_the_machine_was_another_ones() -> None:
    before = record("a", instance_id="i-1", first_ping_at=49.9)
    never = record("b", instance_id="i-1")
    assert pairs([before, never], {"i-1": 50.0}) == {}


def test_a_record_that_never_said_who_it_is_belongs_to_nobody() -> None:
    assert pairs([record("a", first_ping_at=50.0)], {"i-1": 1.0}) == {}


def test_of_two_records_of_one_machine_the_newer_is_taken() -> None:
    old = record("a", instance_id="i-1", first_ping_at=60.0)
    new = record("b", instance_id="i-1", first_ping_at=70.0)
    assert pairs([old, new], {"i-1": 50.0}) == pairs([new, old], {"i-1": 50.0}) == {"i-1": new}


RECORDS = st.lists(
    st.builds(
        NodeRecord,
        uuid=st.uuids().map(str),
        modified_at=st.just(0.0),
        instance_id=st.sampled_from(["", "i-1", "i-2", "i-3"]),
        first_ping_at=st.none() | st.integers(0, 9).map(float),
    ),
    unique_by=lambda each: each.uuid,
    max_size=8,
)
MACHINES = st.dictionaries(
    st.sampled_from(["i-1", "i-2", "i-3"]), st.integers(0, 9).map(float), max_size=3
)


@given(RECORDS, MACHINES, st.randoms())
def test_pairs_match_one_to_one_in_whatever_order(
    records: list[NodeRecord], machines: dict[str, float], random: Any
) -> None:
    paired = pairs(records, machines)
    assert len({each.uuid for each in paired.values()}) == len(paired)
    for cloud_id, each in paired.items():
        assert each.instance_id == cloud_id
        assert each.first_ping_at is not None
        assert each.first_ping_at >= machines[cloud_id]
    could = {
        each.instance_id
        for each in records
        if each.instance_id in machines
        and each.first_ping_at is not None
        and each.first_ping_at >= machines[each.instance_id]
    }
    assert set(paired) == could
    random.shuffle(records)
    assert pairs(records, machines) == paired
