"""What a Prometheus server may ask of an API server: how much it does, how fast, and what waits.

Names begin with ``arvados_dispatch_api_``. Each server counts its own calls; what it tells of the queue and of
the dispatchers is the database's, and so the same from each.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select, true

from nodemanager.model import ContainerState
from nodemanager.reason import ReasonToken
from nodemanager.server.schema import dispatchers
from nodemanager.server.service import Service
from nodemanager.server.summary import Summary, summarise
from nodemanager.server.sweep import SweepReport

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "arvados_dispatch_api"
# A claim takes a millisecond, a list of 1,000 some tens; the last ones are for a database that is away.
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 20)

_d = dispatchers.c
_ALIVE = select(_d.name, func.max(_d.last_ping_at)).where(_d.state == "alive").group_by(_d.name)


class Metrics:
    """The counters of one server."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            f"{_PREFIX}_requests",
            "Calls answered, by method of the API (such as containers.claim) and HTTP status.",
            ["method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            f"{_PREFIX}_request_seconds",
            "How long calls took, without those that were held open.",
            ["method"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._held = Gauge(
            f"{_PREFIX}_held_requests",
            "Calls that are held open until there is something to answer.",
            registry=self._registry,
        )
        self._lost = self._counter("lost_dispatchers", "Dispatchers this server declared lost.")
        self._released = self._counter(
            "released_containers", "Containers of lost or retired dispatchers made TempFail."
        )
        self._expired = self._counter("expired_requests", "Requests cancelled at their expires_at.")
        self._outages = self._counter(
            "outage_seconds", "Time by which leases were extended, since no server had been there."
        )
        self._registry.register(_Queue(service))

    def answered(self, method: str, status: int, seconds: float | None) -> None:
        """Count one call; `seconds` is None for one that was held open."""
        self._requests.labels(method, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(method).observe(seconds)

    def holding(self, change: int) -> None:
        """One call more (1) or fewer (-1) is held open."""
        self._held.inc(change)

    def swept(self, report: SweepReport) -> None:
        """Count what a sweep did."""
        self._lost.inc(len(report.lost))
        self._released.inc(report.released)
        self._expired.inc(report.expired)
        self._outages.inc(report.outage_seconds)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format; asks the database."""
        return generate_latest(self._registry)

    def _counter(self, name: str, doc: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", doc, registry=self._registry)


class _Queue(Collector):
    """What the database knows, asked when somebody wants to hear it."""

    def __init__(self, service: Service) -> None:
        self._database = service.database

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: the database is not asked before the first scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """What is unfinished and why it waits, and for how long dispatchers have been silent."""
        with self._database.read() as conn:
            now = self._database.now(conn)
            queue = summarise(conn, now, true())
            alive = conn.execute(_ALIVE).all()
        yield from _of_queue(queue)
        silence = GaugeMetricFamily(
            f"{_PREFIX}_dispatcher_silence_seconds",
            "Seconds since the last ping of each dispatcher that is alive.",
            labels=["dispatcher"],
        )
        for name, last_ping_at in alive:
            silence.add_metric([name], (now - last_ping_at) / 1_000_000)
        yield silence


def _of_queue(queue: Summary) -> Iterable[Metric]:
    """All states and all reasons, 0 as well: a rule about one that is not there would never fire."""
    states = GaugeMetricFamily(
        f"{_PREFIX}_containers", "Unfinished containers by state.", labels=["state"]
    )
    for state in (ContainerState.QUEUED, ContainerState.LOCKED):
        states.add_metric([state.value], queue.number(state))
    states.add_metric([ContainerState.RUNNING.value], queue.running)
    yield states
    numbers = GaugeMetricFamily(
        f"{_PREFIX}_queued_containers",
        "Queued containers by the token of the reason for which they wait.",
        labels=["reason"],
    )
    waits = GaugeMetricFamily(
        f"{_PREFIX}_oldest_wait_seconds",
        "By reason, for how long the oldest Queued container could have run, by its creation or run_after.",
        labels=["reason"],
    )
    queued = {w.reason: w for w in queue.waiting if w.state == ContainerState.QUEUED}
    for token in ReasonToken:
        found = queued.get(token)
        numbers.add_metric([token.value], 0 if found is None else found.containers)
        waits.add_metric([token.value], 0.0 if found is None else found.oldest_wait_seconds)
    yield numbers
    yield waits
    yield GaugeMetricFamily(
        f"{_PREFIX}_claims_paused",
        "1 while the claims of all dispatchers are paused.",
        value=float(bool(queue.paused)),
    )
