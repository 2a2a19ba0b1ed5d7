"""Everything the management server has to be told by the config file, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodemanager.config import Config
from nodemanager.config.sections import OFF
from nodemanager.schedulers.make import scheduler_sites
from nodemanager.status.health import HealthLimits, limits_from


@dataclass(frozen=True, kw_only=True)
class ManageSettings:
    """The defaults are those of the config file."""

    address: str = "127.0.0.1"
    port: int = OFF
    """`OFF`: no server; 0: any free port."""
    management_token: str = field(default="", repr=False)
    """Empty: no health checks, and no verbs of operators."""
    limits: HealthLimits = field(default_factory=HealthLimits)
    """How old news may be for the daemon to be ready."""
    max_nodes: int = 1
    max_total_price: float = 0.0
    """Per hour; 0: no limit."""
    name: str = ""
    """Of this dispatcher, for people."""
    schedulers: str = "local"
    """Their names, for people."""
    provider: str = ""
    """Of the cloud; empty: no nodes are booted."""
    sizes: tuple[str, ...] = ()
    """The names of the `[Size]` sections."""

    def is_served_like(self, other: ManageSettings) -> bool:
        """Whether one server can go over from the one to the other: same place, same token."""
        return (self.address, self.port, self.management_token) == (
            other.address,
            other.port,
            other.management_token,
        )


@dataclass(slots=True)
class LiveSettings:
    """Those in effect. A reload may put others in their place at any time, from any thread: read them at use."""

    now: ManageSettings


def settings_from(config: Config) -> ManageSettings:
    """What the config file says."""
    return ManageSettings(
        address=config.manage.address,
        port=config.manage.port,
        management_token=str(config.manage.management_token),
        limits=limits_from(config),
        max_nodes=config.daemon.max_nodes,
        max_total_price=config.daemon.max_total_price,
        name=config.dispatch.name,
        schedulers=",".join(site.title for site in scheduler_sites(config)),
        provider=config.cloud.provider,
        sizes=tuple(config.sizes) if config.cloud.provider else (),
    )
