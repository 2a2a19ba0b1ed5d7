"""Everything that the API tells of one container: its request, its attempts, and why it waited when.

What `why` prints, and what the page of one container shows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from nodemanager.api.connection import call, list_all, list_those
from nodemanager.clock import Clock, SystemClock
from nodemanager.errors import ApiRefused
from nodemanager.model import (
    UUID_INFIX,
    Container,
    ContainerState,
    format_time,
    parse_optional_time,
    parse_time,
)
from nodemanager.reason import Reason
from nodemanager.reason.counting import what_counts
from nodemanager.reason.queued import unsaid

MOST_ATTEMPTS = 200
"""Of one story, the newest; the number of the first tells whether there were others before."""

MOST_CHANGES = 300
"""In the history of one story, the newest."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One container of a request. Times are Unix seconds."""

    uuid: str
    number: int
    """1 for the first."""
    state: ContainerState
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    run_after: float | None = None
    dispatcher: str = ""
    """UUID of who claimed it."""
    node: str = ""
    error: str = ""
    """How it failed; empty for one that waits."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of that, such as asked and limit."""
    exit_code: int | None = None
    temp_fails: int = 0
    hold: bool = False
    log: str = ""
    """Where its logs are."""
    output: str = ""
    """Where what it made is."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; times are those of the API."""
        return {
            "uuid": self.uuid,
            "number": self.number,
            "state": self.state.value,
            "created_at": format_time(self.created_at),
            "started_at": _time(self.started_at),
            "finished_at": _time(self.finished_at),
            "run_after": _time(self.run_after),
            "dispatcher": self.dispatcher,
            "node": self.node,
            "error": self.error,
            "facts": dict(self.facts),
            "exit_code": self.exit_code,
            "temp_fails": self.temp_fails,
            "hold": self.hold,
            "log": self.log,
            "output": self.output,
        }


@dataclass(frozen=True, slots=True)
class SaidReason:
    """What one dispatcher says now."""

    dispatcher: str
    """Its UUID; empty where no dispatcher has said anything yet, and the record itself tells the reason."""
    name: str
    """What its operator calls it."""
    reason: Reason
    last_checked: float | None = None
    """When that dispatcher last went through its work."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what `Reason.as_dict` gives, and who says so."""
        return {
            **self.reason.as_dict(),
            "dispatcher": self.dispatcher,
            "dispatcher_name": self.name,
            "last_checked": _time(self.last_checked),
        }


@dataclass(frozen=True, slots=True)
class ReasonChange:
    """A reason began, or (None) there was none any more."""

    at: float
    container: str
    dispatcher: str
    reason: Reason | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "at": format_time(self.at),
            "container": self.container,
            "dispatcher": self.dispatcher,
            "reason": None if self.reason is None else self.reason.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Story:
    """One container request with all its attempts, or a container that no request names any more."""

    request: str
    """UUID; empty when there is none."""
    name: str
    request_state: str
    priority: int
    attempts: tuple[Attempt, ...]
    """Oldest first; the last is the current one. Never empty."""
    reasons: tuple[SaidReason, ...] = ()
    """Of the current attempt, mildest first: the first is the one to show. Never empty while it waits."""
    history: tuple[ReasonChange, ...] = ()
    """Oldest first, of all attempts."""

    @property
    def current(self) -> Attempt:
        """The attempt that counts."""
        return self.attempts[-1]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "request": self.request,
            "name": self.name,
            "request_state": self.request_state,
            "priority": self.priority,
            "attempts": [attempt.as_dict() for attempt in self.attempts],
            "reasons": [said.as_dict() for said in self.reasons],
            "history": [change.as_dict() for change in self.history],
        }


def read_story(resource: Any, uuid: str, clock: Clock | None = None) -> Story:
    """The story of a container request, or of that of a container, by UUID.

    `resource` is the client object that `connection.connect` made; what its token may not see is not in the story. Of
    several requests that share the container it is the oldest. `clock` tells whether a time has come. These are several
    calls: the parts may be moments apart. Raises `ApiRefused` (404: no such record, or none that this token may see)
    and `ApiUnavailable`.
    """
    now = (clock or SystemClock()).wall()
    match uuid.split("-"):
        case [_, infix, _] if infix == UUID_INFIX["container_request"]:
            asked = call(resource.container_requests().get(uuid=uuid))
            return _story_of(resource, asked, _numbered(resource, uuid), now)
        case [_, infix, _] if infix == UUID_INFIX["container"]:
            container = call(resource.containers().get(uuid=uuid))
            request, numbered = _request_of(resource, container)
            return _story_of(resource, request, numbered, now)
        case _:
            raise _not_found(f"{uuid} is the UUID of neither a container nor a container request")


_REQUEST_FIELDS = ("uuid", "name", "state", "priority", "created_at")
_CONTAINER_FIELDS = (
    "uuid",
    "state",
    "priority",
    "created_at",
    "started_at",
    "finished_at",
    "run_after",
    "attempt",
    "temp_fails",
    "hold",
    "dispatcher",
    "runtime_status",
    "exit_code",
    "log",
    "output",
    "modified_at",
    "runtime_constraints",
    "scheduling_parameters",
    "mounts",
)

_WAITS = (ContainerState.QUEUED, ContainerState.LOCKED)

_Record = Mapping[str, Any]
_Numbered = Mapping[str, int]
"""The number of each attempt of one request, by the UUID of its container."""


def _numbered(resource: Any, request_uuid: str) -> _Numbered:
    items = call(resource.container_requests().attempts(uuid=request_uuid))["items"]
    return {item["container_uuid"]: int(item["attempt"]) for item in items[-MOST_ATTEMPTS:]}


def _request_of(resource: Any, container: _Record) -> tuple[_Record | None, _Numbered]:
    """The oldest request of which this is an attempt; None when it is none's any more."""
    uuid = container["uuid"]
    requests = list_those(
        resource.container_requests(),
        "container_uuid",
        _line(resource, container),
        [],
        _REQUEST_FIELDS,
    )
    for request in sorted(requests, key=lambda record: (record["created_at"], record["uuid"])):
        numbered = _numbered(resource, request["uuid"])
        # A request that joined a later attempt has nothing to do with this one.
        if uuid in numbered:
            return request, numbered
    return None, {uuid: int(container["attempt"] or 1)}


def _line(resource: Any, container: _Record) -> Sequence[str]:
    """The container and the attempts that came after it: a request names its last one only."""
    line = [str(container["uuid"])]
    if container["state"] not in (ContainerState.TEMPFAIL, ContainerState.PERMFAIL):
        return line
    later = [
        ["content_address", "=", container["content_address"]],
        ["attempt", ">", container["attempt"]],
    ]
    found = list_all(resource.containers(), later, ("uuid", "previous_uuid"))
    following = {record["previous_uuid"]: str(record["uuid"]) for record in found}
    while line[-1] in following:
        line.append(following[line[-1]])
    return line


def _story_of(resource: Any, request: _Record | None, numbered: _Numbered, now: float) -> Story:
    found = list_those(resource.containers(), "uuid", list(numbered), [], _CONTAINER_FIELDS)
    records = sorted(found, key=lambda record: numbered[record["uuid"]])
    if not records:
        name = "it" if request is None else f"{request['uuid']}, which is {request['state']},"
        raise _not_found(f"{name} has no container")
    attempts = tuple(_attempt(record, numbered[record["uuid"]]) for record in records)
    return Story(
        request="" if request is None else request["uuid"],
        name="" if request is None else request["name"] or "",
        request_state="" if request is None else request["state"],
        priority=(records[-1] if request is None else request)["priority"],
        attempts=attempts,
        reasons=_said(resource, records[-1], now),
        history=_history(resource, [attempt.uuid for attempt in attempts]),
    )


def _attempt(record: _Record, number: int) -> Attempt:
    status = record["runtime_status"] or {}
    state = ContainerState(record["state"])
    # One that waits was given the words of the attempt before it.
    waits = state in _WAITS
    return Attempt(
        uuid=record["uuid"],
        number=number,
        state=state,
        created_at=parse_time(record["created_at"]),
        started_at=parse_optional_time(record["started_at"]),
        finished_at=parse_optional_time(record["finished_at"]),
        run_after=parse_optional_time(record["run_after"]),
        dispatcher=record["dispatcher"] or "",
        node=str(status.get("node") or ""),
        error="" if waits else str(status.get("error") or ""),
        facts={} if waits else dict(status.get("facts") or {}),
        exit_code=record["exit_code"],
        temp_fails=int(record["temp_fails"] or 0),
        hold=bool(record["hold"]),
        log=record["log"] or "",
        output=record["output"] or "",
    )


def _said(resource: Any, record: _Record, now: float) -> tuple[SaidReason, ...]:
    """What the dispatchers say of the container, mildest first; what its record tells, where none does."""
    container = Container.from_record(record)
    if container.state not in _WAITS:
        return ()
    about = [["link_class", "=", "dispatch"], ["head_uuid", "=", container.uuid]]
    links = list_all(resource.links(), about, ("uuid", "tail_uuid", "properties"))
    read = {link["tail_uuid"]: _reason(link["properties"]) for link in links}
    known = {tail: reason for tail, reason in read.items() if reason is not None}
    counting = what_counts(known, container.state, container.dispatcher)
    tails = [tail for tail, _ in counting]
    asked = [["uuid", "in", tails]] if tails else [["state", "=", "alive"]]
    found = list_all(resource.dispatchers(), asked, ("uuid", "name", "last_turn_at"))
    dispatchers = {record["uuid"]: record for record in found}
    if not counting:
        return (SaidReason("", "", unsaid(container, now, len(dispatchers))),)
    said = []
    for tail, reason in counting:
        by = dispatchers.get(tail, {})
        turn = parse_optional_time(by.get("last_turn_at"))
        said.append(SaidReason(tail, by.get("name") or "", reason, turn))
    return tuple(said)


def _history(resource: Any, containers: Collection[str]) -> tuple[ReasonChange, ...]:
    page = call(
        resource.logs().list(
            filters=[["event_type", "=", "dispatch"], ["object_uuid", "in", list(containers)]],
            order="event_at desc",
            limit=MOST_CHANGES,
            select=["uuid", "object_uuid", "event_at", "properties"],
            count="none",
        )
    )
    return tuple(_changes(reversed(page["items"])))


def _changes(entries: Iterable[_Record]) -> Iterable[ReasonChange]:
    for entry in entries:
        properties = entry["properties"] or {}
        reason = _reason(properties)
        # Anybody may write logs: what is none of ours is passed over.
        if reason is not None or "token" not in properties:
            yield ReasonChange(
                at=parse_time(entry["event_at"]),
                container=entry["object_uuid"],
                dispatcher=str(properties.get("dispatcher") or ""),
                reason=reason,
            )


def _reason(properties: _Record) -> Reason | None:
    """None for what cannot be read, such as a token of a later version."""
    try:
        return Reason.from_dict(properties)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _not_found(words: str) -> ApiRefused:
    return ApiRefused(words, HTTPStatus.NOT_FOUND)


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(seconds)
