"""What operators see and say, in the form of Arvados' own dispatcher."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from nodemanager.clock import ManualClock
from nodemanager.errors import NodeManagerError
from nodemanager.nodes.messages import Behave, Kill, ReleaseBrake
from nodemanager.nodes.states import Behaviour
from nodemanager.status.look import DaemonLook
from tests.status.conftest import Serve
from tests.status.daemon import BUSY, HELD, LOOK, NODES, NOW, RUNNING, WAITING, Client, StandIn

DISPATCH = "/arvados/v1/dispatch"
FORM = "application/x-www-form-urlencoded"
POSTS = [f"{DISPATCH}/instances/{verb}" for verb in ("hold", "drain", "run", "kill")]
READS = [f"{DISPATCH}/{what}" for what in ("containers", "container", "instances")]
BRAKE = f"{DISPATCH}/brake/release"


# Who may.


@pytest.mark.parametrize("path", [*READS, *POSTS, BRAKE])
def test_only_operators_may(client: Client, daemon: StandIn, path: str) -> None:
    method = "GET" if path in READS else "POST"
    address = f"{path}?instance_id=i-busy&container_uuid={RUNNING}"
    none = client.send(method, address)
    assert (none.status, none.error) == (401, "authorization required")
    wrong = Client(client.url, "guess").send(method, address)
    assert (wrong.status, wrong.error) == (403, "authorization error")
    assert daemon.told == []
    assert daemon.looks == 0


def test_without_a_token_in_the_config_file_nobody_is_an_operator(
    serve: Serve, daemon: StandIn
) -> None:
    client = serve(management_token="")
    for path in (*READS, *POSTS, BRAKE):
        method = "GET" if path in READS else "POST"
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
            answer = client.send(method, f"{path}?instance_id=i-busy", None, **headers)
            assert answer.status == 403
            assert answer.error == "Management API authentication is not configured"
    assert daemon.told == []
    assert daemon.looks == 0


# Containers.


def test_the_containers_in_hand(operator: Client) -> None:
    answer = operator.get(f"{DISPATCH}/containers")
    assert answer.status == 200
    assert answer.body == {
        "items": [
            {
                "container": {"uuid": RUNNING, "state": "Running"},
                "instance_types": [],
                "first_seen_at": None,
                "scheduling_status": "",
                "host": "busy",
            },
            {
                "container": {"uuid": WAITING, "state": "Locked"},
                "instance_types": [],
                "first_seen_at": None,
                "scheduling_status": "waiting for booting to join",
                "host": "",
            },
        ]
    }


def test_one_container(operator: Client) -> None:
    answer = operator.get(f"{DISPATCH}/container?container_uuid={WAITING}")
    assert answer.status == 200
    assert answer.body["scheduling_status"] == "waiting for booting to join"


def test_a_container_that_is_not_here(operator: Client) -> None:
    answer = operator.get(f"{DISPATCH}/container?container_uuid=zzzzz-dz642-0")
    assert (answer.status, answer.error) == (404, "container not found")
    answer = operator.get(f"{DISPATCH}/container")
    assert (answer.status, answer.error) == (400, "container_uuid parameter not provided")


def test_to_kill_a_container_is_not_offered(operator: Client) -> None:
    answer = operator.post(f"{DISPATCH}/containers/kill?container_uuid={RUNNING}")
    assert answer.status == 404


# Instances.


def items(operator: Client) -> list[dict[str, Any]]:
    answer = operator.get(f"{DISPATCH}/instances")
    assert answer.status == 200
    found: list[dict[str, Any]] = answer.body["items"]
    return found


def test_instances_in_gos_words_and_ours(operator: Client) -> None:
    assert items(operator)[0] == {
        "instance": "i-busy",
        "address": "busy",
        "price": 0.1,
        "arvados_instance_type": "small",
        "provider_instance_type": "m5.large",
        "last_container_uuid": RUNNING,
        "last_busy": "2027-01-15T08:00:00.000000000Z",
        "worker_state": "running",
        "idle_behavior": "run",
        "name": "compute-busy",
        "host": "busy",
        "phase": "busy",
        "leaving": "",
        "not_ready": "",
        "ordered_at": "2027-01-15T07:50:00.000000000Z",
        "containers": [RUNNING],
    }


def test_a_draining_node_still_runs_what_it_has(
    operator: Client, daemon: StandIn, clock: ManualClock
) -> None:
    words = ("worker_state", "idle_behavior", "phase", "last_busy")
    _, booting, held = items(operator)
    assert [booting[word] for word in words] == ["booting", "run", "booting", None]
    assert [held[word] for word in words[:3]] == ["running", "hold", "draining"]
    daemon.answer = replace(LOOK, nodes=replace(NODES, nodes=(replace(HELD, node=None),)))
    clock.advance(1)
    [held] = items(operator)
    assert [held[word] for word in words] == ["idle", "hold", "draining", None]


def test_a_node_whose_size_is_gone_has_no_type(operator: Client) -> None:
    held = items(operator)[2]
    assert held["arvados_instance_type"] == held["provider_instance_type"] == ""


def test_a_machine_that_claims_an_impossible_age_is_shown_all_the_same(
    operator: Client, daemon: StandIn
) -> None:
    odd = tuple(replace(BUSY, ordered_at=at) for at in (float("nan"), float("inf"), 1e18, -1e18))
    daemon.answer = replace(LOOK, nodes=replace(NODES, nodes=odd))
    assert [item["ordered_at"] for item in items(operator)] == [None] * 4
    assert len(operator.get("/status.json").body["nodes"]) == 4


# Verbs.


@pytest.mark.parametrize("verb", list(Behaviour))
@pytest.mark.parametrize("instance_id", ["i-busy", "compute-busy"])
def test_hold_drain_and_run_reach_the_arbiter(
    operator: Client, daemon: StandIn, verb: Behaviour, instance_id: str
) -> None:
    answer = operator.post(f"{DISPATCH}/instances/{verb}?instance_id={instance_id}")
    assert (answer.status, answer.body) == (200, {"told": "compute-busy"})
    assert daemon.told == [Behave("compute-busy", verb)]


def test_kill_says_why(operator: Client, daemon: StandIn) -> None:
    for query in ("&reason=smells%20of%20smoke", ""):
        path = f"{DISPATCH}/instances/kill?instance_id=i-held{query}"
        assert operator.post(path).status == 200
    assert daemon.told == [
        Kill("compute-held", "smells of smoke"),
        Kill("compute-held", "no reason given"),
    ]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"instance_id=i-busy&reason=old", FORM),
        (b"instance_id=i-busy&reason=old", f"{FORM}; charset=utf-8"),
        (b'{"instance_id": "i-busy", "reason": "old"}', "application/json"),
        (b'{"instance_id": "i-busy", "reason": " old "}', "Application/JSON;charset=UTF-8"),
    ],
)
def test_parameters_may_come_in_a_body(
    operator: Client, daemon: StandIn, body: bytes, content_type: str
) -> None:
    path = f"{DISPATCH}/instances/kill?instance_id=i-held&reason=query"
    assert operator.post(path, body, Content_Type=content_type).status == 200
    assert daemon.told == [Kill("compute-busy", "old")], "the body's count, as in Go"


def test_of_several_parameters_of_one_name_the_first_counts(
    operator: Client, daemon: StandIn
) -> None:
    operator.post(f"{DISPATCH}/instances/hold?instance_id=i-busy&instance_id=i-held")
    assert daemon.told == [Behave("compute-busy", Behaviour.HOLD)]


def test_the_cloud_knows_better_than_a_name(operator: Client, daemon: StandIn) -> None:
    """A node that is called like another one's identifier does not catch what is meant for that."""
    double = replace(HELD, name="i-busy")
    daemon.answer = replace(LOOK, nodes=replace(NODES, nodes=(double, BUSY)))
    operator.post(f"{DISPATCH}/instances/kill?instance_id=i-busy")
    assert daemon.told == [Kill("compute-busy", "no reason given")]


@pytest.mark.parametrize("path", POSTS)
def test_a_node_must_be_named_and_be_there(operator: Client, daemon: StandIn, path: str) -> None:
    for query in ("", "?instance_id="):
        answer = operator.post(f"{path}{query}")
        assert (answer.status, answer.error) == (400, "instance_id parameter not provided")
    words = "instance not found" if path.endswith("kill") else "requested instance does not exist"
    for missing in ("i-other", "busy", "I-BUSY", "%00"):
        answer = operator.post(f"{path}?instance_id={missing}")
        assert (answer.status, answer.error) == (404, words)
    assert daemon.told == []


def test_what_an_operator_says_is_in_the_log(
    operator: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        operator.post(f"{DISPATCH}/instances/kill?instance_id=i-held&reason=smoke")
    [line] = [record.getMessage() for record in caplog.records if "operator" in record.msg]
    assert line == "an operator at 127.0.0.1 says: kill compute-held: smoke"


@pytest.mark.parametrize("verb", Behaviour)
def test_why_a_node_is_held_is_in_the_log(
    operator: Client, caplog: pytest.LogCaptureFixture, verb: Behaviour
) -> None:
    with caplog.at_level(logging.INFO):
        for query in ("&reason=its%20disk%20is%20slow", ""):
            operator.post(f"{DISPATCH}/instances/{verb}?instance_id=i-busy{query}")
    lines = [record.getMessage() for record in caplog.records if "operator" in record.msg]
    said = f"an operator at 127.0.0.1 says: {verb} compute-busy"
    assert lines == [f"{said}: its disk is slow", said]


@pytest.mark.parametrize("reason", ["a%0Aforged line", "%1B[2J", "x" * 201])
def test_a_reason_is_one_short_line(operator: Client, daemon: StandIn, reason: str) -> None:
    path = f"{DISPATCH}/instances/kill?instance_id=i-held&reason={reason.replace(' ', '+')}"
    answer = operator.post(path)
    assert answer.status == 400
    assert answer.error.startswith("reason: one line")
    assert daemon.told == []


def test_the_brake(operator: Client, daemon: StandIn) -> None:
    answer = operator.post(BRAKE)
    assert (answer.status, answer.body) == (200, {"told": "the brake"})
    assert daemon.told == [ReleaseBrake()]


def test_after_a_word_the_next_look_is_a_new_one(operator: Client, daemon: StandIn) -> None:
    operator.get("/status.json")
    assert daemon.looks == 1
    operator.post(BRAKE)
    assert daemon.looks == 1, "to find the node an old one will do"
    operator.get("/status.json")
    assert daemon.looks == 2


def test_a_look_that_was_begun_before_a_word_is_not_shown_after_it(
    operator: Client, daemon: StandIn, clock: ManualClock
) -> None:
    assert operator.get("/status.json").status == 200
    daemon.listens.clear()
    with ThreadPoolExecutor(2) as people:
        word = people.submit(operator.post, BRAKE)
        assert daemon.spoken_to.wait(10)
        daemon.asked.clear()
        clock.advance(1)
        daemon.answers.clear()
        reader = people.submit(operator.get, "/status.json")
        assert daemon.asked.wait(10)
        daemon.listens.set()
        assert word.result().status == 200
        daemon.answer = replace(LOOK, version="after")
        daemon.wake()
        assert reader.result().body["Version"] == "after"
    assert daemon.looks == 3


# When it cannot be done.


def test_where_no_nodes_are_booted(operator: Client, daemon: StandIn) -> None:
    daemon.answer = replace(LOOK, nodes=None, clouds=None)
    assert items(operator) == []
    answer = operator.post(f"{DISPATCH}/instances/hold?instance_id=i-busy")
    assert (answer.status, answer.error) == (404, "requested instance does not exist")
    answer = operator.post(BRAKE)
    assert (answer.status, answer.error) == (404, "no nodes are booted here, so there is no brake")


@pytest.mark.parametrize("path", [*READS, *POSTS, BRAKE])
def test_while_the_actors_are_being_started_anew(
    operator: Client, daemon: StandIn, path: str
) -> None:
    daemon.answer = DaemonLook("1.2.3", NOW)
    address = f"{path}?instance_id=i-busy&container_uuid={RUNNING}"
    answer = operator.send("GET" if path in READS else "POST", address)
    assert answer.status == 503
    assert "started anew" in answer.error


def test_an_arbiter_that_cannot_be_told(operator: Client, daemon: StandIn) -> None:
    daemon.refusal = NodeManagerError("there is no arbiter any more")
    answer = operator.post(BRAKE)
    assert (answer.status, answer.error) == (503, "there is no arbiter any more")
    daemon.refusal = RuntimeError("hush")
    answer = operator.post(BRAKE)
    assert answer.status == 503
    assert "hush" not in answer.error


def test_an_arbiter_that_does_not_listen(serve: Serve, daemon: StandIn) -> None:
    operator = Client(serve(patience_seconds=0.2).url, "the-management-token")
    assert operator.get(f"{DISPATCH}/instances").status == 200
    daemon.listens.clear()
    answer = operator.post(BRAKE)
    assert (answer.status, answer.error) == (503, "the daemon did not answer within 0.2 s")


# Bad input.


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b"instance_id=i-busy", None, 415, "Content-Type"),
        (b"instance_id=i-busy", "text/plain", 415, "Content-Type"),
        (b"--x--", "multipart/form-data; boundary=x", 415, "Content-Type"),
        (b"{", "application/json", 400, "not JSON"),
        (b"[" * 10_000, "application/json", 400, "not JSON"),
        (b'{"instance_id": "i-busy\xff"}', "application/json", 400, "not JSON"),
        (b'["instance_id", "i-busy"]', "application/json", 400, "a JSON object is expected"),
        (b'{"instance_id": 3}', "application/json", 400, "instance_id: a text is expected"),
        (b'{"instance_id": ["i-busy"]}', "application/json", 400, "a text is expected"),
        (b'{"instance_id": "i-busy", "dry_run": true}', "application/json", 400, "dry_run: a text"),
        (b"instance_id=\xff", FORM, 400, "not UTF-8"),
        (b"a=&" * 101, FORM, 400, "more than 100"),
        (b"x" * (16 * 1024 + 1), FORM, 413, "larger than 16384 bytes"),
    ],
)
def test_a_body_that_cannot_be_read_changes_nothing(  # noqa: PLR0917 (a table)
    operator: Client,
    daemon: StandIn,
    body: bytes,
    content_type: str | None,
    status: int,
    words: str,
) -> None:
    headers = {} if content_type is None else {"Content_Type": content_type}
    answer = operator.post(f"{DISPATCH}/instances/kill", body, **headers)
    assert answer.status == status
    assert words in answer.error
    assert daemon.told == []
