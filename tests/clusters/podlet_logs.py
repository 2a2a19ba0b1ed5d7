"""What a kubelet answers to `kubectl logs`: HTTPS on a loopback port, with a certificate that nobody has to trust."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Log:
    """A container's, or why there is none."""

    path: Path
    waits: str
    """Why it has not started; empty if it has."""
    grows: Callable[[], bool]


Find = Callable[[str, str], Log | None]
"""By namespace and name of the pod."""


class LogServer:
    """Serves until `close`."""

    def __init__(self, find: Find, directory: Path) -> None:
        self._closed = threading.Event()
        self._server = _Server(find, self._closed)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(directory))
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="podlet-logs"
        )
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        self._closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, find: Find, closed: threading.Event) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.find = find
        self.closed = closed

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asks may go away at any time."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        """/containerLogs/NAMESPACE/POD/CONTAINER?follow=true&tailLines=N&limitBytes=N."""
        asked = urlsplit(self.path)
        words = asked.path.strip("/").split("/")
        options = {key: values[-1] for key, values in parse_qs(asked.query).items()}
        log = None
        if len(words) == 4 and words[0] == "containerLogs":
            log = self.server.find(words[1], words[2])
        if log is None:
            self._answer(404, f"there is nothing at {asked.path}")
        elif log.waits:
            what = f'container "{words[3]}" in pod "{words[2]}" is waiting to start'
            self._answer(400, f"{what}: {log.waits}")
        else:
            self._answer(200)
            self._send(log, options)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def _answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(text.encode())

    def _send(self, log: Log, options: dict[str, str]) -> None:
        left = int(options.get("limitBytes", 1 << 62))
        follow = options.get("follow") == "true"
        for piece in self._pieces(log, options.get("tailLines"), follow=follow):
            self.wfile.write(piece[:left])
            self.wfile.flush()
            left -= len(piece)
            if left <= 0:
                return

    def _pieces(self, log: Log, lines: str | None, *, follow: bool) -> Iterator[bytes]:
        with log.path.open("rb") as file:
            if lines is not None:
                kept = file.read().splitlines(keepends=True)
                yield b"".join(kept[max(0, len(kept) - int(lines)) :])
            while True:
                growing = follow and log.grows()
                while piece := file.read(1 << 16):
                    yield piece
                if not growing or self.server.closed.wait(_LOOK_SECONDS):
                    return


def _certificate(directory: Path) -> Path:
    """Certificate and key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "podlet")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    path = directory / "podlet.pem"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
