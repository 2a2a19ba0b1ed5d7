"""Logs as a person reads them: from a store directory that is here, and over HTTP from a real server."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodemanager.api.connection import call
from nodemanager.api.container_logs import ContainerLogs
from nodemanager.api.embedded import EmbeddedServer
from nodemanager.api.endpoint import Endpoint
from nodemanager.api.files import ContainerFiles
from nodemanager.errors import ApiRefused
from tests.clusters.daemons import create

UUID = "zzzzz-dz642-000000000000001"
NOWHERE = Endpoint("https://127.0.0.1:1", "token", None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    embedded = EmbeddedServer(None, tmp_path_factory.mktemp("server"))
    started = embedded.start()
    yield Endpoint(started.url, started.root_token, started.ca_file)
    embedded.stop()


Write = Callable[[str, bytes], None]


@pytest.fixture(params=["store", "api"])
def case(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[ContainerLogs, str, Write]]:
    """Logs, a container, and what puts a whole log file there."""
    if request.param == "store":
        (tmp_path / UUID / "log").mkdir(parents=True)

        def keep(name: str, data: bytes) -> None:
            (tmp_path / UUID / "log" / name).write_bytes(data)

        logs = ContainerLogs(NOWHERE, tmp_path)
        yield logs, UUID, keep
        logs.close()
    else:
        endpoint: Endpoint = request.getfixturevalue("server")
        uuid = _locked(endpoint)

        def put(name: str, data: bytes) -> None:
            files.put(uuid, f"log/{name}", 0, data, False)

        files = ContainerFiles(endpoint)
        # A store of which this container knows nothing changes nothing.
        logs = ContainerLogs(endpoint, tmp_path)
        yield logs, uuid, put
        logs.close()
        files.close()


def _locked(endpoint: Endpoint) -> str:
    """A container whose files may be written."""
    api = endpoint.connect(15)
    attributes = {
        "name": secrets.token_hex(4),
        "scheduler": "fake",
        "capabilities": {"largest": [{"cores": 8, "ram_bytes": 2**34, "scratch_bytes": 2**40}]},
    }
    me = call(api.dispatchers().create(body={"dispatcher": attributes}))
    uuid = create(api, "true")
    call(api.containers().update(uuid=uuid, body={"container": {"dispatcher": me["uuid"]}}))
    api.close()
    return uuid


class TestBothPlaces:
    def test_what_there_is_comes_in_the_order_of_reading(
        self, case: tuple[ContainerLogs, str, Write]
    ) -> None:
        logs, uuid, write = case
        assert logs.names(uuid) == []
        for name in ("stderr.txt", "stdout.txt", "runner.txt", "arv-mount.txt"):
            write(name, name.encode())
        assert logs.names(uuid) == ["arv-mount.txt", "runner.txt", "stdout.txt", "stderr.txt"]
        assert logs.sizes(uuid)["stdout.txt"] == 10

    def test_a_log_is_read_piece_by_piece(self, case: tuple[ContainerLogs, str, Write]) -> None:
        logs, uuid, write = case
        write("stdout.txt", b"one two three")
        assert logs.read(uuid, "stdout.txt", 0, 3) == b"one"
        assert logs.read(uuid, "stdout.txt", 4, 100) == b"two three"
        assert logs.read(uuid, "stdout.txt", 13, 100) == b""
        assert logs.read(uuid, "stdout.txt", 14, 100) == b""
        assert logs.read(uuid, "stdout.txt", 0, 0) == b""

    def test_a_log_that_grew_is_read_on(self, case: tuple[ContainerLogs, str, Write]) -> None:
        logs, uuid, write = case
        write("stdout.txt", b"")
        assert logs.read(uuid, "stdout.txt", 0, 10) == b""
        write("stdout.txt", b"more")
        assert logs.read(uuid, "stdout.txt", 0, 10) == b"more"

    def test_the_tail_is_whole_lines_of_all_logs(
        self, case: tuple[ContainerLogs, str, Write]
    ) -> None:
        logs, uuid, write = case
        write("stdout.txt", b"".join(b"line %d\n" % n for n in range(1000)))
        write("stderr.txt", b"broken")
        write("runner.txt", b"")
        found = logs.tail(uuid, 40).decode()
        assert found.startswith("==> stdout.txt <==\nline 99")
        assert found.endswith("line 999\n\n==> stderr.txt <==\nbroken\n")
        assert len(found) < 40 + 50

    def test_a_tail_of_one_long_line_is_its_end(
        self, case: tuple[ContainerLogs, str, Write]
    ) -> None:
        logs, uuid, write = case
        write("stdout.txt", b"x" * 5000 + b"end\n")
        assert logs.tail(uuid, 10) == b"==> stdout.txt <==\nxxxxxxend\n"

    def test_a_log_that_is_not_there(self, case: tuple[ContainerLogs, str, Write]) -> None:
        logs, uuid, write = case
        write("stdout.txt", b"one")
        for name in ("stderr.txt", "../stdout.txt", "..", ""):
            with pytest.raises(ApiRefused) as caught:
                logs.read(uuid, name, 0, 10)
            assert caught.value.status == 404


class TestTheStore:
    def test_a_link_is_no_log(self, tmp_path: Path) -> None:
        folder = tmp_path / UUID / "log"
        folder.mkdir(parents=True)
        (tmp_path / "secret").write_text("secret")
        (folder / "stdout.txt").symlink_to(tmp_path / "secret")
        os.mkfifo(folder / "stderr.txt")
        logs = ContainerLogs(NOWHERE, tmp_path)
        assert logs.names(UUID) == []
        for name in ("stdout.txt", "stderr.txt"):
            with pytest.raises(ApiRefused):
                logs.read(UUID, name, 0, 10)

    def test_what_is_no_uuid_is_looked_for_nowhere(self, tmp_path: Path) -> None:
        logs = ContainerLogs(NOWHERE, tmp_path / "store")
        (tmp_path / "log").mkdir()
        for uuid in ("..", "", "zzzzz-xvhdp-000000000000001", f"{UUID}/../.."):
            with pytest.raises(ApiRefused) as caught:
                logs.names(uuid)
            assert caught.value.status == 404


@pytest.mark.parametrize("with_store", [True, False])
def test_a_container_that_nobody_knows(server: Endpoint, tmp_path: Path, with_store: bool) -> None:
    logs = ContainerLogs(server, tmp_path if with_store else None)
    for ask in (lambda: logs.names(UUID), lambda: logs.read(UUID, "stdout.txt", 0, 1)):
        with pytest.raises(ApiRefused) as caught:
            ask()
        assert caught.value.status == 404
    logs.close()
