"""One real server for the folder, and clients of it: ours (unmodified Arvados) and a bare one."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from nodemanager.api.connection import connect
from nodemanager.api.embedded import EmbeddedEndpoint, EmbeddedServer
from tests.clusters.postgresql import PostgresCluster

DISPATCHER = "elm"
NODE = {"cores": 8, "ram_bytes": 2**34, "scratch_bytes": 2**40}

Answer = tuple[int, Any, dict[str, str]]


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def endpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedEndpoint]:
    """A server that lives as long as the tests of this folder, one for each database."""
    state_dir = tmp_path_factory.mktemp("server")
    config = None
    if request.param == "postgresql":
        postgresql: PostgresCluster = request.getfixturevalue("postgresql")
        config = state_dir / "nodemanager.cfg"
        url = postgresql.fresh_database()
        config.write_text(f"[Daemon]\nstate_dir = {state_dir}\n[Api]\ndatabase = {url}\n")
        config.chmod(0o600)
    server = EmbeddedServer(config, state_dir, "--dispatcher", DISPATCHER)
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def new_client(endpoint: EmbeddedEndpoint) -> Iterator[Callable[..., Any]]:
    """Makes Arvados clients, of which each thread needs its own; without a token, the daemon's."""
    made = []

    def make(token: str | None = None) -> Any:
        token = token or endpoint.dispatcher_token
        made.append(connect(endpoint.url, token, ca_file=endpoint.ca_file, timeout=30))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(scope="session")
def api(endpoint: EmbeddedEndpoint, new_client: Callable[..., Any]) -> Any:
    """The Arvados client with the root token."""
    return new_client(endpoint.root_token)


@pytest.fixture(scope="session")
def dispatcher_api(new_client: Callable[..., Any]) -> Any:
    """The Arvados client with the daemon's token."""
    return new_client()


@pytest.fixture
def me(dispatcher_api: Any) -> dict[str, Any]:
    """The dispatcher's identity, in its present epoch."""
    attributes = {
        "name": DISPATCHER,
        "scheduler": "fake",
        "capabilities": {"largest": [NODE], "partitions": []},
    }
    record = dispatcher_api.dispatchers().create(body={"dispatcher": attributes}).execute()
    return {"dispatcher": record["uuid"], "epoch": record["epoch"]}


@pytest.fixture
def commit(api: Any) -> Callable[..., str]:
    """Commits a request and returns the UUID of its container."""

    def commit(**more: Any) -> str:
        attributes = {
            "state": "Committed",
            "command": ["true"],
            "container_image": "none",
            "output_path": "/out",
            "mounts": {"/out": {"kind": "tmp", "capacity": 1000}},
            "runtime_constraints": {"vcpus": 1, "ram": 2**20},
            "use_existing": False,
            **more,
        }
        made = api.container_requests().create(body={"container_request": attributes}).execute()
        return str(made["container_uuid"])

    return commit


@pytest.fixture
def claimed(dispatcher_api: Any, me: dict[str, Any], commit: Callable[..., str]) -> str:
    """The UUID of a container that our dispatcher has just claimed."""
    uuid = commit()
    body = {"container": {"dispatcher": me["dispatcher"]}, "epoch": me["epoch"]}
    dispatcher_api.containers().update(uuid=uuid, body=body).execute()
    return uuid


@pytest.fixture
def runner_token(dispatcher_api: Any, claimed: str) -> str:
    """The token of the runner of `claimed`."""
    found = dispatcher_api.containers().auth(uuid=claimed).execute()
    return str(found["api_token"])


@pytest.fixture
def send(endpoint: EmbeddedEndpoint) -> Iterator[Callable[..., Answer]]:
    """Sends one request as it is and returns status, JSON (or bytes) and headers of the answer."""
    parts = urlsplit(endpoint.url)
    trust = ssl.create_default_context(cafile=str(endpoint.ca_file))
    connection = http.client.HTTPSConnection(
        str(parts.hostname), parts.port, context=trust, timeout=30
    )

    def send(
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        sent = {"Authorization": f"Bearer {token or endpoint.root_token}"} if token != "" else {}
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            sent["Content-Type"] = "application/json"
        connection.request(method, path, body, sent | (headers or {}))
        reply = connection.getresponse()
        content = reply.read()
        found = {name.lower(): value for name, value in reply.getheaders()}
        is_json = found.get("content-type") == "application/json"
        answer = json.loads(content) if is_json and content else content
        return reply.status, answer, found

    yield send
    connection.close()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"
