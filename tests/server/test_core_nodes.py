"""Nodes: made by node managers, kept alive by pings with a secret of their own, shown to those they concern."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.server.errors import ServerError
from nodemanager.server.nodes import smallest_slot
from nodemanager.server.policy import Policy
from nodemanager.server.service import METHODS_BY_ID, Request

if TYPE_CHECKING:
    from tests.server.conftest import Cluster

HOUR = 3600.0
SECRET = "ping_secret"


def make(cluster: Cluster, token: str | None = None, **attributes: Any) -> dict[str, Any]:
    """A node's record, with a slot."""
    return cluster.call(
        "nodes.create",
        {"node": attributes},
        token=token or cluster.root_token,
        assign_slot=True,
    )


def read(cluster: Cluster, node: Mapping[str, Any], token: str | None = None) -> dict[str, Any]:
    return cluster.call("nodes.get", token=token or cluster.root_token, uuid=node["uuid"])


def change(cluster: Cluster, node: Mapping[str, Any], /, **attributes: Any) -> dict[str, Any]:
    body = {"node": attributes}
    return cluster.call("nodes.update", body, token=cluster.root_token, uuid=node["uuid"])


def ping(
    cluster: Cluster, node: Mapping[str, Any], address: str = "10.0.0.9", **said: Any
) -> dict[str, Any]:
    """What the machine does, without a token."""
    said = {SECRET: node["info"][SECRET], **said}
    request = Request([], METHODS_BY_ID["nodes.ping"], {"uuid": node["uuid"]}, said, {}, address)
    answer: dict[str, Any] = orjson.loads(orjson.dumps(cluster.service.perform(request)))
    return answer


def refused_ping(cluster: Cluster, status: int, node: Mapping[str, Any], /, **said: Any) -> str:
    with pytest.raises(ServerError) as caught:
        ping(cluster, node, **said)
    assert caught.value.status == status
    return str(caught.value)


def test_the_life_of_a_node(cluster: Cluster) -> None:
    node = make(cluster, properties={"cloud_node": {"size": "m4", "price": 0.1}})
    assert (node["slot_number"], node["hostname"]) == (1, "compute1")
    assert (node["status"], node["crunch_worker_state"]) == ("pending", "down")
    assert (node["first_ping_at"], node["ip_address"]) == (None, None)
    cluster.clock.advance(301)
    assert read(cluster, node)["status"] == "startup-fail"
    answer = ping(cluster, node, instance_id="i-1", total_cpu_cores="8", total_ram_mb=16000)
    assert answer["status"] == "running"
    assert (answer["hostname"], answer["slot_number"]) == ("compute1", 1)
    assert answer["ip_address"] == "10.0.0.9"
    assert answer["properties"] == {
        "cloud_node": {"size": "m4", "price": 0.1}, "total_cpu_cores": 8, "total_ram_mb": 16000,
    }  # fmt: skip
    assert answer["info"] == {"ec2_instance_id": "i-1"}
    first = answer["first_ping_at"]
    cluster.clock.advance(60)
    answer = ping(cluster, node, address="10.9.9.9", instance_id="i-1")
    assert answer["first_ping_at"] == first < answer["last_ping_at"]
    assert answer["ip_address"] == "10.0.0.9"
    assert answer["properties"] == {"cloud_node": {"size": "m4", "price": 0.1}}
    cluster.clock.advance(HOUR + 1)
    assert read(cluster, node)["status"] == "missing"
    cluster.call("nodes.delete", token=cluster.root_token, uuid=node["uuid"])
    cluster.refused(404, "nodes.get", token=cluster.root_token, uuid=node["uuid"])
    refused_ping(cluster, 404, node)


def test_the_address_is_the_one_the_machine_says(cluster: Cluster) -> None:
    one, two = make(cluster), make(cluster)
    assert ping(cluster, one, local_ipv4="172.17.2.172")["ip_address"] == "172.17.2.172"
    assert "local_ipv4" in refused_ping(cluster, 422, two, local_ipv4="my house")
    # The newest ping wins: the other machine must be gone.
    assert ping(cluster, two, local_ipv4="172.17.2.172")["ip_address"] == "172.17.2.172"
    assert read(cluster, one)["ip_address"] is None


def test_only_who_knows_the_secret_pings(cluster: Cluster) -> None:
    node, other = make(cluster), make(cluster)
    wrong = [other["info"][SECRET], "", "\u00fc", node["info"][SECRET][:-1]]
    for secret in wrong:
        assert refused_ping(cluster, 401, node, ping_secret=secret) == "Incorrect ping_secret"
    refused_ping(cluster, 422, node, ping_secret=None)
    refused_ping(cluster, 422, node, ping_secret=17)
    refused_ping(cluster, 422, node, total_ram_mb="much")
    refused_ping(cluster, 404, {**node, "uuid": "zzzzz-7ekkf-000000000000000"})
    assert read(cluster, node)["last_ping_at"] is None


def test_a_second_machine_is_refused(cluster: Cluster) -> None:
    node = make(cluster)
    ping(cluster, node, instance_id="i-1")
    before = read(cluster, node)
    text = refused_ping(cluster, 422, node, instance_id="i-2")
    assert text == f"{node['uuid']} is already running at i-1 so rejecting ping from i-2"
    assert read(cluster, node) == before


def test_only_administrators_see_the_secret(cluster: Cluster) -> None:
    manager = cluster.dispatcher()
    node = make(cluster)
    secret = node["info"][SECRET]
    assert len(secret) == 64
    ping(cluster, node)
    root = cluster.root_token
    assert read(cluster, node)["info"][SECRET] == secret
    assert cluster.call("nodes.list", token=root)["items"][0]["info"][SECRET] == secret
    assert SECRET not in str(ping(cluster, node))
    for token in (manager.token, cluster.user_token):
        for answer in (
            read(cluster, node, token),
            cluster.call("nodes.list", token=token),
            cluster.call("nodes.list", token=token, select=["uuid", "info"]),
        ):
            assert secret not in str(answer)
        for filters in (
            [["info.ping_secret", "like", f"{secret[:2]}%"]],
            [["info", "exists", SECRET]],
            [["any", "=", secret]],
        ):
            assert cluster.call("nodes.list", token=token, filters=filters)["items"] == []
        for name in (SECRET, f"nodes.{SECRET}"):
            cluster.refused(422, "nodes.list", token=token, filters=[[name, "=", secret]])
        cluster.refused(422, "nodes.list", token=token, select=[SECRET])


def test_a_dispatcher_is_told_a_secret_once(cluster: Cluster) -> None:
    """When it makes the record: it has to hand the secret to the machine that it boots."""
    me = cluster.dispatcher()
    body = {"node": {"info": {SECRET: "mine", "last_action": "boot"}}}
    node = cluster.call("nodes.create", body, token=me.token, assign_slot=True)
    secret = node["info"].pop(SECRET)
    assert node["info"] == {"last_action": "boot"}
    assert secret == read(cluster, node)["info"][SECRET] != "mine"
    assert SECRET not in read(cluster, node, me.token)["info"]
    body = {"node": {"info": {SECRET: "mine", "last_action": "wait"}}}
    cluster.call("nodes.update", body, token=me.token, uuid=node["uuid"])
    assert read(cluster, node)["info"] == {SECRET: secret, "last_action": "wait"}
    assert len(cluster.call("nodes.list", token=me.token)["items"]) == 1
    cluster.call("nodes.delete", token=me.token, uuid=node["uuid"])


def test_users_see_what_has_pinged_within_the_hour(cluster: Cluster) -> None:
    node, _silent = make(cluster), make(cluster)
    assert cluster.call("nodes.list")["items"] == []
    ping(cluster, node)
    assert [n["uuid"] for n in cluster.call("nodes.list")["items"]] == [node["uuid"]]
    assert read(cluster, node, cluster.user_token)["status"] == "running"
    cluster.clock.advance(HOUR + 1)
    assert cluster.call("nodes.list")["items"] == []
    cluster.refused(404, "nodes.get", uuid=node["uuid"])
    assert len(cluster.call("nodes.list", token=cluster.root_token)["items"]) == 2


def test_users_and_runners_change_no_node(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    _request, _uuid, runner = cluster.running(me)
    node = make(cluster)
    ping(cluster, node)
    for token in (cluster.user_token, runner):
        cluster.refused(403, "nodes.create", {"node": {}}, token=token)
        body = {"node": {"hostname": "mine"}}
        cluster.refused(403, "nodes.update", body, token=token, uuid=node["uuid"])
        cluster.refused(403, "nodes.delete", token=token, uuid=node["uuid"])
    assert cluster.call("nodes.list", token=runner)["items"] == []


def test_a_record_made_ready_for_another_machine_has_another_secret(cluster: Cluster) -> None:
    node = make(cluster)
    ping(cluster, node, instance_id="i-1")
    gone = {
        "hostname": None, "ip_address": None, "slot_number": None, "first_ping_at": None,
        "last_ping_at": None, "properties": {}, "info": {"last_action": "shut down"},
    }  # fmt: skip
    cleaned = change(cluster, node, **gone)
    assert cleaned["info"].keys() == {SECRET, "last_action"}
    assert cleaned["info"][SECRET] != node["info"][SECRET]
    assert (cleaned["slot_number"], cleaned["status"]) == (None, "pending")
    refused_ping(cluster, 401, node)
    # The next machine's first ping takes a slot if nobody did before.
    answer = ping(cluster, cleaned, address="10.0.0.10", instance_id="i-2")
    assert (answer["slot_number"], answer["hostname"]) == (1, "compute1")
    assert answer["ip_address"] == "10.0.0.10"


def test_a_dispatcher_that_makes_a_record_ready_renews_the_secret(cluster: Cluster) -> None:
    me = cluster.dispatcher()
    node = make(cluster)
    ping(cluster, node)
    body: dict[str, Any] = {"node": {"first_ping_at": None, "last_ping_at": None, "info": {}}}
    cluster.call("nodes.update", body, token=me.token, uuid=node["uuid"])
    refused_ping(cluster, 401, node)


def test_an_administrator_may_keep_or_choose_the_secret(cluster: Cluster) -> None:
    node = make(cluster, info={SECRET: "chosen"})
    assert node["info"] == {SECRET: "chosen"}
    kept = change(cluster, node, info={**node["info"], "last_action": "boot"})
    assert kept["info"] == {SECRET: "chosen", "last_action": "boot"}
    assert change(cluster, node, hostname="elm")["info"] == kept["info"]
    for wrong in ("", 17, ["x"]):
        cluster.refused(
            422,
            "nodes.update",
            {"node": {"info": {SECRET: wrong}}},
            token=cluster.root_token,
            uuid=node["uuid"],
        )


def test_slots_are_filled_from_below(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(Policy(root_token="root-token-of-the-tests", max_compute_nodes=3))
    nodes = [make(cluster) for _ in range(3)]
    assert [n["slot_number"] for n in nodes] == [1, 2, 3]
    body: dict[str, Any] = {"node": {}}
    more = {"token": cluster.root_token, "assign_slot": True}
    assert "No available node slots" in cluster.refused(422, "nodes.create", body, **more)
    change(cluster, nodes[1], slot_number=None)
    assert make(cluster, hostname="oak")["hostname"] == "oak"
    assert [n["slot_number"] for n in cluster.call("nodes.list", token=cluster.root_token,
            order="slot_number")["items"]] == [1, 2, 3, None]  # fmt: skip
    without = cluster.call("nodes.create", body, token=cluster.root_token)
    assert "No available node slots" in refused_ping(cluster, 422, without)


def test_nodes_made_at_once_have_slots_of_their_own(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(in_file=True)
    with ThreadPoolExecutor(8) as threads:
        nodes = list(threads.map(lambda _: make(cluster), range(16)))
    assert sorted(node["slot_number"] for node in nodes) == list(range(1, 17))


def test_a_slot_belongs_to_one_node(cluster: Cluster) -> None:
    one, two = make(cluster), make(cluster)
    for slot in (1, 0, -1):
        body = {"node": {"slot_number": slot}}
        cluster.refused(422, "nodes.update", body, token=cluster.root_token, uuid=two["uuid"])
    # Its own slot again, and a slot for what has one, change nothing.
    assert change(cluster, one, slot_number=1)["slot_number"] == 1
    again = cluster.call(
        "nodes.update", {"node": {}}, token=cluster.root_token, uuid=one["uuid"], assign_slot=True
    )
    assert (again["slot_number"], again["hostname"]) == (1, "compute1")


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("alloc", "busy"),
        ("mix*", "busy"),
        ("idle", "idle"),
        ("idle*", "idle"),
        ("fail", "fail"),
        ("drain", "down"),
        (17, "down"),
        (None, "down"),
        ({"a": 1}, "down"),
    ],
)
def test_what_slurm_says_of_a_node(cluster: Cluster, said: Any, state: str) -> None:
    node = make(cluster, info={"slurm_state": said})
    assert node["crunch_worker_state"] == state
    assert change(cluster, node, slot_number=None)["crunch_worker_state"] == "down"


def test_lists_filter_by_what_is_worked_out(cluster: Cluster) -> None:
    node, _other = make(cluster), make(cluster)
    ping(cluster, node)
    found = cluster.call(
        "nodes.list",
        token=cluster.root_token,
        filters=[["status", "=", "running"]],
        order="status desc, uuid",
        select=["uuid", "status"],
    )
    assert found["items"] == [{"kind": "arvados#node", "uuid": node["uuid"], "status": "running"}]
    assert found["items_available"] == 1


def test_what_a_node_works_on_must_exist(cluster: Cluster) -> None:
    uuid = cluster.request()["container_uuid"]
    node = make(cluster, job_uuid=uuid)
    assert node["job_uuid"] == uuid
    missing = "zzzzz-dz642-000000000000000"
    body = {"node": {"job_uuid": missing}}
    text = cluster.refused(422, "nodes.update", body, token=cluster.root_token, uuid=node["uuid"])
    assert f"'{missing}' not found" in text
    # A record of a kind that is not kept here.
    assert change(cluster, node, job_uuid="zzzzz-8i9sb-000000000000000")


@given(st.sets(st.integers(-2, 9)), st.integers(0, 6))
def test_the_smallest_free_slot(taken: set[int], most: int) -> None:
    free = [slot for slot in range(1, most + 1) if slot not in taken]
    assert smallest_slot(taken, most) == (min(free) if free else None)
