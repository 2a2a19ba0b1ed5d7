"""What status.json shows: the old node manager's names, and ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.dispatch.messages import HeldContainer
from nodemanager.nodes.messages import Decision, NodesStatus, NodeStanding
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.status.document import (
    DECISIONS,
    OLD_STATES,
    SENTENCES,
    Beside,
    status_document,
)
from nodemanager.status.groups import MAX_GROUPS, group_containers
from nodemanager.status.history import Flow
from nodemanager.status.instances import WORKER_STATES, find_node, instances
from nodemanager.status.look import DaemonLook
from nodemanager.status.settings import ManageSettings
from tests.status.daemon import (
    BIG,
    DISPATCHER,
    LOOK,
    NODES,
    NOW,
    SMALL,
    container,
    waits_for,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "management.md"
SETTINGS = ManageSettings(
    port=0, max_nodes=8, max_total_price=2.5, name="site1", schedulers="slurm"
)


def shown(look: DaemonLook = LOOK) -> dict[str, Any]:
    groups = () if look.dispatcher is None else group_containers(look.dispatcher)
    return status_document(look, SETTINGS, Beside(groups, Flow(300.0, 12, 7), ("it sulks",)))


def test_the_names_of_the_old_node_manager() -> None:
    old = {
        "Version": "1.2.3",
        "list_nodes_errors": 1,
        "create_node_errors": 2,
        "destroy_node_errors": 3,
        "cloud_errors": 6,
        "boot_failures": 2,
        "actor_exceptions": 3,
        "nodes_booting": 0,
        "nodes_unpaired": 1,
        "nodes_busy": 1,
        "nodes_idle": 0,
        "nodes_down": 0,
        "nodes_fail": 0,
        "nodes_shutdown": 1,
        "nodes_wish": 3,
        "node_quota": 3,
        "config_max_nodes": 8,
    }
    assert {name: shown()[name] for name in old} == old


def test_without_a_known_quota_it_is_what_the_config_file_allows() -> None:
    assert shown(replace(LOOK, nodes=replace(NODES, quota=None)))["node_quota"] == 8
    assert shown(replace(LOOK, nodes=replace(NODES, quota=99)))["node_quota"] == 8


def test_the_wishlist_can_be_followed_from_elsewhere() -> None:
    assert shown()["wishlist"] == {"sizes": {"small": 2, "big": 1}, "waiting": 7, "unplaced": 1}


def test_a_node_is_shown_with_all_that_is_decided_on() -> None:
    assert shown()["nodes"][0] == {
        "name": "compute-busy",
        "host": "busy",
        "cloud_id": "i-busy",
        "size": "small",
        "instance_type": "m5.large",
        "preemptible": False,
        "price": 0.1,
        "phase": "busy",
        "scheduler_state": "busy",
        "behaviour": "run",
        "leaving": "",
        "not_ready": "",
        "takes_work": True,
        "proved": True,
        "ordered_at": "2027-01-15T07:50:00.000000000Z",
        "record_uuid": "zzzzz-7ekkf-busybusybusybus",
        "pinged": True,
        "idle_seconds": None,
        "running": 1,
        "containers": ["zzzzz-dz642-runningrunning0"],
    }


def test_a_node_whose_size_is_not_configured_any_more() -> None:
    held = shown()["nodes"][2]
    assert (held["size"], held["instance_type"], held["price"]) == (None, None, 0.0)


def test_limits_and_boots() -> None:
    assert shown()["limits"] == {
        "max_nodes": 8,
        "max_total_price": 2.5,
        "price": 0.9,
        "quota": 3,
        "unavailable": {"huge": 41.2},
        "brake": "compute-x: it never joined",
        "stale": "",
        "bootable_cores": 16,
    }
    assert shown()["boots"] == {
        "joined": 4,
        "proved": 3,
        "refused": 0,
        "failed": 2,
        "aborted": 0,
        "disappeared": 0,
    }


def test_the_dispatcher_in_numbers_and_the_most_frequent_reasons() -> None:
    waiting = HeldContainer(container("u"), waits_for("max_nodes (8) is reached"))
    many = replace(DISPATCHER, containers=(*DISPATCHER.containers, waiting, waiting))
    assert shown(replace(LOOK, dispatcher=many))["dispatcher"] == {
        "name": "site1",
        "scheduler": "slurm",
        "uuid": "zzzzz-bmxii-000000000000000",
        "epoch": 3,
        "lease_seconds": 555.5,
        "api_heard_at": "2027-01-15T07:59:57.000000000Z",
        "scheduler_heard_at": "2027-01-15T07:59:58.000000000Z",
        "containers": {"Running": 1, "Locked": 3},
        "reasons": [
            {"sentence": "max_nodes (8) is reached", "containers": 2},
            {"sentence": "waiting for booting to join", "containers": 1},
        ],
        "scheduler_nodes": {"busy": 1, "draining": 1},
    }


def test_the_document_stays_small_however_much_there_is_to_tell() -> None:
    lines = tuple(HeldContainer(container("u"), waits_for(f"reason {n}")) for n in range(10_000))
    made = tuple(Decision(NOW + n, f"decision {n}") for n in range(500))
    document = shown(
        replace(
            LOOK,
            dispatcher=replace(DISPATCHER, containers=lines),
            nodes=replace(NODES, history=made),
        )
    )
    assert len(document["dispatcher"]["reasons"]) == SENTENCES
    assert [d["sentence"] for d in document["history"]] == [
        f"decision {n}" for n in range(500 - DECISIONS, 500)
    ]
    assert len(document["groups"]) <= MAX_GROUPS + 1
    assert sum(group["containers"] for group in document["groups"]) == 10_000
    assert len(orjson.dumps(document)) < 75_000


def test_before_the_actors_are_there() -> None:
    document = shown(DaemonLook("1.2.3", NOW))
    assert document["dispatcher"] is document["wishlist"] is document["limits"] is None
    assert document["nodes"] == document["history"] == []
    assert (document["nodes_wish"], document["node_quota"], document["cloud_errors"]) == (0, 8, 0)
    assert set(document) == set(shown()), "the names are always the same"


def test_before_it_has_registered_there_is_no_lease() -> None:
    status = replace(DISPATCHER, me=None, lease_seconds=float("-inf"))
    document = shown(replace(LOOK, dispatcher=status))
    assert document["dispatcher"]["uuid"] is document["dispatcher"]["epoch"] is None
    assert document["dispatcher"]["lease_seconds"] == 0.0


@pytest.mark.parametrize("words", [OLD_STATES, WORKER_STATES])
def test_every_phase_has_its_word(words: dict[NodePhase, str]) -> None:
    assert set(words) == set(NodePhase)


NOT_OURS = {
    "wishlist.sizes",
    "limits.unavailable",
    "actor_failures",
    "history.numbers",
    "dispatcher.containers",
    "dispatcher.scheduler_nodes",
    "work.tokens",
    "work.ended",
    "groups.facts",
}


def names(value: Any, path: str = "") -> Iterator[str]:
    """Every name in the document but those of sizes, states and numbers, which are not ours to fix."""
    if path in NOT_OURS:
        return
    if isinstance(value, list):
        for item in value:
            yield from names(item, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from names(inner, f"{path}.{name}".lstrip("."))


@pytest.mark.parametrize("document", [shown(), instances(LOOK)], ids=["status", "instances"])
def test_every_name_is_in_the_reference(document: Any) -> None:
    told = set(re.findall(r"`([a-zA-Z_]+)`", PAGE.read_text()))
    assert set(names(document)) <= told


TEXT = st.text(max_size=20)
STANDINGS = st.builds(
    NodeStanding,
    name=TEXT,
    host=TEXT,
    size=st.sampled_from([None, SMALL, BIG]),
    phase=st.sampled_from(NodePhase),
    ordered_at=st.floats(),
    cloud_id=TEXT,
    node=st.sampled_from([None, *DISPATCHER.nodes]),
    behaviour=st.sampled_from(Behaviour),
    leaving=TEXT,
)
STATUSES = st.builds(
    NodesStatus,
    nodes=st.lists(STANDINGS, max_size=5).map(tuple),
    wishlist=st.dictionaries(TEXT, st.integers(0, 99), max_size=3),
    waiting=st.integers(0, 99),
    unplaced=st.integers(0, 99),
    price=st.floats(0, 1e6),
    quota=st.none() | st.integers(0, 99),
    unavailable=st.dictionaries(TEXT, st.floats(0, 1e6), max_size=3),
    brake=TEXT,
    stale=TEXT,
    outcomes=st.just({}),
    history=st.just(()),
)


@given(STATUSES)
def test_each_node_counts_in_one_state_and_can_be_found_again(nodes: NodesStatus) -> None:
    look = replace(LOOK, nodes=nodes)
    document = orjson.loads(orjson.dumps(shown(look)))
    states = {f"nodes_{state}" for state in (*OLD_STATES.values(), "fail")}
    assert sum(document[state] for state in states) == len(nodes.nodes) == len(instances(look))
    for node, instance in zip(nodes.nodes, instances(look), strict=True):
        assert instance["worker_state"] in {"unknown", "booting", "idle", "running", "shutdown"}
        if node.cloud_id:
            found = find_node(look, node.cloud_id)
            assert found is not None
            assert found.cloud_id == node.cloud_id
