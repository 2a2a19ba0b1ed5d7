"""Who wants a container, and how much: the requests that it serves, and its priority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from nodemanager.model import PRIORITY_STEP, ContainerState
from nodemanager.server import schema
from nodemanager.server.resources import Row

_r = schema.container_requests.c
_parent = schema.containers.alias("parent")

REQUESTS_OF = (
    select(
        schema.container_requests,
        _r.requesting_container_uuid.label("parent_uuid"),
        _parent.c.state.label("parent_state"),
        _parent.c.priority.label("parent_priority"),
    )
    .select_from(
        schema.container_requests.outerjoin(_parent, _parent.c.uuid == _r.requesting_container_uuid)
    )
    .where(_r.container_uuid == bindparam("container"), _r.state == "Committed")
)
"""The Committed requests of a container, each with what `Want.of` needs to know of its parent."""


@dataclass(frozen=True, slots=True)
class Want:
    """How much a request wants its container."""

    priority: int
    created_at: int
    """Microseconds since 1970."""
    parent_priority: int | None = None
    """Of the container that made the request; 0 when that one is over, None when a user made it."""

    @classmethod
    def of(cls, row: Row) -> Want:
        """From a row of `REQUESTS_OF`."""
        parent = None
        if row["parent_uuid"] is not None:
            state = row["parent_state"]
            is_live = state is not None and ContainerState(state).is_live
            parent = row["parent_priority"] if is_live else 0
        return cls(row["priority"], row["created_at"], parent)


def priority_of(wanted: Sequence[Want]) -> int:
    """A container's priority: that of the most urgent who want it, 0 when nobody does.

    As in Arvados: a container that was asked for by another has that one's priority; otherwise urgency
    counts first, then who asked earlier.
    """
    return max(
        (
            w.priority * PRIORITY_STEP - w.created_at // 1000
            if w.parent_priority is None
            else w.parent_priority
            for w in wanted
            if w.priority > 0
        ),
        default=0,
    )
