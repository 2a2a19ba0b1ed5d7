"""Tokens through the API: made by users for themselves, told once, narrowed, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from nodemanager.server.resources import format_micros

if TYPE_CHECKING:
    from tests.server.conftest import Cluster

ROOT_USER = "zzzzz-tpzed-000000000000000"
LIST = "GET /arvados/v1/containers"
MINUTE = 60


def make(cluster: Cluster, token: str | None = None, **attributes: Any) -> dict[str, Any]:
    body = {"api_client_authorization": attributes}
    return cluster.call("api_client_authorizations.create", body, token=token)


def whole(made: Mapping[str, Any]) -> str:
    """The token as clients put it together."""
    return f"v2/{made['uuid']}/{made['api_token']}"


def me(cluster: Cluster, token: str | None = None) -> str:
    return str(cluster.call("users.current", token=token)["uuid"])


def in_a_minute(cluster: Cluster) -> str:
    return format_micros(round((cluster.clock.wall() + MINUTE) * 1e6))


def test_a_user_makes_a_token_for_itself(cluster: Cluster) -> None:
    made = make(cluster)
    assert made["user_uuid"] == made["owner_uuid"] == me(cluster)
    assert (made["scopes"], made["expires_at"]) == (["all"], None)
    assert made["kind"] == "arvados#apiClientAuthorization"
    for token in (whole(made), made["api_token"]):
        assert me(cluster, token) == me(cluster)
        current = cluster.call("api_client_authorizations.current", token=token)
        assert current["uuid"] == made["uuid"]


def test_the_secret_is_told_once(cluster: Cluster) -> None:
    made = make(cluster)
    secret, uuid = made.pop("api_token"), made["uuid"]
    for token in (cluster.user_token, cluster.root_token, f"v2/{uuid}/{secret}"):
        answers = [
            cluster.call("api_client_authorizations.get", token=token, uuid=uuid),
            cluster.call("api_client_authorizations.list", token=token),
            cluster.call(
                "api_client_authorizations.update",
                {"api_client_authorization": {"expires_at": None}},
                token=token,
                uuid=uuid,
            ),
        ]
        assert answers[0] == made
        assert secret not in str(answers)
        assert "api_token" not in str(answers)
    gone = cluster.call("api_client_authorizations.delete", uuid=uuid)
    assert gone == made


def test_a_token_may_delete_itself(cluster: Cluster) -> None:
    made = make(cluster)
    token = whole(made)
    cluster.call("api_client_authorizations.delete", token=token, uuid=made["uuid"])
    cluster.refused_token(token)


def test_a_token_ends_when_it_is_told_to(cluster: Cluster) -> None:
    made = make(cluster, expires_at=in_a_minute(cluster))
    me(cluster, whole(made))
    cluster.clock.advance(MINUTE + 1)
    cluster.refused_token(whole(made))
    made = make(cluster)
    body = {"api_client_authorization": {"expires_at": "2020-01-01T00:00:00Z"}}
    cluster.call("api_client_authorizations.update", body, uuid=made["uuid"])
    cluster.refused_token(whole(made))


def test_users_see_and_change_their_own_tokens_only(cluster: Cluster) -> None:
    bob = cluster.service.create_user_token("bob").text
    made = make(cluster)
    seen = [t["uuid"] for t in cluster.call("api_client_authorizations.list", token=bob)["items"]]
    assert seen == [bob.split("/")[1]]
    uuid = made["uuid"]
    cluster.refused(404, "api_client_authorizations.get", token=bob, uuid=uuid)
    cluster.refused(404, "api_client_authorizations.delete", token=bob, uuid=uuid)
    cluster.refused(404, "api_client_authorizations.update", token=bob, uuid=uuid)
    me(cluster, whole(made))
    cluster.call("api_client_authorizations.delete", token=cluster.root_token, uuid=uuid)
    cluster.refused_token(whole(made))


def test_administrators_make_tokens_for_others(cluster: Cluster) -> None:
    ada = me(cluster)
    for name in ("owner_uuid", "user_uuid"):
        made = make(cluster, cluster.root_token, **{name: ada})
        assert me(cluster, whole(made)) == ada
    bob = cluster.service.create_user_token("bob").text
    body = {"api_client_authorization": {"owner_uuid": ada}}
    cluster.refused(403, "api_client_authorizations.create", body, token=bob)
    for wrong in (
        {"owner_uuid": "zzzzz-tpzed-00000000000000x"},
        {"owner_uuid": ada, "user_uuid": ROOT_USER},
    ):
        body = {"api_client_authorization": wrong}
        cluster.refused(422, "api_client_authorizations.create", body, token=cluster.root_token)
    assert me(cluster, whole(make(cluster, cluster.root_token))) == ROOT_USER


def test_tokens_of_the_system_user(cluster: Cluster) -> None:
    method = "api_client_authorizations.create_system_auth"
    made = cluster.call(method, token=cluster.root_token, scopes=[LIST])
    assert (made["user_uuid"], made["scopes"]) == (ROOT_USER, [LIST])
    made = cluster.call(method, token=cluster.root_token)
    assert cluster.service.authenticate(whole(made)).kind == "root"
    cluster.refused(403, method)
    cluster.refused(422, method, token=cluster.root_token, scopes=["nothing"])


def test_tokens_for_one_purpose_make_no_others(cluster: Cluster) -> None:
    dispatcher = cluster.dispatcher()
    _request, _uuid, runner = cluster.running(dispatcher)
    for token in (dispatcher.token, runner):
        own = token.split("/")[1]
        cluster.refused(403, "api_client_authorizations.create", {}, token=token)
        cluster.refused(403, "api_client_authorizations.create_system_auth", token=token)
        cluster.refused(403, "api_client_authorizations.update", token=token, uuid=own)
        cluster.refused(403, "api_client_authorizations.delete", token=token, uuid=own)
        seen = cluster.call("api_client_authorizations.list", token=token)["items"]
        assert [t["uuid"] for t in seen] == [own]


@pytest.mark.parametrize(
    "attributes",
    [
        {"scopes": "all"},
        {"scopes": ["everything"]},
        {"scopes": [1]},
        {"expires_at": "tomorrow"},
        {"expires_at": 17},
        {"user_uuid": 17},
        {"secret_hash": "0" * 64},
        {"caller_kind": "dispatcher"},
        {"dispatcher_name": "d1"},
        {"colour": "red"},
    ],
)
def test_what_a_token_cannot_be(cluster: Cluster, attributes: dict[str, Any]) -> None:
    body = {"api_client_authorization": attributes}
    cluster.refused(422, "api_client_authorizations.create", body)
    uuid = make(cluster)["uuid"]
    cluster.refused(422, "api_client_authorizations.update", body, uuid=uuid)


def test_a_token_cannot_be_given_to_somebody_else(cluster: Cluster) -> None:
    made = make(cluster)
    for name in ("owner_uuid", "user_uuid"):
        body = {"api_client_authorization": {name: ROOT_USER}}
        for token in (cluster.user_token, cluster.root_token):
            cluster.refused(
                422, "api_client_authorizations.update", body, token=token, uuid=made["uuid"]
            )


def test_a_record_may_be_sent_back_as_it_came(cluster: Cluster) -> None:
    made = make(cluster, scopes=[LIST], expires_at=in_a_minute(cluster))
    uuid = made["uuid"]
    body = {"api_client_authorization": {**made, "scopes": [LIST, f"{LIST}/"]}}
    changed = cluster.call("api_client_authorizations.update", body, uuid=uuid)
    assert changed["scopes"] == [LIST, f"{LIST}/"]
    assert changed["expires_at"] == made["expires_at"]
    assert cluster.service.authenticate(whole(made)).scopes == (LIST, f"{LIST}/")


def test_a_weak_token_makes_no_strong_one(cluster: Cluster) -> None:
    # What calls it may make at all is looked at where the path is known.
    weak = make(cluster, scopes=["POST /arvados/v1/", f"{LIST}/"])
    token = whole(weak)
    for scopes in (None, ["all"], [LIST], ["POST /"], ["DELETE /arvados/v1/"]):
        body = {"api_client_authorization": {"scopes": scopes}}
        cluster.refused(403, "api_client_authorizations.create", body, token=token)
    body = {"api_client_authorization": {"scopes": ["all"]}}
    cluster.refused(403, "api_client_authorizations.update", body, token=token, uuid=weak["uuid"])
    assert make(cluster, token, scopes=[f"{LIST}/mine"])["scopes"] == [f"{LIST}/mine"]
    assert make(cluster, token, scopes=[])["scopes"] == []


def test_the_token_of_a_runner_is_told_as_stock_does(cluster: Cluster) -> None:
    dispatcher = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    cluster.claim(dispatcher)
    told = cluster.call("containers.auth", token=dispatcher.token, uuid=uuid)
    assert "/" not in told["api_token"]
    for token in (whole(told), f"{whole(told)}/{uuid}", told["api_token"]):
        assert cluster.call("containers.current", token=token)["uuid"] == uuid
