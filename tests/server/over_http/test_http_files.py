"""Uploads of runners: offsets, ends, who may, and paths that lead elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from nodemanager.api.embedded import EmbeddedEndpoint
from nodemanager.server.errors import ServerError
from nodemanager.server.files import checked_path

Send = Callable[..., tuple[int, Any, dict[str, str]]]


@pytest.fixture
def place(claimed: str) -> str:
    return f"/arvados/v1/containers/{claimed}/files"


def test_a_file_grows_by_pieces_and_pieces_can_be_repeated(
    send: Send, place: str, runner_token: str
) -> None:
    target = f"{place}/log/stdout.txt"
    assert send("PUT", f"{target}?offset=0", b"hello ", token=runner_token)[:2] == (
        200,
        {"size": 6},
    )
    for _ in range(2):
        reply = send("PUT", f"{target}?offset=6&complete=1", b"world", token=runner_token)
        assert reply[:2] == (200, {"size": 11})
    assert send("GET", target, token=runner_token)[1] == b"hello world"
    assert send("GET", place, token=runner_token)[1] == {
        "items": [{"path": "log/stdout.txt", "size": 11}]
    }


def test_an_empty_file_is_a_file(send: Send, place: str, runner_token: str) -> None:
    assert send("PUT", f"{place}/output/none", b"", token=runner_token)[:2] == (200, {"size": 0})
    assert send("GET", f"{place}/output/none", token=runner_token)[:2] == (200, b"")


def test_no_file_has_holes(send: Send, place: str, runner_token: str) -> None:
    status, answer, _ = send("PUT", f"{place}/a?offset=5", b"x", token=runner_token)
    assert status == 422
    assert "size 0" in answer["errors"][0]


def test_large_bodies_are_whole_and_ranges_are_parts(
    send: Send, place: str, runner_token: str
) -> None:
    content = bytes(range(256)) * (5 * 2**20 // 256 + 1)
    reply = send("PUT", f"{place}/big", content, token=runner_token)
    assert reply[:2] == (200, {"size": len(content)})
    assert send("GET", f"{place}/big", token=runner_token)[1] == content
    wanted = {"Range": "bytes=1000-1999"}
    status, part, headers = send("GET", f"{place}/big", token=runner_token, headers=wanted)
    assert (status, part) == (206, content[1000:2000])
    assert headers["content-range"] == f"bytes 1000-1999/{len(content)}"
    assert headers["content-type"].startswith("application/octet-stream")


@pytest.mark.parametrize(
    "path",
    [
        "../../root_token",
        "a/../../../root_token",
        "/etc/passwd",
        "a//b",
        "a/./b",
        "a/",
        ".",
        "x" * 256,
        "/".join("abcdefghij" * 10) * 20,
        "nul%00",
        "%2e%2e/%2e%2e/root_token",
        "..%2f..%2froot_token",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_no_path_leads_elsewhere(
    send: Send, place: str, runner_token: str, method: str, path: str
) -> None:
    body = b"x" if method == "PUT" else None
    status, answer, _ = send(method, f"{place}/{path}", body, token=runner_token)
    assert status == 422
    assert "path" in answer["errors"][0]


def test_names_may_be_anything_else(send: Send, place: str, runner_token: str) -> None:
    name = "out put/ä☃ '\"$;*.txt"
    assert send("PUT", f"{place}/{quote(name)}", b"x", token=runner_token)[0] == 200
    assert send("GET", place, token=runner_token)[1]["items"] == [{"path": name, "size": 1}]


def test_a_file_is_no_directory(send: Send, place: str, runner_token: str) -> None:
    assert send("PUT", f"{place}/a", b"x", token=runner_token)[0] == 200
    assert send("PUT", f"{place}/a/b", b"x", token=runner_token)[0] == 422
    assert send("GET", f"{place}/a/b", token=runner_token)[0] == 404
    assert send("PUT", f"{place}/d/e", b"x", token=runner_token)[0] == 200
    assert send("PUT", f"{place}/d", b"x", token=runner_token)[0] == 422
    assert send("GET", f"{place}/d", token=runner_token)[0] == 404


@pytest.mark.parametrize("offset", ["-1", "x", "1.5", "9" * 30, "%00"])
def test_offsets_are_numbers(send: Send, place: str, runner_token: str, offset: str) -> None:
    assert send("PUT", f"{place}/a?offset={offset}", b"x", token=runner_token)[0] == 422


@pytest.fixture
def other_token(dispatcher_api: Any, commit: Callable[..., str], me: dict[str, Any]) -> str:
    """The token of another container's runner."""
    other = commit()
    body = {"container": {"dispatcher": me["dispatcher"]}, "epoch": me["epoch"]}
    dispatcher_api.containers().update(uuid=other, body=body).execute()
    return str(dispatcher_api.containers().auth(uuid=other).execute()["api_token"])


def test_who_may_write_and_read(
    send: Send, endpoint: EmbeddedEndpoint, other_token: str, place: str, runner_token: str
) -> None:
    target = f"{place}/a"
    assert send("PUT", target, b"x", token="")[0] == 401
    assert send("PUT", target, b"x", token=other_token)[0] == 403
    assert send("PUT", target, b"x", token=runner_token)[0] == 200
    # Its dispatcher brings the log of a command that has no runner; and no other's.
    assert send("PUT", target, b"x", token=endpoint.dispatcher_token)[0] == 200
    assert send("PUT", target, b"y", token=endpoint.root_token)[0] == 200
    # Containers of one owner may read each other's output: that is how pipelines work.
    assert send("GET", target, token=other_token)[1] == b"y"
    assert send("GET", target, token=endpoint.dispatcher_token)[0] == 200
    assert send("DELETE", target, token=runner_token)[0] == 404
    unknown = "/arvados/v1/containers/zzzzz-dz642-000000000000000/files"
    assert send("PUT", f"{unknown}/a", b"x")[0] == 404
    assert send("GET", unknown)[0] == 404


def test_nothing_is_written_after_the_end(
    send: Send, api: Any, claimed: str, place: str, runner_token: str
) -> None:
    assert send("PUT", f"{place}/a", b"x", token=runner_token)[0] == 200
    for attributes in (
        {"state": "Running", "runner_id": "r"},
        {"state": "Complete", "exit_code": 0},
    ):
        body = json.dumps({"container": attributes})
        path = f"/arvados/v1/containers/{claimed}"
        headers = {"Content-Type": "application/json"}
        assert send("PUT", path, body, token=runner_token, headers=headers)[0] == 200
    assert api.containers().get(uuid=claimed).execute()["state"] == "Complete"
    assert send("PUT", f"{place}/a", b"x", token=runner_token)[0] == 401
    status, answer, _ = send("PUT", f"{place}/a", b"x")
    assert status == 422
    assert "Complete" in answer["errors"][0]
    assert send("GET", f"{place}/a")[1] == b"x"


def test_a_checked_path_stays_below() -> None:
    assert checked_path("a/b c/.d") == Path("a/b c/.d")
    with pytest.raises(ServerError):
        checked_path("a/b/" + "c/" * 100 + "d")


def test_files_go_with_their_container(
    send: Send,
    place: str,
    claimed: str,
    runner_token: str,
    endpoint: EmbeddedEndpoint,
) -> None:
    assert send("PUT", f"{place}/log/a", b"x", token=runner_token)[0] == 200
    folder = next(endpoint.root_token_file.parents[1].rglob(claimed))
    for state in ({"state": "Running", "runner_id": "r"}, {"state": "Complete", "exit_code": 0}):
        path = f"/arvados/v1/containers/{claimed}"
        assert send("PUT", path, {"container": state}, token=runner_token)[0] == 200
    path = "/arvados/v1/container_requests/prune"
    reply = send("POST", path, {"before": "2100-01-01T00:00:00Z"}, token=endpoint.root_token)
    assert reply[0] == 200
    assert claimed in reply[1]["container_uuids"]
    assert not folder.exists()
