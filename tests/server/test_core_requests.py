"""Container requests: committed, edited, re-prioritised, cancelled; and what becomes of failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from nodemanager.model import parse_time
from nodemanager.server.policy import Policy
from nodemanager.server.schema import containers

if TYPE_CHECKING:
    from tests.server.conftest import Cluster


def count(cluster: Cluster, resource: str) -> int:
    listed = cluster.call(f"{resource}.list", token=cluster.root_token, limit=0)
    return int(listed["items_available"])


def test_a_committed_request_has_a_queued_container(cluster: Cluster) -> None:
    secret = {"/k": {"kind": "text", "content": "s3cret"}}
    request = cluster.request(
        name="one", priority=3, properties={"run": "x"}, secret_mounts=secret,
        mounts={"/out": {"kind": "tmp"}}, output_path="/out",
    )  # fmt: skip
    assert request["state"] == "Committed"
    assert request["container_count"] == 1
    assert "secret_mounts" not in request
    container = cluster.container(request["container_uuid"])
    assert container["state"] == "Queued"
    created_ms = round(parse_time(request["created_at"]) * 1000)
    assert container["priority"] == 3 * 2**50 - created_ms
    assert container["owner_uuid"] == request["owner_uuid"]
    assert container["mounts"] == {"/out": {"kind": "tmp"}}
    assert container["content_address"] == request["content_address"]
    assert "s3cret" not in str(container)
    assert cluster.topics == ["queue"]


def test_an_uncommitted_request_may_be_edited_and_committed(cluster: Cluster) -> None:
    draft = cluster.call("container_requests.create", {"name": "draft"})
    assert (draft["state"], draft["container_uuid"], draft["priority"]) == (
        "Uncommitted",
        None,
        500,
    )
    uuid = draft["uuid"]
    assert "command: is empty" in cluster.refused(
        422, "container_requests.update", {"container_request": {"state": "Committed"}}, uuid=uuid
    )
    assert cluster.get_request(uuid)["state"] == "Uncommitted"
    cluster.update_request(uuid, **{**cluster.work(), "state": "Uncommitted"})
    done = cluster.update_request(uuid, state="Committed", run_after="2030-01-01T00:00:00Z")
    assert done["state"] == "Committed"
    assert cluster.container(done["container_uuid"])["run_after"].startswith("2030-01-01T00:00")
    assert count(cluster, "containers") == 1


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"command": []}, "command: is empty"),
        ({"runtime_constraints": {"vcpus": 1, "ram": -5}}, "runtime_constraints.ram: must be"),
        ({"runtime_constraints": {"vcpus": "1", "ram": 5}}, "runtime_constraints.vcpus: must be"),
        ({"nice": 5}, "nice: unknown field"),
        ({"state": "Final"}, "state: cannot begin as Final"),
        ({"container_uuid": "x"}, "container_uuid: cannot be updated directly"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at: is past"),
        ({"state": 5}, "state: must be one of"),
    ],
)
def test_an_invalid_request_changes_nothing(
    cluster: Cluster, attributes: dict[str, Any], words: str
) -> None:
    body = {"container_request": cluster.work(**attributes)}
    assert words in cluster.refused(422, "container_requests.create", body)
    assert count(cluster, "container_requests") == 0
    assert count(cluster, "containers") == 0
    assert cluster.topics == []


def test_state_jumps_are_refused(cluster: Cluster) -> None:
    request = cluster.request()
    for state, words in (
        ("Uncommitted", "cannot change from Committed"),
        ("Final", "priority to 0"),
    ):
        body = {"container_request": {"state": state}}
        text = cluster.refused(422, "container_requests.update", body, uuid=request["uuid"])
        assert text.startswith("state: ")
        assert words in text


def test_what_defines_the_work_is_fixed_once_committed(cluster: Cluster) -> None:
    request = cluster.request()
    text = cluster.refused(
        422,
        "container_requests.update",
        {"container_request": {"command": ["false"], "name": "x"}},
        uuid=request["uuid"],
    )
    assert text == "command: cannot be modified in state Committed"
    # A client may send the whole record back with one thing changed.
    same = {k: v for k, v in request.items() if k in cluster.work() or k in ("uuid", "etag")}
    assert cluster.update_request(request["uuid"], **same, name="new")["name"] == "new"


def test_a_record_may_be_sent_back_as_it_came(cluster: Cluster) -> None:
    request = cluster.request(run_after="2030-01-01T00:00:00Z", output_name="x")
    assert cluster.update_request(request["uuid"], **{**request, "name": "new"})["name"] == "new"
    changed = {**request, "container_count": 5, "container_uuid": None}
    body = {"container_request": changed}
    text = cluster.refused(422, "container_requests.update", body, uuid=request["uuid"])
    assert "container_count: cannot be updated directly" in text
    assert "container_uuid: cannot be updated directly" in text


def test_a_state_of_null_is_no_way_back(cluster: Cluster) -> None:
    request = cluster.request()
    assert cluster.update_request(request["uuid"], state=None)["state"] == "Committed"
    assert cluster.call("container_requests.create", {"state": None})["state"] == "Uncommitted"


def test_an_expired_request_stops_what_runs(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    due = "2027-01-15T08:01:00Z"
    request, container, _token = cluster.running(me, expires_at=due)
    cluster.clock.advance(parse_time(due) - cluster.clock.wall())
    cluster.service.sweep()
    now = cluster.container(container)
    assert (now["state"], now["priority"]) == ("Running", 0)
    cluster.report(me, container, state="TempFail")
    done = cluster.get_request(request["uuid"])
    assert done["state"] == "Final"
    assert cluster.container(done["container_uuid"])["state"] == "Cancelled"


def test_priority_reaches_the_container(cluster: Cluster) -> None:
    request = cluster.request(priority=1)
    before = cluster.container(request["container_uuid"])["priority"]
    cluster.update_request(request["uuid"], priority=2)
    assert cluster.container(request["container_uuid"])["priority"] == before + 2**50


def test_cancelling_a_queued_container_ends_it_at_once(cluster: Cluster) -> None:
    request = cluster.request()
    done = cluster.update_request(request["uuid"], priority=0)
    assert done["state"] == "Final"
    container = cluster.container(request["container_uuid"])
    assert (container["state"], container["priority"]) == ("Cancelled", 0)
    assert container["finished_at"] is not None
    body = {"container_request": {"priority": 5}}
    text = cluster.refused(422, "container_requests.update", body, uuid=request["uuid"])
    assert text == "priority: cannot be modified in state Final"


def test_cancelling_a_claimed_container_tells_its_dispatcher(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    request = cluster.request()
    cluster.claim(me)
    _none, cursor = cluster.changes(me, "")
    assert cluster.update_request(request["uuid"], priority=0)["state"] == "Committed"
    (container,), cursor = cluster.changes(me, cursor)
    assert (container["state"], container["priority"]) == ("Locked", 0)
    cluster.report(me, container["uuid"], state="Cancelled")
    assert cluster.get_request(request["uuid"])["state"] == "Final"


def test_tempfail_is_retried_with_backoff_and_never_counted(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    secret = {"/k": {"kind": "text", "content": "s"}}
    request = cluster.request(secret_mounts=secret, runtime_token="v2/x/y")
    waits = []
    for attempt in range(1, 7):
        (container,) = cluster.claim(me)
        assert container["attempt"] == attempt
        token = cluster.runner_token(me, container["uuid"])
        mounts = cluster.call("containers.secret_mounts", token=token, uuid=container["uuid"])
        assert mounts == {"secret_mounts": secret}
        status = {"error": f"node {attempt} lost"}
        cluster.report(me, container["uuid"], state="TempFail", runtime_status=status)
        now = cluster.get_request(request["uuid"])
        assert (now["state"], now["container_count"]) == ("Committed", 1)
        following = cluster.container(now["container_uuid"])
        assert following["previous_uuid"] == container["uuid"]
        assert following["temp_fails"] == attempt
        assert following["runtime_status"]["error"] == (
            f"attempt {attempt} ended TempFail: node {attempt} lost"
        )
        assert ("warning" in following["runtime_status"]) == (attempt >= 5)
        due = parse_time(following["run_after"])
        waits.append(due - cluster.clock.wall())
        assert cluster.claim(me) == []
        assert cluster.service.next_due() == pytest.approx(due)
        cluster.clock.advance(due - cluster.clock.wall() + 0.001)
        cluster.ping(me)
    assert 10 <= waits[0] <= 12.5
    assert 320 <= waits[5] <= 400
    attempts = cluster.attempts(request["uuid"])
    assert [a["attempt"] for a in attempts] == list(range(1, 8))
    assert [a["state"] for a in attempts] == ["TempFail"] * 6 + ["Queued"]
    assert attempts[2]["error"] == "node 3 lost"


def test_secrets_are_wiped_from_what_is_over(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    secret = {"/k": {"kind": "text", "content": "s"}}
    request, uuid, token = cluster.running(me, secret_mounts=secret, runtime_token="v2/x/y")
    cluster.write(token, uuid, state="Complete", exit_code=0)
    with cluster.database.read() as conn:
        rows = conn.execute(select(containers.c.secret_mounts, containers.c.runtime_token)).all()
    assert [tuple(row) for row in rows] == [({}, None)]
    assert cluster.get_request(request["uuid"])["state"] == "Final"


def test_permfail_counts_against_the_limit(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    request, uuid, token = cluster.running(me, container_count_max=2)
    cluster.write(token, uuid, state="PermFail", exit_code=3)
    again = cluster.get_request(request["uuid"])
    assert (again["state"], again["container_count"]) == ("Committed", 2)
    (second,) = cluster.claim(me)
    assert (second["attempt"], second["runtime_status"]["error"]) == (
        2,
        "attempt 1 ended PermFail: no reason was given",
    )
    cluster.report(me, second["uuid"], state="PermFail", exit_code=3)
    assert cluster.get_request(request["uuid"])["state"] == "Final"
    assert [a["exit_code"] for a in cluster.attempts(request["uuid"])] == [3, 3]


def test_a_failure_nobody_wants_repeated_ends_cancelled(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    request, uuid, token = cluster.running(me)
    cluster.update_request(request["uuid"], priority=0)
    cluster.write(token, uuid, state="TempFail")
    done = cluster.get_request(request["uuid"])
    assert done["state"] == "Final"
    assert cluster.container(done["container_uuid"])["state"] == "Cancelled"
    assert [a["state"] for a in cluster.attempts(request["uuid"])] == ["TempFail", "Cancelled"]
    assert cluster.claim(me) == []


def test_an_expired_request_is_cancelled_by_the_sweep(cluster: Cluster) -> None:
    due = "2027-01-15T08:01:00Z"
    request = cluster.request(expires_at=due)
    assert cluster.service.sweep().expired == 0
    cluster.clock.advance(parse_time(due) - cluster.clock.wall())
    assert cluster.service.sweep().expired == 1
    assert cluster.get_request(request["uuid"])["state"] == "Final"
    assert cluster.container(request["container_uuid"])["state"] == "Cancelled"
    assert cluster.service.sweep().expired == 0


def test_a_limit_of_tempfails_ends_the_request(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(Policy(root_token="r", max_temp_fails=1))
    me = cluster.dispatcher()
    request = cluster.request()
    (container,) = cluster.claim(me)
    cluster.batch(me, (container["uuid"], {"state": "TempFail"}))
    done = cluster.get_request(request["uuid"])
    assert (done["state"], done["container_uuid"]) == ("Final", container["uuid"])


def test_use_existing_false_salts_the_address(cluster: Cluster) -> None:
    one, two = cluster.request(use_existing=True), cluster.request(use_existing=True)
    salted = [cluster.request(use_existing=False) for _ in range(2)]
    assert one["content_address"] == two["content_address"]
    assert len({r["content_address"] for r in (one, *salted)}) == 3
    filters = [["content_address", "=", one["content_address"]]]
    found = cluster.call("container_requests.list", filters=filters)
    assert found["items_available"] == 2


def test_properties_are_found_by_their_keys(cluster: Cluster) -> None:
    cluster.request(properties={"run": "a", "index": 1})
    wanted = cluster.request(properties={"run": "b", "index": 1})
    found = cluster.call("container_requests.list", filters=[["properties.run", "=", "b"]])
    assert [r["uuid"] for r in found["items"]] == [wanted["uuid"]]


def test_users_see_their_own_only(cluster: Cluster) -> None:
    other = cluster.service.create_user_token("bob").text
    request = cluster.request()
    for method in ("container_requests.get", "container_requests.attempts"):
        cluster.refused(404, method, token=other, uuid=request["uuid"])
    cluster.refused(404, "containers.get", token=other, uuid=request["container_uuid"])
    body = {"container_request": {"priority": 0}}
    cluster.refused(404, "container_requests.update", body, token=other, uuid=request["uuid"])
    assert cluster.call("container_requests.list", token=other)["items"] == []
    assert cluster.call("containers.list", token=other)["items"] == []
    assert len(cluster.call("containers.list")["items"]) == 1
    body = {"container_request": cluster.work(owner_uuid=request["owner_uuid"])}
    cluster.refused(403, "container_requests.create", body, token=other)


def test_a_dispatcher_asks_for_nothing(cluster: Cluster) -> None:
    body = {"container_request": cluster.work()}
    cluster.refused(403, "container_requests.create", body, token=cluster.dispatcher().token)
