"""From the config file to what sees to it that there are nodes: sizes, policy, cloud driver."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from nodemanager.api.endpoint import Endpoint
from nodemanager.api.nodes import ArvadosNodes
from nodemanager.clouds.actor import CloudPace
from nodemanager.clouds.bootscript import BootValues, load_template, ping_url, render
from nodemanager.clouds.make import make_cloud
from nodemanager.clouds.registry import find_cloud
from nodemanager.config import Config
from nodemanager.config.nodes import ONE
from nodemanager.dispatch.group import NodePlant
from nodemanager.model import NodeSize
from nodemanager.nodes.catalogue import Catalogue, price_factor, read_catalogue
from nodemanager.nodes.order import OrderTemplate, Ping, Script
from nodemanager.nodes.policy import NodePolicy


def node_plant(config: Config, endpoint: Endpoint) -> NodePlant | None:
    """What the config file says about nodes; None when it names no provider.

    The cloud is asked for its sizes if the file leaves something about them open. Raises `ConfigError` or
    `CloudError`.
    """
    if not config.cloud.provider:
        return None
    driver = find_cloud(config.cloud.provider)
    catalogue = _catalogue(config)
    cloud = config.cloud
    return NodePlant(
        connect=lambda: make_cloud(config),
        sizes=catalogue.sizes,
        policy=_policy(config, catalogue.max_price_factor),
        template=OrderTemplate(
            cluster_id=config.arvados.cluster_id,
            dispatcher=config.dispatch.name,
            tags=dict(cloud.tags),
            script=_boot_script(config, endpoint),
        ),
        pace=_pace(config),
        hands=cloud.concurrent_operations,
        call_seconds=cloud.operation_timeout,
        in_process=driver.in_process,
        connect_records=(
            (lambda: ArvadosNodes(endpoint.connect(config.arvados.timeout), config.dispatch.name))
            if driver.pings
            else None
        ),
        record_stale_seconds=config.daemon.node_stale_after,
    )


def _catalogue(config: Config) -> Catalogue:
    cloud = make_cloud(config)
    try:
        return read_catalogue(config, cloud.sizes)
    finally:
        cloud.close()


def _boot_script(config: Config, endpoint: Endpoint) -> Script:
    """What renders the boot script of each node. Raises `ConfigError` if its template cannot be used."""
    cloud = config.cloud
    template = load_template(cloud.boot_script)
    # Nodes may know the API by another name than we do.
    outside = urlsplit(config.api.advertise_url or endpoint.url).netloc
    ping_host = config.cloud_create.options.get("ping_host", outside)
    common = BootValues(
        join_command=cloud.join_command,
        ca_certificate="" if endpoint.ca_file is None else endpoint.ca_file.read_text("ascii"),
        insecure=endpoint.insecure,
    )

    def script(host: str, _size: NodeSize, ping: Ping | None) -> str:
        values = replace(common, host_name=host)
        if ping is not None:
            url = ping_url(ping_host, ping.record_uuid)
            values = replace(values, ping_url=url, ping_secret=ping.secret)
        return render(template, values)

    return script


def changed_plant(plant: NodePlant | None, config: Config) -> NodePlant | None:
    """The same plant with the policy and the pace of another config file; the cloud is not asked for its sizes again.

    Raises `ConfigError` when `[Cloud] cluster_config` cannot be read.
    """
    if plant is None:
        return None
    return replace(plant, policy=_policy(config, price_factor(config)), pace=_pace(config))


def _pace(config: Config) -> CloudPace:
    daemon = config.daemon
    return CloudPace(
        list_seconds=daemon.cloudlist_poll_time or daemon.poll_time,
        max_list_seconds=daemon.max_poll_time,
        operations_per_second=config.cloud.operations_per_second,
    )


def _policy(config: Config, max_price_factor: float) -> NodePolicy:
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
        max_price_factor=max_price_factor,
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
