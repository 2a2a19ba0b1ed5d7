"""What `GET /metrics` tells beside the counters: gauges read off the daemon at the moment of the scrape.

Pure, but for the counters of `nodemanager.metrics` that `text_of` puts before them. Each `Family` says how it is
read; docs/reference/metrics.md is made of the same table. A value that nobody could tell has no sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from platform import python_version
from typing import TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nodemanager import __version__, metrics
from nodemanager.actors.census import Census, ClassCount
from nodemanager.dispatch.messages import Status
from nodemanager.model import ContainerState, NodeState
from nodemanager.nodes.messages import NodesStatus
from nodemanager.nodes.states import NodePhase
from nodemanager.status.look import DaemonLook
from nodemanager.status.settings import ManageSettings
from nodemanager.status.waits import TOKENS, Waits, waits_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Values: TypeAlias = Iterable[tuple[tuple[str, ...], float]]
"""The values of the labels, and what they have."""

_UNKNOWN_SIZE = "unknown"
_WAITED_FOR = (ContainerState.QUEUED, ContainerState.LOCKED, ContainerState.RUNNING)
_PHASES = tuple(phase.value for phase in NodePhase if phase is not NodePhase.GONE)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the gauges of one scrape are read off."""

    settings: ManageSettings
    census: Census = field(default_factory=Census)
    look: DaemonLook | None = None
    """None: the daemon could not be looked at."""
    waits: Waits | None = None

    @property
    def dispatcher(self) -> Status | None:
        """None also while the actors are started anew."""
        return None if self.look is None else self.look.dispatcher

    @property
    def nodes(self) -> NodesStatus | None:
        """None also when no nodes are booted."""
        return None if self.look is None else self.look.nodes


def reading_of(settings: ManageSettings, census: Census, look: DaemonLook | None) -> Reading:
    """A reading, with what takes a pass over all containers done once."""
    waits = None
    if look is not None and look.dispatcher is not None:
        waits = waits_of(look.dispatcher, look.taken_at)
    return Reading(settings, census, look, waits)


@dataclass(frozen=True, slots=True)
class Family:
    """One name, what it means, and how its values are read."""

    name: str
    """Without the prefix."""
    doc: str
    read: Callable[[Reading], Values]
    labels: tuple[str, ...] = ()
    is_counter: bool = False

    @property
    def declared(self) -> metrics.Declared:
        """What there is to know beside its values."""
        kind = "counter" if self.is_counter else "gauge"
        return metrics.Declared(self.name, kind, self.doc, self.labels)

    def metric(self, reading: Reading) -> Metric:
        """With its samples."""
        kind = CounterMetricFamily if self.is_counter else GaugeMetricFamily
        metric = kind(metrics.PREFIX + self.name, self.doc, labels=self.labels)
        for labels, value in self.read(reading):
            metric.add_metric(labels, value)
        return metric


def text_of(reading: Reading) -> bytes:
    """Everything, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gauges(reading))
    return generate_latest(metrics.REGISTRY) + generate_latest(registry)


class _Gauges(Collector):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterator[Metric]:
        return (family.metric(self._reading) for family in FAMILIES)


# How each is read.


def _one(read: Callable[[Reading], float | None]) -> Callable[[Reading], Values]:
    """The value of a family without labels; None: there is none."""

    def values(reading: Reading) -> Values:
        value = read(reading)
        return () if value is None else (((), value),)

    return values


def _by(mapping: Mapping[str, float], keys: Iterable[str] = ()) -> Values:
    """By one label; `keys` are told also when they are 0, so that no curve has holes."""
    return (((key,), mapping.get(key, 0)) for key in dict.fromkeys((*keys, *mapping)))


def _of_nodes(read: Callable[[NodesStatus], float | None]) -> Callable[[Reading], Values]:
    return _one(lambda reading: None if reading.nodes is None else read(reading.nodes))


def _build(reading: Reading) -> Values:
    settings = reading.settings
    values = (*_versions(), settings.schedulers, settings.provider or "none")
    yield values, 1


@cache
def _versions() -> tuple[str, ...]:
    return (
        __version__,
        python_version(),
        *(version(name) for name in ("pykka", "apache-libcloud", "arvados-python-client")),
    )


def _lease_left(reading: Reading) -> float | None:
    if reading.look is None:
        return None
    status = reading.dispatcher
    return 0.0 if status is None or status.me is None else max(0.0, status.lease_seconds)


def _registered(reading: Reading) -> float | None:
    if reading.look is None:
        return None
    return float(reading.dispatcher is not None and reading.dispatcher.me is not None)


def _states(reading: Reading) -> Values:
    waits = reading.waits
    if waits is None:
        return ()
    # One whose end is being recorded is none that is waited for, and leaves in a moment.
    return (((state.value,), waits.states.get(state, 0)) for state in _WAITED_FOR)


def _depths(reading: Reading) -> Values:
    if reading.waits is None:
        return
    for claimed, counts in (("yes", reading.waits.claimed), ("no", reading.waits.queued)):
        for token in TOKENS:
            yield (claimed, token), counts.get(token, 0)


def _oldest(reading: Reading) -> Values:
    return () if reading.waits is None else _by(reading.waits.longest_seconds, TOKENS)


def _scheduler_nodes(reading: Reading) -> Values:
    if reading.dispatcher is None:
        return ()
    states = Counter(node.state.value for node in reading.dispatcher.nodes)
    return _by(states, (state.value for state in NodeState))


def _cores(reading: Reading) -> Values:
    if reading.dispatcher is None:
        return
    working = [
        node for node in reading.dispatcher.nodes if node.state in (NodeState.IDLE, NodeState.BUSY)
    ]
    free = sum(max(0, node.free.cores) for node in working)
    yield ("free",), free
    yield ("used",), sum(node.total.cores for node in working) - free


def _nodes(reading: Reading) -> Values:
    if reading.nodes is None:
        return
    counts = Counter(
        (node.phase.value, _UNKNOWN_SIZE if node.size is None else node.size.name)
        for node in reading.nodes.nodes
    )
    sizes = dict.fromkeys((*reading.settings.sizes, *(size for _, size in counts)))
    for size in sizes:
        for phase in _PHASES:
            yield (phase, size), counts[phase, size]


def _wishlist(reading: Reading) -> Values:
    if reading.nodes is None:
        return ()
    return _by(reading.nodes.wishlist, reading.settings.sizes)


def _unavailable(reading: Reading) -> Values:
    if reading.nodes is None:
        return ()
    return _by(reading.nodes.unavailable, reading.settings.sizes)


def _limit(reading: Reading) -> float | None:
    return reading.settings.max_total_price or None


def _of_classes(read: Callable[[ClassCount], float]) -> Callable[[Reading], Values]:
    return lambda reading: (
        ((name,), read(count)) for name, count in sorted(reading.census.classes.items())
    )


def _threads(reading: Reading) -> Values:
    pool = reading.census.pool
    if pool is None:
        return ()
    return (
        (("working",), pool.workers - pool.waiting_workers),
        (("waiting",), pool.waiting_workers),
        (("io",), pool.io_threads),
    )


FAMILIES: tuple[Family, ...] = (
    # Is it alive?
    Family(
        "build_info",
        "1; its labels say what runs: versions, the schedulers and the cloud provider of the config file.",
        _build,
        ("version", "python", "pykka", "libcloud", "arvados", "scheduler", "cloud"),
    ),
    Family(
        "look_success",
        "1 when the actors could be asked for this scrape; at 0 what only they know is missing from it.",
        _one(lambda reading: float(reading.look is not None)),
    ),
    Family(
        "dispatcher_registered",
        "1 when this dispatcher has a record at the API.",
        _one(_registered),
    ),
    Family(
        "lease_left_seconds",
        "For so long the dispatcher may act without another ping; at 0 nothing is submitted, cancelled, booted or shut.",
        _one(_lease_left),
    ),
    # Is work flowing, and why is it waiting?
    Family(
        "containers",
        "Containers by state: Locked and Running are those this dispatcher holds, Queued those it looks at (the most "
        "urgent 1000).",
        _states,
        ("state",),
    ),
    Family(
        "queue_depth",
        "Containers that wait, by the token of the reason (none: about to be claimed) and whether this dispatcher has "
        "claimed them. Of unclaimed ones it looks at the most urgent 1000.",
        _depths,
        ("claimed", "reason"),
    ),
    Family(
        "oldest_wait_seconds",
        "By the token of the reason: for how long the oldest container that waits for it could have run, by its creation "
        "or run_after. 0 when none waits for it.",
        _oldest,
        ("reason",),
    ),
    Family(
        "scheduler_nodes",
        "Nodes of the scheduler by its state, ours or not.",
        _scheduler_nodes,
        ("state",),
    ),
    Family(
        "scheduler_cores",
        "Cores of the scheduler's nodes that take work: used, free.",
        _cores,
        ("use",),
    ),
    # Nodes, and what they cost. No samples where no nodes are booted.
    Family("nodes", "This daemon's nodes by phase and size.", _nodes, ("phase", "size")),
    Family(
        "wishlist_nodes",
        "New nodes wanted by size, within the limits; what exists is in nodes.",
        _wishlist,
        ("size",),
    ),
    Family(
        "wishlist_containers",
        "Containers that wait for a node.",
        _of_nodes(lambda nodes: nodes.waiting),
    ),
    Family(
        "wishlist_unplaced_containers",
        "Those of them for which none may be booted now.",
        _of_nodes(lambda nodes: nodes.unplaced),
    ),
    Family(
        "bootable_cores",
        "Cores of the nodes that are booting or may still be booted.",
        _of_nodes(lambda nodes: nodes.bootable_cores),
    ),
    Family(
        "idle_longest_seconds",
        "For how long the node that has been idle longest has been so.",
        _of_nodes(lambda nodes: max(nodes.idle_times.values(), default=0.0)),
    ),
    Family(
        "cost_per_hour",
        "What the nodes that are here or booting cost, in the currency of the config file's prices.",
        _of_nodes(lambda nodes: nodes.price),
    ),
    Family(
        "cost_limited_containers",
        "Containers that wait since [Daemon] max_total_price allows no more nodes.",
        _one(lambda reading: None if reading.waits is None else reading.waits.too_dear),
    ),
    Family(
        "cost_limit_per_hour",
        "[Daemon] max_total_price; no sample when there is no limit.",
        _one(_limit),
    ),
    Family("nodes_limit", "[Daemon] max_nodes.", _one(lambda reading: reading.settings.max_nodes)),
    Family(
        "nodes_quota",
        "How many nodes the cloud account allows, as learnt from refusals; no sample when none was refused.",
        _of_nodes(lambda nodes: nodes.quota),
    ),
    Family(
        "size_unavailable_seconds",
        "For how long a size is not asked for, since the cloud had none; 0 when it is.",
        _unavailable,
        ("size",),
    ),
    Family(
        "boot_brake",
        "1 when so many boots in a row came to nothing that no more are tried.",
        _of_nodes(lambda nodes: float(bool(nodes.brake))),
    ),
    Family(
        "nodes_stale",
        "1 when the cloud's, the scheduler's or the API's last answer is too old for decisions about nodes.",
        _of_nodes(lambda nodes: float(bool(nodes.stale))),
    ),
    # The actors: told without asking them.
    Family(
        "actors", "Living actors by class.", _of_classes(lambda count: count.actors), ("actor",)
    ),
    Family(
        "actor_failures_total",
        "Actors of each class that crashed since the start.",
        lambda reading: _by(reading.census.failures, sorted(reading.census.classes)),
        ("actor",),
        is_counter=True,
    ),
    Family(
        "unfinished_work_seconds",
        "For how long the slowest actor of each class has been at one message; 0 when all are idle. What grows is stuck; "
        "ClaimActor and ChangeActor hold calls open for as long as [Dispatch] claim_wait.",
        _of_classes(lambda count: count.longest_work_seconds),
        ("actor",),
    ),
    Family(
        "mailbox_messages",
        "Messages in the mailboxes of each class of actors, all together.",
        _of_classes(lambda count: count.messages),
        ("actor",),
    ),
    Family(
        "mailbox_longest_messages",
        "Messages in the fullest mailbox of each class.",
        _of_classes(lambda count: count.longest_mailbox),
        ("actor",),
    ),
    Family(
        "pool_threads",
        "Threads that run actors: working ones of the shared pool, those of it that wait for an answer, and those of "
        "actors that have one of their own (io).",
        _threads,
        ("kind",),
    ),
    Family(
        "pool_ready_actors",
        "Actors that have a message and wait for a thread of the pool.",
        _one(
            lambda reading: (
                None if reading.census.pool is None else reading.census.pool.ready_actors
            )
        ),
    ),
)
"""In the order in which they are told."""
