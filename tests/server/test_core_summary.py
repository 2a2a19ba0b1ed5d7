"""The queue in numbers, and what dispatchers' records tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nodemanager.reason import Reason, ReasonToken
from nodemanager.server.resources import format_micros

if TYPE_CHECKING:
    from tests.server.conftest import Cluster, Me


def summary(cluster: Cluster, token: str | None = None) -> dict[str, Any]:
    return cluster.call("containers.summary", token=token or cluster.root_token)


def waiting(answer: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    return {(w["state"], w["reason"]): w["containers"] for w in answer["waiting"]}


def say(cluster: Cluster, me: Me, uuid: str, token: ReasonToken) -> None:
    reason = Reason(token, "because").as_dict()
    body = {**me.by, "annotations": [{"uuid": uuid, "reason": reason}]}
    (answer,) = cluster.call("containers.annotate", body, token=me.token)["items"]
    assert answer["status"] == 200


def test_an_empty_queue(cluster: Cluster) -> None:
    assert summary(cluster) == {
        "paused": "",
        "states": {"Queued": 0, "Locked": 0, "Running": 0},
        "oldest_wait_seconds": 0.0,
        "waiting": [],
    }


def test_of_what_several_dispatchers_say_the_mildest_counts(cluster: Cluster) -> None:
    one, two = cluster.dispatcher("one"), cluster.dispatcher("two")
    both, other, unsaid = (cluster.request()["container_uuid"] for _ in range(3))
    say(cluster, one, both, ReasonToken.NO_NODE_FITS)
    say(cluster, two, both, ReasonToken.CLAIM_LIMIT)
    say(cluster, two, other, ReasonToken.NO_NODE_FITS)
    answer = summary(cluster)
    assert waiting(answer) == {
        ("Queued", "claim-limit"): 1,
        ("Queued", "no-node-fits"): 1,
        ("Queued", "not-seen"): 1,
    }
    tiers = {w["reason"]: w["tier"] for w in answer["waiting"]}
    assert tiers == {"claim-limit": "limit", "no-node-fits": "never", "not-seen": "unseen"}
    assert cluster.container(unsaid)["state"] == "Queued"


def test_of_what_is_claimed_only_its_dispatcher_tells_and_nothing_of_the_queue(
    cluster: Cluster,
) -> None:
    one, two = cluster.dispatcher("one"), cluster.dispatcher("two")
    uuid = cluster.request()["container_uuid"]
    say(cluster, two, uuid, ReasonToken.CLAIM_LIMIT)
    say(cluster, one, uuid, ReasonToken.BACKOFF)
    assert [c["uuid"] for c in cluster.claim(one)] == [uuid]
    assert waiting(summary(cluster)) == {("Locked", "submitting"): 1}
    say(cluster, one, uuid, ReasonToken.NODE_BOOTING)
    assert waiting(summary(cluster)) == {("Locked", "node-booting"): 1}


def test_what_nobody_speaks_of_is_told_by_its_record(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    root = cluster.root_token
    cluster.request()
    (container,) = cluster.claim(me)
    cluster.report(me, container["uuid"], state="TempFail")
    uuid = cluster.request()["container_uuid"]
    cluster.call("containers.hold", {"reason": "x"}, token=root, uuid=uuid)
    with cluster.database.read() as conn:
        later = format_micros(cluster.database.now(conn) + 3600 * 1_000_000)
    cluster.request(run_after=later)
    for _ in range(2):
        cluster.request()
    cluster.claim(me)
    expected = {
        ("Queued", "backoff"): 1,
        ("Queued", "on-hold"): 1,
        ("Queued", "run-after"): 1,
        ("Queued", "not-seen"): 1,
        ("Locked", "submitting"): 1,
    }
    assert waiting(summary(cluster)) == expected
    paused = cluster.call("dispatchers.pause_all", {"reason": "y"}, token=root)["paused"]
    answer = summary(cluster)
    assert answer["paused"] == paused
    del expected["Queued", "not-seen"]
    assert waiting(answer) == {**expected, ("Queued", "claims-paused"): 1}


def test_the_oldest_wait_begins_when_a_container_could_have_run(cluster: Cluster) -> None:
    with cluster.database.read() as conn:
        soon = format_micros(cluster.database.now(conn) + 60 * 1_000_000)
    cluster.request(run_after=soon)
    assert summary(cluster)["oldest_wait_seconds"] == 0
    cluster.clock.advance(100)
    assert 39 < summary(cluster)["oldest_wait_seconds"] < 50
    cluster.request()
    cluster.clock.advance(100)
    (found,) = summary(cluster)["waiting"]
    assert found["containers"] == 2
    assert 139 < found["oldest_wait_seconds"] < 150


def test_everybody_counts_what_they_may_see(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    bob = cluster.service.create_user_token("bob").text
    cluster.running(me)
    cluster.request()
    cluster.call("container_requests.create", {"container_request": cluster.work()}, token=bob)
    assert summary(cluster)["states"] == {"Queued": 2, "Locked": 0, "Running": 1}
    assert summary(cluster, me.token)["states"]["Queued"] == 2
    assert summary(cluster, bob)["states"] == {"Queued": 1, "Locked": 0, "Running": 0}
    assert summary(cluster, cluster.user_token)["states"]["Running"] == 1


def test_dispatchers_tell_what_they_hold_and_how_long_they_may_be_silent(cluster: Cluster) -> None:
    me, other = cluster.dispatcher("one"), cluster.dispatcher("two")
    cluster.running(me)
    cluster.request()
    cluster.claim(me)
    cluster.call("dispatchers.lose", token=cluster.root_token, uuid=other.uuid)
    cluster.clock.advance(100)
    found = cluster.call("dispatchers.list", order="name")["items"]
    told = [(d["live_containers"], d["running_containers"]) for d in found]
    assert told == [(2, 1), (0, 0)]
    assert 490 < found[0]["lease_seconds"] <= 500
    assert found[1]["lease_seconds"] == 0
    busy = cluster.call("dispatchers.list", filters=[["live_containers", ">", 1]])["items"]
    assert [d["uuid"] for d in busy] == [me.uuid]
    one = cluster.call("dispatchers.get", uuid=me.uuid, select=["live_containers"])
    assert one == {"kind": "arvados#dispatcher", "live_containers": 2}
