"""Whoever reaches the port can cost the daemon only so much."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from nodemanager.status import server
from tests.status.conftest import Serve
from tests.status.daemon import RUNNING, TOKEN, Client, StandIn

KILL = "/arvados/v1/dispatch/instances/kill"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> Client:
    """A server that gives its clients little time."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    return serve()


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(client: Client, sockets: ExitStack) -> socket.socket:
    return sockets.enter_context(socket.create_connection(client.address, timeout=20))


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side ends it."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize(
    "path",
    [
        "/status",
        "/page",
        "/page/",
        "/page/..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/index.html",
        "/status.json/",
        "//status.json",
        "/STATUS.JSON",
        "/_health/",
        "/_health/ping/",
        "/_health/db",
        "/metrics/",
        "/arvados/v1/dispatch",
        "/arvados/v1/dispatch/instances/",
        "/arvados/v1/dispatch/instances/destroy",
        "/arvados/v1/containers",
        "/..%2f..%2fetc/passwd",
        "/%00",
        "/status.json%0d%0aX-Forged:%20yes",
    ],
)
def test_other_paths_are_not_found(operator: Client, daemon: StandIn, path: str) -> None:
    answer = operator.get(path)
    assert (answer.status, answer.error) == (404, "Not Found")
    assert "x-forged" not in answer.headers
    assert daemon.looks == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_not_allowed(operator: Client, daemon: StandIn, method: str) -> None:
    answer = operator.send(method, "/status.json")
    assert answer.status in (400, 405), "400 for a word that is no method at all"
    assert daemon.looks == 0


def test_a_verb_is_not_done_by_a_link(operator: Client, daemon: StandIn) -> None:
    answer = operator.get(f"{KILL}?instance_id=i-busy")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert daemon.told == []


def test_head_has_the_headers_and_nothing_else(client: Client, operator: Client) -> None:
    get, head = operator.get("/status.json"), operator.send("HEAD", "/status.json")
    assert (head.status, head.body) == (200, None)
    assert head.headers["content-length"] == get.headers["content-length"]
    assert client.send("HEAD", "/_health/ping").status == 401
    assert operator.send("HEAD", "/_health/ping").status == 200


def test_pages_from_elsewhere_learn_nothing(operator: Client) -> None:
    answer = operator.get("/status.json", Origin="https://evil.example.org")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = operator.send("OPTIONS", KILL, Origin="https://evil.example.org")
    assert asked.status == 405
    assert not [name for name in asked.headers if name.startswith("access-control")]


def test_the_server_does_not_say_what_it_is_made_of(client: Client) -> None:
    assert "server" not in client.get("/status.json").headers


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET /status.json HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"a" * 70_000, b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request_is_refused_and_ended(
    client: Client, sockets: ExitStack, sent: bytes, status: bytes
) -> None:
    connection = connect(client, sockets)
    connection.sendall(sent)
    assert everything(connection).startswith(b"HTTP/1.1 " + status)


def test_a_head_has_to_come_in_time(hurried: Client, sockets: ExitStack) -> None:
    silent, slow = connect(hurried, sockets), connect(hurried, sockets)
    silent.settimeout(3)
    slow.sendall(b"GET /status.json HTTP/1.1\r\nHost: x\r\n")
    assert everything(silent) == b""
    assert everything(slow).startswith(b"HTTP/1.1 408")


def test_a_body_has_to_come_in_time(
    monkeypatch: pytest.MonkeyPatch, client: Client, sockets: ExitStack
) -> None:
    monkeypatch.setattr("nodemanager.status.parameters.BODY_SECONDS", 0.2)
    connection = connect(client, sockets)
    head = f"POST {KILL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    connection.sendall(f"{head}Content-Length: 100\r\n\r\ninstance_id=i-busy".encode())
    assert everything(connection).startswith(b"HTTP/1.1 408")


def test_a_body_without_a_length_has_its_limit_as_well(
    client: Client, sockets: ExitStack, daemon: StandIn
) -> None:
    connection = connect(client, sockets)
    head = f"POST {KILL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    try:
        for _ in range(20):
            connection.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert connection.recv(1024).startswith(b"HTTP/1.1 413")
    assert daemon.told == []


def test_a_stranger_is_refused_before_his_body_is_read(client: Client, sockets: ExitStack) -> None:
    connection = connect(client, sockets)
    head = f"POST {KILL}?instance_id=i-busy HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n"
    connection.sendall(f"{head}\r\n".encode())
    assert connection.recv(1024).startswith(b"HTTP/1.1 401")


def test_there_are_never_too_many_connections(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, sockets: ExitStack
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    client = serve()
    kept = [connect(client, sockets) for _ in range(3)]
    # One answer each, so that all of them have been accepted.
    for connection in kept:
        connection.sendall(b"GET /_health/ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1024).startswith(b"HTTP/1.1 401")
    one_too_many = connect(client, sockets)
    one_too_many.settimeout(3)
    assert everything(one_too_many) == b""
    kept[0].close()
    assert is_served(client)


def is_served(client: Client) -> bool:
    """Within moments: the server has to notice that a connection was closed."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            return client.get("/status.json").status == 200
        except ConnectionError:
            continue
    return False


def test_calls_on_one_connection_do_not_mix(client: Client, sockets: ExitStack) -> None:
    connection = connect(client, sockets)
    one = b"GET /_health/ping HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    connection.sendall(one * 3 + last)
    received = everything(connection)
    statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"401", b"401", b"401", b"404"]
    assert RUNNING.encode() not in received
