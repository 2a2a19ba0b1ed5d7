"""Which class `[Cloud] provider` means."""

from __future__ import annotations

from nodemanager.clouds.base import Cloud
from nodemanager.plugins import Plugins

CLOUDS: Plugins[Cloud] = Plugins(
    base=Cloud,  # type: ignore[type-abstract]
    option="[Cloud] provider",
    noun="cloud",
    group="arvados_node_manager.clouds",
    built_in={
        "ec2": "nodemanager.clouds.ec2:Ec2",
        "gce": "nodemanager.clouds.gce:Gce",
        "azure": "nodemanager.clouds.azure:Azure",
        "openstack": "nodemanager.clouds.openstack:OpenStack",
        "dummy": "nodemanager.clouds.dummy:Dummy",
        "loopback": "nodemanager.clouds.loopback:Loopback",
        "fake": "nodemanager.clouds.fake:FakeCloud",
    },
)


def find_cloud(word: str) -> type[Cloud]:
    """The driver class that `word` names; `ConfigError` if there is none."""
    return CLOUDS.find(word)


def known_clouds() -> tuple[str, ...]:
    """Every name that `find_cloud` would look for, built in or offered by an installed package."""
    return CLOUDS.known()
