"""Finds out what there is, and changes none of it: the schedulers, the cloud, the API.

What does not answer is a finding with a problem, and everything else is looked at all the same.
"""

from __future__ import annotations

from contextlib import closing

from nodemanager.api.endpoint import Endpoint
from nodemanager.clock import Clock
from nodemanager.clouds.base import CloudNode
from nodemanager.config import Config
from nodemanager.daemon import make_site_scheduler
from nodemanager.dispatch.group import NodePlant
from nodemanager.dry_run.api import reach_api
from nodemanager.dry_run.queue import look_at_queue
from nodemanager.dry_run.sight import CloudSight, QueueSight, SchedulerSight, Sight
from nodemanager.dry_run.words import counted
from nodemanager.elastic import node_plant
from nodemanager.errors import ConfigError, NodeManagerError
from nodemanager.model import Finding, JobState, NodeSize, format_seconds
from nodemanager.nodes.order import host_of
from nodemanager.schedulers.make import SchedulerSite, elastic_site, scheduler_sites

Told = list[Finding]
"""What was looked at, in order; the problems are what could not be found out."""

_NOWHERE = Endpoint("https://127.0.0.1:1", "", None)
"""For what only a node that is really booted would have to know."""


def look(config: Config, clock: Clock) -> tuple[Sight, Told]:
    """Everything a forecast needs, and what was looked at. Raises `ConfigError` only."""
    told: Told = []
    cloud, sizes = _look_at_cloud(config, told)
    schedulers = tuple(
        _look_at_scheduler(config, site, sizes, told) for site in scheduler_sites(config)
    )
    queue = _look_at_queue(config, schedulers, clock, told)
    sight = Sight(
        clock.wall(),
        config.dispatch.max_claimed,
        schedulers,
        queue,
        cloud,
        elastic_site(config),
    )
    return sight, told


def _look_at_cloud(config: Config, told: Told) -> tuple[CloudSight | None, tuple[NodeSize, ...]]:
    subject = f"cloud {config.cloud.provider}"
    try:
        plant = node_plant(config, _NOWHERE)
    except ConfigError:
        raise
    except NodeManagerError as error:
        # The cloud has to tell something about the sizes, and without them no daemon starts.
        told.append(Finding(subject, problem=f"{error}; the daemon would not start"))
        return None, ()
    if plant is None:
        told.append(Finding("cloud", "none: no nodes are booted or shut"))
        return None, ()
    try:
        machines = _machines(plant)
    except NodeManagerError as error:
        told.append(Finding(subject, problem=f"{error}; no node is booted or shut"))
        return CloudSight(plant.sizes, plant.policy), plant.sizes
    ours = tuple(machine for machine in machines if plant.template.is_ours(machine))
    others = f", {len(machines) - len(ours)} of other daemons" if len(machines) > len(ours) else ""
    told.append(Finding(subject, f"{counted(len(ours), 'machine')} of ours{others}"))
    hosts = {machine.cloud_id: host_of(machine) for machine in machines}
    return CloudSight(plant.sizes, plant.policy, ours, hosts), plant.sizes


def _machines(plant: NodePlant) -> tuple[CloudNode, ...]:
    """All of this cluster."""
    with closing(plant.connect()) as cloud:
        return tuple(cloud.observe())


def _look_at_scheduler(
    config: Config, site: SchedulerSite, sizes: tuple[NodeSize, ...], told: Told
) -> SchedulerSight:
    subject = f"scheduler {site.title}"
    try:
        with closing(make_site_scheduler(config, site, sizes)) as scheduler:
            seen = scheduler.observe()
    except ConfigError:
        raise
    except NodeManagerError as error:
        told.append(Finding(subject, problem=str(error)))
        return SchedulerSight(site.name, site.title, site.rule, error=str(error))
    jobs, nodes = len(seen.poll.jobs), len(seen.nodes)
    words = f"{counted(nodes, 'node')}, {counted(jobs, 'job')} of ours"
    problem = "" if seen.poll.complete else f"{words}; it does not list all jobs"
    told.append(Finding(subject, words, problem))
    return SchedulerSight(
        site.name, site.title, site.rule, seen.poll.jobs, seen.poll.complete, seen.nodes
    )


def _look_at_queue(
    config: Config, schedulers: tuple[SchedulerSight, ...], clock: Clock, told: Told
) -> QueueSight | None:
    jobs = [
        job.name
        for scheduler in schedulers
        for job in scheduler.jobs
        if job.state is not JobState.ENDED
    ]
    try:
        with reach_api(config) as reached:
            queue = _read(config, reached.endpoint, jobs)
    except NodeManagerError as error:
        told.append(Finding("API", problem=f"{error}; nothing is known of any container"))
        return None
    words = reached.words
    if queue.last_ping_at is not None:
        ago = format_seconds(max(0.0, clock.wall() - queue.last_ping_at))
        words += f"; dispatcher {queue.dispatcher} was heard of {ago} ago"
    told.append(Finding("API", words))
    return queue


def _read(config: Config, endpoint: Endpoint | None, jobs: list[str]) -> QueueSight:
    if endpoint is None:
        return QueueSight()
    with closing(endpoint.connect(config.arvados.timeout)) as client:
        return look_at_queue(client, config.dispatch.name, endpoint.token, jobs)
