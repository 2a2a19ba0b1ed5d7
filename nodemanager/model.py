"""The words of the trade as values: states, resources, containers, dispatchers, nodes.

Everything here is frozen and free of I/O. Times are Unix seconds (float, UTC); amounts of memory and
disk are bytes (int). States and transitions are those of the design page, section 5.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from nodemanager.rule import Rule

UUID_INFIX = {
    "container_request": "xvhdp",
    "container": "dz642",
    "dispatcher": "bmxii",
    "link": "o0j2j",
    "log": "57u5n",
    "node": "7ekkf",
    "api_client_authorization": "gj3su",
    "user": "tpzed",
}
_UUID_ALPHABET = string.digits + string.ascii_lowercase


def new_uuid(cluster_id: str, kind: str) -> str:
    """A fresh Arvados UUID, such as ``zzzzz-dz642-`` and 15 random characters."""
    tail = "".join(secrets.choice(_UUID_ALPHABET) for _ in range(15))
    return f"{cluster_id}-{UUID_INFIX[kind]}-{tail}"


class ContainerState(StrEnum):
    """The life of one attempt; `CONTAINER_TRANSITIONS` says what may follow what."""

    QUEUED = "Queued"
    """Waiting for a dispatcher to claim it."""
    LOCKED = "Locked"
    """Claimed by one dispatcher, for ever; its command has not started."""
    RUNNING = "Running"
    """One runner confirmed itself (`runner_id`) and may start the command."""
    COMPLETE = "Complete"
    """The command exited 0 and its output is durable. Final."""
    PERMFAIL = "PermFail"
    """The program failed; running it again counts against `container_count_max`. Final."""
    TEMPFAIL = "TempFail"
    """The infrastructure failed; the API queues another attempt after a backoff. Final."""
    CANCELLED = "Cancelled"
    """Nobody wants it any more. Final."""

    @property
    def is_final(self) -> bool:
        """A final state never changes."""
        return not CONTAINER_TRANSITIONS[self]

    @property
    def is_live(self) -> bool:
        """Held by a dispatcher: Locked or Running."""
        return self in (ContainerState.LOCKED, ContainerState.RUNNING)


CONTAINER_TRANSITIONS: Mapping[ContainerState, frozenset[ContainerState]] = {
    ContainerState.QUEUED: frozenset({ContainerState.LOCKED, ContainerState.CANCELLED}),
    ContainerState.LOCKED: frozenset(
        {
            ContainerState.RUNNING,
            ContainerState.TEMPFAIL,
            ContainerState.PERMFAIL,
            ContainerState.CANCELLED,
        }
    ),
    ContainerState.RUNNING: frozenset(
        {
            ContainerState.COMPLETE,
            ContainerState.PERMFAIL,
            ContainerState.TEMPFAIL,
            ContainerState.CANCELLED,
        }
    ),
    ContainerState.COMPLETE: frozenset(),
    ContainerState.PERMFAIL: frozenset(),
    ContainerState.TEMPFAIL: frozenset(),
    ContainerState.CANCELLED: frozenset(),
}


class RequestState(StrEnum):
    """The life of a container request."""

    UNCOMMITTED = "Uncommitted"
    """Still being edited by its owner."""
    COMMITTED = "Committed"
    """Wanted: it has a container."""
    FINAL = "Final"
    """Its last container is final and there will be no other."""


REQUEST_TRANSITIONS: Mapping[RequestState, frozenset[RequestState]] = {
    RequestState.UNCOMMITTED: frozenset({RequestState.COMMITTED}),
    RequestState.COMMITTED: frozenset({RequestState.FINAL}),
    RequestState.FINAL: frozenset(),
}


class DispatcherState(StrEnum):
    """The life of a dispatcher's record."""

    ALIVE = "alive"
    """Pings within the timeout."""
    LOST = "lost"
    """Was silent past the timeout: every write of it is refused, for good."""
    RETIRED = "retired"
    """Taken out of service by an operator."""


class JobState(StrEnum):
    """What a batch scheduler says of a job, in our words."""

    WAITING = "waiting"
    """Accepted, not started."""
    RUNNING = "running"
    """On a node."""
    ENDED = "ended"
    """Over; `Job.end` says how."""
    UNKNOWN = "unknown"
    """The scheduler used a word we do not know: neither running nor gone."""


class NodeState(StrEnum):
    """What a batch scheduler says of a node, in our words."""

    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    """Takes no new work; still busy."""
    DRAINED = "drained"
    """Takes no new work; idle."""
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a container needs or a node has: whole cores, bytes of RAM and scratch, GPUs."""

    cores: int
    ram_bytes: int
    scratch_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.cores + other.cores,
            self.ram_bytes + other.ram_bytes,
            self.scratch_bytes + other.scratch_bytes,
            self.gpus + other.gpus,
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            self.cores - other.cores,
            self.ram_bytes - other.ram_bytes,
            self.scratch_bytes - other.scratch_bytes,
            self.gpus - other.gpus,
        )

    def as_dict(self) -> dict[str, int]:
        """The form used in dispatcher capabilities and reason facts."""
        return {
            "cores": self.cores,
            "ram_bytes": self.ram_bytes,
            "scratch_bytes": self.scratch_bytes,
            "gpus": self.gpus,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Resources:
        """The inverse of `as_dict`; a resource that is not named is 0."""
        return cls(
            cores=int(value.get("cores", 0)),
            ram_bytes=int(value.get("ram_bytes", 0)),
            scratch_bytes=int(value.get("scratch_bytes", 0)),
            gpus=int(value.get("gpus", 0)),
        )


def resources_of(record: Mapping[str, Any]) -> Resources:
    """What a container (or container request) record asks for.

    Cores, RAM and GPUs come from `runtime_constraints`; scratch is the sum of the `capacity` of its tmp
    mounts, as crunch-dispatch-slurm reckons it. `keep_cache_ram` is added to the RAM, as in Arvados.
    """
    constraints = record.get("runtime_constraints") or {}
    mounts = record.get("mounts") or {}
    scratch = sum(int(m.get("capacity") or 0) for m in mounts.values() if m.get("kind") == "tmp")
    return Resources(
        cores=int(constraints.get("vcpus") or 1),
        ram_bytes=int(constraints.get("ram") or 0) + int(constraints.get("keep_cache_ram") or 0),
        scratch_bytes=scratch,
        gpus=int((constraints.get("gpu") or {}).get("device_count") or 0),
    )


PRIORITY_STEP = 1 << 50
"""The API makes a container's priority from its user's (1 to 1000) times this, minus the time of its creation
in milliseconds, as stock Arvados does: so the older one of equals is the more urgent."""


Properties: TypeAlias = tuple[tuple[str, str], ...]
"""Keys and texts, sorted."""


def properties_of(scheduling: Mapping[str, Any]) -> Properties:
    """The `properties` of scheduling parameters, by which a rule may choose; stock Arvados has none."""
    return tuple(sorted((str(k), str(v)) for k, v in (scheduling.get("properties") or {}).items()))


class Wanted(Protocol):
    """What is looked at to tell whether a container, or its job, fits."""

    @property
    def resources(self) -> Resources:
        """What it needs."""

    @property
    def partitions(self) -> tuple[str, ...]:
        """It wants to run in one of these; empty means any."""

    @property
    def preemptible(self) -> bool:
        """It bears nodes that can be taken away."""

    @property
    def properties(self) -> Properties:
        """Texts by key that its owner gave it, for rules to look at."""


@dataclass(frozen=True, slots=True)
class Container:
    """One attempt, as a dispatcher sees it. `from_record` reads an API record."""

    uuid: str
    state: ContainerState
    priority: int
    resources: Resources
    created_at: float
    modified_at: float = 0.0
    run_after: float | None = None
    attempt: int = 1
    temp_fails: int = 0
    """TempFails in a row before this attempt."""
    dispatcher: str | None = None
    scheduler_job: str | None = None
    """Batch and task index when the container is part of an array job; None for a single job."""
    previous: str | None = None
    """The attempt before this one; its job has to be gone before ours is submitted."""
    partitions: tuple[str, ...] = ()
    preemptible: bool = False
    max_run_seconds: int = 0
    """0 means no limit."""
    hold: bool = False
    """Not to be claimed until an operator releases it."""
    hold_reason: str = ""
    """Who holds it and why; empty in records of before there was such a word."""
    error: str = ""
    """`runtime_status.error`: for a queued retry, how the attempt before it ended."""
    properties: Properties = ()
    """Of its scheduling parameters: what rules of several schedulers may look at."""
    avoid: str | None = None
    """The dispatcher that handed it back; it is not offered to that one before `avoid_until`."""
    avoid_until: float = 0.0

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Container:
        """Read a container record of the API (a mapping with the stock field names and ours)."""
        scheduling = record.get("scheduling_parameters") or {}
        return cls(
            uuid=record["uuid"],
            state=ContainerState(record["state"]),
            priority=int(record["priority"]),
            resources=resources_of(record),
            created_at=parse_time(record["created_at"]),
            modified_at=parse_time(record["modified_at"]),
            run_after=parse_time(record["run_after"]) if record.get("run_after") else None,
            attempt=int(record.get("attempt") or 1),
            temp_fails=int(record.get("temp_fails") or 0),
            dispatcher=record.get("dispatcher"),
            scheduler_job=record.get("scheduler_job"),
            previous=record.get("previous_uuid"),
            partitions=tuple(scheduling.get("partitions") or ()),
            preemptible=bool(scheduling.get("preemptible")),
            max_run_seconds=int(scheduling.get("max_run_time") or 0),
            hold=bool(record.get("hold")),
            hold_reason=str(record.get("hold_reason") or ""),
            error=str((record.get("runtime_status") or {}).get("error") or ""),
            properties=properties_of(scheduling),
            avoid=record.get("avoid_dispatcher"),
            avoid_until=parse_time(record["avoid_until"]) if record.get("avoid_until") else 0.0,
        )


def due_at(container: Container) -> float:
    """Since when it could run as far as its owner is concerned: its creation, or its run_after if that is later."""
    created_at, run_after = container.created_at, container.run_after
    return created_at if run_after is None or run_after < created_at else run_after


def user_priority(priority: int) -> int:
    """From 1 to 1000, as users know it; see `PRIORITY_STEP`."""
    return -(-priority // PRIORITY_STEP)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a dispatcher can run at all, however long one waits.

    `largest` are the nodes none of which is smaller than another in every resource (so one of them
    fits whatever any node fits); `partitions` empty means that partitions are not used. These two sum up what
    `by_partition` has in full.
    """

    largest: tuple[Resources, ...]
    partitions: tuple[str, ...] = ()
    preemptible: tuple[Resources, ...] = ()
    """The largest of the nodes that can be taken away: for containers only that say they bear that."""
    routes: tuple[Route, ...] = ()
    """Where the dispatcher has several schedulers: whatever one of these takes can be run, nothing else, and
    the other fields sum up what there is."""
    by_partition: tuple[PartitionNodes, ...] = ()
    """What there is in each partition, where partitions are used; of an older version nothing but the sum."""

    def as_dict(self) -> dict[str, Any]:
        """The form kept in the dispatcher's record."""
        value: dict[str, Any] = {
            "largest": [r.as_dict() for r in self.largest],
            "partitions": list(self.partitions),
            "preemptible": [r.as_dict() for r in self.preemptible],
        }
        if self.by_partition:
            value["by_partition"] = [each.as_dict() for each in self.by_partition]
        if self.routes:
            value["routes"] = [route.as_dict() for route in self.routes]
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Capabilities:
        """The inverse of `as_dict`."""
        return cls(
            largest=tuple(Resources.from_dict(r) for r in value.get("largest") or ()),
            partitions=tuple(value.get("partitions") or ()),
            preemptible=tuple(Resources.from_dict(r) for r in value.get("preemptible") or ()),
            routes=tuple(Route.from_dict(r) for r in value.get("routes") or ()),
            by_partition=tuple(
                PartitionNodes.from_dict(p) for p in value.get("by_partition") or ()
            ),
        )


@dataclass(frozen=True, slots=True)
class PartitionNodes:
    """The largest nodes of one partition."""

    name: str
    """Empty for the nodes that name none: these are in every partition."""
    largest: tuple[Resources, ...]
    preemptible: tuple[Resources, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The form in the dispatcher's record."""
        return {
            "name": self.name,
            "largest": [r.as_dict() for r in self.largest],
            "preemptible": [r.as_dict() for r in self.preemptible],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PartitionNodes:
        """The inverse of `as_dict`."""
        return cls(
            name=str(value.get("name") or ""),
            largest=tuple(Resources.from_dict(r) for r in value.get("largest") or ()),
            preemptible=tuple(Resources.from_dict(r) for r in value.get("preemptible") or ()),
        )


@dataclass(frozen=True, slots=True)
class Route:
    """One of a dispatcher's schedulers: what it accepts, and what could run there."""

    scheduler: str
    """Its name, as in `[Scheduler NAME]`."""
    rule: Rule
    capabilities: Capabilities
    """Those of its own nodes, without routes."""

    def as_dict(self) -> dict[str, Any]:
        """The form in the dispatcher's record."""
        return {
            "scheduler": self.scheduler,
            "rule": self.rule.as_dict(),
            **self.capabilities.as_dict(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Route:
        """The inverse of `as_dict`; `ValueError` for a rule that is none."""
        return cls(
            scheduler=str(value.get("scheduler") or ""),
            rule=Rule.from_dict(value.get("rule") or {}),
            capabilities=Capabilities.from_dict(value),
        )


@dataclass(frozen=True, slots=True)
class Node:
    """One machine as the batch scheduler lists it."""

    name: str
    state: NodeState
    total: Resources
    free: Resources
    partitions: tuple[str, ...] = ()
    reason: str = ""
    """The scheduler's or operator's words for a node that takes no work."""
    preemptible: bool = False
    """It can be taken away at any time (spot): only for containers that said they bear that."""
    admitted: bool = False
    """It is there because a node manager of this cluster had it admitted: with its machine it has to go."""
    machine: str = ""
    """The cloud's id of its machine, where the scheduler knows it: a node need not have the name that we gave."""


NODE_VARIABLE = "NODEMANAGER_NODE"
"""In a job's environment, its node's name, where that is not the name of the machine the job sees."""


@dataclass(frozen=True, slots=True)
class NodeSize:
    """A kind of node that can be booted: a `[Size NAME]` of the config file."""

    name: str
    """The section's name; what tags, logs and limits speak of."""
    resources: Resources
    """What containers can have of such a node."""
    price: float
    """Per hour, in the currency of the config file."""
    instance_type: str = ""
    """The cloud's own name for it; several sizes may share one. Empty: the same as `name`."""
    preemptible: bool = False
    partitions: tuple[str, ...] = ()

    @property
    def cloud_name(self) -> str:
        """What to ask the cloud for."""
        return self.instance_type or self.name


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `--check`: `problem` empty means that it is well."""

    subject: str
    detail: str = ""
    problem: str = ""


STORE_PREFIX = "store:"


def stored_output(path: str) -> tuple[str, str] | None:
    """The container and the path below its output that ``store:<container uuid>/output/<path>`` names.

    That is how a mount of kind `file` takes what another container has left. None for any other text.
    """
    uuid, _, rest = path.removeprefix(STORE_PREFIX).partition("/")
    parts = rest.split("/")
    if not path.startswith(STORE_PREFIX) or len(parts) < 2 or parts[0] != "output":
        return None
    if "\0" in path or not {"", ".", ".."}.isdisjoint(parts):
        return None
    return uuid, "/".join(parts[1:])


def parse_time(text: str) -> float:
    """Unix seconds of an API time such as ``2026-01-31T12:00:00.123456789Z``.

    Raises `ValueError` for anything else, and for a time without a zone; `OverflowError` for one that is in
    no year from 1 to 9999 in UTC, which nothing could print.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        msg = f"time without a zone: {text!r}"
        raise ValueError(msg)
    return moment.astimezone(UTC).timestamp()


def parse_optional_time(text: str | None) -> float | None:
    """The same of a time that may not be there."""
    return None if text is None else parse_time(text)


def format_time(seconds: float) -> str:
    """The API's form of a time: nine fraction digits, of which the last three are zero."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z"


def format_bytes(amount: int) -> str:
    """For people: ``1.5 GiB``, ``512 MiB``, ``17 B``."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"


def format_seconds(seconds: float) -> str:
    """For people: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
