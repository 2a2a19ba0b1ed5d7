"""What a reload does to the management server: as little as it can, and never leave none."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nodemanager import logs
from nodemanager.config import Config, load
from nodemanager.herald import Herald
from nodemanager.masking import Mask
from nodemanager.notify import Notifier
from nodemanager.reload import Reloader
from nodemanager.status.health import limits_from
from nodemanager.status.look import shown_time
from tests.status.daemon import Client, StandIn

TOKEN = "the-token-of-before"


@dataclass
class Reloadable(StandIn):
    """One that takes up whatever it is given."""

    configs: list[Config] = field(default_factory=list)

    def reload(self, config: Config) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.configs.append(config)


@dataclass
class Site:
    """A daemon with its management server, and the file that both follow."""

    path: Path
    daemon: Reloadable = field(default_factory=Reloadable)

    def __post_init__(self) -> None:
        self.write()
        config = load(self.path)
        herald = Herald(Notifier(), self.daemon, limits_from(config))
        self.reloader = Reloader(config, self.daemon, herald)  # type: ignore[arg-type]  # a stand-in
        self.reloader.management.start()

    def write(self, *, port: int = 0, token: str = TOKEN, more: str = "") -> None:
        self.path.write_text(f"[Manage]\nport = {port}\nManagementToken = {token}\n{more}")
        self.path.chmod(0o600)

    def reload(self, *, port: int = 0, token: str = TOKEN, more: str = "") -> str:
        self.write(port=port, token=token, more=more)
        return self.reloader.reload()

    def client(self, token: str = TOKEN) -> Client:
        return Client(self.reloader.management.url, token)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(logs, "_mask", Mask())
    root = logging.getLogger()
    before = root.handlers[:], root.level
    made = Site(tmp_path / "config.cfg")
    yield made
    assert made.reloader.management.stop(10.0)
    root.handlers[:], root.level = before


def test_another_limit_leaves_the_server_alone(site: Site) -> None:
    server, client = site.reloader.management, site.client()
    limits = client.get("/status.json").body["limits"]
    assert limits["max_nodes"] != 77
    assert site.reload(more="[Daemon]\nmax_nodes = 77\n") == ""
    assert site.reloader.management is server
    assert client.get("/status.json").body["limits"] == {**limits, "max_nodes": 77}


def test_another_token_takes_another_server_with_the_same_plots(site: Site) -> None:
    recorder = site.reloader.management._parts.recorder
    recorder.began_at = 1_700_000_000.0
    before = site.client()
    assert site.reload(token="another-one") == ""
    after = site.client("another-one")
    assert after.url == before.url
    assert before.get("/status.json").status == 403
    began_at = after.get("/history.json?span=hour").body["began_at"]
    assert began_at == shown_time(recorder.began_at)


def test_a_port_that_somebody_has_leaves_the_server_where_it_was(site: Site) -> None:
    server = site.reloader.management
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, more = taken.getsockname()[1], "[Daemon]\nmax_nodes = 77\n"
        problem = "the management server goes on as it was, see the log"
        assert site.reload(port=port, more=more) == problem
        assert site.reloader.management is server
        # All else was taken up.
        assert site.client().get("/status.json").body["limits"]["max_nodes"] == 77
    # The next reload finds the difference again.
    assert site.reload(port=port) == ""
    assert site.client().address[1] == port


def test_an_address_that_is_not_ours_puts_the_server_back(site: Site) -> None:
    """On the same port the old one has to go first."""
    before = site.client()
    site.path.write_text(f"[Manage]\nport = 0\naddress = 192.0.2.1\nManagementToken = {TOKEN}\n")
    assert site.reloader.reload() == "the management server goes on as it was, see the log"
    assert site.client() == before
    assert before.get("/status.json").status == 200


def test_a_server_that_is_gone_is_started_by_the_next_reload(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    _, port = site.client().address
    assert site.reloader.management.stop(10.0)
    with socket.create_server(("127.0.0.1", port)):
        assert site.reload() == "there is no management server, see the log"
    assert "there is no management server now" in capsys.readouterr().err
    assert site.reload() == ""
    assert site.client().get("/status.json").status == 200
