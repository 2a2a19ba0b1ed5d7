"""Containers that ask for containers: their priority, their end, and how they are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.server.conftest import Cluster, Me


@pytest.fixture
def me(cluster: Cluster) -> Me:
    return cluster.dispatcher()


def bear(cluster: Cluster, token: str, **attributes: Any) -> dict[str, Any]:
    """A request made by a running container with its token."""
    cluster.clock.advance(0.001)
    body = {"container_request": cluster.work(**attributes)}
    return cluster.call("container_requests.create", body, token=token)


def start(cluster: Cluster, me: Me, uuid: str) -> str:
    """Let this container run, of however many wait; its token."""
    body = {"container": {"dispatcher": me.uuid}, "epoch": me.epoch}
    cluster.call("containers.update", body, token=me.token, uuid=uuid)
    token = cluster.runner_token(me, uuid)
    cluster.write(token, uuid, state="Running", runner_id="r")
    return token


def priority(cluster: Cluster, uuid: str) -> int:
    return int(cluster.container(uuid)["priority"])


def test_a_child_has_its_parents_priority(cluster: Cluster, me: Me) -> None:
    request, parent, token = cluster.running(me, priority=7)
    child = bear(cluster, token, priority=1)
    assert child["requesting_container_uuid"] == parent
    assert child["owner_uuid"] == request["owner_uuid"]
    assert priority(cluster, child["container_uuid"]) == priority(cluster, parent)
    cluster.update_request(request["uuid"], priority=9)
    assert priority(cluster, parent) > 8 * 2**50
    assert priority(cluster, child["container_uuid"]) == priority(cluster, parent)


def test_priorities_reach_the_deepest_descendant(cluster: Cluster, me: Me) -> None:
    request, uuid, token = cluster.running(me)
    for _ in range(30):
        child = bear(cluster, token)
        uuid = child["container_uuid"]
        token = start(cluster, me, uuid)
    cluster.update_request(request["uuid"], priority=900)
    assert priority(cluster, uuid) == priority(cluster, request["container_uuid"])
    cluster.update_request(request["uuid"], priority=0)
    assert priority(cluster, uuid) == 0


@pytest.mark.parametrize("end", ["Complete", "PermFail", "TempFail", "Cancelled"])
def test_what_it_asked_for_ends_with_it(cluster: Cluster, me: Me, end: str) -> None:
    _request, parent, token = cluster.running(me)
    waits, runs = bear(cluster, token), bear(cluster, token)
    grandchild = bear(cluster, start(cluster, me, runs["container_uuid"]))
    draft = bear(cluster, token, state="Uncommitted")
    cluster.write(token, parent, state=end)
    assert cluster.container(waits["container_uuid"])["state"] == "Cancelled"
    assert cluster.get_request(waits["uuid"])["state"] == "Final"
    running = cluster.container(runs["container_uuid"])
    assert (running["state"], running["priority"]) == ("Running", 0)
    assert cluster.container(grandchild["container_uuid"])["state"] == "Cancelled"
    commit = {"container_request": {"state": "Committed"}}
    text = cluster.refused(422, "container_requests.update", commit, uuid=draft["uuid"])
    assert "is not running any more" in text


def test_a_child_that_somebody_else_wants_goes_on(cluster: Cluster, me: Me) -> None:
    _request, parent, token = cluster.running(me)
    child = bear(cluster, token, command=["shared"], use_existing=True)
    other = cluster.request(command=["shared"], use_existing=True, priority=3)
    assert other["container_uuid"] == child["container_uuid"]
    cluster.write(token, parent, state="PermFail", exit_code=1)
    shared = cluster.container(other["container_uuid"])
    assert shared["state"] == "Queued"
    assert 0 < shared["priority"] < 3 * 2**50


def test_a_failed_child_is_not_tried_again_when_its_parent_is_unwanted(
    cluster: Cluster, me: Me
) -> None:
    request, _parent, token = cluster.running(me)
    child = bear(cluster, token)
    start(cluster, me, child["container_uuid"])
    cluster.update_request(request["uuid"], priority=0)
    cluster.report(me, child["container_uuid"], state="TempFail")
    now = cluster.get_request(child["uuid"])
    assert now["state"] == "Final"
    assert cluster.container(now["container_uuid"])["state"] == "Cancelled"


def test_a_child_of_an_unwanted_parent_is_not_run(cluster: Cluster, me: Me) -> None:
    request, _parent, token = cluster.running(me)
    cluster.update_request(request["uuid"], priority=0)
    child = bear(cluster, token)
    assert child["state"] == "Final"
    assert cluster.container(child["container_uuid"])["state"] == "Cancelled"


def test_nobody_waits_for_itself(cluster: Cluster, me: Me) -> None:
    request, parent, token = cluster.running(me, command=["same"], use_existing=True)
    child = bear(cluster, token, command=["other"], use_existing=True)
    child_token = start(cluster, me, child["container_uuid"])
    grandchild = bear(cluster, child_token, command=["same"], use_existing=True)
    assert grandchild["content_address"] == request["content_address"]
    assert grandchild["container_uuid"] != parent


def test_a_container_sees_its_own_family_only(cluster: Cluster, me: Me) -> None:
    stranger = cluster.request()
    _request, parent, token = cluster.running(me, priority=900)
    child = bear(cluster, token)
    listed = cluster.call("container_requests.list", token=token)
    assert [r["uuid"] for r in listed["items"]] == [child["uuid"]]
    containers = cluster.call("containers.list", token=token)["items"]
    assert {c["uuid"] for c in containers} == {parent, child["container_uuid"]}
    cluster.refused(404, "container_requests.get", token=token, uuid=stranger["uuid"])
    update = {"container_request": {"priority": 0}}
    cluster.call("container_requests.update", update, token=token, uuid=child["uuid"])
    assert cluster.container(child["container_uuid"])["state"] == "Cancelled"
    cluster.refused(404, "container_requests.update", update, token=token, uuid=stranger["uuid"])


def test_a_token_that_died_asks_for_nothing(cluster: Cluster, me: Me) -> None:
    _request, parent, token = cluster.running(me)
    cluster.write(token, parent, state="PermFail")
    cluster.refused(401, "container_requests.create", {"container_request": {}}, token=token)
