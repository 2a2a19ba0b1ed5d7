"""Pauses of claims: of one dispatcher, of all, and what goes on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from nodemanager.server.transaction import QUEUE_TOPIC

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tests.server.conftest import Cluster, Me

PATIENCE = 20.0


def pause(cluster: Cluster, me: Me, reason: str = "new switch") -> dict[str, Any]:
    cluster.clock.advance(0.001)
    body = {"reason": reason}
    return cluster.call("dispatchers.pause", body, token=cluster.root_token, uuid=me.uuid)


def resume(cluster: Cluster, me: Me) -> dict[str, Any]:
    cluster.clock.advance(0.001)
    return cluster.call("dispatchers.resume", token=cluster.root_token, uuid=me.uuid)


def pause_all(cluster: Cluster, reason: str = "new roof") -> str:
    answer = cluster.call("dispatchers.pause_all", {"reason": reason}, token=cluster.root_token)
    return str(answer["paused"])


def resume_all(cluster: Cluster) -> dict[str, Any]:
    return cluster.call("dispatchers.resume_all", token=cluster.root_token)


def shown(cluster: Cluster, me: Me) -> str:
    return str(cluster.call("dispatchers.get", token=cluster.root_token, uuid=me.uuid)["paused"])


def ask(cluster: Cluster, me: Me, claim_id: str = "") -> tuple[int, str]:
    """How many containers a claim finds, and why no more."""
    body = {**me.by, "limit": 10, "claim_id": claim_id}
    answer = cluster.call("containers.claim", body, token=me.token)
    return len(answer["items"]), answer["paused"]


def test_who_is_paused_goes_on_with_what_it_has_and_claims_nothing(cluster: Cluster) -> None:
    me, other = cluster.dispatcher("one"), cluster.dispatcher("two")
    _request, uuid, token = cluster.running(me)
    cluster.request()
    why = pause(cluster, me)["paused"]
    assert why.startswith("new switch (root, 2")
    assert why.endswith(" UTC)")
    assert ask(cluster, me) == (0, why)
    assert (shown(cluster, me), shown(cluster, other)) == (why, "")
    cluster.write(token, uuid, progress=0.5)
    lease = cluster.ping(me)
    assert (lease["paused"], lease["state"], lease["lease_seconds"]) == (why, "alive", 600.0)
    assert ask(cluster, other) == (1, "")


def test_after_a_resume_it_claims_and_whoever_waits_is_woken(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    cluster.request()
    pause(cluster, me)
    cluster.topics.clear()
    assert resume(cluster, me)["paused"] == ""
    assert QUEUE_TOPIC in cluster.topics
    assert cluster.ping(me)["paused"] == ""
    assert ask(cluster, me) == (1, "")
    assert resume(cluster, me)["paused"] == "", "again is the same"


def test_a_pause_of_all_holds_for_those_who_come_later(cluster: Cluster) -> None:
    early = cluster.dispatcher("early")
    cluster.request()
    why = pause_all(cluster)
    assert why.startswith("new roof (all dispatchers, root, 2")
    late = cluster.dispatcher("late")
    for me in (early, late):
        assert ask(cluster, me) == (0, why)
        assert shown(cluster, me) == why
    resume_all(cluster)
    assert ask(cluster, late) == (1, "")
    assert shown(cluster, early) == ""


def test_a_pause_of_all_ends_without_the_pause_of_one(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    own = pause(cluster, me)["paused"]
    for_all = pause_all(cluster)
    assert shown(cluster, me) == own, "the nearer one is told"
    assert resume(cluster, me)["paused"] == for_all
    pause(cluster, me, "again")
    resume_all(cluster)
    assert ask(cluster, me)[1].startswith("again (")


def test_the_last_reason_counts(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    pause_all(cluster, "first")
    assert pause_all(cluster, "second").startswith("second (")
    assert shown(cluster, me).startswith("second (")


def test_a_claim_whose_answer_was_lost_is_answered_all_the_same(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    cluster.request()
    assert ask(cluster, me, "c1") == (1, "")
    why = pause_all(cluster)
    cluster.request()
    assert ask(cluster, me, "c1") == (1, why)


@pytest.mark.parametrize("every", [False, True])
def test_claims_by_name_are_refused_with_the_reason(cluster: Cluster, every: bool) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    why = pause_all(cluster) if every else pause(cluster, me)["paused"]
    words = f"dispatcher: claims are paused: {why}"
    assert cluster.refused(422, "containers.lock", token=me.token, uuid=uuid) == words
    body = {"container": {"dispatcher": me.uuid}}
    assert cluster.refused(422, "containers.update", body, token=me.token, uuid=uuid) == words
    assert cluster.container(uuid)["state"] == "Queued"


def test_a_restart_and_a_loss_do_not_end_a_pause(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    why = pause(cluster, me)["paused"]
    again = cluster.dispatcher(token=me.token)
    assert ask(cluster, again) == (0, why)
    cluster.call("dispatchers.lose", token=cluster.root_token, uuid=again.uuid)
    cluster.clock.advance(0.001)
    anew = cluster.dispatcher(token=me.token)
    assert anew.uuid != me.uuid
    assert ask(cluster, anew) == (0, why)
    resume(cluster, anew)
    cluster.call("dispatchers.lose", token=cluster.root_token, uuid=anew.uuid)
    assert shown(cluster, cluster.dispatcher(token=me.token)) == ""


def test_who_is_dead_cannot_be_paused(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    cluster.call("dispatchers.lose", token=cluster.root_token, uuid=me.uuid)
    body = {"reason": "x"}
    text = cluster.refused(422, "dispatchers.pause", body, token=cluster.root_token, uuid=me.uuid)
    assert text == f"{me.uuid} is lost: it claims nothing any more"
    uuid = "zzzzz-bmxii-000000000000000"
    cluster.refused(404, "dispatchers.pause", body, token=cluster.root_token, uuid=uuid)


def test_only_administrators_pause(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    body = {"reason": "x"}
    for token in (cluster.user_token, me.token):
        for method in ("pause", "resume"):
            cluster.refused(403, f"dispatchers.{method}", body, token=token, uuid=me.uuid)
        for method in ("pause_all", "resume_all"):
            cluster.refused(403, f"dispatchers.{method}", body, token=token)
    assert shown(cluster, me) == ""


@pytest.mark.parametrize("reason", [None, "", "  ", "two\nlines", "x" * 501])
def test_a_pause_has_a_reason(cluster: Cluster, reason: str | None) -> None:
    me = cluster.dispatcher()
    body = {} if reason is None else {"reason": reason}
    root = cluster.root_token
    assert "reason: " in cluster.refused(422, "dispatchers.pause_all", body, token=root)
    assert "reason: " in cluster.refused(422, "dispatchers.pause", body, token=root, uuid=me.uuid)


def test_pauses_are_found_among_the_dispatchers_and_in_the_log(cluster: Cluster) -> None:
    me, _other = cluster.dispatcher("one"), cluster.dispatcher("two")
    pause(cluster, me)
    resume(cluster, me)
    pause(cluster, me, "again")
    root = cluster.root_token
    found = cluster.call("dispatchers.list", token=root, filters=[["paused", "!=", ""]])["items"]
    assert [each["uuid"] for each in found] == [me.uuid]
    filters = [["object_uuid", "=", me.uuid]]
    logs = cluster.call("logs.list", token=root, filters=filters, order="event_at")["items"]
    assert [each["event_type"] for each in logs] == ["pause", "resume", "pause"]
    assert "new switch (root, " in logs[0]["summary"]


@contextmanager
def commits_held_up(cluster: Cluster, until: threading.Event) -> Iterator[threading.Event]:
    """Transactions that begin inside are not committed before `until`; the event says that one has come so far."""
    backend, waits = cluster.database._backend, threading.Event()
    write = backend.write

    @contextmanager
    def held_up() -> Iterator[Connection]:
        with write() as conn:
            yield conn
            waits.set()
            until.wait(PATIENCE)

    backend.write = held_up  # type: ignore[method-assign]
    try:
        yield waits
    finally:
        backend.write = write  # type: ignore[method-assign]


def test_a_pause_is_answered_when_no_claim_is_under_way_any_more(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(in_file=True)
    me = cluster.dispatcher()
    cluster.request()
    go_on, order = threading.Event(), []

    def claim() -> None:
        order.append(f"claimed {len(cluster.claim(me))}")

    def stop() -> None:
        pause_all(cluster)
        order.append("paused")

    threads = [threading.Thread(target=claim), threading.Thread(target=stop)]
    with commits_held_up(cluster, go_on) as waits:
        threads[0].start()
        assert waits.wait(PATIENCE)
    threads[1].start()
    threads[1].join(0.5)  # long enough for a pause that does not wait
    before = list(order)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert before == []
    assert sorted(order) == ["claimed 1", "paused"]
    assert cluster.claim(me) == []


def test_no_claim_comes_after_a_pause_is_answered(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(in_file=True)
    people = [cluster.dispatcher(f"d{n}") for n in range(3)]
    for _ in range(40):
        cluster.request()
    paused, found = threading.Event(), []

    def claim_on(me: Me) -> None:
        while not paused.is_set():
            cluster.claim(me)
        found.append(cluster.claim(me, 10))

    threads = [threading.Thread(target=claim_on, args=(me,)) for me in people]
    for thread in threads:
        thread.start()
    pause_all(cluster)
    paused.set()
    claimed = cluster.call("containers.list", filters=[["state", "=", "Locked"]], limit=0)
    for thread in threads:
        thread.join()
    assert found == [[], [], []]
    now = cluster.call("containers.list", filters=[["state", "=", "Locked"]], limit=0)
    assert now["items_available"] == claimed["items_available"]
