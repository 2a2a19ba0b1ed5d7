"""Claims and returns in the words of stock dispatchers: ``lock``, ``unlock``, ``update_priority``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.server.conftest import Cluster

ANSWER = {"kind", "uuid", "state", "priority", "auth_uuid", "locked_by_uuid"}


def test_a_lock_is_a_claim(cluster: Cluster) -> None:
    me, other = cluster.dispatcher("one"), cluster.dispatcher("two")
    uuid = cluster.request()["container_uuid"]
    answer = cluster.call("containers.lock", token=me.token, uuid=uuid)
    assert answer.keys() == ANSWER
    assert answer["state"] == "Locked"
    now = cluster.container(uuid)
    assert (now["dispatcher"], now["lock_count"]) == (me.uuid, 1)
    assert now["locked_by_uuid"] == answer["locked_by_uuid"]
    # Whoever did not get the answer asks again.
    assert cluster.call("containers.lock", token=me.token, uuid=uuid) == answer
    assert cluster.container(uuid) == now
    text = cluster.refused(422, "containers.lock", token=other.token, uuid=uuid)
    assert "cannot lock when Locked" in text
    cluster.report(me, uuid, state="Running")
    text = cluster.refused(422, "containers.lock", token=me.token, uuid=uuid)
    assert "cannot lock when Running" in text


def test_who_has_no_dispatcher_cannot_lock(cluster: Cluster) -> None:
    uuid = cluster.request()["container_uuid"]
    token = cluster.service.create_dispatcher_token("late").text
    assert "no alive dispatcher" in cluster.refused(403, "containers.lock", token=token, uuid=uuid)
    me = cluster.dispatcher("late", token=token)
    cluster.call("dispatchers.lose", token=cluster.root_token, uuid=me.uuid)
    cluster.refused(403, "containers.lock", token=token, uuid=uuid)


def test_an_unlock_hands_the_work_back(cluster: Cluster) -> None:
    me, other = cluster.dispatcher("one"), cluster.dispatcher("two")
    request = cluster.request()
    uuid = request["container_uuid"]
    text = cluster.refused(422, "containers.unlock", token=me.token, uuid=uuid)
    assert text == "cannot unlock when Queued"
    cluster.call("containers.lock", token=me.token, uuid=uuid)
    text = cluster.refused(403, "containers.unlock", token=other.token, uuid=uuid)
    assert text == "locked by a different token"
    answer = cluster.call("containers.unlock", token=me.token, uuid=uuid)
    assert answer.keys() == ANSWER
    # A claim is never undone: the next attempt is another container, for another dispatcher first.
    assert answer["state"] == "TempFail"
    following = cluster.get_request(request["uuid"])["container_uuid"]
    assert following != uuid
    assert cluster.claim(me) == []
    (container,) = cluster.claim(other)
    assert (container["uuid"], container["temp_fails"]) == (following, 0)


def test_an_administrator_has_a_priority_worked_out_anew(cluster: Cluster) -> None:
    uuid = cluster.request(priority=3)["container_uuid"]
    before = cluster.container(uuid)["priority"]
    answer = cluster.call("containers.update_priority", token=cluster.root_token, uuid=uuid)
    assert answer["priority"] == before
