"""Tokens: who acts with which, how they die, and that secrets are not kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nodemanager.server.errors import ServerError
from nodemanager.server.handlers import HANDLERS
from nodemanager.server.methods import METHODS
from nodemanager.server.policy import Policy
from nodemanager.server.resources import RESOURCES, format_micros, parse_micros
from nodemanager.server.service import Service

if TYPE_CHECKING:
    from tests.server.conftest import Cluster


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "x",
        "v2/",
        "v2//",
        "v2/a/b",
        "v2/zzzzz-gj3su-000000000000000/x",
        "\u00fc",
        "a" * 9999,
    ],
)
def test_nobody_is_let_in_with_nonsense(cluster: Cluster, token: str | None) -> None:
    with pytest.raises(ServerError) as caught:
        cluster.service.authenticate(*([] if token is None else [token]))
    assert (caught.value.status, str(caught.value)) == (401, "Not logged in")


def test_the_forms_of_a_token(cluster: Cluster) -> None:
    _v2, uuid, secret = cluster.user_token.split("/")
    whole = cluster.service.authenticate(cluster.user_token)
    assert whole.token_uuid == uuid
    assert cluster.service.authenticate(secret) == whole
    assert cluster.service.authenticate(f"{cluster.user_token}/zzzzz-dz642-0") == whole
    other = f"{uuid[:-1]}{'y' if uuid.endswith('x') else 'x'}"
    for wrong in (f"v2/{uuid}/{secret}x", f"v2/{uuid}/", f"v2/{other}/{secret}", secret[:-1]):
        with pytest.raises(ServerError):
            cluster.service.authenticate(wrong)


def test_the_root_token(cluster: Cluster) -> None:
    root = cluster.service.authenticate(cluster.root_token)
    assert root.kind == "root"
    long_form = f"v2/zzzzz-gj3su-000000000000000/{cluster.root_token}"
    assert cluster.service.authenticate(long_form) == root
    current = cluster.call("api_client_authorizations.current", token=cluster.root_token)
    assert current["uuid"] == "zzzzz-gj3su-000000000000000"
    user = cluster.call("users.current", token=cluster.root_token)
    assert (user["uuid"], user["is_admin"]) == ("zzzzz-tpzed-000000000000000", True)
    assert cluster.root_token not in repr(cluster.service.policy)


def test_without_a_root_token_nobody_is_root(cluster: Cluster) -> None:
    service = Service(cluster.database, Policy(), "zzzzz")
    for token in ("", "v2/zzzzz-gj3su-000000000000000/"):
        with pytest.raises(ServerError):
            service.authenticate(token)


def test_who_am_i(cluster: Cluster) -> None:
    user = cluster.call("users.current")
    assert (user["username"], user["is_admin"]) == ("ada", False)
    current = cluster.call("api_client_authorizations.current")
    assert current["user_uuid"] == user["uuid"]
    assert "secret_hash" not in current
    again = cluster.service.create_user_token("ada").text
    assert cluster.call("users.current", token=again)["uuid"] == user["uuid"]
    assert [u["uuid"] for u in cluster.call("users.list")["items"]] == [user["uuid"]]


def test_a_revoked_token_is_dead(cluster: Cluster) -> None:
    token = cluster.service.create_user_token("ada")
    cluster.call("users.current", token=token.text)
    cluster.service.revoke_token(token.uuid)
    cluster.refused_token(token.text)
    with pytest.raises(ServerError) as caught:
        cluster.service.revoke_token(token.uuid)
    assert caught.value.status == 404


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 256])
def test_names_are_for_people(cluster: Cluster, name: str) -> None:
    for create in (cluster.service.create_user_token, cluster.service.create_dispatcher_token):
        with pytest.raises(ServerError):
            create(name)


@pytest.mark.parametrize("make_cluster", ["sqlite"], indirect=True)
def test_secrets_are_not_in_the_database(
    make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = make_cluster(in_file=True)
    me = cluster.dispatcher()
    _request, _uuid, token = cluster.running(me)
    cluster.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("api.sqlite*"))
    assert b"zzzzz-gj3su-" in stored
    for each in (cluster.user_token, me.token, token):
        assert each.split("/")[2].encode() not in stored


def test_every_method_has_a_handler_and_every_handler_a_method() -> None:
    assert {m.handler for m in METHODS} == set(HANDLERS)
    assert len({m.id for m in METHODS}) == len(METHODS)
    assert {m.resource for m in METHODS} <= set(RESOURCES)


def test_times_keep_their_microseconds() -> None:
    for text in ("2026-01-31T12:00:00.123456000Z", "1969-12-31T23:59:59.999999000Z"):
        assert format_micros(parse_micros(text)) == text
    assert parse_micros("2026-01-31T13:00:00.1234567+01:00") == parse_micros(
        "2026-01-31T12:00:00.123456Z"
    )
