"""Dispatchers: leases, epochs, losses, outages of the API; and who may be one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from nodemanager.server.schema import heartbeat
from nodemanager.server.service import Service

if TYPE_CHECKING:
    from tests.server.conftest import Cluster, Me

TIMEOUT = 600.0


def state_of(cluster: Cluster, me: Me) -> str:
    return str(cluster.call("dispatchers.get", token=cluster.root_token, uuid=me.uuid)["state"])


def live_through(cluster: Cluster, seconds: float, *pinging: Me) -> None:
    """Let time pass as it does: a sweep every 5 s, a ping of each every 15 s."""
    for step in range(int(seconds / 5)):
        cluster.clock.advance(5)
        if step % 3 == 0:
            for me in pinging:
                cluster.ping(me)
        cluster.service.sweep()


def test_pings_keep_a_dispatcher_alive(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    live_through(cluster, 3 * TIMEOUT, me)
    assert state_of(cluster, me) == "alive"
    record = cluster.ping(me, turn=True)
    assert record["lease_seconds"] == TIMEOUT
    assert record["last_turn_at"] == record["last_ping_at"]


def test_a_silent_dispatcher_is_lost_and_its_work_tried_again(cluster: Cluster) -> None:
    silent, other = cluster.dispatcher("silent"), cluster.dispatcher("other")
    request, uuid, token = cluster.running(silent)
    waiting = cluster.request()
    cluster.claim(silent)
    live_through(cluster, TIMEOUT - 5, other)
    assert state_of(cluster, silent) == "alive"
    live_through(cluster, 10, other)
    assert state_of(cluster, silent) == "lost"
    assert cluster.container(uuid)["state"] == "TempFail"
    assert silent.uuid in cluster.container(uuid)["runtime_status"]["error"]
    cluster.refused(401, "containers.current", token=token)
    again = cluster.container(cluster.get_request(request["uuid"])["container_uuid"])
    assert (again["state"], again["attempt"], again["temp_fails"]) == ("Queued", 2, 1)
    assert cluster.claim(other, 10) == []
    live_through(cluster, 60, other)
    assert len(cluster.claim(other, 10)) == 2
    assert len(cluster.attempts(waiting["uuid"])) == 2


def test_a_lost_dispatcher_writes_nothing_and_registers_anew(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    cluster.request()
    (container,) = cluster.claim(me)
    cluster.call("dispatchers.lose", token=cluster.root_token, uuid=me.uuid)
    assert cluster.container(container["uuid"])["state"] == "TempFail"
    update: dict[str, Any] = {
        "updates": [{"uuid": container["uuid"], "attributes": {"state": "TempFail"}}]
    }
    for method, body in (
        ("containers.claim", {}),
        ("containers.batch_update", update),
        ("containers.annotate", {"annotations": []}),
        ("containers.auth_many", {"uuids": [container["uuid"]]}),
    ):
        assert "is lost" in cluster.refused(403, method, {**me.by, **body}, token=me.token)
    cluster.refused(403, "dispatchers.ping", {"epoch": me.epoch}, token=me.token, uuid=me.uuid)
    anew = cluster.dispatcher(token=me.token)
    assert anew.uuid != me.uuid
    assert anew.epoch == 1
    body = {"container": {"state": "TempFail"}}
    cluster.refused(403, "containers.update", body, token=me.token, uuid=container["uuid"])


def test_an_outage_of_the_api_is_no_silence(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    _request, uuid, _token = cluster.running(me)
    live_through(cluster, 300, me)
    cluster.clock.advance(50_000)
    cluster.service = Service(cluster.database, cluster.service.policy, "zzzzz")
    report = cluster.service.sweep()
    assert report.outage_seconds == 50_000
    assert report.lost == []
    live_through(cluster, TIMEOUT - 20)
    assert state_of(cluster, me) == "alive"
    assert cluster.ping(me)["lease_seconds"] == TIMEOUT
    live_through(cluster, TIMEOUT + 5)
    assert state_of(cluster, me) == "lost"
    assert cluster.container(uuid)["state"] == "TempFail"


def test_nobody_is_lost_before_a_server_has_been_there_for_a_timeout(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    live_through(cluster, TIMEOUT / 2)
    # A second process starts; for it, everybody may still be about to ping.
    young = Service(cluster.database, cluster.service.policy, "zzzzz")
    cluster.clock.advance(TIMEOUT / 2 + 1)
    with cluster.database.write() as conn:
        conn.execute(update(heartbeat).values(stamped_at=cluster.database.now(conn)))
    assert young.sweep().lost == []
    assert cluster.service.sweep().lost == [me.uuid]


@pytest.mark.parametrize("seconds", [90_000.0, -90_000.0])
def test_a_jump_of_the_clock_is_no_silence(cluster: Cluster, seconds: float) -> None:
    me = cluster.dispatcher()
    live_through(cluster, TIMEOUT + 5, me)
    cluster.clock.jump(seconds)
    report = cluster.service.sweep()
    assert report.outage_seconds == pytest.approx(abs(seconds))
    assert report.lost == []
    live_through(cluster, TIMEOUT - 10)
    assert state_of(cluster, me) == "alive"
    live_through(cluster, 15)
    assert state_of(cluster, me) == "lost"


def test_the_work_of_the_lost_is_ended_chunk_by_chunk(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    for _ in range(230):
        cluster.request()
    cluster.claim(me, 1000)
    cluster.call("dispatchers.lose", token=cluster.root_token, uuid=me.uuid)
    assert cluster.service.sweep().released == 130
    assert cluster.service.sweep().released == 0
    filters = [["state", "=", "TempFail"]]
    found = cluster.call("containers.list", filters=filters, limit=0)
    assert found["items_available"] == 230


def test_retiring(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    request = cluster.request()
    cluster.claim(me)
    root = cluster.root_token
    cluster.refused(403, "dispatchers.retire", token=me.token, uuid=me.uuid)
    text = cluster.refused(422, "dispatchers.retire", token=root, uuid=me.uuid)
    assert "still holds 1 containers" in text
    body = {"release": True}
    done = cluster.call("dispatchers.retire", body, token=root, uuid=me.uuid)
    assert done["state"] == "retired"
    assert cluster.call("dispatchers.retire", token=root, uuid=me.uuid)["state"] == "retired"
    assert cluster.get_request(request["uuid"])["state"] == "Committed"
    cluster.refused(403, "containers.claim", me.by, token=me.token)
    cluster.refused(422, "dispatchers.lose", token=root, uuid=me.uuid)
    cluster.refused(404, "dispatchers.lose", token=root, uuid="zzzzz-bmxii-0")


def test_a_token_makes_its_own_dispatcher_only(cluster: Cluster) -> None:
    token = cluster.service.create_dispatcher_token("one").text
    body = {"dispatcher": {"name": "two"}}
    cluster.refused(403, "dispatchers.create", body, token=token)
    cluster.refused(403, "dispatchers.create", body)
    me = cluster.dispatcher("one", token=token)
    other = cluster.dispatcher("two")
    cluster.refused(403, "dispatchers.ping", {"epoch": 1}, token=token, uuid=other.uuid)
    assert cluster.service.authenticate(token).dispatcher_uuid == me.uuid


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "name: must be"),
        ({"name": ""}, "name: must be"),
        ({"name": "a\nb"}, "name: must be"),
        ({"name": "d1", "state": "lost"}, "state: is set by the API"),
        ({"name": "d1", "epoch": 7}, "epoch: is set by the API"),
        ({"name": "d1", "capabilities": []}, "capabilities: must be of type json_object"),
        ({"name": "d1", "capabilities": {"largest": {}}}, "capabilities.largest"),
        ({"name": "d1", "capabilities": {"largest": [5]}}, "capabilities.largest.0"),
        (
            {"name": "d1", "capabilities": {"largest": [{"cores": "4"}]}},
            "capabilities.largest.0.cores: must be an integer",
        ),
        ({"name": "d1", "capabilities": {"partitions": [1]}}, "capabilities.partitions"),
        ({"name": "d1", "capabilities": {"routes": {}}}, "capabilities.routes: must be an array"),
        (
            {"name": "d1", "capabilities": {"routes": [1]}},
            "capabilities.routes.0: must be an object",
        ),
        ({"name": "d1", "capabilities": {"routes": [{}]}}, "capabilities.routes.0.scheduler"),
        (
            {"name": "d1", "capabilities": {"routes": [{"scheduler": "a", "rule": {"core": 1}}]}},
            "capabilities.routes.0.rule.core: unknown condition",
        ),
        (
            {"name": "d1", "capabilities": {"routes": [{"scheduler": "a", "rule": {"cores": 1}}]}},
            "capabilities.routes.0.rule.cores: must be an array of two",
        ),
        (
            {"name": "d1", "capabilities": {"routes": [{"scheduler": "a", "largest": [5]}]}},
            "capabilities.routes.0.largest.0",
        ),
    ],
)
def test_bad_registrations_are_refused(
    cluster: Cluster, attributes: dict[str, Any], words: str
) -> None:
    text = cluster.refused(
        422, "dispatchers.create", {"dispatcher": attributes}, token=cluster.root_token
    )
    assert words in text
    assert cluster.call("dispatchers.list", token=cluster.root_token)["items"] == []


def test_capabilities_are_renewed_by_pings(cluster: Cluster) -> None:
    me = cluster.dispatcher(capabilities={})
    cluster.request()
    assert cluster.claim(me) == []
    new = {"largest": [{"cores": 1, "ram_bytes": 2**31}], "partitions": []}
    record = cluster.ping(me, capabilities=new)
    assert record["capabilities"]["largest"][0]["cores"] == 1
    assert len(cluster.claim(me)) == 1
    body = {"epoch": me.epoch, "capabilities": {"largest": "all"}}
    cluster.refused(422, "dispatchers.ping", body, token=me.token, uuid=me.uuid)


def test_a_claim_notes_the_turn_now_and_then(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    turns = set()
    for _ in range(20):
        cluster.clock.advance(1)
        cluster.claim(me)
        record = cluster.call("dispatchers.get", token=me.token, uuid=me.uuid)
        turns.add(record["last_turn_at"])
    assert len(turns) == 4


def test_a_registration_may_select_what_it_is_told(cluster: Cluster) -> None:
    token = cluster.service.create_dispatcher_token("d1").text
    body = {"name": "d1", "scheduler": "fake"}
    told = cluster.call("dispatchers.create", body, token=token, select=["uuid"])
    assert set(told) == {"kind", "uuid", "lease_seconds", "paused"}
    words = cluster.refused(422, "dispatchers.create", body, token=token, select=False)
    assert "select" in words
