"""Bytes that are no request, or only half of one, and clients that stop in the middle."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from nodemanager.api.embedded import EmbeddedEndpoint, EmbeddedServer
from tests.server.over_http.fuzz_world import NODE, work

pytestmark = pytest.mark.processes

PATIENCE = 20.0
BASE = "/arvados/v1/"

Connect = Callable[..., socket.socket]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """It has little patience."""
    state_dir = tmp_path_factory.mktemp("sockets")
    config = state_dir / "server.cfg"
    config.write_text(f"[Daemon]\nstate_dir = {state_dir}\n[Api]\nrequest_timeout = 1.5 s\n")
    config.chmod(0o600)
    server = EmbeddedServer(config, state_dir)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def hasty(server: EmbeddedServer) -> EmbeddedEndpoint:
    return server.start()


@pytest.fixture
def connect(hasty: EmbeddedEndpoint) -> Iterator[Connect]:
    """Opens TLS connections, closed at the end."""
    trust = ssl.create_default_context(cafile=str(hasty.ca_file))
    with ExitStack() as opened:

        def connect(*, deaf: bool = False) -> socket.socket:
            plain = opened.enter_context(socket.socket())
            plain.settimeout(PATIENCE)
            if deaf:
                # The kernel takes little for who does not read.
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.connect(_address(hasty))
            return opened.enter_context(trust.wrap_socket(plain, server_hostname="127.0.0.1"))

        yield connect


def _address(endpoint: EmbeddedEndpoint) -> tuple[str, int]:
    parts = urlsplit(endpoint.url)
    return str(parts.hostname), int(parts.port or 0)


@pytest.fixture
def head(hasty: EmbeddedEndpoint) -> Callable[..., bytes]:
    """The head of a request of the administrator's."""

    def head(request_line: str, *headers: str) -> bytes:
        token = f"Authorization: Bearer {hasty.root_token}"
        return "\r\n".join(
            [f"{request_line} HTTP/1.1", "Host: a", token, *headers, "", ""]
        ).encode()

    return head


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except (ConnectionError, ssl.SSLError):
        pass
    return b"".join(pieces)


def refusal(answer: bytes) -> int:
    """The status of the only answer, which has the stock body and is the connection's last."""
    start, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in start.lower()
    said = json.loads(body)
    assert said["errors"]
    assert said["error_token"]
    return int(start.split()[1])


def statuses(answers: bytes) -> list[int]:
    return [int(part.split()[0]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def still_serves(connect: Connect, head: Callable[..., bytes]) -> bool:
    connection = connect()
    connection.sendall(head(f"GET {BASE}users/current", "Connection: close"))
    return statuses(rest_of(connection)) == [200]


def test_half_a_head_is_waited_for_but_not_for_ever(connect: Connect) -> None:
    waiting = [connect() for _ in range(3)]
    for connection, sent in zip(
        waiting, (b"P", b"GET /arv", b"GET / HTTP/1.1\r\nHost: a\r\n"), strict=True
    ):
        connection.sendall(sent)
    assert [refusal(rest_of(connection)) for connection in waiting] == [408] * 3


def test_a_connection_without_a_request_is_ended(connect: Connect) -> None:
    silent = [connect() for _ in range(3)]
    for connection, sent in zip(silent, (b"", b"\r\n", b"\r\n\r\n"), strict=True):
        connection.sendall(sent)
    assert [rest_of(connection) for connection in silent] == [b""] * 3


@pytest.mark.parametrize(
    "junk",
    [
        b"\0\xff\xfe\r\n\r\n",
        b"HELLO\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\na\0b: c\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_the_stock_error_body(connect: Connect, junk: bytes) -> None:
    connection = connect()
    connection.sendall(junk)
    assert refusal(rest_of(connection)) == 400


@pytest.mark.parametrize(
    "endless",
    [b"GET /" + b"a" * 200_000, b"GET / HTTP/1.1\r\nA: " + b"a" * 400_000,
     b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 40_000],
)  # fmt: skip
def test_a_head_without_end_is_refused(connect: Connect, endless: bytes) -> None:
    connection = connect()
    for at in range(0, len(endless), 16_384):
        try:
            connection.sendall(endless[at : at + 16_384])
        except (ConnectionError, ssl.SSLError):
            break
    # What had not been read when it was refused may cost the sender the answer.
    answer = rest_of(connection)
    assert answer == b"" or refusal(answer) == 431


def test_a_large_head_is_refused(connect: Connect, head: Callable[..., bytes]) -> None:
    connection = connect()
    connection.sendall(head(f"GET {BASE}users/current", "A: " + "a" * 70_000))
    assert refusal(rest_of(connection)) == 431


def test_clients_that_stop_in_the_middle_hold_up_nobody(
    connect: Connect, head: Callable[..., bytes]
) -> None:
    lazy = []
    for number in range(30):
        target = "logs" if number % 2 else f"containers/{'zzzzz-dz642-' + '0' * 15}/files/a"
        verb = "POST" if number % 2 else "PUT"
        connection = connect()
        lazy.append(connection)
        connection.sendall(head(f"{verb} {BASE}{target}", "Content-Length: 100") + b'{"log": {')
    assert still_serves(connect, head)
    for number, connection in enumerate(lazy):
        if number % 2:
            assert refusal(rest_of(connection)) == 408
        else:  # there is no such container, whatever comes
            assert statuses(rest_of(connection)) == [404]


def test_a_body_that_was_refused_unread_does_not_come_for_ever(
    connect: Connect, head: Callable[..., bytes]
) -> None:
    connection = connect()
    connection.sendall(head(f"POST {BASE}logs", f"Content-Length: {2**40}") + b"some")
    assert statuses(rest_of(connection)) == [413]


def test_a_broken_body_is_refused(connect: Connect, head: Callable[..., bytes]) -> None:
    connection = connect()
    chunked = head(f"POST {BASE}logs", "Transfer-Encoding: chunked")
    connection.sendall(chunked + b"2\r\n{}\r\nnonsense\r\n")
    assert refusal(rest_of(connection)) == 400


def test_a_body_longer_than_declared_is_no_second_request(
    connect: Connect, head: Callable[..., bytes]
) -> None:
    connection = connect()
    connection.sendall(head(f"POST {BASE}logs", "Content-Length: 2") + b'{} "and more": 1}')
    assert statuses(rest_of(connection))[:1] == [200]


def test_a_body_is_not_taken_for_the_next_request(
    connect: Connect, head: Callable[..., bytes]
) -> None:
    hidden = head(f"DELETE {BASE}logs/x")
    other = ("Upgrade: h2c", "Connection: Upgrade", f"Content-Length: {len(hidden)}")
    connection = connect()
    connection.sendall(head(f"POST {BASE}logs", *other))
    assert refusal(rest_of(connection)) == 400


def test_pipelined_requests_are_answered_in_their_order(
    connect: Connect, head: Callable[..., bytes]
) -> None:
    connection = connect()
    paths = [f"{BASE}users/current", f"{BASE}nothing", f"{BASE}containers?limit=0", f"{BASE}users"]
    requests = [head(f"GET {path}") for path in paths]
    requests[-1] = head(f"GET {paths[-1]}", "Connection: close")
    connection.sendall(b"".join(requests))
    assert statuses(rest_of(connection)) == [200, 404, 200, 200]


def test_what_follows_a_request_does_not_spoil_its_answer(
    connect: Connect, head: Callable[..., bytes]
) -> None:
    connection = connect()
    connection.sendall(head(f"GET {BASE}users/current") + b"\0\0nonsense\r\n\r\n")
    assert statuses(rest_of(connection)) == [200]


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\xff" * 500]
)
def test_what_is_no_tls_is_dropped(
    hasty: EmbeddedEndpoint, connect: Connect, head: Callable[..., bytes], sent: bytes
) -> None:
    with socket.create_connection(_address(hasty), PATIENCE) as plain:
        plain.sendall(sent)
        plain.shutdown(socket.SHUT_WR)
        assert b"HTTP" not in rest_of(plain)
    assert still_serves(connect, head)


@pytest.fixture
def claimed(connect: Connect, head: Callable[..., bytes]) -> str:
    """The UUID of a container whose files may be written."""

    def post(path: str, body: dict[str, Any]) -> Any:
        content = json.dumps(body).encode()
        connection = connect()
        length = f"Content-Length: {len(content)}"
        connection.sendall(head(f"POST {BASE}{path}", length, "Connection: close") + content)
        return json.loads(rest_of(connection).partition(b"\r\n\r\n")[2])

    dispatcher = post("dispatchers", {"name": "elm", "capabilities": {"largest": [NODE]}})
    post("container_requests", work())
    return str(
        post("containers/claim", {"dispatcher": dispatcher["uuid"], "epoch": dispatcher["epoch"]})[
            "items"
        ][0]["uuid"]
    )


def test_who_does_not_read_a_file_is_let_go(
    connect: Connect, head: Callable[..., bytes], claimed: str
) -> None:
    size = 24 * 2**20
    path = f"{BASE}containers/{claimed}/files/large"
    writer = connect()
    writer.sendall(
        head(f"PUT {path}", f"Content-Length: {size}", "Connection: close") + bytes(size)
    )
    assert statuses(rest_of(writer)) == [200]
    deaf = connect(deaf=True)
    deaf.sendall(head(f"GET {path}"))
    assert deaf.recv(1) == b"H"
    # The server says nothing when it lets go. Others who come now are waited for as long.
    for _ in range(2):
        late = connect()
        late.sendall(b"GET /")
        assert refusal(rest_of(late)) == 408
    assert len(rest_of(deaf)) < size


def test_none_of_this_was_a_defect(server: EmbeddedServer, hasty: EmbeddedEndpoint) -> None:
    assert server.is_alive()
    log = Path(server.log_file).read_text("utf-8")
    assert [line for line in log.splitlines() if "Traceback" in line or " ERROR " in line] == []
