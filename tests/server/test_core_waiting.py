"""Holds, releases, and retries that need not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nodemanager.server.resources import format_micros
from nodemanager.server.transaction import QUEUE_TOPIC

if TYPE_CHECKING:
    from tests.server.conftest import Cluster, Me


def hold(cluster: Cluster, uuid: str, reason: str = "wrong genome") -> dict[str, Any]:
    cluster.clock.advance(0.001)
    body = {"reason": reason}
    return cluster.call("containers.hold", body, token=cluster.root_token, uuid=uuid)


def release(cluster: Cluster, uuid: str) -> dict[str, Any]:
    cluster.clock.advance(0.001)
    return cluster.call("containers.release", token=cluster.root_token, uuid=uuid)


def retry_now(cluster: Cluster, uuid: str, token: str | None = None) -> dict[str, Any]:
    return cluster.call("containers.retry_now", token=token, uuid=uuid)


def failed(cluster: Cluster, me: Me, **more: Any) -> str:
    """A container that waits, since the attempt before it failed."""
    request = cluster.request()
    (container,) = cluster.claim(me)
    cluster.report(me, container["uuid"], state="TempFail", **more)
    return str(cluster.get_request(request["uuid"])["container_uuid"])


def in_an_hour(cluster: Cluster) -> str:
    with cluster.database.read() as conn:
        return format_micros(cluster.database.now(conn) + 3600 * 1_000_000)


def events(cluster: Cluster, uuid: str) -> list[dict[str, Any]]:
    """What its owner finds in the log about it."""
    filters = [["object_uuid", "=", uuid], ["event_type", "!=", "dispatch"]]
    found = cluster.call("logs.list", filters=filters, order="created_at")["items"]
    assert isinstance(found, list)
    return found


def test_what_is_held_is_not_claimed_before_it_is_released(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    held = hold(cluster, uuid)
    assert (held["hold"], held["state"]) == (True, "Queued")
    assert held["hold_reason"].startswith("wrong genome (root, 2")
    assert cluster.container(uuid)["hold_reason"] == held["hold_reason"]
    assert cluster.claim(me) == []
    cluster.topics.clear()
    free = release(cluster, uuid)
    assert (free["hold"], free["hold_reason"]) == (False, "")
    assert QUEUE_TOPIC in cluster.topics
    assert release(cluster, uuid)["hold"] is False, "again is the same"
    assert [c["uuid"] for c in cluster.claim(me)] == [uuid]
    assert [each["event_type"] for each in events(cluster, uuid)] == ["hold", "release"]
    assert events(cluster, uuid)[0]["summary"] == f"put on hold: {held['hold_reason']}"


def test_the_last_reason_of_a_hold_counts(cluster: Cluster) -> None:
    uuid = cluster.request()["container_uuid"]
    hold(cluster, uuid)
    assert hold(cluster, uuid, "second thought")["hold_reason"].startswith("second thought (")


def test_a_hold_after_a_deleted_job_says_so_and_is_released_alike(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    status = {"error": "ann deleted its job"}
    uuid = failed(cluster, me, hold=True, runtime_status=status)
    reason = "attempt 1 ended TempFail: ann deleted its job"
    assert cluster.container(uuid)["hold_reason"] == reason
    text = cluster.refused(422, "containers.retry_now", uuid=uuid)
    assert text == f"{uuid} is on hold ({reason}): an administrator has to release it"
    release(cluster, uuid)
    retry_now(cluster, uuid)
    assert [c["uuid"] for c in cluster.claim(me)] == [uuid]


def test_the_older_way_to_release_leaves_no_reason(cluster: Cluster) -> None:
    uuid = cluster.request()["container_uuid"]
    hold(cluster, uuid)
    body = {"container": {"hold": False}}
    done = cluster.call("containers.update", body, token=cluster.root_token, uuid=uuid)
    assert (done["hold"], done["hold_reason"]) == (False, "")
    assert cluster.container(uuid)["hold_reason"] == ""


def test_a_backoff_can_be_skipped_by_whoever_asked_for_the_work(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = failed(cluster, me)
    assert cluster.claim(me) == []
    cluster.topics.clear()
    assert retry_now(cluster, uuid)["run_after"] is None
    assert QUEUE_TOPIC in cluster.topics
    (container,) = cluster.claim(me)
    assert (container["uuid"], container["temp_fails"]) == (uuid, 1)
    (event,) = events(cluster, uuid)
    assert event["event_type"] == "retry_now"
    assert event["summary"].startswith("tried again without waiting any longer (ada, 2")


def test_the_next_backoff_grows_as_if_nobody_had_skipped_one(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = failed(cluster, me)
    retry_now(cluster, uuid)
    cluster.claim(me)
    cluster.report(me, uuid, state="TempFail")
    (following,) = cluster.call("containers.list", filters=[["state", "=", "Queued"]])["items"]
    assert following["temp_fails"] == 2
    assert cluster.claim(me) == []


def test_who_handed_it_back_may_have_it_again(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = failed(cluster, me, given_back=True)
    assert cluster.claim(me) == []
    retry_now(cluster, uuid)
    assert [c["uuid"] for c in cluster.claim(me)] == [uuid]


def test_a_time_that_the_request_asked_for_stands(cluster: Cluster) -> None:
    at = in_an_hour(cluster)
    uuid = cluster.request(run_after=at)["container_uuid"]
    for token in (cluster.user_token, cluster.root_token):
        text = cluster.refused(422, "containers.retry_now", token=token, uuid=uuid)
        assert text.startswith(
            f"run_after: the request itself asked not to start before {at[:19]}Z; "
        )
    assert cluster.container(uuid)["run_after"] == at


def test_what_waits_for_no_time_is_left_as_it_is(cluster: Cluster) -> None:
    uuid = cluster.request()["container_uuid"]
    before = cluster.container(uuid)
    retry_now(cluster, uuid)
    assert cluster.container(uuid) == before
    assert events(cluster, uuid) == []


@pytest.mark.parametrize("method", ["hold", "release", "retry_now"])
def test_what_is_claimed_or_over_is_not_held_back(cluster: Cluster, method: str) -> None:
    me = cluster.dispatcher()
    _request, uuid, token = cluster.running(me)
    body = {"reason": "x"}

    def says() -> str:
        root = cluster.root_token
        return cluster.refused(422, f"containers.{method}", body, token=root, uuid=uuid)

    words = method.replace("_", " ")
    assert says() == f"cannot {words}: {uuid} is Running, only Queued ones can be"
    cluster.write(token, uuid, state="Complete", exit_code=0)
    assert says() == f"cannot {words}: {uuid} is Complete, only Queued ones can be"


def test_who_may_do_what(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = failed(cluster, me)
    bob = cluster.service.create_user_token("bob").text
    body = {"reason": "x"}
    for token in (cluster.user_token, bob, me.token):
        for method in ("hold", "release"):
            cluster.refused(403, f"containers.{method}", body, token=token, uuid=uuid)
    cluster.refused(403, "containers.retry_now", token=me.token, uuid=uuid)
    cluster.refused(404, "containers.retry_now", token=bob, uuid=uuid)
    retry_now(cluster, uuid, cluster.root_token)


def test_who_shares_the_work_may_skip_the_wait_as_well(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    bob = cluster.service.create_user_token("bob").text
    work = cluster.work(use_existing=True)
    first = cluster.call("container_requests.create", {"container_request": work})
    (container,) = cluster.claim(me)
    cluster.report(me, container["uuid"], state="TempFail")
    joined = cluster.call("container_requests.create", {"container_request": work}, token=bob)
    uuid = cluster.get_request(first["uuid"])["container_uuid"]
    assert joined["container_uuid"] == uuid
    assert retry_now(cluster, uuid, bob)["run_after"] is None


def test_a_hold_has_a_reason(cluster: Cluster) -> None:
    uuid = cluster.request()["container_uuid"]
    root = cluster.root_token
    assert "reason: missing" in cluster.refused(422, "containers.hold", token=root, uuid=uuid)
    assert cluster.container(uuid)["hold"] is False
