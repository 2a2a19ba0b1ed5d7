"""Config files of the old node manager still load, mean the same, and say what of them has no effect."""

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
    assert not config.sizes["m4.large"].preemptible
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
    assert loaded(old("ec2")).warnings == (
        f"{path}: replaced by [Dispatch] scheduler: [Daemon] dispatcher (now local)",
        (
            f"{path}: without effect: containers are the only kind of work:"
            " [Arvados] jobs_queue, [Arvados] slurm_queue"
        ),
    )
    assert loaded(old("gce")).warnings == loaded(old("azure")).warnings == ()


def test_what_only_described_a_size_is_accepted(loaded: Loader, path: Path) -> None:
    extra = "id = x\nname = Large\nbandwidth = 3\nextra = {}\n"
    config = loaded(old("gce") + extra)
    assert config.sizes["n1-standard-2"].name == "Large"
    assert config.warnings == (
        (
            f"{path}: without effect: no decision looks at it: [Size n1-standard-2] id,"
            " [Size n1-standard-2] name, [Size n1-standard-2] bandwidth, [Size n1-standard-2] extra"
        ),
    )


@pytest.mark.parametrize("name", ["ec2", "gce", "azure"])
def test_the_listing_shows_what_was_given_and_masks_secrets(loaded: Loader, name: str) -> None:
    config = loaded(old(name))
    shown = {(line.section, line.option): line.value for line in describe(config)}
    assert shown["Arvados", "token"] == "***"
    assert shown["Cloud Credentials", "key"] == "***"
    assert shown["Daemon", "max_nodes"] == str(config.daemon.max_nodes)
    assert shown["Daemon", "boot_fail_after"] == "30 min"
    assert (("Daemon", "dispatcher") in shown) == (name == "ec2"), "without effect, and not given"


def test_an_old_file_with_a_wrong_number_is_refused(loaded: Loader) -> None:
    with pytest.raises(ConfigError, match="max_nodes: expected a whole number"):
        loaded(old("ec2").replace("max_nodes = 8", "max_nodes = many"))
