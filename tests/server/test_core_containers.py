"""Writing to containers: who may, which state follows which, and what may be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nodemanager.model import CONTAINER_TRANSITIONS, ContainerState
from nodemanager.outcome import End, EndKind, judge

if TYPE_CHECKING:
    from tests.server.conftest import Cluster, Me


def in_state(cluster: Cluster, state: ContainerState) -> tuple[Me, str]:
    """A container in that state, and the dispatcher that holds or held it."""
    me = cluster.dispatcher()
    request = cluster.request()
    uuid = str(request["container_uuid"])
    if state is ContainerState.QUEUED:
        return me, uuid
    cluster.claim(me)
    if state in (ContainerState.RUNNING, ContainerState.COMPLETE):
        cluster.report(me, uuid, state="Running")
    if state.is_final:
        cluster.report(me, uuid, state=state)
    elif state is ContainerState.RUNNING:
        assert cluster.container(uuid)["started_at"] is not None
    return me, uuid


@pytest.mark.parametrize("before", ContainerState)
@pytest.mark.parametrize("after", ContainerState)
def test_states_follow_the_table(
    cluster: Cluster, before: ContainerState, after: ContainerState
) -> None:
    me, uuid = in_state(cluster, before)
    (answer,) = cluster.batch(me, (uuid, {"state": after}))
    if before is ContainerState.QUEUED:
        assert answer["status"] == 403
    elif after is before or after in CONTAINER_TRANSITIONS[before]:
        assert answer == {"uuid": uuid, "status": 200}
        assert cluster.container(uuid)["state"] == after
    else:
        assert answer["status"] == 422
        assert cluster.container(uuid)["state"] == before


def test_only_the_claimer_and_the_runner_write(cluster: Cluster) -> None:
    me, other = cluster.dispatcher("one"), cluster.dispatcher("two")
    _request, uuid, token = cluster.running(me)
    request, second, second_token = cluster.running(me)
    body = {"container": {"state": "TempFail"}}
    for stranger in (other.token, cluster.user_token, cluster.root_token):
        cluster.refused(403, "containers.update", body, token=stranger, uuid=uuid)
    (answer,) = cluster.batch(other, (uuid, {"state": "TempFail"}))
    assert answer["status"] == 403
    assert cluster.container(uuid)["state"] == "Running"
    assert cluster.write(token, uuid, progress=0.5)["progress"] == 0.5
    assert cluster.write(me.token, second, log="/x")["log"] == "/x"
    assert cluster.get_request(request["uuid"])["state"] == "Committed"
    # Who does not see it is not told that it exists.
    for stranger in (cluster.service.create_user_token("bob").text, second_token):
        cluster.refused(404, "containers.update", body, token=stranger, uuid=uuid)


def test_an_older_epoch_is_over(cluster: Cluster) -> None:
    old = cluster.dispatcher()
    cluster.request()
    (container,) = cluster.claim(old)
    new = cluster.dispatcher(token=old.token)
    assert (new.uuid, new.epoch) == (old.uuid, old.epoch + 1)
    update = {"updates": [{"uuid": container["uuid"], "attributes": {"state": "TempFail"}}]}
    for method, body in (
        ("containers.batch_update", update),
        ("containers.claim", {}),
        ("containers.auth_many", {"uuids": []}),
        ("containers.annotate", {"annotations": []}),
    ):
        text = cluster.refused(403, method, {**old.by, **body}, token=old.token)
        assert "another process acts as it" in text
    cluster.refused(403, "containers.changes", token=old.token, **old.by)
    cluster.refused(403, "dispatchers.ping", {"epoch": 1}, token=old.token, uuid=old.uuid)
    cluster.refused(
        403, "containers.update", {"container": {"state": "TempFail"}},
        token=old.token, uuid=container["uuid"], epoch=old.epoch,
    )  # fmt: skip
    cluster.report(new, container["uuid"], state="TempFail")


def test_running_is_confirmed_for_one_runner(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    cluster.claim(me)
    tokens = [cluster.runner_token(me, uuid) for _ in range(2)]
    body: dict[str, Any] = {"container": {"state": "Running"}}
    text = cluster.refused(422, "containers.update", body, token=tokens[0], uuid=uuid)
    assert text.startswith("runner_id: missing")
    first = cluster.write(tokens[0], uuid, state="Running", runner_id="a")
    cluster.clock.advance(5)
    again = cluster.write(tokens[0], uuid, state="Running", runner_id="a")
    assert again["started_at"] == first["started_at"]
    for late in ("b", ""):
        body = {"container": {"state": "Running", "runner_id": late}}
        cluster.refused(422, "containers.update", body, token=tokens[1], uuid=uuid)
    assert cluster.container(uuid)["runner_id"] == "a"


def test_a_container_started_without_a_runner_id_takes_none_later(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    cluster.claim(me)
    token = cluster.runner_token(me, uuid)
    cluster.report(me, uuid, state="Running")
    body = {"container": {"state": "Running", "runner_id": "a"}}
    cluster.refused(422, "containers.update", body, token=token, uuid=uuid)


def test_a_final_write_may_be_repeated_and_not_changed(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    _request, uuid, _token = cluster.running(me)
    report = judge(End(EndKind.EXITED, 3)).as_attributes()
    assert cluster.report(me, uuid, **report)["state"] == "PermFail"
    before = cluster.container(uuid)
    cluster.clock.advance(10)
    cluster.report(me, uuid, **report)
    assert cluster.container(uuid) == before
    for other in ({"state": "Complete"}, {**report, "exit_code": 4}, {"log": "/elsewhere"}):
        (answer,) = cluster.batch(me, (uuid, other))
        assert answer["status"] == 422
        assert "cannot be modified in state PermFail" in answer["errors"][0]
    assert cluster.container(uuid) == before


@pytest.mark.parametrize("kind", EndKind)
def test_every_outcome_can_be_written(cluster: Cluster, kind: EndKind) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    cluster.claim(me)
    if kind is not EndKind.GIVEN_BACK:
        cluster.report(me, uuid, state="Running")
    outcome = judge(End(kind, 9, asked=5, limit=7))
    assert cluster.report(me, uuid, **outcome.as_attributes())["state"] == outcome.state


def test_what_runs_cannot_be_handed_back(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    _request, uuid, _token = cluster.running(me)
    (answer,) = cluster.batch(me, (uuid, {"state": "TempFail", "given_back": True}))
    assert answer["status"] == 422
    assert cluster.container(uuid)["state"] == "Running"


def test_a_runners_token_dies_with_its_container(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    _request, uuid, token = cluster.running(me)
    assert cluster.call("containers.current", token=token)["uuid"] == uuid
    assert cluster.container(uuid)["auth_uuid"] == token.split("/")[1]
    cluster.write(token, uuid, state="Complete", exit_code=0)
    assert cluster.refused(401, "containers.get", token=token, uuid=uuid) == "Not logged in"
    assert cluster.container(uuid)["auth_uuid"] is None


def test_a_runners_token_reads_nothing_else(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    request, uuid, token = cluster.running(me)
    _request, other, _token = cluster.running(me)
    assert cluster.call("containers.get", token=token, uuid=uuid)["uuid"] == uuid
    for method, which in (
        ("containers.get", other),
        ("container_requests.get", request["uuid"]),
        ("dispatchers.get", me.uuid),
        ("containers.secret_mounts", other),
    ):
        cluster.refused(404, method, token=token, uuid=which)
    cluster.refused(403, "containers.auth", token=token, uuid=uuid)
    cluster.refused(403, "containers.claim", me.by, token=token)
    assert len(cluster.call("containers.list", token=token)["items"]) == 1


def test_tokens_for_runners(cluster: Cluster) -> None:
    one, two = cluster.dispatcher("one"), cluster.dispatcher("two")
    uuid = cluster.request()["container_uuid"]
    refused = cluster.refused(403, "containers.auth", token=one.token, uuid=uuid)
    assert refused == "Not locked by your token"
    cluster.claim(one)
    cluster.refused(403, "containers.auth", token=two.token, uuid=uuid)
    token = cluster.call("containers.auth", token=one.token, uuid=uuid)["api_token"]
    assert cluster.call("containers.current", token=token)["uuid"] == uuid
    body = {**two.by, "uuids": [uuid, "zzzzz-dz642-0", 5]}
    assert cluster.call("containers.auth_many", body, token=two.token) == {"items": []}
    assert cluster.refused(404, "containers.current") == "Token is not associated with a container."


def test_batches_answer_for_each(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuids = [cluster.request()["container_uuid"] for _ in range(3)]
    cluster.claim(me, 2)
    body = {
        **me.by,
        "updates": [
            {"uuid": uuids[0], "attributes": {"scheduler_job": "b.1"}},
            {"uuid": uuids[2], "attributes": {"scheduler_job": "b.2"}},
            {"uuid": "zzzzz-dz642-none", "attributes": {}},
            {"uuid": uuids[1], "attributes": {"state": "Complete"}},
            {"uuid": uuids[1], "attributes": {"priority": 5}},
            {"uuid": uuids[1], "attributes": {"colour": 5}},
            {"uuid": uuids[1], "attributes": {"state": "TempFail", "exit_code": "0"}},
            {"attributes": {}},
            7,
            {"uuid": uuids[1], "attributes": {"state": "Cancelled"}},
        ],
    }
    answers = cluster.call("containers.batch_update", body, token=me.token)["items"]
    statuses = [a["status"] for a in answers]
    assert statuses == [200, 403, 404, 422, 422, 422, 422, 422, 422, 200]
    assert answers[3]["errors"] == ["state: cannot change from Locked to Complete"]
    assert answers[4]["errors"] == ["priority: cannot be modified in state Locked"]
    assert answers[5]["errors"] == ["colour: unknown field of container"]
    assert answers[6]["errors"] == ["exit_code: must be of type integer"]
    assert cluster.container(uuids[0])["scheduler_job"] == "b.1"
    assert cluster.container(uuids[1])["state"] == "Cancelled"
    cluster.refused(422, "containers.batch_update", {**me.by, "updates": 5}, token=me.token)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"runtime_status": {"error": 5}}, "'error' value must be a string"),
        ({"runtime_status": []}, "runtime_status: must be of type json_object"),
        ({"state": "Locked"}, "set dispatcher to claim"),
        ({"state": "Done"}, "'Done' is none of Queued"),
        ({"state": "Complete", "exit_code": 1}, "exit_code: is 1, but Complete means 0"),
        ({"hold": True}, "only together with the final state TempFail"),
        ({"exit_code": True}, "exit_code: must be of type integer"),
        ({"log": "a\0b"}, "log: contains a NUL character"),
        ({"priority": 1}, "priority: cannot be modified"),
        ({"secret_mounts": {}}, "secret_mounts: unknown field"),
        ({"change_seq": 9}, "change_seq: unknown field"),
    ],
)
def test_bad_reports_are_refused(cluster: Cluster, attributes: dict[str, Any], words: str) -> None:
    me = cluster.dispatcher()
    state = attributes.get("state")
    uuid = (cluster.running(me)[1]) if state != "Locked" else cluster.request()["container_uuid"]
    before = cluster.container(uuid)
    if state == "Locked":
        body = {"container": attributes}
        text = cluster.refused(422, "containers.update", body, token=cluster.root_token, uuid=uuid)
    else:
        (answer,) = cluster.batch(me, (uuid, attributes))
        assert answer["status"] == 422
        text = answer["errors"][0]
    assert words in text
    assert cluster.container(uuid) == before


def test_a_whole_record_may_be_sent_back(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    _request, uuid, token = cluster.running(me)
    names = ("uuid", "kind", "etag", "created_at", "modified_at", "state", "log")
    record = {k: v for k, v in cluster.container(uuid).items() if k in names}
    assert cluster.write(token, uuid, **{**record, "log": "/l"})["log"] == "/l"


def test_a_carried_over_reason_ends_when_the_command_starts(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    cluster.request()
    (container,) = cluster.claim(me)
    cluster.report(me, container["uuid"], state="TempFail", runtime_status={"error": "x"})
    cluster.clock.advance(13)
    (second,) = cluster.claim(me)
    assert second["runtime_status"]["error"] == "attempt 1 ended TempFail: x"
    assert cluster.report(me, second["uuid"], state="Running")["runtime_status"] == {}


def test_an_administrator_may_cancel_what_waits_only(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    uuid = cluster.request()["container_uuid"]
    body = {"container": {"state": "Cancelled"}}
    done = cluster.call("containers.update", body, token=cluster.root_token, uuid=uuid)
    assert done["state"] == "Cancelled"
    _request, uuid, _token = cluster.running(me)
    cluster.refused(403, "containers.update", body, token=cluster.root_token, uuid=uuid)
