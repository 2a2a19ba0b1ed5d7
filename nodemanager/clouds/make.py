"""The cloud driver of a configuration."""

from __future__ import annotations

from pathlib import Path

from nodemanager.clouds.base import Cloud, CloudContext
from nodemanager.clouds.registry import find_cloud
from nodemanager.config import Config

LOOPBACK = "loopback"
"""The provider whose machines are shares of this one, for the scheduler that shares it out."""


def cloud_dir(config: Config) -> Path:
    """The driver's own directory, which outlives the daemon."""
    return config.daemon.state_dir / "cloud"


def make_cloud(config: Config) -> Cloud:
    """A driver object for one thread, as `[Cloud]` says; raises `ConfigError`. Nothing is called yet."""
    driver = find_cloud(config.cloud.provider)
    return driver(
        CloudContext(
            cluster_id=config.arvados.cluster_id,
            state_dir=cloud_dir(config),
            credentials=config.cloud_credentials.options,
            list_options=config.cloud_list.options,
            create_options=config.cloud_create.options,
            driver_class=config.cloud.driver_class,
            timeout_seconds=config.cloud.operation_timeout,
        )
    )
