"""The queue in numbers: unfinished containers by state and by why they wait, without a look at each of them.

Of a container of which several dispatchers speak the mildest reason counts, as everywhere. Dispatchers speak of the
most urgent ones only; of the others their own records tell why they wait, if anything does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Subquery,
    and_,
    bindparam,
    case,
    func,
    literal,
    select,
    true,
)

from nodemanager.model import ContainerState
from nodemanager.reason import ReasonToken
from nodemanager.reason.counting import OF_QUEUED_ONES
from nodemanager.server import pauses
from nodemanager.server.access import restriction_of_list
from nodemanager.server.resources import RESOURCES
from nodemanager.server.schema import IS_QUEUED, containers, dispatchers, links
from nodemanager.server.transaction import Call, Transaction

_TOKENS = sorted(ReasonToken, key=lambda token: token.tier.value)
"""The mildest last: the place of a token is its rank, from 1."""

_c = containers.c
_rank = case(
    {token.value: rank for rank, token in enumerate(_TOKENS, 1)}, value=links.c.name, else_=0
)
_said = (
    select(links.c.head_uuid, func.max(_rank).label("rank"))
    .where(links.c.link_class == "dispatch")
    .group_by(links.c.head_uuid)
    .subquery("said")
)
_holder_said = (
    select(links.c.head_uuid, links.c.tail_uuid, _rank.label("rank"))
    .where(links.c.link_class == "dispatch", links.c.name.not_in([t.value for t in OF_QUEUED_ONES]))
    .subquery("holder_said")
)
"""Once a container is claimed, only its dispatcher's word counts, and no word about queued ones: `what_counts`."""
_due = case((_c.run_after > _c.created_at, _c.run_after), else_=_c.created_at)
_own = case(
    (_c.hold, literal(ReasonToken.ON_HOLD.value)),
    (
        _c.run_after > bindparam("now"),
        case(
            (_c.attempt > 1, literal(ReasonToken.BACKOFF.value)),
            else_=literal(ReasonToken.RUN_AFTER.value),
        ),
    ),
    else_=literal(""),
)


def _by_reason(said: Subquery, *on: ColumnElement[bool]) -> Select[Any]:
    return (
        select(
            _c.state,
            func.coalesce(said.c.rank, 0).label("rank"),
            _own.label("own"),
            func.count().label("number"),
            func.min(_due).label("due"),
        )
        .select_from(containers.outerjoin(said, and_(said.c.head_uuid == _c.uuid, *on)))
        .group_by("state", "rank", "own")
    )


# Through the dispatchers, since that is how the index of what is held begins.
_HELD_BY_THE_LIVING = _c.dispatcher.in_(
    select(dispatchers.c.uuid).where(dispatchers.c.state == "alive")
)
_QUEUED = _by_reason(_said).where(IS_QUEUED)
_LOCKED = _by_reason(_holder_said, _holder_said.c.tail_uuid == _c.dispatcher).where(
    _HELD_BY_THE_LIVING, _c.state == ContainerState.LOCKED.value
)
_RUNNING = (
    select(func.count()).select_from(containers).where(_HELD_BY_THE_LIVING, _c.state == "Running")
)


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """Containers that wait for one reason in one state."""

    state: str
    """Queued or Locked."""
    reason: ReasonToken
    containers: int
    oldest_wait_seconds: float
    """For how long the oldest could have run, by its creation or run_after."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "state": self.state,
            "reason": self.reason.value,
            "tier": self.reason.tier.name.lower(),
            "containers": self.containers,
            "oldest_wait_seconds": self.oldest_wait_seconds,
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of the queue, or of one user's part of it."""

    paused: str
    """Why no dispatcher may claim anything; empty when that is not so."""
    running: int
    waiting: tuple[WaitingFor, ...]
    """The most containers first."""

    def number(self, state: ContainerState) -> int:
        """How many wait in this state."""
        return sum(each.containers for each in self.waiting if each.state == state.value)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "paused": self.paused,
            "states": {
                "Queued": self.number(ContainerState.QUEUED),
                "Locked": self.number(ContainerState.LOCKED),
                "Running": self.running,
            },
            "oldest_wait_seconds": max((w.oldest_wait_seconds for w in self.waiting), default=0.0),
            "waiting": [each.as_dict() for each in self.waiting],
        }


def summary(tx: Transaction, _call: Call) -> dict[str, Any]:
    """``containers.summary``: of those that the caller may see."""
    seen = restriction_of_list(tx, RESOURCES["containers"])
    return summarise(tx.conn, tx.now, true() if seen is None else seen).as_dict()


def summarise(conn: Connection, now: int, seen: ColumnElement[bool]) -> Summary:
    """The numbers at `now`, in microseconds, of the containers for which `seen` holds."""
    paused = pauses.of_all(conn)
    waiting: dict[tuple[str, ReasonToken], WaitingFor] = {}
    for found in _counted(conn, now, seen, unsaid=_of_unsaid(paused)):
        key = found.state, found.reason
        other = waiting.get(key)
        waiting[key] = found if other is None else _together(found, other)
    return Summary(
        paused=paused,
        running=conn.execute(_RUNNING.where(seen)).scalar_one(),
        waiting=tuple(sorted(waiting.values(), key=lambda each: -each.containers)),
    )


def _counted(
    conn: Connection, now: int, seen: ColumnElement[bool], unsaid: ReasonToken
) -> Iterator[WaitingFor]:
    for question in (_QUEUED, _LOCKED):
        for row in conn.execute(question.where(seen), {"now": now}):
            if row.rank:
                token = _TOKENS[row.rank - 1]
            elif row.state == ContainerState.LOCKED:
                token = ReasonToken.SUBMITTING
            else:
                token = ReasonToken(row.own) if row.own else unsaid
            yield WaitingFor(row.state, token, row.number, max(0.0, (now - row.due) / 1_000_000))


def _of_unsaid(paused: str) -> ReasonToken:
    """The reason of those of which neither a dispatcher nor their record says anything."""
    return ReasonToken.CLAIMS_PAUSED if paused else ReasonToken.NOT_SEEN


def _together(one: WaitingFor, other: WaitingFor) -> WaitingFor:
    return WaitingFor(
        one.state,
        one.reason,
        one.containers + other.containers,
        max(one.oldest_wait_seconds, other.oldest_wait_seconds),
    )
