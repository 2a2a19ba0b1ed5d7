"""The scopes of tokens: which call they allow, and which of them may be given to a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.server.scopes import allows, covers, scope_problems

if TYPE_CHECKING:
    from tests.server.conftest import Cluster

LIST = "/arvados/v1/containers"
ONE = "/arvados/v1/containers/zzzzz-dz642-000000000000000"

METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"])
PATHS = st.lists(st.sampled_from(["arvados", "v1", "containers", "x"]), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
SCOPES = st.lists(
    st.one_of(st.just("all"), st.builds("{} {}{}".format, METHODS, PATHS, st.sampled_from("/ ")))
    .map(str.strip),
    max_size=3,
)  # fmt: skip


@pytest.mark.parametrize(
    ("scopes", "method", "path", "allowed"),
    [
        (["all"], "DELETE", ONE, True),
        ([], "GET", LIST, False),
        ([f"GET {LIST}"], "GET", LIST, True),
        ([f"GET {LIST}"], "GET", ONE, False),
        ([f"GET {LIST}"], "GET", LIST + "x", False),
        ([f"GET {LIST}"], "POST", LIST, False),
        ([f"GET {LIST}/"], "GET", ONE, True),
        ([f"GET {LIST}/"], "GET", LIST, False),
        ([f"GET {LIST}/"], "GET", "/arvados/v1/container_requests", False),
        (["GET /"], "GET", ONE, True),
        (["GET /"], "PUT", ONE, False),
        ([f"GET {LIST}"], "HEAD", LIST, True),
        ([f"HEAD {LIST}"], "GET", LIST, False),
        ([f"POST {LIST}", f"GET {ONE}"], "GET", ONE, True),
        (["ALL"], "GET", LIST, False),
    ],
)
def test_which_calls_a_scope_allows(
    scopes: list[str], method: str, path: str, allowed: bool
) -> None:
    assert allows(scopes, method, path) is allowed


@given(SCOPES, SCOPES, METHODS, PATHS)
def test_what_is_covered_allows_no_more(
    strong: list[str], weak: list[str], method: str, path: str
) -> None:
    if covers(strong, weak) and allows(weak, method, path):
        assert allows(strong, method, path)


@pytest.mark.parametrize(
    "scopes", [["all"], [], [f"GET {LIST}"], ["GET /"], [f"GET {LIST}/", f"POST {LIST}"]]
)
def test_scopes_that_will_do(scopes: Any) -> None:
    assert list(scope_problems(scopes)) == []


@pytest.mark.parametrize(
    "scopes",
    [
        "all",
        None,
        {"all": True},
        [1],
        ["All"],
        ["get /arvados/v1/containers"],
        ["GET arvados/v1/containers"],
        [f"GET  {LIST}"],
        [f"GET {LIST}\n"],
        ["GET /\0"],
        ["GET /" + "x" * 501],
        ["all"] * 101,
    ],
)
def test_scopes_that_will_not_do(scopes: Any) -> None:
    assert list(scope_problems(scopes))


def test_a_scoped_token_does_only_what_its_scopes_say(cluster: Cluster) -> None:
    request = cluster.request()
    below = "/arvados/v1/container_requests/"
    scopes = [f"GET {below}", f"PUT {below}{request['uuid']}"]
    body = {"api_client_authorization": {"scopes": scopes}}
    made = cluster.call("api_client_authorizations.create", body)
    token = made["api_token"]
    cluster.call("container_requests.get", token=token, uuid=request["uuid"])
    change = {"container_request": {"name": "mine"}}
    cluster.call("container_requests.update", change, token=token, uuid=request["uuid"])
    other = cluster.request()
    for method, uuid in (
        ("container_requests.update", other["uuid"]),
        ("container_requests.delete", request["uuid"]),
        ("container_requests.list", ""),
        ("containers.get", request["container_uuid"]),
    ):
        assert cluster.refused(403, method, change, token=token, uuid=uuid) == "Forbidden"
    current = cluster.call("api_client_authorizations.current", token=token)
    assert current["scopes"] == scopes
