"""Whether the jobs of a scheduler can reach the API at all, as far as the configuration tells.

Runners are told one URL. That of an embedded server is an address of this machine, by default on its
loopback: on another machine it leads nowhere, and every container would be claimed, submitted and lost.
"""

from __future__ import annotations

from nodemanager.config import Config
from nodemanager.errors import ConfigError
from nodemanager.schedulers.base import Scheduler
from nodemanager.schedulers.make import scheduler_sites


def unreachable(config: Config, scheduler: type[Scheduler]) -> str:
    """Why jobs of `scheduler` do not reach the API, and what to do; empty when they may."""
    if not config.is_embedded or config.api.advertise_url or scheduler.on_this_machine:
        return ""
    return (
        f"{config.path}: [Api] advertise_url is empty, and jobs of scheduler {scheduler.name} run on other"
        f" machines, which do not reach the embedded server on {config.api.address}; set [Api] address and"
        " port to what it shall listen on there, and advertise_url to the URL under which nodes reach it,"
        " or use an API that runs elsewhere ([Arvados] host)"
    )


def refuse_unreachable(config: Config) -> None:
    """Raise `ConfigError` when jobs cannot reach the API, or there is no such scheduler."""
    for site in scheduler_sites(config):
        if words := unreachable(config, site.kind):
            raise ConfigError(words)
