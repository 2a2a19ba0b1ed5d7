"""What the errors of a connection mean, against a server that answers whatever the test says."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nodemanager.api.connection import call, connect
from nodemanager.errors import ApiRefused, ApiUnavailable

SECRET = "v2/zzzzz-gj3su-000000000000000/tellnobody"
CALL = "/arvados/v1/things"


class Server(ThreadingHTTPServer):
    """Answers each path with the status and bytes it has for it; None cuts the answer short."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.discovery: bytes = json.dumps(
            {
                "name": "arvados",
                "version": "v1",
                "rootUrl": f"{self.url}/",
                "servicePath": "arvados/v1/",
                "baseUrl": f"{self.url}/arvados/v1/",
                "schemas": {"ThingList": {"id": "ThingList", "type": "object"}},
                "resources": {
                    "things": {
                        "methods": {
                            "list": {
                                "id": "things.list",
                                "path": "things",
                                "httpMethod": "GET",
                                "response": {"$ref": "ThingList"},
                            }
                        }
                    }
                },
            }
        ).encode()
        self.answer: tuple[int, bytes | None] = (200, b"{}")
        self.calls = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path.startswith("/discovery/"):
            status, body = 200, self.server.discovery
        else:
            self.server.calls += 1
            status, given = self.server.answer
            body = b"" if given is None else given
        self.send_response(status)
        cut = status == 200 and not body
        self.send_header("Content-Length", "100" if cut else str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = cut

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def api(server: Server) -> Iterator[Any]:
    resource = connect(server.url, SECRET, timeout=5)
    yield resource
    resource.close_connections()


def test_an_answer(server: Server, api: Any) -> None:
    server.answer = (200, b'{"items": [1]}')
    assert call(api.things().list()) == {"items": [1]}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_a_refusal_carries_status_and_words(server: Server, api: Any, status: int) -> None:
    server.answer = (status, b'{"errors": ["first (req-x)", "second"]}')
    with pytest.raises(ApiRefused, match="second") as caught:
        call(api.things().list())
    assert caught.value.status == status
    assert "first (req-x); second" in str(caught.value)


@pytest.mark.parametrize("status", [408, 409, 423, 429, 500, 502, 503, 504])
def test_asking_again_may_help_and_is_left_to_the_caller(
    server: Server, api: Any, status: int
) -> None:
    server.answer = (status, b"<html>Bad gateway</html>")
    with pytest.raises(ApiUnavailable):
        call(api.things().list())
    assert server.calls == 1


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"[", b"null x", b"null", b"[]", None])
def test_an_answer_that_is_none(server: Server, api: Any, body: bytes | None) -> None:
    server.answer = (200, body)
    with pytest.raises(ApiUnavailable):
        call(api.things().list())


@pytest.mark.parametrize("body", [b"", b"[]", b'["x"]', b'{"errors": [1]}', b"\xff"])
def test_a_refusal_without_words(server: Server, api: Any, body: bytes) -> None:
    server.answer = (404, body)
    with pytest.raises(ApiRefused) as caught:
        call(api.things().list())
    assert str(caught.value)


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ApiUnavailable, match=url):
            connect(url, SECRET, timeout=5)


def test_something_else_is_there(server: Server) -> None:
    for discovery in (b"", b"{}", b"[]", b"null", b"<html>", b'{"rootUrl": 5}'):
        server.discovery = discovery
        with pytest.raises(ApiUnavailable) as caught:
            connect(server.url, SECRET, timeout=5)
        assert server.url in str(caught.value)
        assert SECRET not in str(caught.value)


def test_no_tls_there(server: Server) -> None:
    with pytest.raises(ApiUnavailable):
        connect(server.url.replace("http:", "https:"), SECRET, timeout=5)


def test_it_does_not_answer_in_time() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ApiUnavailable, match="timed out"),
    ):
        connect(f"http://127.0.0.1:{silent.getsockname()[1]}", SECRET, timeout=0.2)
