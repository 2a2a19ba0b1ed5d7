"""Claims: once, the most urgent first, only what fits; and how a dispatcher hears of changes."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.dialects import sqlite

from nodemanager.model import parse_time
from nodemanager.server import queue

if TYPE_CHECKING:
    from tests.server.conftest import Cluster

GIB = 2**30


def test_the_most_urgent_come_first(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    made = {}
    for name, priority in (("low", 1), ("early", 5), ("late", 5), ("high", 9)):
        made[cluster.request(name=name, priority=priority)["container_uuid"]] = name
        cluster.clock.advance(1)
    assert [made[c["uuid"]] for c in cluster.claim(me, 3)] == ["high", "early", "late"]
    (last,) = cluster.claim(me, 3)
    assert made[last["uuid"]] == "low"
    assert last["state"] == "Locked"
    assert last["dispatcher"] == me.uuid
    assert last["locked_at"] is not None
    assert cluster.claim(me, 3) == []


def test_the_same_claim_again_returns_the_same(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    for _ in range(5):
        cluster.request()
    first = cluster.claim(me, 3, "c1")
    assert cluster.claim(me, 3, "c1") == first
    assert len(cluster.claim(me, 3, "c2")) == 2


def test_a_container_is_claimed_once(cluster: Cluster) -> None:
    one, two = cluster.dispatcher("one"), cluster.dispatcher("two")
    uuid = cluster.request()["container_uuid"]
    body = {"container": {"dispatcher": one.uuid}}
    assert cluster.write(one.token, uuid, dispatcher=one.uuid)["state"] == "Locked"
    assert cluster.write(one.token, uuid, dispatcher=one.uuid)["state"] == "Locked"
    text = cluster.refused(
        422,
        "containers.update",
        {"container": {"dispatcher": two.uuid}},
        token=two.token,
        uuid=uuid,
    )
    assert text == "dispatcher: cannot lock when Locked"
    cluster.refused(403, "containers.update", body, token=two.token, uuid=uuid)
    cluster.refused(403, "containers.update", body, uuid=uuid)
    assert cluster.claim(two) == []


def test_what_may_not_be_claimed_yet_says_why(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    waiting = cluster.request(run_after="2030-01-01T00:00:00Z")["container_uuid"]
    large = cluster.request(runtime_constraints={"vcpus": 99, "ram": 1})["container_uuid"]
    cancelled = cluster.request()
    cluster.update_request(cancelled["uuid"], priority=0)
    for uuid, words in (
        (waiting, "cannot lock before run_after"),
        (large, "does not fit its capabilities"),
        (cancelled["container_uuid"], "cannot lock when Cancelled"),
    ):
        body = {"container": {"dispatcher": me.uuid}}
        assert words in cluster.refused(422, "containers.update", body, token=me.token, uuid=uuid)
    assert cluster.claim(me, 10) == []


def test_only_what_fits_is_claimed_however_much_does_not(cluster: Cluster) -> None:
    for ram in range(17, 40):
        cluster.request(priority=1000, runtime_constraints={"vcpus": 1, "ram": ram * GIB})
    cluster.request(priority=999, scheduling_parameters={"partitions": ["gpu"]})
    fitting = cluster.request(priority=1)["container_uuid"]
    nodes = [{"cores": 4, "ram_bytes": 16 * GIB}, {"cores": 64, "ram_bytes": GIB}]
    me = cluster.dispatcher(capabilities={"largest": nodes, "partitions": ["cpu"]})
    # 8 cores fit the second node and 2 GiB the first, but both together fit none.
    cluster.request(priority=1000, runtime_constraints={"vcpus": 8, "ram": 2 * GIB})
    assert [c["uuid"] for c in cluster.claim(me, 100)] == [fitting]
    more = {"largest": [{"cores": 64, "ram_bytes": 64 * GIB}], "partitions": ["cpu"]}
    cluster.topics.clear()
    cluster.ping(me, capabilities=more)
    assert cluster.topics == ["queue"]
    assert len(cluster.claim(me, 100)) == 24
    cluster.ping(me, capabilities=more)
    assert cluster.topics == ["queue"]


def test_with_several_schedulers_what_none_takes_is_not_claimed(cluster: Cluster) -> None:
    node = {"cores": 8, "ram_bytes": 16 * GIB}
    quick = {"properties": {"kind": ["quick"]}, "cores": [0, 2]}
    routes = [
        {"scheduler": "quick", "rule": quick, "largest": [node]},
        {"scheduler": "large", "rule": {"cores": [4, None]}, "largest": [node]},
    ]
    me = cluster.dispatcher(capabilities={"largest": [node], "routes": routes})
    asked = {"scheduling_parameters": {"properties": {"kind": "quick"}}}

    def request(cores: int, **more: Any) -> str:
        constraints = {"vcpus": cores, "ram": GIB}
        made = cluster.request(runtime_constraints=constraints, use_existing=False, **more)
        return str(made["container_uuid"])

    taken = {request(1, **asked), request(2, **asked), request(4), request(4, **asked)}
    for cores, more in ((1, {}), (3, asked), (9, {})):
        request(cores, **more)
    assert {c["uuid"] for c in cluster.claim(me, 100)} == taken


def test_nothing_is_claimed_before_its_time(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    due = "2027-01-15T08:00:30Z"
    request = cluster.request(run_after=due)
    assert cluster.service.next_due() == parse_time(due)
    cluster.clock.advance(29)
    assert cluster.claim(me) == []
    cluster.clock.advance(1)
    assert [c["uuid"] for c in cluster.claim(me)] == [request["container_uuid"]]
    assert cluster.service.next_due() is None


def test_work_given_back_goes_to_another_dispatcher(cluster: Cluster) -> None:
    one, two = cluster.dispatcher("one"), cluster.dispatcher("two")
    request = cluster.request()
    (container,) = cluster.claim(one)
    cluster.report(one, container["uuid"], state="TempFail", given_back=True)
    again = cluster.container(cluster.get_request(request["uuid"])["container_uuid"])
    assert (again["run_after"], again["temp_fails"], again["given_back"]) == (None, 0, False)
    assert cluster.claim(one) == []
    assert cluster.service.next_due() == cluster.clock.wall() + 60
    (taken,) = cluster.claim(two)
    cluster.report(two, taken["uuid"], state="TempFail", given_back=True)
    assert len(cluster.claim(one)) == 1


def test_who_gave_it_back_is_offered_it_again_after_a_while(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    cluster.request()
    (container,) = cluster.claim(me)
    cluster.report(me, container["uuid"], state="TempFail", given_back=True)
    cluster.clock.advance(59)
    assert cluster.claim(me) == []
    cluster.clock.advance(1)
    assert len(cluster.claim(me)) == 1


def test_hold_waits_for_a_release(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    request = cluster.request()
    (container,) = cluster.claim(me)
    cluster.report(me, container["uuid"], state="TempFail", hold=True)
    uuid = cluster.get_request(request["uuid"])["container_uuid"]
    cluster.clock.advance(300)
    assert cluster.claim(me) == []
    body = {"container": {"hold": False}}
    cluster.refused(403, "containers.update", body, uuid=uuid)
    cluster.topics.clear()
    cluster.call("containers.update", body, token=cluster.root_token, uuid=uuid)
    assert cluster.topics == ["queue"]
    assert [c["uuid"] for c in cluster.claim(me)] == [uuid]


@pytest.mark.parametrize("limit", [0, -1, 1001, "x"])
def test_a_senseless_limit_is_refused(cluster: Cluster, limit: object) -> None:
    me = cluster.dispatcher()
    text = cluster.refused(422, "containers.claim", {**me.by, "limit": limit}, token=me.token)
    assert text.startswith("limit: must be")


def test_a_claim_needs_dispatcher_and_epoch(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    text = cluster.refused(422, "containers.claim", {"dispatcher": me.uuid}, token=me.token)
    assert text == "epoch: missing"
    text = cluster.refused(422, "containers.claim", {"epoch": 1}, token=me.token)
    assert text == "dispatcher: missing"
    body = {"dispatcher": "zzzzz-bmxii-0", "epoch": 1}
    assert "not found" in cluster.refused(422, "containers.claim", body, token=me.token)
    cluster.refused(403, "containers.claim", me.by)


def test_two_threads_never_claim_the_same(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(in_file=True)
    dispatchers = [cluster.dispatcher("one"), cluster.dispatcher("two")]
    for _ in range(40):
        cluster.request()
    taken: list[str] = []

    def work(index: int) -> None:
        while found := cluster.claim(dispatchers[index], 3):
            taken.extend(c["uuid"] for c in found)

    threads = [Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == len(set(taken)) == 40


# --- changes --------------------------------------------------------------------------------------


def test_changes_by_others_are_told_once_and_in_order(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    requests = [cluster.request() for _ in range(3)]
    cluster.claim(me, 3)
    assert cluster.changes(me, "") == ([], "0")
    cluster.topics.clear()
    for request, priority in zip(requests, (7, 8, 9), strict=True):
        cluster.update_request(request["uuid"], priority=priority)
    cluster.update_request(requests[0]["uuid"], priority=1)
    assert set(cluster.topics) == {f"dispatcher:{me.uuid}"}
    items, cursor = cluster.changes(me, "0")
    uuids = [requests[i]["container_uuid"] for i in (1, 2, 0)]
    assert [c["uuid"] for c in items] == uuids
    assert cluster.changes(me, cursor) == ([], cursor)
    reply = cluster.call("containers.changes", token=me.token, cursor="0", limit=2, **me.by)
    assert [c["uuid"] for c in reply["items"]] == uuids[:2]
    assert [c["uuid"] for c in cluster.changes(me, reply["cursor"])[0]] == uuids[2:]


def test_ones_own_writes_are_no_news_and_the_runners_are(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    cluster.request()
    (container,) = cluster.claim(me)
    cluster.report(me, container["uuid"], scheduler_job="b.1")
    token = cluster.runner_token(me, container["uuid"])
    assert cluster.changes(me, "0") == ([], "0")
    cluster.write(token, container["uuid"], state="Running", runner_id="r")
    (item,), cursor = cluster.changes(me, "0")
    assert item["state"] == "Running"
    cluster.write(token, container["uuid"], state="Complete", exit_code=0)
    (item,), _cursor = cluster.changes(me, cursor)
    assert item["state"] == "Complete"


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30, "1.5", "\u0663"])
def test_a_made_up_cursor_is_refused(cluster: Cluster, cursor: str) -> None:
    me = cluster.dispatcher()
    text = cluster.refused(422, "containers.changes", token=me.token, cursor=cursor, **me.by)
    assert text.startswith("cursor: ")


@pytest.mark.parametrize("make_cluster", ["sqlite"], indirect=True)
def test_a_claim_reads_the_queue_in_order_from_one_index(cluster: Cluster) -> None:
    """Sorting the queue, or reading its table, would make each claim as slow as the queue is long."""
    sql = str(queue._MOST_URGENT.compile(dialect=sqlite.dialect()))
    with cluster.database.read() as conn:
        plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?")).all()
    steps = [row[-1] for row in plan]
    assert "USING COVERING INDEX ix_containers_waiting" in steps[0]
    assert not any("TEMP B-TREE" in step for step in steps)
