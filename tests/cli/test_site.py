"""Whom a command speaks to, and as whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodemanager.cli.main import find_site
from nodemanager.cli.site import Site, UsageError, kind_of, needs_work, site_of
from nodemanager.config import load
from nodemanager.errors import ConfigError, NodeManagerError


def site(tmp_path: Path, text: str = "", **environ: str) -> Site:
    path = tmp_path / "nodemanager.cfg"
    path.write_text(text)
    path.chmod(0o600)
    return site_of(load(path), environ)


def started(tmp_path: Path) -> None:
    """What the embedded server leaves for those who may read it."""
    api = tmp_path / "state" / "api"
    api.mkdir(parents=True)
    (api / "port").write_text("8443\n")
    (api / "root_token").write_text("root-secret\n")


def test_the_embedded_api_is_found_in_the_state_directory(tmp_path: Path) -> None:
    started(tmp_path)
    found = site(tmp_path)
    assert found.endpoint.url == "https://127.0.0.1:8443"
    assert found.endpoint.token == "root-secret"
    assert found.endpoint.ca_file == tmp_path / "state/api/certificate.pem"
    assert found.store == tmp_path / "state/store"


def test_an_api_on_all_addresses_is_reached_here(tmp_path: Path) -> None:
    started(tmp_path)
    assert site(tmp_path, "[Api]\naddress = ::\nport = 9443\n").endpoint.url == "https://[::1]:9443"


def test_before_the_first_start_there_is_nobody_to_ask(tmp_path: Path) -> None:
    found = site(tmp_path)
    with pytest.raises(NodeManagerError, match="no daemon has run with"):
        _ = found.endpoint


def test_another_users_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(tmp_path)
    found = site(tmp_path)

    def refuse(*_arguments: object, **_more: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(NodeManagerError, match="only its owner may read it"):
        _ = found.endpoint


def test_an_api_elsewhere_is_that_of_the_file(tmp_path: Path) -> None:
    text = "[Arvados]\nhost = api.example.org:443\ntoken = from-the-file\n"
    found = site(tmp_path, text)
    assert (found.endpoint.url, found.endpoint.token) == (
        "https://api.example.org:443",
        "from-the-file",
    )
    assert "from-the-file" not in repr(found)
    mine = site(tmp_path, text, ARVADOS_API_TOKEN="mine")
    assert (mine.endpoint.url, mine.endpoint.token) == ("https://api.example.org:443", "mine")
    assert mine.token_origin == "the token in ARVADOS_API_TOKEN"


def test_the_environment_stands_above_the_file(tmp_path: Path) -> None:
    found = site(
        tmp_path,
        "[Arvados]\nhost = api.example.org\ntoken = from-the-file\n",
        ARVADOS_API_HOST="other.example.org",
        ARVADOS_API_TOKEN="mine",
    )
    assert found.endpoint.url == "https://other.example.org"
    assert not found.endpoint.insecure


def test_no_token_goes_to_a_host_that_it_is_not_meant_for(tmp_path: Path) -> None:
    found = site(
        tmp_path,
        "[Arvados]\nhost = api.example.org\ntoken = from-the-file\n",
        ARVADOS_API_HOST="other.example.org",
    )
    with pytest.raises(ConfigError, match="ARVADOS_API_TOKEN is not"):
        _ = found.endpoint


def test_without_a_config_file_the_environment_is_enough() -> None:
    environ = {"ARVADOS_API_HOST": "h", "ARVADOS_API_TOKEN": "t", "ARVADOS_API_HOST_INSECURE": "1"}
    found = site_of(None, environ)
    assert (found.endpoint.url, found.endpoint.insecure) == ("https://h", True)
    with pytest.raises(NodeManagerError, match="no config file says where it is"):
        found.management.get("/status.json")
    with pytest.raises(ConfigError, match="--config FILE or ARVADOS_NODE_MANAGER_CONFIG"):
        _ = site_of(None, {}).endpoint


def test_the_config_file_of_the_environment_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(tmp_path)
    path = tmp_path / "nodemanager.cfg"
    path.write_text("[Api]\nport = 1234\n")
    monkeypatch.setenv("ARVADOS_NODE_MANAGER_CONFIG", str(path))
    monkeypatch.delenv("ARVADOS_API_HOST", raising=False)
    assert find_site(None).endpoint.url == "https://127.0.0.1:1234"
    with pytest.raises(ConfigError, match="cannot be read"):
        find_site(tmp_path / "other.cfg")


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "it is switched off: set \\[Manage\\] port"), ("[Manage]\nport = 0\n", "port is 0")],
)
def test_a_management_server_that_cannot_be_asked(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(NodeManagerError, match=words):
        site(tmp_path, text).management.get("/status.json")


def test_the_management_server_is_reached_where_the_file_says(tmp_path: Path) -> None:
    text = "[Manage]\naddress = 0.0.0.0\nport = 8989\nManagementToken = secret\n"
    found = site(tmp_path, text).management
    assert (found.url, found.token) == ("http://127.0.0.1:8989", "secret")
    assert "secret" not in repr(found)


def test_what_a_uuid_is_of() -> None:
    assert kind_of("zzzzz-xvhdp-0123456789abcde") == "container request"
    assert needs_work("zzzzz-dz642-0123456789abcde") == "container"
    with pytest.raises(UsageError, match="is a dispatcher; the UUID of a container request"):
        needs_work("zzzzz-bmxii-0123456789abcde")
    with pytest.raises(UsageError, match="is an api client authorization"):
        needs_work("zzzzz-gj3su-0123456789abcde")
    with pytest.raises(UsageError, match="record of another kind"):
        needs_work("zzzzz-4zz18-0123456789abcde")
    for text in ("", "nonsense", "zzzzz-xvhdp-0123456789ABCDE", "zzzzz-xvhdp-0123456789abcde "):
        with pytest.raises(UsageError, match="is no UUID"):
            kind_of(text)
