"""One container, a strict API server of its own, and real runner processes."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodemanager.model import CONTAINER_TRANSITIONS, ContainerState, new_uuid
from nodemanager.runner.spec import RunnerSpec

TOKEN = "v2/zzzzz-gj3su-000000000000000/veryverysecret"
WRITABLE = {"state", "runner_id", "log", "output", "exit_code", "runtime_status", "hold"}


class StrictApi:
    """The API as the runner may rely on it, for one container, over HTTPS; answers nothing else."""

    def __init__(self, certificate: Path, record: dict[str, Any]) -> None:
        self.record = record
        self.secret_mounts: dict[str, Any] = {}
        self.files: dict[str, bytearray] = {}
        self.durable: set[str] = set()
        """Files that were said to be complete, and not written to since."""
        self.largest = 1 << 40
        self.foreign: dict[str, bytes] = {}
        """Files of other containers, by ``uuid/path``."""
        self.links: list[dict[str, Any]] = []
        """What probes have posted."""
        self.clock_ahead = 0.0
        """Seconds by which the Date of every answer is wrong."""
        self.calls: list[str] = []
        self.refuse = 0
        """Answer everything with this status."""
        self.lose_answers = 0
        """Do what is asked, then cut the connection without an answer, so many times."""
        self.before_write: Callable[[dict[str, Any]], int] = lambda attributes: 0
        """Called before a write; may change things and return a status to answer with."""
        self.lock = threading.RLock()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listen, on the port of the last time."""
        api = self

        class Server(ThreadingHTTPServer):
            daemon_threads = False
            block_on_close = True

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                api._connections.add(request)
                try:
                    super().process_request_thread(request, client_address)
                finally:
                    api._connections.discard(request)

            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exc_info()[1], OSError):
                    super().handle_error(request, client_address)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                self._answer("GET")

            def do_PUT(self) -> None:
                self._answer("PUT")

            def do_POST(self) -> None:
                self._answer("POST")

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string((timestamp or time.time()) + api.clock_ahead)

            def _answer(self, method: str) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with api.lock:
                    status, value = api.handle(method, self.path, self.headers, body)
                    if api.lose_answers:
                        api.lose_answers -= 1
                        self.close_connection = True
                        return
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        self._server.socket = self._tls.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Nobody listens any more; connections are cut."""
        if self._server is None:
            return
        self._server.shutdown()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()
        self._server = None

    def handle(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """One call; everything that the runner should not do is answered with an error."""
        url = urlsplit(target)
        self.calls.append(f"{method} {url.path}")
        if self.refuse:
            return self.refuse, {"errors": ["refused for a test"]}
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"errors": ["Not logged in"]}
        if (method, url.path) == ("GET", "/arvados/v1/users/current"):
            return 200, {"uuid": "zzzzz-tpzed-000000000000000"}
        if (method, url.path) == ("POST", "/arvados/v1/links"):
            self.links.append(json.loads(body)["link"])
            return 200, self.links[-1]
        matched = re.fullmatch(r"/arvados/v1/containers/([-a-z0-9]+)(?:/(.+))?", url.path)
        if matched is None:
            return 404, {"errors": ["Path not found"]}
        uuid, rest = matched[1], unquote(matched[2] or "")
        final = ContainerState(self.record["state"]).is_final
        if rest.startswith("files/"):
            path = rest.removeprefix("files/")
            if method == "GET":
                return self._read(uuid, path)
            if uuid != self.record["uuid"] or final:
                return 403, {"errors": ["not yours"]}
            return self._write(path, parse_qs(url.query), headers, body)
        if uuid != self.record["uuid"]:
            return 404, {"errors": ["Path not found"]}
        if method == "GET" and rest == "secret_mounts":
            return 200, {"secret_mounts": self.secret_mounts}
        if method == "GET" and not rest:
            select = json.loads(parse_qs(url.query).get("select", ["null"])[0])
            return 200, {k: v for k, v in self.record.items() if select is None or k in select}
        if method == "PUT" and not rest:
            return self._update(json.loads(body))
        return 404, {"errors": ["Path not found"]}

    def _read(self, uuid: str, path: str) -> tuple[int, Any]:
        data = self.foreign.get(f"{uuid}/{path}")
        return (404, {"errors": ["no such file"]}) if data is None else (200, data)

    def _write(
        self, path: str, query: dict[str, list[str]], headers: Any, body: bytes
    ) -> tuple[int, Any]:
        offset = int(query["offset"][0])
        if offset + len(body) > self.largest:
            return 413, {"errors": [f"file larger than {self.largest} bytes"]}
        file = self.files.setdefault(path, bytearray())
        self.durable.discard(path)
        if query.get("complete") == ["1"]:
            self.durable.add(path)
        if headers.get("Content-Type") != "application/octet-stream" or offset > len(file):
            return 422, {"errors": [f"bad write at {offset} of {len(file)}"]}
        if bytes(file[offset : offset + len(body)]) != body[: len(file) - offset]:
            return 422, {"errors": ["other bytes"]}
        file[offset : offset + len(body)] = body
        return 200, {"size": len(file)}

    def _update(self, body: dict[str, Any]) -> tuple[int, Any]:
        attributes = body["container"]
        if status := self.before_write(attributes):
            return status, {"errors": ["refused for a test"]}
        if unknown := set(attributes) - WRITABLE:
            return 422, {"errors": [f"unknown attributes {sorted(unknown)}"]}
        old, new = ContainerState(self.record["state"]), ContainerState(attributes["state"])
        same = all(self.record.get(k) == v for k, v in attributes.items())
        if old is new and same:
            return 200, self.record
        if new not in CONTAINER_TRANSITIONS[old]:
            return 422, {"errors": [f"State: {old} -> {new}"]}
        if new is ContainerState.COMPLETE and self.durable != set(self.files):
            return 422, {"errors": ["not durable"]}
        if new is ContainerState.RUNNING and not attributes.get("runner_id"):
            return 422, {"errors": ["runner_id: missing"]}
        self.record.update(attributes)
        return 200, self.record


class Lab:
    """A container to run, its API, and directories for scratch, store and inputs."""

    def __init__(self, directory: Path, certificate: Path) -> None:
        self.uuid = new_uuid("zzzzz", "container")
        self.record: dict[str, Any] = {
            "uuid": self.uuid,
            "state": "Locked",
            "priority": 500,
            "attempt": 1,
            "command": ["true"],
            "cwd": ".",
            "environment": {},
            "mounts": {"/out": {"kind": "tmp", "capacity": 1000}},
            "output_path": "/out",
            "runtime_constraints": {"vcpus": 1, "ram": 1 << 20},
            "scheduling_parameters": {},
            "container_image": "",
        }
        self.scratch, self.store = directory / "scratch", directory / "store"
        self.inputs = directory / "inputs"
        self.store.mkdir()
        self.inputs.mkdir()
        self.ledger = directory / "ledger"
        """Commands append to it: what it holds, ran."""
        self.api = StrictApi(certificate, self.record)
        self.spec = RunnerSpec(
            container_uuid=self.uuid,
            api_url=f"https://127.0.0.1:{self.api.port}",
            api_token=TOKEN,
            store=str(self.store),
            scratch=str(self.scratch),
            ca_file=str(certificate),
            kill_grace=5.0,
            heartbeat=0.1,
            fenced_after=0.3,
            input_dirs=(str(self.inputs),),
        )
        self.processes: list[subprocess.Popen[bytes]] = []

    def shell(self, script: str) -> None:
        """Run this script as the command."""
        self.record["command"] = ["sh", "-c", script]

    def start(
        self, environment: dict[str, str] | None = None, **spec: Any
    ) -> subprocess.Popen[bytes]:
        """Start a runner and do not wait."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "nodemanager.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | (environment or {}),
        )
        self.processes.append(process)
        assert process.stdin is not None
        process.stdin.write(replace(self.spec, **spec).to_json())
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: subprocess.Popen[bytes], status: int = 0) -> str:
        """Wait for a runner; returns what it said on standard error."""
        _out, said = process.communicate(timeout=30)
        assert process.returncode == status, said.decode()
        return said.decode()

    def run(self, status: int = 0, environment: dict[str, str] | None = None, **spec: Any) -> str:
        """Run the container to its end."""
        return self.finish(self.start(environment, **spec), status)

    def log(self, name: str) -> str:
        """A log file in the directory store."""
        path = self.store / self.uuid / "log" / name
        return path.read_text() if path.exists() else ""

    def output(self, path: str) -> Path:
        """A path in the stored output."""
        return self.store / self.uuid / "output" / path

    def error(self) -> str:
        """What the report said."""
        return str((self.record.get("runtime_status") or {}).get("error", ""))

    def ran(self) -> str:
        """The ledger."""
        return self.ledger.read_text() if self.ledger.exists() else ""

    def until(self, condition: Callable[[], Any], seconds: float = 15.0) -> None:
        """Wait for a condition."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)

    def close(self) -> None:
        """Leave nothing behind."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self.api.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def other_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As good as the server's, and not the server's."""
    return self_signed(tmp_path_factory.mktemp("tls"))


def self_signed(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def lab(tmp_path: Path, certificate: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, certificate)
    yield lab
    lab.close()
