"""Who may read what containers have left in the API's store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.server.conftest import ROOT_TOKEN

if TYPE_CHECKING:
    from tests.server.conftest import Cluster


def test_files_are_read_by_who_sees_the_container(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    bob, eve = (cluster.service.create_user_token(name).text for name in ("bob", "eve"))
    work = {"command": ["same"], "use_existing": True}
    mine, uuid, runner = cluster.running(me, **work)
    his = cluster.call("container_requests.create", {**cluster.work(**work)}, token=bob)
    assert his["container_uuid"] == uuid
    _request, other, other_runner = cluster.running(me)

    def read_by(token: str, container: str) -> bool:
        return cluster.service.reads_files(cluster.service.authenticate(token), container)

    callers = {"root": ROOT_TOKEN, "ada": cluster.user_token, "bob": bob, "eve": eve}
    callers |= {"dispatcher": me.token, "runner": runner, "other runner": other_runner}
    # A container reads what its user may.
    shared = {name for name, token in callers.items() if read_by(token, uuid)}
    # And its dispatcher, whose page shows the log.
    assert shared == {"root", "ada", "bob", "dispatcher", "runner", "other runner"}
    unshared = {name for name, token in callers.items() if read_by(token, other)}
    assert unshared == {"root", "ada", "dispatcher", "runner", "other runner"}
    stranger = cluster.dispatcher("stranger")
    assert not read_by(stranger.token, uuid)
    assert not any(read_by(t, "zzzzz-dz642-000000000000000") for t in callers.values())
    # Who asked first may go, its container is still its own.
    cluster.call("container_requests.delete", uuid=mine["uuid"])
    assert not read_by(cluster.user_token, uuid)
    assert read_by(bob, uuid)
    assert read_by(runner, uuid)


def test_an_input_stays_readable_when_its_request_is_forgotten(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    made, source, _token = cluster.running(me)
    cluster.report(me, source, state="Complete", exit_code=0)
    taken = {"kind": "file", "path": f"store:{source}/output/a"}
    mounts = {"/out": {"kind": "tmp"}, "/in": taken}
    _request, _uuid, token = cluster.running(me, mounts=mounts)
    _request, _uuid, other = cluster.running(me)
    cluster.call("container_requests.delete", uuid=made["uuid"])
    service = cluster.service
    assert service.reads_files(service.authenticate(token), source)
    assert not service.reads_files(service.authenticate(other), source)
    assert not service.reads_files(service.authenticate(cluster.user_token), source)
    # Nor is it an input for anything new.
    body = {"container_request": cluster.work(mounts=mounts)}
    assert "not found" in cluster.refused(422, "container_requests.create", body)


def test_an_administrator_hands_over_what_others_do_not_see(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    _request, source, _token = cluster.running(me)
    bob = cluster.service.create_user_token("bob").text
    owner = cluster.call("users.current", token=bob)["uuid"]
    taken = {"kind": "file", "path": f"store:{source}/output/a"}
    work = cluster.work(owner_uuid=owner, mounts={"/out": {"kind": "tmp"}, "/in": taken})
    body = {"container_request": work}
    request = cluster.call("container_requests.create", body, token=ROOT_TOKEN)
    (container,) = cluster.claim(me)
    assert container["uuid"] == request["container_uuid"]
    service = cluster.service
    runner = service.authenticate(cluster.runner_token(me, container["uuid"]))
    assert service.reads_files(runner, source)
    assert not service.reads_files(service.authenticate(bob), source)
    taken["path"] = "store:zzzzz-dz642-000000000000000/output/a"
    text = cluster.refused(422, "container_requests.create", body, token=ROOT_TOKEN)
    assert text == "mounts./in.path: 'zzzzz-dz642-000000000000000' not found"
