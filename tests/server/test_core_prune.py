"""Forgetting what ended long ago."""

from __future__ import annotations

from typing import Any

import pytest

from nodemanager.model import format_time
from tests.server.conftest import ROOT_TOKEN, Cluster, Me

DAY = 86_400.0


@pytest.fixture
def me(cluster: Cluster) -> Me:
    return cluster.dispatcher()


def finished(cluster: Cluster, me: Me, **attributes: Any) -> dict[str, Any]:
    """A request that is Final, with a reason and a log entry of its container's."""
    request, uuid, token = cluster.running(me, **attributes)
    cluster.write(token, uuid, state="Complete", exit_code=0)
    return cluster.get_request(request["uuid"])


def prune(cluster: Cluster, days: float = 30, **more: Any) -> dict[str, Any]:
    before = format_time(cluster.clock.wall() - days * DAY)
    return cluster.call("container_requests.prune", {"before": before, **more}, token=ROOT_TOKEN)


def later(cluster: Cluster, me: Me, days: float) -> None:
    """Time goes by; the dispatcher pings meanwhile."""
    cluster.clock.advance(days * DAY)
    cluster.ping(me)


def exists(cluster: Cluster, resource: str, uuid: str) -> bool:
    found = cluster.call(f"{resource}.list", token=ROOT_TOKEN, filters=[["uuid", "=", uuid]])
    return bool(found["items"])


# Time is PostgreSQL's own there, and cannot be moved by a month.
in_memory = pytest.mark.parametrize("make_cluster", ["sqlite"], indirect=True)


@in_memory
def test_what_ended_long_ago_goes_with_all_that_was_noted(cluster: Cluster, me: Me) -> None:
    request = finished(cluster, me)
    container = request["container_uuid"]
    link = {"link_class": "star", "name": "good", "head_uuid": container}
    cluster.call("links.create", {"link": link})
    note = {"object_uuid": request["uuid"], "event_type": "note", "summary": "well done"}
    cluster.call("logs.create", {"log": note}, token=ROOT_TOKEN)
    later(cluster, me, 31)
    answer = prune(cluster)
    assert (answer["container_requests"], answer["containers"]) == (1, 1)
    assert answer["container_uuids"] == [container]
    assert (answer["links"], answer["more"]) == (1, False)
    assert answer["logs"] >= 1
    for resource, uuid in (("container_requests", request["uuid"]), ("containers", container)):
        assert not exists(cluster, resource, uuid)
    about = [["head_uuid", "=", container]]
    assert cluster.call("links.list", token=ROOT_TOKEN, filters=about)["items"] == []


@in_memory
def test_what_is_younger_or_not_final_stays(cluster: Cluster, me: Me) -> None:
    waiting = cluster.request(priority=1)
    old = finished(cluster, me, priority=999)
    later(cluster, me, 31)
    young = finished(cluster, me, priority=999)
    assert prune(cluster)["container_requests"] == 1
    assert not exists(cluster, "container_requests", old["uuid"])
    for request in (waiting, young):
        assert exists(cluster, "container_requests", request["uuid"])
        assert exists(cluster, "containers", request["container_uuid"])


@in_memory
def test_a_container_that_another_request_has_stays_until_that_goes(
    cluster: Cluster, me: Me
) -> None:
    old = finished(cluster, me, use_existing=True)
    later(cluster, me, 31)
    young = cluster.request(use_existing=True)
    assert young["container_uuid"] == old["container_uuid"]
    assert cluster.get_request(young["uuid"])["state"] == "Final"
    answer = prune(cluster)
    assert (answer["container_requests"], answer["containers"]) == (1, 0)
    assert exists(cluster, "containers", old["container_uuid"])
    assert [a["state"] for a in cluster.attempts(young["uuid"])] == ["Complete"]
    later(cluster, me, 31)
    assert prune(cluster)["container_uuids"] == [old["container_uuid"]]


@in_memory
def test_a_container_whose_output_somebody_waits_to_read_stays_until_that_ends(
    cluster: Cluster, me: Me
) -> None:
    source = finished(cluster, me)["container_uuid"]
    later(cluster, me, 31)
    taken = {"kind": "file", "path": f"store:{source}/output/a"}
    mounts = {"/out": {"kind": "tmp"}, "/in": taken}
    reader = cluster.request(mounts=mounts)
    assert prune(cluster, dry_run=True)["containers"] == 0
    answer = prune(cluster)
    assert (answer["container_requests"], answer["containers"]) == (1, 0)
    assert exists(cluster, "containers", source)
    cluster.update_request(reader["uuid"], priority=0)
    assert prune(cluster, dry_run=True)["containers"] == 1
    assert prune(cluster)["container_uuids"] == [source]


@in_memory
def test_a_container_whose_request_was_deleted_goes(cluster: Cluster, me: Me) -> None:
    request = finished(cluster, me)
    cluster.call("container_requests.delete", uuid=request["uuid"])
    assert prune(cluster)["containers"] == 0
    later(cluster, me, 31)
    assert prune(cluster)["container_uuids"] == [request["container_uuid"]]


@in_memory
def test_every_attempt_goes(cluster: Cluster, me: Me) -> None:
    request, first, token = cluster.running(me)
    cluster.write(token, first, state="TempFail")
    cluster.clock.advance(3600)
    cluster.ping(me)
    (second,) = cluster.claim(me)
    runner = cluster.runner_token(me, second["uuid"])
    cluster.write(runner, second["uuid"], state="Running", runner_id="r2")
    cluster.write(runner, second["uuid"], state="Complete", exit_code=0)
    assert cluster.get_request(request["uuid"])["state"] == "Final"
    later(cluster, me, 31)
    assert prune(cluster)["container_uuids"] == sorted([first, second["uuid"]])


@in_memory
def test_it_goes_on_where_the_limit_ended_it_oldest_first(cluster: Cluster, me: Me) -> None:
    requests = [finished(cluster, me) for _ in range(3)]
    later(cluster, me, 31)
    assert prune(cluster, dry_run=True)["container_requests"] == 3
    answer = prune(cluster, limit=2)
    assert (answer["container_requests"], answer["more"]) == (2, True)
    assert [exists(cluster, "container_requests", r["uuid"]) for r in requests] == [
        False,
        False,
        True,
    ]
    answer = prune(cluster, limit=2)
    assert (answer["container_requests"], answer["more"]) == (1, False)
    assert prune(cluster)["container_requests"] == 0


@in_memory
def test_dead_dispatchers_go_when_no_container_tells_of_them(cluster: Cluster, me: Me) -> None:
    finished(cluster, me)
    cluster.call("dispatchers.retire", token=ROOT_TOKEN, uuid=me.uuid)
    other = cluster.dispatcher("d2")
    later(cluster, other, 31)
    assert prune(cluster)["dispatchers"] == 1
    assert not exists(cluster, "dispatchers", me.uuid)
    assert exists(cluster, "dispatchers", other.uuid)


def test_counting_changes_nothing(cluster: Cluster, me: Me) -> None:
    requests = [finished(cluster, me) for _ in range(2)]
    cluster.request()
    counted = prune(cluster, days=-1, dry_run=True)
    assert (counted["container_requests"], counted["containers"], counted["more"]) == (2, 2, False)
    assert counted["container_uuids"] == []
    assert all(exists(cluster, "container_requests", r["uuid"]) for r in requests)
    done = prune(cluster, days=-1)
    assert (done["container_requests"], done["containers"]) == (2, 2)


def test_only_administrators_prune(cluster: Cluster, me: Me) -> None:
    body = {"before": format_time(cluster.clock.wall())}
    for token in (None, me.token):
        words = cluster.refused(403, "container_requests.prune", body, token=token)
        assert "only an administrator" in words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "before"),
        ({"before": "yesterday"}, "before: must be a time"),
        ({"before": "2026-01-01T00:00:00"}, "before: must be a time"),
        ({"before": "2026-01-01T00:00:00Z", "limit": 0}, "limit: must be 1 to 1000"),
        ({"before": "2026-01-01T00:00:00Z", "limit": 1001}, "limit: must be 1 to 1000"),
    ],
)
def test_a_wrong_call_is_refused(cluster: Cluster, body: dict[str, Any], words: str) -> None:
    assert words in cluster.refused(422, "container_requests.prune", body, token=ROOT_TOKEN)
