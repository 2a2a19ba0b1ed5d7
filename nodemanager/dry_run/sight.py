"""What a dry run has seen: everything a forecast is made on, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodemanager.clouds.base import CloudNode
from nodemanager.model import Container, Node, NodeSize
from nodemanager.nodes.policy import NodePolicy
from nodemanager.rule import Rule
from nodemanager.schedulers.base import Job


@dataclass(frozen=True, slots=True)
class QueueSight:
    """The API's part."""

    queued: tuple[Container, ...] = ()
    """All that are Queued with a priority above 0, most urgent first."""
    held: tuple[Container, ...] = ()
    """Locked or Running, and ours."""
    dispatcher: str = ""
    """The UUID of our record; empty when there is none that is alive."""
    last_ping_at: float | None = None
    """When a daemon last renewed its lease."""
    paused: str = ""
    """Why claims are paused; empty when they are not."""
    finished_jobs: tuple[str, ...] = ()
    """Jobs of this cluster that have not ended although their containers are final."""


@dataclass(frozen=True, slots=True)
class SchedulerSight:
    """One scheduler's part."""

    name: str
    """As in `[Dispatch] schedulers`; empty where there is one."""
    title: str
    """What people call it."""
    rule: Rule = Rule()  # noqa: RUF009 (frozen)
    jobs: tuple[Job, ...] = ()
    complete: bool = True
    """Whether a job that is not among `jobs` is certainly not there."""
    nodes: tuple[Node, ...] = ()
    error: str = ""
    """Why it does not answer; then the rest says nothing."""


@dataclass(frozen=True, slots=True)
class CloudSight:
    """The cloud's part, and what the config file says about nodes."""

    sizes: tuple[NodeSize, ...]
    """Cheapest first."""
    policy: NodePolicy
    machines: tuple[CloudNode, ...] | None = None
    """Of this daemon; None when the cloud does not answer."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """The names under which the machines of this cluster join, whoever ordered them, by the cloud's ids."""


@dataclass(frozen=True, slots=True)
class Sight:
    """All of it, at the Unix time `now`."""

    now: float
    max_claimed: int
    schedulers: tuple[SchedulerSight, ...]
    """In the order in which they are tried; at least one."""
    queue: QueueSight | None = None
    """None when the API does not answer."""
    cloud: CloudSight | None = None
    """None when no nodes are booted, or nobody knows which could be."""
    elastic: str = ""
    """The name of the scheduler that booted nodes join."""

    @property
    def scheduler_of_nodes(self) -> SchedulerSight:
        """The one that booted nodes join."""
        return next((s for s in self.schedulers if s.name == self.elastic), self.schedulers[0])
