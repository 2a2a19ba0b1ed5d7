"""Links, logs and users: who makes and changes which, and what they may name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from nodemanager.clock import ManualClock
from nodemanager.reason import Reason, ReasonToken
from nodemanager.server.database import Database

if TYPE_CHECKING:
    from tests.server.conftest import Cluster

ROOT_USER = "zzzzz-tpzed-000000000000000"


@pytest.fixture
def bob(cluster: Cluster) -> str:
    """Another user's token."""
    return cluster.service.create_user_token("bob").text


def link(cluster: Cluster, token: str | None = None, **attributes: Any) -> dict[str, Any]:
    return cluster.call("links.create", {"link": attributes}, token=token)


def no_link(cluster: Cluster, status: int, token: str | None = None, /, **attributes: Any) -> str:
    return cluster.refused(status, "links.create", {"link": attributes}, token=token)


def test_a_link_is_its_owners(cluster: Cluster, bob: str) -> None:
    made = link(cluster, link_class="tag", name="good", properties={"a": 1})
    uuid = made["uuid"]
    body = {"link": {"name": "better"}}
    for token in (bob, cluster.dispatcher().token):
        expected = 404 if token == bob else 403
        cluster.refused(expected, "links.update", body, token=token, uuid=uuid)
        cluster.refused(expected, "links.delete", token=token, uuid=uuid)
    cluster.clock.advance(1)
    changed = cluster.call("links.update", body, uuid=uuid)
    assert (changed["name"], changed["properties"]) == ("better", {"a": 1})
    assert changed["modified_at"] > made["modified_at"]
    # The same again, and the whole record, change nothing.
    cluster.clock.advance(1)
    assert cluster.call("links.update", body, uuid=uuid) == changed
    assert cluster.call("links.update", {"link": changed}, uuid=uuid) == changed
    cluster.call("links.update", {"link": {"name": "best"}}, token=cluster.root_token, uuid=uuid)
    assert cluster.call("links.delete", uuid=uuid)["name"] == "best"
    cluster.refused(404, "links.get", uuid=uuid)


def test_a_link_knows_what_it_connects(cluster: Cluster) -> None:
    request = cluster.request()
    user = cluster.call("users.current")["uuid"]
    made = link(cluster, tail_uuid=user, head_uuid=request["uuid"], link_class="star")
    assert (made["tail_kind"], made["head_kind"]) == ("arvados#user", "arvados#containerRequest")
    filters: list[Any] = [["head_kind", "=", "arvados#containerRequest"]]
    assert [i["uuid"] for i in cluster.call("links.list", filters=filters)["items"]] == [
        made["uuid"]
    ]
    filters = [["head_kind", "=", "arvados#container"]]
    assert cluster.call("links.list", filters=filters)["items"] == []
    # A group is no record of ours; what has no UUID has no kind.
    made = link(cluster, head_uuid="zzzzz-j7d0g-000000000000000", tail_uuid="somewhere")
    assert (made["tail_kind"], made["head_kind"]) == (None, None)


def test_what_is_named_must_exist_and_be_readable(cluster: Cluster, bob: str) -> None:
    request = cluster.request()
    for name in ("head_uuid", "tail_uuid"):
        for token, uuid in (
            (cluster.user_token, "zzzzz-dz642-000000000000000"),
            (bob, request["uuid"]),
            (bob, request["container_uuid"]),
            (bob, request["owner_uuid"]),
        ):
            assert f"{name}: '{uuid}' not found" in no_link(cluster, 422, token, **{name: uuid})
    made = link(cluster, bob)
    body = {"link": {"head_uuid": request["uuid"]}}
    cluster.refused(422, "links.update", body, token=bob, uuid=made["uuid"])
    body = {"log": {"object_uuid": request["uuid"]}}
    cluster.refused(422, "logs.create", body, token=bob)
    cluster.call("logs.create", body)


def test_records_are_for_users_who_exist(cluster: Cluster) -> None:
    root, ada = cluster.root_token, cluster.call("users.current")["uuid"]
    assert link(cluster, root, owner_uuid=ada)["owner_uuid"] == ada
    for owner in ("zzzzz-tpzed-00000000000000x", "zzzzz-j7d0g-000000000000000", "\u00fc", ""):
        assert "not found" in no_link(cluster, 422, root, owner_uuid=owner)
        body = {"container_request": cluster.work(owner_uuid=owner)}
        assert "not found" in cluster.refused(422, "container_requests.create", body, token=root)
    no_link(cluster, 403, owner_uuid=ROOT_USER)
    made = link(cluster)
    body = {"link": {"owner_uuid": ROOT_USER}}
    cluster.refused(403, "links.update", body, uuid=made["uuid"])
    cluster.call("links.update", body, token=root, uuid=made["uuid"])
    cluster.refused(404, "links.get", uuid=made["uuid"])


def test_permission_links_are_made_by_administrators(cluster: Cluster) -> None:
    ada = cluster.call("users.current")["uuid"]
    wanted = {"link_class": "permission", "name": "can_login", "tail_uuid": ada}
    no_link(cluster, 403, **wanted)
    assert "can_read" in no_link(cluster, 422, cluster.root_token, **{**wanted, "name": "can_fly"})
    link(cluster, cluster.root_token, **wanted)
    made = link(cluster, name="can_login")
    cluster.refused(403, "links.update", {"link": {"link_class": "permission"}}, uuid=made["uuid"])


def test_links_that_are_not_made_by_hand(cluster: Cluster) -> None:
    assert no_link(cluster, 422, link_class="name") == "Name links are obsolete"
    assert "container request" in no_link(cluster, 422, link_class="published_port")
    assert "annotate" in no_link(cluster, 422, cluster.root_token, link_class="dispatch")
    made = link(cluster)
    cluster.refused(422, "links.update", {"link": {"link_class": "dispatch"}}, uuid=made["uuid"])
    me = cluster.dispatcher()
    reason = Reason(ReasonToken.CLAIM_LIMIT, "full", since=1.0).as_dict()
    uuid = cluster.request()["container_uuid"]
    body = {**me.by, "annotations": [{"uuid": uuid, "reason": reason}]}
    cluster.call("containers.annotate", body, token=me.token)
    filters = [["link_class", "=", "dispatch"]]
    (found,) = cluster.call("links.list", filters=filters)["items"]
    assert found["head_kind"] == "arvados#container"
    assert found["tail_kind"] == "arvados#dispatcher"
    for method in ("links.update", "links.delete"):
        cluster.refused(403, method, {"link": {"name": "x"}}, uuid=found["uuid"])
    cluster.call("links.delete", token=cluster.root_token, uuid=found["uuid"])


def test_logs_are_changed_by_administrators(cluster: Cluster) -> None:
    uuid = cluster.request()["uuid"]
    body = {"log": {"event_type": "note", "summary": "hello", "object_uuid": uuid}}
    made = cluster.call("logs.create", body)
    assert made["object_kind"] == "arvados#containerRequest"
    assert made["event_at"] == made["created_at"]
    change = {"log": {"summary": "bye"}}
    cluster.refused(403, "logs.update", change, uuid=made["uuid"])
    changed = cluster.call("logs.update", change, token=cluster.root_token, uuid=made["uuid"])
    assert (changed["summary"], changed["event_type"]) == ("bye", "note")
    cluster.refused(403, "logs.delete", uuid=made["uuid"])
    cluster.call("logs.delete", token=cluster.root_token, uuid=made["uuid"])


def test_administrators_make_users(cluster: Cluster) -> None:
    root = cluster.root_token
    body = {"user": {"username": "eve", "email": "eve@example.org"}}
    cluster.refused(403, "users.create", body)
    made = cluster.call("users.create", body, token=root)
    assert (made["is_active"], made["is_admin"], made["email"]) == (True, False, "eve@example.org")
    token = cluster.service.create_user_token("eve").text
    assert cluster.call("users.current", token=token)["uuid"] == made["uuid"]
    for name in ("eve", "", "a\nb", None):
        cluster.refused(422, "users.create", {"user": {"username": name}}, token=root)
    cluster.refused(422, "users.create", {"user": {}}, token=root)
    cluster.refused(
        422, "users.update", {"user": {"username": "ada"}}, token=root, uuid=made["uuid"]
    )
    cluster.refused(403, "users.update", {"user": {"is_admin": True}}, uuid=made["uuid"])
    assert len(cluster.call("users.list", token=root)["items"]) == 3


def test_who_is_not_active_cannot_act(cluster: Cluster, bob: str) -> None:
    root, uuid = cluster.root_token, cluster.call("users.current", token=bob)["uuid"]

    def update(**attributes: Any) -> None:
        cluster.call("users.update", {"user": attributes}, token=root, uuid=uuid)

    update(is_active=False)
    cluster.refused_token(bob)
    update(is_active=True, is_admin=True)
    assert cluster.service.authenticate(bob).kind == "root"
    update(is_admin=False)
    assert cluster.service.authenticate(bob).kind == "user"
    for attributes in ({"is_active": False}, {"is_admin": False}):
        body = {"user": attributes}
        cluster.refused(422, "users.update", body, token=root, uuid=ROOT_USER)


def test_stock_parameters_without_effect_are_taken(cluster: Cluster) -> None:
    more: dict[str, Any] = {
        "include_trash": True, "include_old_versions": True, "cluster_id": "zzzzz",
        "bypass_federation": True,
    }  # fmt: skip
    for plural in ("container_requests", "containers", "links", "logs", "nodes", "users"):
        assert cluster.call(f"{plural}.list", **more)["kind"].endswith("List")
    cluster.call("links.create", {"link": {}}, ensure_unique_name=True, cluster_id="zzzzz")


def test_a_failing_statement_does_not_tell_its_values(any_url: Callable[[], str]) -> None:
    database = Database(any_url(), ManualClock())
    with pytest.raises(DBAPIError) as caught, database.write() as conn:
        conn.execute(text("SELECT 1 FROM nowhere WHERE secret = :secret"), {"secret": "hidden-one"})
    assert "hidden-one" not in str(caught.value)
    database.close()
