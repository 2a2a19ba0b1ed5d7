"""Why containers wait: links that dispatchers write, and the log of their changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodemanager.reason import Reason, ReasonToken

if TYPE_CHECKING:
    from tests.server.conftest import Cluster, Me

REASON = Reason(
    ReasonToken.NO_NODE_FITS,
    "RAM: wants 40 GiB, the largest node has 32 GiB",
    facts={"ram_bytes": {"wanted": 40, "available": 32}},
    advice="ask for at most 32 GiB",
    since=1_800_000_000.0,
)


def say(cluster: Cluster, me: Me, *pairs: tuple[Any, Any]) -> list[int]:
    items = [
        {"uuid": uuid, "reason": r.as_dict() if isinstance(r, Reason) else r} for uuid, r in pairs
    ]
    body = {**me.by, "annotations": items}
    answers = cluster.call("containers.annotate", body, token=me.token)["items"]
    return [answer["status"] for answer in answers]


def links(cluster: Cluster) -> list[dict[str, Any]]:
    filters = [["link_class", "=", "dispatch"]]
    found = cluster.call("links.list", filters=filters)["items"]
    assert isinstance(found, list)
    return found


def logged(cluster: Cluster) -> int:
    return int(cluster.call("logs.list", limit=0)["items_available"])


def test_any_dispatcher_says_why_a_queued_container_waits(cluster: Cluster) -> None:
    one, two = cluster.dispatcher("one"), cluster.dispatcher("two")
    request = cluster.request()
    uuid = request["container_uuid"]
    assert say(cluster, one, (uuid, REASON)) == [200]
    assert say(cluster, two, (uuid, Reason(ReasonToken.CLAIM_LIMIT, "full"))) == [200]
    found = {link["tail_uuid"]: link for link in links(cluster)}
    assert found[one.uuid]["name"] == "no-node-fits"
    assert found[one.uuid]["head_uuid"] == uuid
    assert found[one.uuid]["owner_uuid"] == request["owner_uuid"]
    assert Reason.from_dict(found[one.uuid]["properties"]) == REASON
    assert found[two.uuid]["name"] == "claim-limit"
    (entry, _other) = cluster.call("logs.list", order="created_at, uuid")["items"]
    assert entry["object_uuid"] == uuid
    assert logged(cluster) == 2


def test_only_news_is_written(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    say(cluster, me, (uuid, REASON))
    (before,) = links(cluster)
    cluster.clock.advance(60)
    later = Reason(REASON.token, REASON.sentence, REASON.facts, REASON.advice, since=5.0)
    say(cluster, me, (uuid, later))
    assert links(cluster) == [before]
    assert logged(cluster) == 1
    changed = Reason(ReasonToken.RUN_AFTER, "at 02:00", since=5.0)
    say(cluster, me, (uuid, changed))
    (after,) = links(cluster)
    assert (after["uuid"], after["name"]) == (before["uuid"], "run-after")
    assert after["modified_at"] > before["modified_at"]
    assert logged(cluster) == 2


def test_a_reason_is_taken_back(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    assert say(cluster, me, (uuid, None)) == [200]
    say(cluster, me, (uuid, REASON))
    assert say(cluster, me, (uuid, None)) == [200]
    assert links(cluster) == []
    assert logged(cluster) == 2


def test_one_call_may_say_several_things_about_one_container(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    other = Reason(ReasonToken.BACKOFF, "later")
    assert (
        say(cluster, me, (uuid, REASON), (uuid, None), (uuid, REASON), (uuid, other)) == [200] * 4
    )
    assert [link["name"] for link in links(cluster)] == ["backoff"]
    assert say(cluster, me, (uuid, REASON), (uuid, None)) == [200, 200]
    assert links(cluster) == []


def test_items_are_answered_one_by_one(cluster: Cluster) -> None:
    one, two = cluster.dispatcher("one"), cluster.dispatcher("two")
    held = cluster.request()["container_uuid"]
    cluster.claim(one)
    _request, running, _token = cluster.running(one)
    queued = cluster.request()["container_uuid"]
    statuses = say(
        cluster,
        two,
        (held, REASON),
        ("zzzzz-dz642-none", REASON),
        (running, REASON),
        (5, REASON),
        (queued, {"token": "no-such", "sentence": "x", "since": "now"}),
        (queued, "because"),
        (queued, {**REASON.as_dict(), "facts": {"a": "\0"}}),
        (queued, REASON),
    )
    assert statuses == [403, 404, 403, 422, 422, 422, 422, 200]
    assert say(cluster, one, (held, REASON), (running, REASON)) == [200, 422]


def test_reasons_go_when_the_container_starts_or_ends(cluster: Cluster) -> None:
    me, other = cluster.dispatcher("one"), cluster.dispatcher("two")
    started = cluster.request()["container_uuid"]
    ended = cluster.request()
    for dispatcher in (me, other):
        say(cluster, dispatcher, (started, REASON), (ended["container_uuid"], REASON))
    assert len(links(cluster)) == 4
    cluster.claim(me)
    assert len(links(cluster)) == 4
    cluster.report(me, started, state="Running")
    assert len(links(cluster)) == 2
    cluster.update_request(ended["uuid"], priority=0)
    assert links(cluster) == []


def test_the_reasons_of_a_lost_dispatcher_go(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    say(cluster, me, (cluster.request()["container_uuid"], REASON))
    cluster.call("dispatchers.lose", token=cluster.root_token, uuid=me.uuid)
    assert links(cluster) == []


def test_a_container_without_reason_of_another_user_shows_nothing(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    say(cluster, me, (cluster.request()["container_uuid"], REASON))
    bob = cluster.service.create_user_token("bob").text
    assert cluster.call("links.list", token=bob)["items"] == []
    assert cluster.call("logs.list", token=bob)["items"] == []


def test_links_and_logs_of_ones_own(cluster: Cluster) -> None:
    body = {"link": {"link_class": "tag", "name": "good", "head_uuid": "zzzzz-xvhdp-0"}}
    link = cluster.call("links.create", body)
    assert cluster.call("links.get", uuid=link["uuid"]) == link
    bob = cluster.service.create_user_token("bob").text
    cluster.refused(404, "links.delete", token=bob, uuid=link["uuid"])
    me = cluster.dispatcher()
    cluster.refused(403, "links.create", body, token=me.token)
    cluster.refused(403, "links.delete", token=me.token, uuid=link["uuid"])
    cluster.call("links.delete", uuid=link["uuid"])
    cluster.refused(404, "links.get", uuid=link["uuid"])
    cluster.refused(422, "links.create", {"link": {"link_class": "dispatch"}})
    cluster.refused(422, "links.create", {"link": {"colour": "red"}})
    log = cluster.call("logs.create", {"log": {"event_type": "note", "summary": "hello"}})
    assert log["event_at"] == log["created_at"]
    cluster.refused(403, "logs.delete", uuid=log["uuid"])
    cluster.call("logs.delete", token=cluster.root_token, uuid=log["uuid"])
