"""The unmodified Arvados client against the real server."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import arvados.errors
import arvados.util
import pytest

from nodemanager.api.story import read_story
from nodemanager.errors import ApiRefused
from nodemanager.reason import Reason, ReasonToken
from nodemanager.server.methods import METHODS
from tests.server.over_http.conftest import DISPATCHER

Commit = Callable[..., str]


def test_every_method_is_there(api: Any) -> None:
    for method in METHODS:
        assert callable(getattr(getattr(api, method.resource)(), method.name))


def test_who_am_i(api: Any, dispatcher_api: Any) -> None:
    assert api.users().current().execute()["is_admin"] is True
    assert dispatcher_api.api_client_authorizations().current().execute()["scopes"] == ["all"]


def test_a_request_becomes_a_container_and_is_claimed(
    dispatcher_api: Any, me: dict[str, Any], commit: Commit
) -> None:
    uuid = commit()
    claim = {**me, "claim_id": f"claim-{uuid}", "limit": 1000}
    first = dispatcher_api.containers().claim(body=claim).execute()
    again = dispatcher_api.containers().claim(body=claim).execute()
    assert uuid in [item["uuid"] for item in first["items"]]
    assert [i["uuid"] for i in first["items"]] == [i["uuid"] for i in again["items"]]
    record = dispatcher_api.containers().get(uuid=uuid).execute()
    assert record["state"] == "Locked"
    assert record["dispatcher"] == me["dispatcher"]


def test_many_updates_in_one_call(dispatcher_api: Any, me: dict[str, Any], claimed: str) -> None:
    tokens = dispatcher_api.containers().auth_many(body={**me, "uuids": [claimed]}).execute()
    assert tokens["items"][0]["container_uuid"] == claimed
    running = {"uuid": claimed, "attributes": {"state": "Running", "runner_id": "r1"}}
    unknown = {"uuid": "zzzzz-dz642-000000000000000", "attributes": {"state": "Running"}}
    body = {**me, "updates": [running, unknown]}
    reply = dispatcher_api.containers().batch_update(body=body).execute()
    assert [item["status"] for item in reply["items"]] == [200, 404]


def test_attempts_of_a_request(api: Any, commit: Commit) -> None:
    uuid = commit(name="tried")
    (request,) = (
        api.container_requests().list(filters=[["container_uuid", "=", uuid]]).execute()["items"]
    )
    attempts = api.container_requests().attempts(uuid=request["uuid"]).execute()
    assert [item["container_uuid"] for item in attempts["items"]] == [uuid]


def test_the_story_of_a_container_is_the_same_for_dispatcher_and_administrator(
    api: Any, dispatcher_api: Any, me: dict[str, Any], commit: Commit
) -> None:
    uuid = commit(name="told")
    reason = Reason(ReasonToken.CLAIM_LIMIT, "the dispatcher has enough to do", since=1.0e9)
    items = [{"uuid": uuid, "reason": reason.as_dict()}]
    dispatcher_api.containers().annotate(body={**me, "annotations": items}).execute()
    story = read_story(api, uuid)
    assert story.name == "told"
    assert story.current.uuid == uuid
    assert [(said.name, said.reason) for said in story.reasons] == [(DISPATCHER, reason)]
    assert [change.reason for change in story.history] == [reason]
    assert read_story(dispatcher_api, story.request) == story
    with pytest.raises(ApiRefused, match="not found"):
        read_story(api, "zzzzz-dz642-000000000000000")


def test_a_ping_may_have_a_body_or_none(dispatcher_api: Any, me: dict[str, Any]) -> None:
    ping = dispatcher_api.dispatchers().ping
    body = {"epoch": me["epoch"]}
    assert ping(uuid=me["dispatcher"], body=body).execute()["lease_seconds"] > 0
    reply = ping(uuid=me["dispatcher"], epoch=me["epoch"], turn=True).execute()
    assert reply["last_turn_at"] is not None


def test_filters_too_long_for_a_url_travel_in_a_post(api: Any, commit: Commit) -> None:
    uuid = commit()
    others = [f"zzzzz-dz642-{n:015}" for n in range(500)]
    found = api.containers().list(filters=[["uuid", "in", [uuid, *others]]]).execute()
    assert [item["uuid"] for item in found["items"]] == [uuid]


def test_all_pages_of_a_list(api: Any) -> None:
    made = {
        api.logs().create(body={"log": {"event_type": "page", "summary": str(n)}}).execute()["uuid"]
        for n in range(25)
    }
    filters = [["event_type", "=", "page"]]

    def page_of_seven(**parameters: Any) -> Any:
        return api.logs().list(**{**parameters, "limit": 7})

    for ascending in (True, False):
        for list_page in (api.logs().list, page_of_seven):
            found = [
                item["uuid"]
                for item in arvados.util.keyset_list_all(
                    list_page, filters=filters, ascending=ascending
                )
            ]
            assert len(found) == 25
            assert set(found) == made


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        (
            lambda api: api.containers().get(uuid="zzzzz-dz642-000000000000000"),
            404,
            "Path not found",
        ),
        (lambda api: api.containers().list(filters=[["nome", "=", 1]]), 422, "attribute 'nome'"),
        (lambda api: api.containers().claim(body={"limit": "x"}), 422, "limit"),
        (
            lambda api: api.container_requests().create(body={"container_request": {"colour": 1}}),
            422,
            "colour",
        ),
    ],
)
def test_refusals_carry_status_and_words(
    api: Any, call: Callable[[Any], Any], status: int, words: str
) -> None:
    with pytest.raises(arvados.errors.ApiError) as caught:
        call(api).execute(num_retries=0)
    assert caught.value.resp.status == status
    assert words in str(caught.value)
    assert "(req-" in str(caught.value)


def drain(dispatcher_api: Any, me: dict[str, Any]) -> None:
    """Leave nothing claimable."""
    claim = dispatcher_api.containers().claim
    while claim(body={**me, "claim_id": f"drain-{time.monotonic_ns()}", "limit": 1000}).execute()[
        "items"
    ]:
        pass


def test_a_held_claim_wakes_with_the_commit(
    new_client: Callable[..., Any], dispatcher_api: Any, me: dict[str, Any], commit: Commit
) -> None:
    """p50 is far below any poll interval; the bound leaves room for a busy machine."""
    drain(dispatcher_api, me)
    waits = []
    client = new_client()
    for number in range(9):
        answers: list[tuple[float, Any]] = []
        body = {**me, "claim_id": f"held-{number}-{time.time_ns()}", "limit": 5, "wait": 20}

        def hold(body: dict[str, Any], answers: list[tuple[float, Any]]) -> None:
            reply = client.containers().claim(body=body).execute()
            answers.append((time.monotonic(), reply["items"]))

        holder = threading.Thread(target=hold, args=(body, answers))
        holder.start()
        holder.join(0.05)
        assert holder.is_alive()
        committed_at = time.monotonic()
        uuid = commit()
        holder.join(20)
        answered_at, items = answers[0]
        assert [item["uuid"] for item in items] == [uuid]
        waits.append(answered_at - committed_at)
    assert statistics.median(waits) < 0.5


def test_a_held_claim_wakes_when_run_after_comes(
    dispatcher_api: Any, me: dict[str, Any], commit: Commit
) -> None:
    drain(dispatcher_api, me)
    due = time.time() + 1.5
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + f".{int(due % 1 * 1000):03}Z"
    uuid = commit(run_after=text)
    body = {**me, "claim_id": f"due-{uuid}", "limit": 5, "wait": 20}
    items = dispatcher_api.containers().claim(body=body).execute()["items"]
    assert [item["uuid"] for item in items] == [uuid]
    # Sooner than the server looks again by itself.
    assert -0.01 < time.time() - due < 3.0


def test_a_held_claim_ends_with_its_wait(dispatcher_api: Any, me: dict[str, Any]) -> None:
    drain(dispatcher_api, me)
    began = time.monotonic()
    body = {**me, "claim_id": f"in-vain-{time.time_ns()}", "wait": 0.3}
    assert dispatcher_api.containers().claim(body=body).execute()["items"] == []
    assert 0.29 < time.monotonic() - began < 15


def test_held_changes_wake_when_somebody_else_writes(
    api: Any, new_client: Callable[..., Any], me: dict[str, Any], claimed: str
) -> None:
    changes = new_client().containers().changes
    start = changes(**me, cursor="", wait=20).execute()
    assert start["items"] == []
    answers: list[Any] = []

    def hold() -> None:
        answers.append(changes(**me, cursor=start["cursor"], wait=20).execute())

    holder = threading.Thread(target=hold)
    holder.start()
    holder.join(0.05)
    filters = [["container_uuid", "=", claimed]]
    (request,) = api.container_requests().list(filters=filters).execute()["items"]
    body = {"container_request": {"priority": 0}}
    api.container_requests().update(uuid=request["uuid"], body=body).execute()
    holder.join(20)
    assert [(item["uuid"], item["priority"]) for item in answers[0]["items"]] == [(claimed, 0)]
    assert answers[0]["cursor"] != start["cursor"]
