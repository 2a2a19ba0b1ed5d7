"""What the daemon counts and times, for Prometheus: every counter and histogram, in one registry.

Whoever does something worth counting says so here, such as ``metrics.CONTAINERS_CLAIMED.inc()``. What can be
read off the actors when somebody asks (queues, nodes, cost) is no counter: see `nodemanager.status.metrics`,
which also makes the text of ``GET /metrics``.

Names follow Prometheus' conventions: base units, ``_total`` for counters, ``_timestamp_seconds`` for moments (of
which the reader subtracts: a stuck loop cannot keep its own age from growing). A label has few values,
all of them known from the code or the config file: node sizes, tokens, operations; never a UUID or a
host. `tests/status/test_metrics_names.py` holds all that, docs/reference/metrics.md lists it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

PREFIX = "arvados_node_manager_"

# They would double the number of series, and tell nothing that the restart of the process does not.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_CALL_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""From a call on this machine to one that the API holds open, or a command of a busy scheduler."""
_WAIT_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400, 604800)
"""From an idle cluster to a week."""
_BOOT_SECONDS = (1, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600)
_PACKING_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True, slots=True)
class Declared:
    """What there is to know of a metric beside its values, for the reference and for tests."""

    name: str
    """Without the prefix, as a reader of samples knows it."""
    kind: str
    doc: str
    labels: tuple[str, ...]


DECLARED: list[Declared] = []
"""Every metric below, in order."""


def _counter(name: str, doc: str, *labels: str) -> Counter:
    DECLARED.append(Declared(name, "counter", doc, labels))
    return Counter(PREFIX + name, doc, labels, registry=REGISTRY)


def _gauge(name: str, doc: str, *labels: str) -> Gauge:
    DECLARED.append(Declared(name, "gauge", doc, labels))
    return Gauge(PREFIX + name, doc, labels, registry=REGISTRY)


def _histogram(name: str, doc: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    DECLARED.append(Declared(name, "histogram", doc, labels))
    return Histogram(PREFIX + name, doc, labels, buckets=buckets, registry=REGISTRY)


# Containers.

CONTAINERS_CLAIMED = _counter("containers_claimed_total", "Containers claimed.")
CONTAINERS_ADOPTED = _counter(
    "containers_adopted_total",
    "Containers taken up again that were claimed before this process, or its actors, started.",
)
CONTAINER_RETRIES = _counter(
    "container_retries_total",
    "Claimed containers that are another attempt, by how the attempt before ended: temp (TempFail), perm (PermFail).",
    "kind",
)
CONTAINERS_STARTED = _counter("containers_started_total", "Containers that became Running.")
CONTAINERS_FINISHED = _counter(
    "containers_finished_total",
    "Containers let go, by final state (Abandoned: this dispatcher was declared lost before) and by how their "
    "job ended (none: there was no job, or nobody asked any more).",
    "state",
    "end",
)
CONTAINER_STAGE_SECONDS = _histogram(
    "container_stage_duration_seconds",
    "How long containers were in each stage: claim (from creation, or run_after if later, to claimed), submit (to "
    "a job that the scheduler accepted), start (to Running), run (to the final state), as the dispatcher heard of it.",
    _WAIT_SECONDS,
    "stage",
)

# The API.

API_CALLS = _counter(
    "api_calls_total",
    "Calls of the Arvados API by method and outcome: ok, refused (4xx), unavailable (no usable answer).",
    "method",
    "outcome",
)
API_CALL_SECONDS = _histogram(
    "api_call_duration_seconds",
    "How long calls of the API took; containers.claim and containers.changes are held open until there is news.",
    _CALL_SECONDS,
    "method",
)
LAST_PING = _gauge(
    "last_ping_timestamp_seconds",
    "When the last ping was sent that renewed the lease; before the first one, when the actors were started.",
)
CLAIMS_PAUSED = _gauge(
    "claims_paused",
    "1 when an operator said that this dispatcher, or all of them, shall claim nothing.",
)
REGISTRATIONS = _counter(
    "dispatcher_registrations_total", "Times that this dispatcher registered at the API."
)
LOSSES = _counter("dispatcher_losses_total", "Times that the API said this dispatcher is lost.")

# The scheduler.

JOBS_SUBMITTED = _counter(
    "jobs_submitted_total",
    "Submissions by scheduler and outcome: accepted, refused (for good), busy (a limit of the site), unplaced (no "
    "node for it yet), unknown (the scheduler did not answer).",
    "scheduler",
    "outcome",
)
JOBS_CANCELLED = _counter(
    "jobs_cancelled_total", "Cancellations of jobs handed to the scheduler.", "scheduler"
)
SCHEDULER_CALL_SECONDS = _histogram(
    "scheduler_call_duration_seconds",
    "How long the calls of a scheduler module took, by call (submit, poll, nodes, cancel, ...) and outcome: ok, failed.",
    _CALL_SECONDS,
    "scheduler",
    "call",
    "outcome",
)
SCHEDULER_COMMAND_SECONDS = _histogram(
    "scheduler_command_duration_seconds",
    "How long commands of a scheduler took (sbatch, squeue, qstat, ...), by outcome: ok, failed (an exit status other "
    "than 0), silent (not started, too slow, or without end).",
    _CALL_SECONDS,
    "command",
    "outcome",
)
LAST_POLL = _gauge(
    "last_poll_timestamp_seconds",
    "When each source was last asked with success (before the first time, when the actors were started): scheduler, "
    "cloud, changes (of our containers, at the API, which holds the call open), queue (at the API). The label "
    "scheduler says which of several.",
    "source",
    "scheduler",
)

# Nodes.

CLOUD_REQUESTS = _counter(
    "cloud_requests_total",
    "Requests to the cloud by operation (list, create, destroy, tag) and outcome: ok, quota-exceeded, no-capacity, "
    "rate-limited, denied, gone, error.",
    "operation",
    "outcome",
)
CLOUD_REQUEST_SECONDS = _histogram(
    "cloud_request_duration_seconds", "How long they took.", _CALL_SECONDS, "operation"
)
CLOUD_THROTTLES = _counter(
    "cloud_throttles_total", "Times that the cloud said it is asked too often, so that all waited."
)
BOOT_OUTCOMES = _counter(
    "boot_outcomes_total",
    "How boots came out: joined, proved (of use), refused, failed, aborted (not wanted any more), disappeared. A "
    "boot that joined is counted again when it has proved itself, or failed.",
    "outcome",
    "size",
)
BOOT_SECONDS = _histogram(
    "boot_duration_seconds",
    "From the order of a node to the outcome of its boot: joined, refused, failed, aborted, disappeared.",
    _BOOT_SECONDS,
    "size",
    "outcome",
)
PACKING_SECONDS = _histogram(
    "packing_duration_seconds",
    "How long it took to pack everything that waits into nodes, for one decision of the arbiter.",
    _PACKING_SECONDS,
)

# The actors.

ACTOR_RESTARTS = _counter(
    "actor_restarts_total",
    "Restarts after the failure of an actor of this class. With one of the dispatcher's long-lived ones all of "
    "these are started anew.",
    "actor",
)


@contextmanager
def timing(note: Callable[[BaseException | None, float], object]) -> Iterator[None]:
    """Around a piece of work: `note` is told what it raised, if anything, and how many seconds it took."""
    began = time.perf_counter()
    try:
        yield
    except BaseException as error:
        note(error, time.perf_counter() - began)
        raise
    note(None, time.perf_counter() - began)
