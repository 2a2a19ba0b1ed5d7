"""One container for several requests: which one a new request joins, and what becomes of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.model import ContainerState
from nodemanager.server.resources import format_micros
from nodemanager.server.reuse import Candidate, Wish, choose

if TYPE_CHECKING:
    from tests.server.conftest import Cluster, Me

NOW = 1_000_000


def ask(cluster: Cluster, token: str | None = None, **attributes: Any) -> dict[str, Any]:
    """A request that would take what exists."""
    cluster.clock.advance(0.001)
    body = {"container_request": cluster.work(use_existing=True, **attributes)}
    return cluster.call("container_requests.create", body, token=token)


def later(cluster: Cluster, seconds: float) -> str:
    return format_micros(round((cluster.clock.wall() + seconds) * 1_000_000))


@pytest.fixture
def me(cluster: Cluster) -> Me:
    return cluster.dispatcher()


# --- the choice -----------------------------------------------------------------------------------


def candidate(uuid: str, state: str, **more: Any) -> Candidate:
    more = {"priority": 1, "created_at": 0, **more}
    return Candidate(uuid=uuid, state=ContainerState(state), **more)


def test_the_order_of_preference() -> None:
    ranked = [
        candidate("old", "Complete", finished_at=1, priority=0),
        candidate("new", "Complete", finished_at=2),
        candidate("far", "Running", progress=0.5, started_at=9),
        candidate("early", "Running", started_at=1),
        candidate("late", "Running", started_at=2),
        candidate("locked", "Locked"),
        candidate("urgent", "Queued", priority=9, created_at=5),
        candidate("first", "Queued", created_at=1),
        candidate("second", "Queued", created_at=2),
    ]
    for place, best in enumerate(ranked):
        assert choose(Wish(), list(reversed(ranked[place:])), NOW) == best.uuid


@pytest.mark.parametrize(
    "useless",
    [
        candidate("a", "PermFail"),
        candidate("a", "TempFail"),
        candidate("a", "Cancelled"),
        candidate("a", "Running", priority=0),
        candidate("a", "Queued", priority=0),
        candidate("a", "Running", has_error=True),
        candidate("a", "Queued", preemptible=True),
        candidate("a", "Locked", preemptible=True),
        candidate("a", "Queued", run_after=NOW + 1),
    ],
)
def test_what_never_serves(useless: Candidate) -> None:
    assert choose(Wish(), [useless], NOW) is None


candidates = st.builds(
    Candidate,
    uuid=st.text("abc", min_size=1, max_size=3),
    state=st.sampled_from(ContainerState),
    priority=st.integers(0, 3),
    created_at=st.integers(0, 2 * NOW),
    run_after=st.none() | st.integers(0, 3 * NOW),
    temp_fails=st.integers(0, 1),
    has_error=st.booleans(),
    preemptible=st.booleans(),
)


@given(st.lists(candidates, max_size=6), st.integers(0, 3 * NOW))
def test_nothing_from_before_its_run_after_is_joined(
    found: list[Candidate], run_after: int
) -> None:
    chosen = choose(Wish(run_after=run_after), found, NOW)
    if chosen is not None:
        assert any(
            c.uuid == chosen and max(c.created_at, c.run_after or 0) >= run_after for c in found
        )
    # And nothing else than that is given up.
    generous = choose(Wish(run_after=run_after, joins_earlier=True), found, NOW)
    assert (generous is None) <= (chosen is None)


@given(st.lists(candidates, max_size=6))
def test_nobody_waits_for_itself(found: list[Candidate]) -> None:
    everybody = frozenset(c.uuid for c in found)
    assert choose(Wish(ancestors=everybody), found, NOW) is None


# --- in the database ------------------------------------------------------------------------------


def test_a_waiting_container_is_shared(cluster: Cluster, me: Me) -> None:
    one, two = ask(cluster, priority=1), ask(cluster, priority=9)
    assert one["container_uuid"] == two["container_uuid"]
    assert two["state"] == "Committed"
    (container,) = cluster.claim(me, limit=10)
    assert container["priority"] >= 9 * 2**50 - cluster.clock.wall() * 1000
    cluster.report(me, container["uuid"], state="Running")
    cluster.report(me, container["uuid"], state="Complete", exit_code=0)
    for request in (one, two):
        assert cluster.get_request(request["uuid"])["state"] == "Final"


def test_what_is_done_serves_at_once(cluster: Cluster, me: Me) -> None:
    first = ask(cluster)
    cluster.claim(me)
    cluster.report(me, first["container_uuid"], state="Running")
    cluster.report(me, first["container_uuid"], state="Complete", exit_code=0, cost=3.0)
    again = ask(cluster)
    assert (again["state"], again["container_uuid"]) == ("Final", first["container_uuid"])
    assert (again["container_count"], again["cumulative_cost"]) == (1, 0.0)
    assert [a["state"] for a in cluster.attempts(again["uuid"])] == ["Complete"]


def test_a_failure_is_never_reused(cluster: Cluster, me: Me) -> None:
    first = ask(cluster)
    cluster.claim(me)
    cluster.report(me, first["container_uuid"], state="PermFail", exit_code=1)
    assert ask(cluster)["container_uuid"] != first["container_uuid"]


def test_other_work_is_not_the_same(cluster: Cluster) -> None:
    first = ask(cluster)
    for other in (
        {"command": ["false"]},
        {"runtime_constraints": {"vcpus": 2, "ram": 2**30}},
        {"environment": {"A": "b"}},
        {"secret_mounts": {"/secret": {"kind": "text", "content": "x"}}},
    ):
        assert ask(cluster, **other)["container_uuid"] != first["container_uuid"]


def test_cancelling_one_leaves_the_other(cluster: Cluster) -> None:
    one, two = ask(cluster, priority=9), ask(cluster, priority=1)
    urgent = cluster.container(one["container_uuid"])["priority"]
    cluster.update_request(one["uuid"], priority=0)
    container = cluster.container(two["container_uuid"])
    assert container["state"] == "Queued"
    assert 0 < container["priority"] < urgent
    cluster.update_request(two["uuid"], priority=0)
    assert cluster.container(two["container_uuid"])["state"] == "Cancelled"


def test_a_deleted_request_wants_nothing_any_more(cluster: Cluster) -> None:
    one, two = ask(cluster), ask(cluster)
    cluster.call("container_requests.delete", uuid=one["uuid"])
    cluster.refused(404, "container_requests.get", uuid=one["uuid"])
    assert cluster.container(two["container_uuid"])["state"] == "Queued"
    cluster.call("container_requests.delete", uuid=two["uuid"])
    assert cluster.container(two["container_uuid"])["state"] == "Cancelled"


def test_users_share_and_get_one_successor(cluster: Cluster, me: Me) -> None:
    bob = cluster.service.create_user_token("bob").text
    mine = ask(cluster, scheduling_parameters={"partitions": ["a"], "max_run_time": 60})
    his = ask(cluster, bob, scheduling_parameters={"partitions": ["b"], "max_run_time": 90})
    assert mine["container_uuid"] == his["container_uuid"]
    partitions = cluster.dispatcher("d2", {**SMALL, "partitions": ["a", "b"]})
    (container,) = cluster.claim(partitions)
    cluster.report(partitions, container["uuid"], state="TempFail")
    following = cluster.get_request(mine["uuid"])["container_uuid"]
    assert following != container["uuid"]
    his_now = cluster.call("container_requests.get", token=bob, uuid=his["uuid"])
    assert his_now["container_uuid"] == following
    merged = cluster.container(following)["scheduling_parameters"]
    assert merged == {"partitions": ["a", "b"], "max_run_time": 90}


SMALL = {"largest": [{"cores": 8, "ram_bytes": 2**34, "scratch_bytes": 2**40}]}


def test_who_may_act_as_a_user_is_not_shared_with_another(cluster: Cluster) -> None:
    bob = cluster.service.create_user_token("bob").text
    acting: list[dict[str, Any]] = [
        {"runtime_constraints": {"vcpus": 1, "ram": 1, "API": True}},
        {"runtime_token": "v2/zzzzz-gj3su-000000000000001/secret"},
    ]
    for attributes in acting:
        mine = ask(cluster, **attributes)
        assert ask(cluster, **attributes)["container_uuid"] == mine["container_uuid"]
        assert ask(cluster, bob, **attributes)["container_uuid"] != mine["container_uuid"]


def test_a_wish_for_later_joins_nothing_of_today(cluster: Cluster, me: Me) -> None:
    today = ask(cluster)
    tomorrow = ask(cluster, run_after=later(cluster, 86_400))
    assert tomorrow["container_uuid"] != today["container_uuid"]
    # One due at the same time or after is welcome; one wished for later delays nobody.
    again = ask(cluster, run_after=tomorrow["run_after"])
    assert again["container_uuid"] == tomorrow["container_uuid"]
    cluster.update_request(today["uuid"], priority=0)
    assert ask(cluster)["container_uuid"] != tomorrow["container_uuid"]
    says_so = ask(cluster, run_after=later(cluster, 90_000), use_existing_before_run_after=True)
    assert says_so["container_uuid"] != today["container_uuid"]


def test_a_container_in_backoff_may_be_joined(cluster: Cluster, me: Me) -> None:
    first = ask(cluster)
    cluster.claim(me)
    cluster.report(me, first["container_uuid"], state="TempFail")
    waiting = cluster.get_request(first["uuid"])["container_uuid"]
    assert ask(cluster)["container_uuid"] == waiting


def test_inputs_one_may_not_see_are_not_found(cluster: Cluster, me: Me) -> None:
    bob = cluster.service.create_user_token("bob").text
    made = cluster.request()
    mounts = {
        "/out": {"kind": "tmp"},
        "/in": {"kind": "file", "path": f"store:{made['container_uuid']}/output/a"},
    }
    assert ask(cluster, mounts=mounts)["state"] == "Committed"
    body = {"container_request": cluster.work(mounts=mounts)}
    text = cluster.refused(422, "container_requests.create", body, token=bob)
    assert text == f"mounts./in.path: '{made['container_uuid']}' not found"
    mounts["/in"]["path"] = "store:zzzzz-dz642-000000000000000/output/a"
    body = {"container_request": cluster.work(mounts=mounts)}
    assert "not found" in cluster.refused(422, "container_requests.create", body)
