"""Which existing container may serve a new request for the same work.

Pure: `requests` hands in the containers of the same content address. The order of preference is that of stock
Arvados (container.rb, find_reusable); the rules about times are those of the design page, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nodemanager.model import ContainerState


@dataclass(frozen=True, slots=True)
class Candidate:
    """A container of the content address that is looked for. Times are microseconds since 1970."""

    uuid: str
    state: ContainerState
    priority: int
    created_at: int
    run_after: int | None = None
    temp_fails: int = 0
    progress: float = 0.0
    started_at: int = 0
    finished_at: int = 0
    has_error: bool = False
    preemptible: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """The request that is being committed, as far as reuse goes."""

    preemptible: bool = False
    run_after: int | None = None
    joins_earlier: bool = False
    """It would take what is created or due before its own `run_after`."""
    ancestors: frozenset[str] = frozenset()
    """The containers that wait for this request, directly or not: joining one would wait for ever."""


def choose(wish: Wish, candidates: Sequence[Candidate], now: int) -> str | None:
    """The UUID of the best container to join, None when there is none.

    A finished one before a running one before a waiting one; of finished ones the oldest, of running ones
    the one that is furthest, of waiting ones the most urgent.
    """
    fitting = [c for c in candidates if _may_join(wish, c, now)]
    return min(fitting, key=_rank).uuid if fitting else None


def _may_join(wish: Wish, c: Candidate, now: int) -> bool:
    if c.uuid in wish.ancestors:
        return False
    if wish.run_after is not None and not wish.joins_earlier:
        due = c.created_at if c.run_after is None else max(c.created_at, c.run_after)
        if due < wish.run_after:
            return False
    match c.state:
        case ContainerState.COMPLETE:
            return True
        case ContainerState.RUNNING:
            return c.priority > 0 and not c.has_error
        case ContainerState.LOCKED:
            return c.priority > 0 and (wish.preemptible or not c.preemptible)
        case ContainerState.QUEUED:
            return (
                c.priority > 0
                and (wish.preemptible or not c.preemptible)
                and not _is_put_off(wish, c, now)
            )
        case _:
            return False


def _is_put_off(wish: Wish, c: Candidate, now: int) -> bool:
    """Whether it waits for a time that another request asked for, later than this one wants to begin.

    A wait between two attempts is no such time: it would be the same for the request on its own.
    """
    earliest = max(now, wish.run_after or now)
    return c.temp_fails == 0 and c.run_after is not None and c.run_after > earliest


def _rank(c: Candidate) -> tuple[float, ...]:
    match c.state:
        case ContainerState.COMPLETE:
            return (0, c.finished_at)
        case ContainerState.RUNNING:
            return (1, -c.progress, c.started_at)
        case ContainerState.LOCKED:
            return (2, -c.priority, c.created_at)
        case _:
            return (3, -c.priority, c.created_at)
