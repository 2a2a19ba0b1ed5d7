"""Nodes, tokens, links, logs and users with the unmodified Arvados client, and a machine that only has curl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import arvados.errors
import pytest

from nodemanager.server.methods import BASE_PATH, METHODS
from nodemanager.server.resources import RESOURCES

STOCK_LIST = {
    "include_trash": False,
    "include_old_versions": False,
    "cluster_id": "zzzzz",
    "bypass_federation": True,
    "distinct": False,
}


def refused(status: int, call: Any) -> str:
    """The text with which the server refuses `call`."""
    with pytest.raises(arvados.errors.ApiError) as caught:
        call.execute(num_retries=0)
    assert caught.value.resp.status == status
    return str(caught.value)


def whole(made: dict[str, Any]) -> str:
    return f"v2/{made['uuid']}/{made['api_token']}"


def test_a_node_boots_and_pings(api: Any, send: Callable[..., Any]) -> None:
    node = api.nodes().create(body={"node": {}}, assign_slot=True).execute()
    assert node["hostname"] == f"compute{node['slot_number']}"
    said = {
        "ping_secret": node["info"]["ping_secret"],
        "instance_id": "i-1",
        "total_cpu_cores": 8,
        "total_ram_mb": 16_000,
    }
    path = f"{BASE_PATH}nodes/{node['uuid']}/ping"
    status, answer, _headers = send("POST", f"{path}?{urlencode(said)}", token="")
    assert status == 200
    assert answer["ip_address"] == "127.0.0.1"
    assert answer["properties"] == {"total_cpu_cores": 8, "total_ram_mb": 16_000}
    assert "ping_secret" not in str(answer)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert send("POST", path, urlencode(said), token="", headers=form)[0] == 200
    assert send("POST", path, said, token="")[0] == 200
    # A token, right or wrong, is neither needed nor looked at.
    assert send("POST", path, said, token="nonsense")[0] == 200
    status, answer, _headers = send("POST", path, {**said, "ping_secret": "x"}, token="")
    assert status == 401
    assert answer["errors"][0].startswith("Incorrect ping_secret (req-")
    assert send("POST", path, {**said, "instance_id": "i-2"}, token="")[0] == 422
    assert send("POST", path, {}, token="")[0] == 422
    assert send("GET", path, token="")[0] == 401
    found = api.nodes().list(filters=[["status", "=", "running"]], **STOCK_LIST).execute()
    assert [item["uuid"] for item in found["items"]] == [node["uuid"]]
    assert found["items"][0]["info"]["ping_secret"] == said["ping_secret"]
    renamed = api.nodes().update(uuid=node["uuid"], body={"node": {"hostname": "oak"}}).execute()
    assert renamed["hostname"] == "oak"
    api.nodes().delete(uuid=node["uuid"]).execute()
    assert send("POST", path, said, token="")[0] == 404


def test_tokens_are_made_and_deleted(api: Any, new_client: Callable[..., Any]) -> None:
    user = api.users().create(body={"user": {"username": "records"}}).execute()
    tokens = api.api_client_authorizations()
    body = {"api_client_authorization": {"owner_uuid": user["uuid"]}}
    first = tokens.create(body=body).execute()
    client = new_client(whole(first))
    assert client.users().current().execute()["uuid"] == user["uuid"]
    second = client.api_client_authorizations().create(body={}).execute()
    mine = client.api_client_authorizations().list(**STOCK_LIST).execute()["items"]
    assert {item["uuid"] for item in mine} == {first["uuid"], second["uuid"]}
    assert not any("api_token" in item for item in mine)
    body = {"api_client_authorization": {"expires_at": "2000-01-01T00:00:00Z"}}
    client.api_client_authorizations().update(uuid=second["uuid"], body=body).execute()
    refused(401, new_client(whole(second)).users().current())
    refused(403, client.api_client_authorizations().create_system_auth())
    client.api_client_authorizations().delete(uuid=first["uuid"]).execute()
    refused(401, client.users().current())
    made = tokens.create_system_auth(scopes=["all"]).execute()
    assert new_client(whole(made)).users().current().execute()["is_admin"]


def test_links_and_logs_are_made_and_changed(api: Any, dispatcher_api: Any) -> None:
    user = api.users().current().execute()["uuid"]
    body = {"link": {"link_class": "star", "head_uuid": user, "tail_uuid": user}}
    link = api.links().create(body=body, ensure_unique_name=True).execute()
    assert link["head_kind"] == "arvados#user"
    changed = api.links().update(uuid=link["uuid"], body={"link": {"name": "x"}}).execute()
    assert changed["name"] == "x"
    refused(403, dispatcher_api.links().create(body={"link": {}}))
    assert "'zzzzz-dz642-000000000000000' not found" in refused(
        422, api.links().create(body={"link": {"head_uuid": "zzzzz-dz642-000000000000000"}})
    )
    api.links().delete(uuid=link["uuid"]).execute()
    log = api.logs().create(body={"log": {"object_uuid": user, "summary": "a"}}).execute()
    assert log["object_kind"] == "arvados#user"
    changed = api.logs().update(uuid=log["uuid"], body={"log": {"summary": "b"}}).execute()
    assert changed["summary"] == "b"


def test_every_list_takes_what_stock_clients_send(api: Any) -> None:
    for plural in {method.resource for method in METHODS if method.name == "list"}:
        found = getattr(api, plural)().list(**STOCK_LIST).execute()
        assert found["kind"] == f"{RESOURCES[plural].kind}List"


def test_the_discovery_document_declares_every_attribute(api: Any) -> None:
    schemas = api._schema.schemas
    for resource in RESOURCES.values():
        declared = set(schemas[resource.schema]["properties"])
        assert {field.name for field in resource.published} <= declared
    assert {"status", "crunch_worker_state"} <= set(schemas["Node"]["properties"])
    assert "ping_secret" not in schemas["Node"]["properties"]
