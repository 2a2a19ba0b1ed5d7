"""Config files of the old node manager still load, and say what of them has no effect yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodemanager.config import Config, describe
from nodemanager.errors import ConfigError

Loader = Callable[..., Config]
OLD = Path(__file__).parent / "old"


def old(name: str) -> str:
    return (OLD / f"{name}.cfg").read_text()


def test_amazon(loaded: Loader) -> None:
    config = loaded(old("ec2"))
    assert config.arvados.host == "zyxwv.arvadosapi.com"
    assert config.arvados.insecure is False
    assert config.arvados.certs_file == Path("/etc/ssl/certs/ca-certificates.crt")
    assert config.daemon.max_nodes == 8
    assert config.daemon.poll_time == 60.0
    assert config.daemon.node_stale_after == 14400.0
    assert config.manage.port == 8989
    assert config.manage.management_token == "aVerySecretManagementToken"
    assert config.cloud.shutdown_windows == (54.0, 5.0, 1.0)
    assert config.cloud_create.options["ping_host"] == "hostname:port"
    assert config.cloud_list.options["tag_arvados-class"] == "dynamic-compute"
    assert config.sizes["m4.large"].price == 0.1
    assert config.sizes["m4.large"].preemptible is False
    spot = config.sizes["m4.large.spot"]
    assert (spot.cores, spot.instance_type, spot.preemptible) == (2, "m4.large", True)
    assert config.logging.levels == {"pykka": "WARNING", "apiclient": "WARNING"}


def test_google(loaded: Loader) -> None:
    config = loaded(old("gce"))
    assert config.arvados.host == "zyxwv.arvadosapi.com:443"
    assert config.arvados.insecure is True
    assert config.logging.level == "DEBUG"
    assert config.cloud.shutdown_windows == (20.0, 999999.0)
    assert config.cloud_create.options["service_accounts"].startswith('[{"email"')
    assert config.cloud_create.options["service_accounts"].endswith('["storage-ro"]}]')


def test_azure(loaded: Loader) -> None:
    config = loaded(old("azure"))
    assert config.cloud.driver_class == "nodemanager.fake.FakeAzure"
    assert config.cloud_credentials.options["region"] == "East US"
    assert config.sizes["Standard_D4"].ram == 28672


def test_what_has_no_effect_is_said_once(loaded: Loader, path: Path) -> None:
    gone, replaced, arbiter, status = (
        next(w for w in loaded(old("ec2")).warnings if word in w)
        for word in ("only kind of work", "replaced", "arbiter", "management server")
    )
    assert gone == (
        f"{path}: without effect: containers are the only kind of work:"
        " [Arvados] jobs_queue, [Arvados] slurm_queue"
    )
    assert replaced == (
        f"{path}: replaced by [Dispatch] scheduler: [Daemon] dispatcher (now local)"
    )
    assert arbiter.startswith(
        f"{path}: not used yet: read by the node-size arbiter: [Daemon] min_nodes"
    )
    for name in (
        "[Daemon] max_nodes",
        "[Cloud] provider",
        "[Cloud Create] ssh_key",
        "[Size m4.large]",
    ):
        assert name in arbiter
    assert status.endswith("[Manage] address, [Manage] port, [Manage] managementtoken")


@pytest.mark.parametrize("name", ["ec2", "gce", "azure"])
def test_the_listing_shows_what_was_given_and_masks_secrets(loaded: Loader, name: str) -> None:
    config = loaded(old(name))
    shown = {(line.section, line.option): line.value for line in describe(config)}
    assert shown["Arvados", "token"] == "***"
    assert shown["Cloud Credentials", "key"] == "***"
    assert shown["Daemon", "max_nodes"] == str(config.daemon.max_nodes)
    assert ("Daemon", "node_stale_after") in shown or name != "ec2"
    assert ("Daemon", "poll_stale_after") not in shown or name == "ec2"


def test_an_old_file_with_a_wrong_number_is_refused(loaded: Loader) -> None:
    with pytest.raises(ConfigError, match="max_nodes: expected a whole number"):
        loaded(old("ec2").replace("max_nodes = 8", "max_nodes = many"))
