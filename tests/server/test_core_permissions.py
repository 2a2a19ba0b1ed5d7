"""Who may see and do what: every kind of caller against every kind of record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nodemanager.server import access
from nodemanager.server.errors import ServerError
from nodemanager.server.service import METHODS_BY_ID
from tests.server.conftest import ROOT_TOKEN
from tests.server.test_core_annotations import REASON, say

if TYPE_CHECKING:
    from tests.server.conftest import Cluster, Me

EVERYBODY = ("root", "ada", "bob", "eve", "elm", "oak", "runner", "stranger")
OPERATIONS = {"root", "elm", "oak"}
"""The administrator, and the dispatchers; `elm` holds what runs."""

SEEN_BY = {
    # Ada's request runs; its container has asked for another.
    "running request": {*OPERATIONS, "ada"},
    "running container": {*OPERATIONS, "ada", "runner"},
    "child request": {*OPERATIONS, "ada", "runner"},
    "child container": {*OPERATIONS, "ada", "runner"},
    "child's log": {*OPERATIONS, "ada", "runner"},
    # Ada and Bob want the same, and elm has said why it waits.
    "ada's share": {*OPERATIONS, "ada"},
    "bob's share": {*OPERATIONS, "bob"},
    "shared container": {*OPERATIONS, "ada", "bob"},
    "reason": {*OPERATIONS, "ada", "bob"},
    "log": {*OPERATIONS, "ada", "bob"},
    # An earlier attempt of Ada's, and a draft.
    "failed container": {*OPERATIONS, "ada"},
    "draft": {*OPERATIONS, "ada"},
    # Bob's own notes.
    "note": {*OPERATIONS, "bob"},
    "diary": {*OPERATIONS, "bob"},
    "dispatcher": {*OPERATIONS, "ada", "bob", "eve"},
    "ada": {"root", "ada", "runner"},
}
RESOURCE_OF = {
    "xvhdp": "container_requests",
    "dz642": "containers",
    "o0j2j": "links",
    "57u5n": "logs",
    "bmxii": "dispatchers",
    "tpzed": "users",
}


@dataclass
class Cast:
    """Callers by name with their tokens, and records by name with their UUIDs."""

    cluster: Cluster
    elm: Me
    tokens: dict[str, str] = field(default_factory=dict)
    uuids: dict[str, str] = field(default_factory=dict)

    def status(self, name: str, method: str, body: Any = None, **more: Any) -> int:
        """Of a call by the caller `name`."""
        try:
            self.cluster.call(method, body, token=self.tokens[name], **more)
        except ServerError as error:
            return error.status
        return 200

    def sees(self, name: str, record: str) -> bool:
        return name in SEEN_BY[record]


@pytest.fixture
def cast(cluster: Cluster) -> Cast:
    """Everybody, in the midst of their work."""
    elm, oak = cluster.dispatcher("elm"), cluster.dispatcher("oak")
    cast = Cast(cluster, elm)
    tokens, uuids = cast.tokens, cast.uuids
    tokens |= {"root": ROOT_TOKEN, "ada": cluster.user_token, "elm": elm.token, "oak": oak.token}
    for name in ("bob", "eve"):
        tokens[name] = cluster.service.create_user_token(name).text

    def asked(by: str, **attributes: Any) -> dict[str, Any]:
        cluster.clock.advance(0.001)
        body = {"container_request": cluster.work(**attributes)}
        return cluster.call("container_requests.create", body, token=tokens[by])

    def run(uuid: str) -> str:
        body = {"container": {"dispatcher": elm.uuid}, "epoch": elm.epoch}
        cluster.call("containers.update", body, token=elm.token, uuid=uuid)
        token = cluster.runner_token(elm, uuid)
        cluster.write(token, uuid, state="Running", runner_id="r")
        return token

    failing = asked("ada", container_count_max=2)
    run(failing["container_uuid"])
    cluster.report(elm, failing["container_uuid"], state="PermFail", exit_code=1)
    running = asked("ada")
    tokens["runner"] = run(running["container_uuid"])
    child = asked("runner")
    tokens["stranger"] = run(asked("eve")["container_uuid"])
    shares = [asked(name, command=["same"], use_existing=True) for name in ("ada", "bob")]
    assert shares[0]["container_uuid"] == shares[1]["container_uuid"]
    say(cluster, elm, (shares[0]["container_uuid"], REASON))
    uuids |= {
        "running request": running["uuid"],
        "running container": running["container_uuid"],
        "child request": child["uuid"],
        "child container": child["container_uuid"],
        "ada's share": shares[0]["uuid"],
        "bob's share": shares[1]["uuid"],
        "shared container": shares[0]["container_uuid"],
        "failed container": failing["container_uuid"],
        "draft": asked("ada", state="Uncommitted")["uuid"],
        "dispatcher": elm.uuid,
        "ada": running["owner_uuid"],
    }
    for plural, name in (("links", "reason"), ("logs", "log")):
        (found,) = cluster.call(f"{plural}.list", token=ROOT_TOKEN)["items"]
        uuids[name] = found["uuid"]
    for plural, name in (("links", "note"), ("logs", "diary")):
        uuids[name] = cluster.call(f"{plural}.create", {}, token=tokens["bob"])["uuid"]
    about = {"log": {"object_uuid": child["uuid"]}}
    uuids["child's log"] = cluster.call("logs.create", about, token=ROOT_TOKEN)["uuid"]
    assert uuids.keys() == SEEN_BY.keys()
    return cast


def test_one_rule_serves_records_and_lists(cast: Cast) -> None:
    for caller in EVERYBODY:
        for record, uuid in cast.uuids.items():
            resource = RESOURCE_OF[uuid.split("-")[1]]
            expected = 200 if cast.sees(caller, record) else 404
            assert cast.status(caller, f"{resource}.get", uuid=uuid) == expected, (caller, record)
            listed = cast.cluster.call(
                f"{resource}.list", token=cast.tokens[caller], filters=[["uuid", "=", uuid]]
            )
            assert len(listed["items"]) == listed["items_available"] == (expected == 200)


def test_what_is_told_of_a_request_is_told_to_who_sees_it(cast: Cast) -> None:
    for caller in EVERYBODY:
        for record in ("running request", "child request", "ada's share", "bob's share", "draft"):
            expected = 200 if cast.sees(caller, record) else 404
            for method in ("attempts", "container_status"):
                name = f"container_requests.{method}"
                assert cast.status(caller, name, uuid=cast.uuids[record]) == expected


def test_lists_hold_nothing_else(cast: Cast) -> None:
    for caller in ("ada", "bob", "eve", "runner", "stranger"):
        for resource in set(RESOURCE_OF.values()) - {"users"}:
            listed = cast.cluster.call(f"{resource}.list", token=cast.tokens[caller])["items"]
            unknown = {item["uuid"] for item in listed} - set(cast.uuids.values())
            named = {r for r, u in cast.uuids.items() if u in {item["uuid"] for item in listed}}
            assert named <= {record for record in SEEN_BY if cast.sees(caller, record)}
            # Those that have no name above.
            others = {
                ("ada", "container_requests"): 1, ("ada", "containers"): 1,
                ("eve", "container_requests"): 1, ("eve", "containers"): 1,
                ("stranger", "containers"): 1,
            }  # fmt: skip
            if resource != "dispatchers":
                assert len(unknown) == others.get((caller, resource), 0), (caller, resource)


def changes_of(cast: Cast) -> Iterator[tuple[str, str, dict[str, Any], set[str]]]:
    """Calls that change something: the method, the record, the body, and who may."""
    for record, owners in (
        ("running request", {"root", "ada"}),
        ("child request", {"root", "ada", "runner"}),
        ("ada's share", {"root", "ada"}),
        ("bob's share", {"root", "bob"}),
        ("draft", {"root", "ada"}),
    ):
        yield "container_requests.update", record, {"container_request": {"name": "x"}}, owners
    by = {"dispatcher": cast.elm.uuid, "epoch": cast.elm.epoch}
    progress = {"container": {"progress": 0.5}, **by}
    yield "containers.update", "running container", progress, {"elm", "runner"}
    for record in ("shared container", "child container"):
        yield "containers.update", record, {"container": {"progress": 0.5}}, set()
        yield "containers.update", record, {"container": {"hold": True}}, {"root"}
        yield "containers.lock", record, {}, {"elm", "oak"}
    yield "containers.auth", "running container", {}, {"elm"}
    yield "containers.secret_mounts", "running container", {}, {"runner"}
    yield "links.delete", "reason", {}, {"root"}
    yield "links.delete", "note", {}, {"root", "bob"}
    yield "logs.delete", "diary", {}, {"root"}


def test_who_may_change_what(cast: Cast) -> None:
    """404 for what one does not see, 403 for what one sees and may not change."""
    for method, record, body, may in changes_of(cast):
        for caller in EVERYBODY:
            if caller in may:
                continue
            status = cast.status(caller, method, body, uuid=cast.uuids[record])
            if caller == "root" and status == 422:
                continue  # an administrator may do it in another state, or to another attribute
            expected = 403 if cast.sees(caller, record) else 404
            assert status == expected, (method, record, caller)


@pytest.mark.parametrize("caller", EVERYBODY)
def test_those_who_may_change_do(cast: Cast, caller: str) -> None:
    for method, record, body, may in changes_of(cast):
        if caller in may:
            status = cast.status(caller, method, body, uuid=cast.uuids[record])
            assert status == 200, (method, record)


def test_deleting_is_for_owners(cast: Cast) -> None:
    for record, owners in (
        ("running request", {"root", "ada"}),
        ("child request", {"root", "ada", "runner"}),
        ("bob's share", {"root", "bob"}),
        ("draft", {"root", "ada"}),
    ):
        for caller in EVERYBODY:
            if caller not in owners:
                expected = 403 if cast.sees(caller, record) else 404
                method = "container_requests.delete"
                assert cast.status(caller, method, uuid=cast.uuids[record]) == expected


def test_batches_are_for_the_dispatcher_itself(cast: Cast) -> None:
    by = {"dispatcher": cast.elm.uuid, "epoch": cast.elm.epoch}
    bodies: dict[str, dict[str, Any]] = {
        "claim": {"limit": 1, "claim_id": "c"},
        "batch_update": {"updates": []},
        "auth_many": {"uuids": []},
        "annotate": {"annotations": []},
        "changes": {},
    }
    for name, body in bodies.items():
        for caller in EVERYBODY:
            query = {**by, **body} if name == "changes" else {}
            status = cast.status(caller, f"containers.{name}", {**by, **body}, **query)
            assert status == (200 if caller == "elm" else 403), (name, caller)


def test_another_dispatcher_has_no_hand_in_what_one_holds(cast: Cast) -> None:
    uuid = cast.uuids["running container"]
    oak = cast.cluster.dispatcher("oak", token=cast.tokens["oak"])
    (answer,) = cast.cluster.batch(oak, (uuid, {"state": "TempFail"}))
    assert answer["status"] == 403
    body = {**oak.by, "uuids": [uuid]}
    assert cast.cluster.call("containers.auth_many", body, token=oak.token)["items"] == []
    assert say(cast.cluster, oak, (uuid, REASON)) == [403]
    assert cast.cluster.container(uuid)["state"] == "Running"


def test_operators_verbs_are_theirs(cast: Cast) -> None:
    for verb in ("retire", "lose"):
        for caller in EVERYBODY:
            if caller == "root":
                continue
            status = cast.status(caller, f"dispatchers.{verb}", uuid=cast.elm.uuid)
            assert status in (403, 404), (verb, caller)
    for caller in EVERYBODY:
        if caller != "elm":
            body = {"epoch": cast.elm.epoch}
            assert cast.status(caller, "dispatchers.ping", body, uuid=cast.elm.uuid) == 403
        if caller not in ("root", "elm"):
            named = {"dispatcher": {"name": "elm"}}
            assert cast.status(caller, "dispatchers.create", named) == 403
        if caller != "root":
            uuid = cast.uuids["shared container"]
            assert cast.status(caller, "containers.update_priority", uuid=uuid) in (403, 404)


def test_secrets_are_in_no_answer(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    secret = {"/k": {"kind": "text", "content": "s3cret"}}
    request, uuid, token = cluster.running(me, secret_mounts=secret, runtime_token="t0ken")
    answers: list[Any] = []
    for who in (ROOT_TOKEN, cluster.user_token, me.token, token):
        everything = ("containers", "container_requests", "logs", "links")
        answers.extend(cluster.call(f"{resource}.list", token=who) for resource in everything)
        answers.append(cluster.call("containers.get", token=who, uuid=uuid))
        select = ["secret_mounts", "runtime_token", "uuid"]
        cluster.refused(422, "containers.get", token=who, uuid=uuid, select=select)
    answers.append(cluster.get_request(request["uuid"]))
    answers.append(cluster.update_request(request["uuid"], name="x"))
    answers.append(cluster.report(me, uuid, progress=0.1))
    answers.append(cluster.attempts(request["uuid"]))
    for name in ("secret_mounts", "runtime_token"):
        for operator in ("=", "like", "exists"):
            filters = [[name, operator, "t0ken"]]
            cluster.refused(422, "container_requests.list", filters=filters)
            cluster.refused(422, "containers.list", filters=filters)
    answers.append(cluster.call("container_requests.list", filters=[["any", "ilike", "%x%"]]))
    answers.append(cluster.write(token, uuid, state="PermFail", exit_code=1))
    answers.append(cluster.call("container_requests.delete", uuid=request["uuid"]))
    assert "s3cret" not in str(answers)
    assert "t0ken" not in str(answers)


def test_every_method_needs_a_token(cast: Cast) -> None:
    for method in set(METHODS_BY_ID) - {"nodes.ping"}:  # which shows the node's own secret
        with pytest.raises(ServerError) as caught:
            cast.cluster.call(method, token="nobody's", uuid=cast.uuids["running container"])
        assert caught.value.status == 401, method


def test_a_user_of_very_many_sees_the_same(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(resource: str, caller: str) -> dict[str, Any]:
        return cast.cluster.call(f"{resource}.list", token=cast.tokens[caller])

    calls = [(r, c) for r in ("containers", "links", "logs") for c in ("ada", "bob", "runner")]
    few = [listed(*each) for each in calls]
    monkeypatch.setattr(access, "_MANY", 0)
    assert [listed(*each) for each in calls] == few
