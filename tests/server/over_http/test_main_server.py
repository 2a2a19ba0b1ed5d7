"""The command: start, end, crash, certificate, tokens, and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httplib2
import pytest

from nodemanager.api.connection import call, connect
from nodemanager.api.embedded import EmbeddedEndpoint, EmbeddedServer
from nodemanager.config import parse
from nodemanager.errors import ApiError, ApiRefused, ConfigError
from nodemanager.server.certificate import LIFETIME, RENEW_BEFORE_END, ensure_certificate
from nodemanager.server.main import main
from nodemanager.server.settings import settings_from
from nodemanager.server.state import StateDirectory

pytestmark = pytest.mark.processes

PATIENCE = 20.0


@pytest.fixture
def server(state_dir: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(None, state_dir, "--dispatcher", "elm")
    yield server
    server.stop()


@pytest.fixture
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """An Arvados client of an endpoint, closed at the end."""

    def ask(endpoint: EmbeddedEndpoint, token: str | None = None) -> Any:
        token = token or endpoint.root_token
        client = connect(endpoint.url, token, ca_file=endpoint.ca_file)
        request.addfinalizer(client.close)
        return client

    return ask


def process_of(server: EmbeddedServer) -> subprocess.Popen[bytes]:
    assert server._process is not None
    return server._process


def test_what_was_acknowledged_survives_kill_9(
    server: EmbeddedServer, ask: Callable[..., Any]
) -> None:
    first = server.start()
    logs = [
        call(ask(first).logs().create(body={"log": {"summary": str(n)}}))["uuid"] for n in range(20)
    ]
    os.kill(process_of(server).pid, signal.SIGKILL)
    process_of(server).wait(PATIENCE)
    assert not server.is_alive()
    second = server.start()
    assert (second.url, second.root_token) == (first.url, first.root_token)
    assert second.dispatcher_token == first.dispatcher_token
    found = call(ask(second).logs().list(filters=[["uuid", "in", logs]]))
    assert found["items_available"] == 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(server: EmbeddedServer, number: signal.Signals) -> None:
    server.start()
    process_of(server).send_signal(number)
    assert process_of(server).wait(PATIENCE) == 0


def test_it_does_not_outlive_its_daemon(server: EmbeddedServer) -> None:
    server.start()
    daemon_end = process_of(server).stdin
    assert daemon_end is not None
    daemon_end.close()
    assert process_of(server).wait(PATIENCE) == 0


def test_it_ends_while_a_client_keeps_its_connection(
    server: EmbeddedServer, ask: Callable[..., Any]
) -> None:
    client = ask(server.start())
    call(client.users().current())
    process_of(server).terminate()
    assert process_of(server).wait(PATIENCE) == 0
    # The grace is for requests under way; an idle connection gets none of it.
    assert "graceful shutdown exceeded" not in server.log_file.read_text()


def test_secrets_are_for_their_owner_only(server: EmbeddedServer) -> None:
    endpoint = server.start()
    directory = endpoint.root_token_file.parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for name in ("root_token", "dispatcher_token", "key.pem", "database.sqlite", "server.log"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600, name
    log = server.log_file.read_text()
    assert endpoint.root_token not in log
    assert endpoint.dispatcher_token not in log


def test_one_server_per_state_directory(state_dir: Path) -> None:
    state = StateDirectory(state_dir)
    with (
        state.locked(),
        pytest.raises(ConfigError, match=f"process {os.getpid()}"),
        StateDirectory(state_dir).locked(patience=0.1),
    ):
        pass
    with state.locked(patience=0.1):
        pass


def test_the_next_server_waits_for_the_one_before(server: EmbeddedServer, state_dir: Path) -> None:
    server.start()
    second = EmbeddedServer(None, state_dir)
    ending = process_of(server)
    ending.terminate()
    try:
        assert second.start().url
    finally:
        second.stop()
    assert ending.wait(PATIENCE) == 0


def test_a_port_that_is_taken_is_named(server: EmbeddedServer, state_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        StateDirectory(state_dir).port.write_text(str(port))
        with pytest.raises(ApiError, match=f"port: 127.0.0.1:{port} .chosen at the first start"):
            server.start()
    assert not server.is_alive()


def test_a_lost_database_gets_a_new_dispatcher_token(
    server: EmbeddedServer, ask: Callable[..., Any]
) -> None:
    first = server.start()
    old = first.dispatcher_token
    server.stop()
    for ending in ("", "-wal", "-shm"):
        first.root_token_file.with_name(f"database.sqlite{ending}").unlink(missing_ok=True)
    second = server.start()
    assert second.dispatcher_token != old
    with pytest.raises(ApiRefused) as caught:
        call(ask(second, old).users().current())
    assert caught.value.status == 401


def test_the_certificate_satisfies_strict_clients(server: EmbeddedServer) -> None:
    endpoint = server.start()
    parts = urlsplit(endpoint.url)
    context = ssl.create_default_context(cafile=str(endpoint.ca_file))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("localhost", "127.0.0.1", "::1", socket.gethostname()):
        with (
            socket.create_connection(("127.0.0.1", int(parts.port or 0))) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            assert secure.version() in ("TLSv1.2", "TLSv1.3")
    stranger = http.client.HTTPSConnection(str(parts.hostname), parts.port)
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", "/")
    stranger.close()
    client = httplib2.Http(ca_certs=str(endpoint.ca_file))
    reply, _ = client.request(f"{endpoint.url}/discovery/v1/apis/arvados/v1/rest")
    client.close()
    assert reply.status == 200


def test_a_certificate_is_kept_until_it_no_longer_serves(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    now = datetime.now(UTC)

    def ensured(host: str, at: datetime) -> bytes:
        ensure_certificate(certificate, key, [host], at)
        return certificate.read_bytes()

    first = ensured("a.example", now)
    assert ensured("a.example", now + LIFETIME - RENEW_BEFORE_END - timedelta(days=1)) == first
    second = ensured("b.example", now)
    assert second != first
    third = ensured("b.example", now + LIFETIME - RENEW_BEFORE_END + timedelta(days=1))
    assert third != second
    key.write_text("no key")
    assert ensured("b.example", now + LIFETIME) != third


def test_tokens_are_made_and_revoked(
    server: EmbeddedServer,
    ask: Callable[..., Any],
    state_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    endpoint = server.start()
    directory = ["--state-dir", str(state_dir)]
    assert main(["token", "create", "--user", "ann", *directory]) == 0
    token = capsys.readouterr().out.strip()
    assert call(ask(endpoint, token).users().current())["username"] == "ann"
    uuid = token.split("/")[1]
    assert main([*directory, "token", "revoke", uuid]) == 0
    assert main([*directory, "token", "revoke", uuid]) == 1
    assert uuid in capsys.readouterr().err
    with pytest.raises(ApiRefused) as caught:
        call(ask(endpoint, token).users().current())
    assert caught.value.status == 401
    assert main(["token", "create", "--dispatcher", "oak", *directory]) == 0
    oak = ask(endpoint, capsys.readouterr().out.strip())
    record = {"name": "oak", "scheduler": "fake", "capabilities": {"largest": []}}
    assert call(oak.dispatchers().create(body={"dispatcher": record}))["name"] == "oak"


def test_claims_are_paused_without_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = ["--state-dir", str(tmp_path)]

    def says(*words: str) -> str:
        assert main(["claims", *words, *directory]) == 0
        return capsys.readouterr().out.strip()

    assert says("show") == "claims are not paused"
    paused = says("pause", "--reason", "moving the racks")
    assert paused.startswith(
        "claims are paused: moving the racks (all dispatchers, arvados-dispatch-api, "
    )
    assert says("show") == paused
    assert says("resume").startswith("claims go on; they were paused: moving the racks (")
    assert says("resume") == "claims were not paused"
    assert main(["claims", "pause", "--reason", " ", *directory]) == 1
    assert "--reason: missing" in capsys.readouterr().err


def start_of_an_old_database(tmp_path: Path, *command: str) -> tuple[str, str]:
    """What a server says on standard error that finds an old database, and of claims afterwards."""
    config = tmp_path / "nm.cfg"
    config.write_text(f"[Daemon]\nstate_dir = {tmp_path}\n")
    assert main(["claims", "show", "--config", str(config)]) == 0
    with sqlite3.connect(tmp_path / "api" / "database.sqlite") as conn:
        conn.execute("INSERT INTO heartbeat VALUES (1, 1700000000000000, 5)")
    conn.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "nodemanager.server.main", "--config", str(config), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "url" in json.loads(process.stdout.readline())
    process.terminate()
    _out, err = process.communicate(timeout=PATIENCE)
    return err, str(config)


def test_a_database_that_may_be_a_backup_starts_with_claims_paused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err, config = start_of_an_old_database(tmp_path)
    assert "claims are paused: no API server was on this database for " in err
    capsys.readouterr()
    assert main(["claims", "show", "--config", config]) == 0
    assert "restored from a backup; look what has run since" in capsys.readouterr().out


def test_an_embedded_server_goes_on_however_long_its_machine_was_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err, config = start_of_an_old_database(tmp_path, "--embedded")
    assert "paused" not in err
    capsys.readouterr()
    assert main(["claims", "show", "--config", config]) == 0
    assert capsys.readouterr().out.strip() == "claims are not paused"


def test_usage_errors_are_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "--config" in capsys.readouterr().err
    assert main(["--config", str(tmp_path / "none.cfg")]) == 2
    assert "none.cfg" in capsys.readouterr().err


def test_settings_come_from_the_config_file(tmp_path: Path) -> None:
    text = """
[Arvados]
cluster_id = abcde
[Api]
port = 4443
advertise_url = https://api.example.org:8443
max_request_size = 1 MiB
ping_timeout = 90 s
retry_backoff_min = 1 s
root_token = secret
"""
    settings = settings_from(parse(text, tmp_path / "a.cfg"))
    assert settings.cluster_id == "abcde"
    assert settings.port == 4443
    assert settings.advertised_host == "api.example.org"
    assert settings.max_request_size == 2**20
    assert settings.policy.ping_timeout == 90
    assert settings.policy.retry_backoff_min == 1
    assert settings.policy.root_token == "secret"
    assert "secret" not in repr(settings)
    with pytest.raises(ConfigError, match="certificate and key"):
        settings_from(parse("[Api]\ncertificate = /c.pem\n", tmp_path / "a.cfg"))


def test_it_takes_as_many_connections_as_the_system_allows(server: EmbeddedServer) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    found = resource.prlimit(process_of(server).pid, resource.RLIMIT_NOFILE)
    assert found == (limits[1], limits[1])


def test_it_serves_on_its_own_with_a_config_file(tmp_path: Path) -> None:
    config = tmp_path / "nm.cfg"
    config.write_text(f"[Daemon]\nstate_dir = {tmp_path}/state\n[Api]\nmanagement_token = m\n")
    config.chmod(0o600)
    process = subprocess.Popen(
        [sys.executable, "-m", "nodemanager.server.main", "--config", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process.stdout:
        ready = json.loads(process.stdout.readline())
        client = httplib2.Http(ca_certs=ready["ca_file"])
        headers = {"Authorization": "Bearer m"}
        _, content = client.request(f"{ready['url']}/_health/ping", headers=headers)
        client.close()
        assert json.loads(content) == {"health": "OK"}
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not (tmp_path / "state" / "api" / "dispatcher_token").exists()
