"""Requests that no well-behaved client sends, and forms of request that old ones do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodemanager.api.embedded import EmbeddedEndpoint
from nodemanager.server.methods import METHODS, Method
from nodemanager.server.resources import RESOURCES

Answer = tuple[int, Any, dict[str, str]]
Send = Callable[..., Answer]

BASE = "/arvados/v1/"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def test_the_discovery_document_needs_no_token(send: Send) -> None:
    status, document, headers = send("GET", "/discovery/v1/apis/arvados/v1/rest", token="")
    assert status == 200
    assert document["rootUrl"].startswith("https://127.0.0.1:")
    assert document["servicePath"] == "arvados/v1/"
    assert "configs" not in document["resources"]
    assert "max-age" in headers["cache-control"]
    etag = {"If-None-Match": headers["etag"]}
    assert send("GET", "/discovery/v1/apis/arvados/v1/rest", headers=etag)[0] == 304


def test_a_strange_host_does_not_get_into_the_document(send: Send) -> None:
    evil = {"Host": "evil.example/<script>"}
    assert send("GET", "/discovery/v1/apis/arvados/v1/rest", token="", headers=evil)[0] == 422


@pytest.mark.parametrize(
    "token", ["", "wrong", "v2/zzzzz-gj3su-000000000000000/wrong", "v2//", "v2"]
)
def test_nobody_is_refused(send: Send, token: str) -> None:
    status, body, headers = send("GET", BASE + "containers", token=token)
    assert status == 401
    assert body["errors"] == [f"Not logged in ({headers['x-request-id']})"]
    stamp, _, tail = body["error_token"].partition("+")
    assert int(stamp) > 0
    assert len(tail) == 8


def test_tokens_come_in_every_stock_form(send: Send, endpoint: EmbeddedEndpoint) -> None:
    path = BASE + "users/current"
    secret = endpoint.root_token
    assert send("GET", path, token="", headers={"Authorization": f"OAuth2 {secret}"})[0] == 200
    assert send("GET", f"{path}?api_token={secret}", token="")[0] == 200
    assert send("GET", f"{path}?oauth_token={secret}&api_token=wrong", token="")[0] == 200
    form = urlencode({"api_token": secret, "_method": "GET"})
    assert send("POST", path, form, token="", headers=FORM)[0] == 200


def test_the_request_id_is_echoed_when_it_is_sane(send: Send) -> None:
    _, body, headers = send("GET", BASE + "nothing", headers={"X-Request-Id": "req-abc"})
    assert body["errors"] == ["Path not found (req-abc)"]
    assert headers["x-request-id"] == "req-abc"
    headers = send("GET", BASE + "nothing", headers={"X-Request-Id": "<b>" * 50})[2]
    assert headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/arvados"),
        ("GET", BASE),
        ("GET", BASE + "jobs"),
        ("GET", BASE + "containers/x/y/z"),
        ("GET", BASE + "containers/zzzzz-dz642-000000000000000"),
        ("DELETE", BASE + "containers"),
        ("OPTIONS", BASE + "containers"),
        ("GET", BASE + "containers//"),
        ("GET", BASE + quote("containers/ä☃")),
        ("GET", BASE + "containers/%FF%FE"),
        ("GET", BASE + "containers/%0A0"),
        ("GET", BASE + "%0A"),
        ("PUT", BASE + "containers/a%0Ab/auth"),
    ],
)
def test_what_is_not_there(send: Send, method: str, path: str) -> None:
    status, body, _ = send(method, path)
    assert status == 404
    assert body["errors"][0].startswith("Path not found (")


def test_a_slash_at_the_end_is_no_difference(send: Send) -> None:
    assert send("GET", BASE + "containers/?limit=0")[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 422, "not JSON"),
        (b'{"a": 1,}', 422, "not JSON"),
        (b"[]", 422, "must be a JSON object"),
        (b'"text"', 422, "must be a JSON object"),
        (b"null", 422, "must be a JSON object"),
        (b"\xff\xfe", 422, "not UTF-8"),
        (b'{"container_request": {"name": NaN}}', 422, "NaN is not JSON"),
        (b'{"container_request": {"name": 1e999}}', 422, "a number too large"),
        (b'{"container_request": {"name": ' + b"9" * 5000 + b"}}", 422, "limit"),
        (b'{"container_request": {"name": "a\\u0000b"}}', 422, "NUL"),
        (b'{"container_request": {"name\\u0000": "b"}}', 422, "NUL"),
        (b'{"container_request": {"name": "\\ud800"}}', 422, "surrogate"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 422, "nested"),
        (b'{"container_request": {"properties": ' + b"[" * 300 + b"]" * 300 + b"}}", 422, "nested"),
        (b'{"container_request": "text"}', 422, "container_request"),
        (b'{"container_request": {"name": 3}}', 422, "name"),
        (b'{"container_request": {"no_such": 3}}', 422, "no_such"),
    ],
)
def test_bodies_that_cannot_be_read(send: Send, body: bytes, status: int, words: str) -> None:
    found, answer, _ = send("POST", BASE + "container_requests", body, headers=JSON)
    assert found == status
    assert words in answer["errors"][0]


def test_a_backslash_before_u0000_is_no_nul(send: Send) -> None:
    made = {"log": {"summary": "\\u0000"}}
    status, answer, _ = send("POST", BASE + "logs", made)
    assert status == 200
    assert answer["summary"] == "\\u0000"


def test_a_body_too_large_is_refused_unread(send: Send) -> None:
    too_much = b" " * (16 * 2**20 + 1)
    status, answer, _ = send("POST", BASE + "logs", too_much, headers=JSON)
    assert status == 413
    assert "max_request_size" in answer["errors"][0]


def test_nul_in_path_and_query(send: Send) -> None:
    assert send("GET", BASE + "containers/%00")[0] == 422
    assert send("GET", BASE + "containers?limit=%00")[0] == 422
    assert send("GET", BASE + "containers?" + "&".join(f"a{n}=1" for n in range(1500)))[0] == 422


def test_a_record_may_be_wrapped_bare_or_a_form(send: Send) -> None:
    path = BASE + "logs"
    summary = {"summary": "s", "properties": {"a": [1]}}
    forms = urlencode({"log": json.dumps(summary)})
    fields = urlencode({"summary": "s", "properties": '{"a": [1]}'})
    for body, headers in [
        (json.dumps({"log": summary}), JSON),
        (json.dumps(summary), JSON),
        (json.dumps(summary), FORM),
        (json.dumps({"log": summary}), {}),
        (forms, FORM),
        (fields, FORM),
    ]:
        status, answer, _ = send("POST", path, body, headers=headers)
        assert status == 200, answer
        assert (answer["summary"], answer["properties"]) == ("s", {"a": [1]})


def test_a_post_may_mean_get(send: Send) -> None:
    form = urlencode(
        {"filters": '[["event_type", "=", "none"]]', "limit": "5", "select": '["uuid"]'}
    )
    override = {**FORM, "X-HTTP-Method-Override": "GET"}
    for headers, body in [(override, form), (FORM, form + "&_method=GET")]:
        status, answer, _ = send("POST", BASE + "logs", body, headers=headers)
        assert status == 200
        assert answer["kind"] == "arvados#logList"
        assert answer["limit"] == 5
    answer = send("POST", BASE + "logs?_method=GET&limit=1", "", headers=FORM)[1]
    assert answer["kind"] == "arvados#logList"


def test_patch_means_put_and_head_means_get(send: Send) -> None:
    made = send("POST", BASE + "container_requests", {"container_request": {"name": "a"}})[1]
    path = BASE + f"container_requests/{made['uuid']}"
    changed = send("PATCH", path, {"container_request": {"name": "b"}})[1]
    assert changed["name"] == "b"
    status, content, headers = send("HEAD", path)
    assert (status, content) == (200, b"")
    assert int(headers["content-length"]) > 0


def test_selects_reach_every_method(send: Send) -> None:
    select = quote('["uuid","name"]')
    made = send(
        "POST", BASE + f"container_requests?select={select}", {"container_request": {"name": "a"}}
    )[1]
    assert set(made) == {"kind", "uuid", "name"}
    path = BASE + f"container_requests/{made['uuid']}?alt=json&select="
    assert set(send("GET", path + select)[1]) == {"kind", "uuid", "name"}
    assert send("GET", path + "nonsense")[0] == 422
    assert send("GET", path + quote('["no_such"]'))[0] == 422
    assert set(send("GET", path + "[]")[1]) == {"kind"}
    nothing = send("GET", BASE + "container_requests?limit=1&select=" + quote('["kind"]'))[1]
    assert nothing["items"] == [{"kind": "arvados#containerRequest"}]


def test_times_have_nine_digits(send: Send) -> None:
    made = send("POST", BASE + "logs", {"log": {"summary": "x"}})[1]
    assert len(made["created_at"]) == len("2026-01-31T12:00:00.123456789Z")
    found = send(
        "GET", BASE + "logs?filters=" + quote(json.dumps([["created_at", "=", made["created_at"]]]))
    )[1]
    assert made["uuid"] in [item["uuid"] for item in found["items"]]


def test_health_checks_are_off_without_a_management_token(send: Send) -> None:
    assert send("GET", "/_health/ping")[0] == 404


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    sorted(
        {
            "updates",
            "uuids",
            "annotations",
            "attributes",
            "reason",
            "claim_id",
            "cursor",
            "api_token",
        }
        | {p.name for method in METHODS for p in method.parameters}
        | {resource.singular for resource in RESOURCES.values()}
        | {field.name for resource in RESOURCES.values() for field in resource.fields}
    )
)
REQUESTS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(METHODS),
        "uuid": st.text(min_size=1, max_size=12) | st.just("zzzzz-dz642-000000000000000"),
        "query": st.dictionaries(NAMES | st.text(max_size=6), st.text(max_size=12), max_size=3),
        "body": st.dictionaries(NAMES, JUNK | st.dictionaries(NAMES, JUNK, max_size=4), max_size=4)
        | st.binary(max_size=20),
        "as_dispatcher": st.booleans(),
    }
)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(junk=REQUESTS)
def test_junk_is_refused_and_never_breaks_anything(
    send: Send, endpoint: EmbeddedEndpoint, junk: dict[str, Any]
) -> None:
    method: Method = junk["method"]
    path = BASE + method.path.replace("{uuid}", quote(junk["uuid"], safe=""))
    text = urlencode({**junk["query"], "wait": "0"}, errors="replace")
    body = junk["body"]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer, _ = send(
        method.http,
        f"{path}?{text}",
        None if method.http == "GET" else content,
        token=endpoint.dispatcher_token if junk["as_dispatcher"] else None,
        headers={} if method.http == "GET" else JSON,
    )
    assert status in (200, 403, 404, 422), answer
    if status != 200:
        assert all(isinstance(message, str) for message in answer["errors"])
