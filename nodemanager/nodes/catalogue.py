"""What can be booted here, as the config file, the file it names, and the cloud say it together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nodemanager.clouds.base import CloudSize
from nodemanager.config import Config
from nodemanager.config.tree import DEFAULT
from nodemanager.model import NodeSize
from nodemanager.nodes import cluster_config
from nodemanager.nodes.sizes import needs_cloud_list, node_sizes


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The sizes, and what goes with them."""

    sizes: tuple[NodeSize, ...]
    """Cheapest first, then by name; at least one."""
    max_price_factor: float
    """`[Cloud] max_price_factor`, or that of `cluster_config` where only that says it."""


def read_catalogue(config: Config, list_sizes: Callable[[], Sequence[CloudSize]]) -> Catalogue:
    """The sizes in effect. `list_sizes` is `Cloud.sizes`, called once and only when it is needed.

    Raises `ConfigError` when the files do not say enough or contradict each other, and whatever
    `list_sizes` raises.
    """
    cluster = _cluster(config)
    needed = needs_cloud_list(config.sizes, cluster.types)
    sizes = node_sizes(
        config.sizes,
        cluster.types,
        list_sizes() if needed else (),
        mem_scaling=config.daemon.node_mem_scaling,
        path=str(config.path),
    )
    return Catalogue(sizes, _factor(config, cluster))


def price_factor(config: Config) -> float:
    """See `Catalogue.max_price_factor`."""
    return _factor(config, _cluster(config))


def _cluster(config: Config) -> cluster_config.ClusterConfig:
    path = config.cloud.cluster_config
    if path is None:
        return cluster_config.ClusterConfig()
    return cluster_config.read(path, config.arvados.cluster_id)


def _factor(config: Config, cluster: cluster_config.ClusterConfig) -> float:
    if cluster.max_price_factor and config.origin("Cloud", "max_price_factor") == DEFAULT:
        return cluster.max_price_factor
    return config.cloud.max_price_factor
