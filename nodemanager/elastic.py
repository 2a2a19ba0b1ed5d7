"""From the config file to what sees to it that there are nodes: sizes, policy, cloud driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nodemanager.api.nodes import ArvadosNodes
from nodemanager.clouds.actor import CloudPace
from nodemanager.clouds.make import make_cloud
from nodemanager.clouds.registry import find_cloud
from nodemanager.config import Config
from nodemanager.config.nodes import ONE
from nodemanager.dispatch.group import NodePlant
from nodemanager.nodes.catalogue import Catalogue, read_catalogue
from nodemanager.nodes.order import OrderTemplate
from nodemanager.nodes.policy import NodePolicy


def node_plant(config: Config, connect: Callable[[], Any]) -> NodePlant | None:
    """What the config file says about nodes; None when it names no provider.

    `connect` makes a client object of the API for one thread (see `nodemanager.api.connection`).
    The cloud is asked for its sizes if the file leaves something about them open. Raises `ConfigError` or
    `CloudError`.
    """
    if not config.cloud.provider:
        return None
    driver = find_cloud(config.cloud.provider)
    catalogue = _catalogue(config)
    cloud, daemon = config.cloud, config.daemon
    return NodePlant(
        connect=lambda: make_cloud(config),
        sizes=catalogue.sizes,
        policy=_policy(config, catalogue),
        template=OrderTemplate(
            cluster_id=config.arvados.cluster_id,
            dispatcher=config.dispatch.name,
            tags=dict(cloud.tags),
        ),
        pace=CloudPace(
            list_seconds=daemon.cloudlist_poll_time or daemon.poll_time,
            max_list_seconds=daemon.max_poll_time,
            operations_per_second=cloud.operations_per_second,
        ),
        hands=cloud.concurrent_operations,
        call_seconds=cloud.operation_timeout,
        in_process=driver.in_process,
        connect_records=(
            (lambda: ArvadosNodes(connect(), config.dispatch.name)) if driver.pings else None
        ),
        record_stale_seconds=daemon.node_stale_after,
    )


def _catalogue(config: Config) -> Catalogue:
    cloud = make_cloud(config)
    try:
        return read_catalogue(config, cloud.sizes)
    finally:
        cloud.close()


def _policy(config: Config, catalogue: Catalogue) -> NodePolicy:
    cloud, daemon = config.cloud, config.daemon
    return NodePolicy(
        min_nodes=daemon.min_nodes,
        max_nodes=daemon.max_nodes,
        max_total_price=daemon.max_total_price,
        poll_stale_after=daemon.poll_stale_after,
        boot_fail_after=daemon.boot_fail_after,
        consecutive_idle_count=daemon.consecutive_idle_count,
        idle_time=cloud.idle_time,
        shutdown_windows=cloud.shutdown_windows,
        one_per_node=cloud.containers_per_node == ONE,
        max_price_factor=catalogue.max_price_factor,
        boots_per_turn=cloud.boots_per_turn,
        # Who says how often the wishlist is looked at wants no decision in between.
        turn_time=daemon.wishlist_poll_time or cloud.turn_time,
        record_poll_time=daemon.nodelist_poll_time or daemon.poll_time,
        max_boot_failures=cloud.max_boot_failures,
        brake_time=cloud.brake_time,
        capacity_pause=cloud.capacity_pause,
        capacity_pause_max=cloud.capacity_pause_max,
        quota_pause=cloud.quota_pause,
    )
