"""What is left of machines that are gone or never came: records at the API, and places in the scheduler.

Most are given back by the node's own actor. Left over are those of nodes whose actor could not: it crashed, or the
daemon did, or the create failed in a way that does not rule out that the machine turns up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from nodemanager.api.nodes import NodeRecord
from nodemanager.model import Node, NodeState
from nodemanager.nodes.messages import NodeStanding

ORPHAN_SECONDS = 600.0
"""For so long a record or place that no machine is known for is kept: a machine whose create was lost may still
turn up."""

_MAY_BE_ORPHANED = frozenset({NodeState.DOWN, NodeState.UNKNOWN})


def orphaned_records(
    records: Iterable[NodeRecord], dispatcher: str, orders: Collection[str], wall: float
) -> Iterator[NodeRecord]:
    """Those that `dispatcher` made for orders that are none of `orders`, silent for long at wall clock `wall`."""
    for record in records:
        ours = record.dispatcher == dispatcher and bool(record.order)
        silent = wall - record.seen_at > ORPHAN_SECONDS
        if ours and silent and record.order not in orders:
            yield record


class Places:
    """Under which names the scheduler keeps places for machines, as far as that is known."""

    def __init__(self) -> None:
        self._kept: set[str] = set()
        """For nodes whose actors have not given them back."""
        self._orphaned_since: dict[str, float] = {}

    @property
    def hosts(self) -> frozenset[str]:
        """Names that no other machine may get."""
        return frozenset(self._kept)

    def note(self, standing: NodeStanding) -> None:
        """A node of ours is so, also when that is the last that is heard of it."""
        if standing.admitted:
            self._kept.add(standing.host)
        else:
            self._kept.discard(standing.host)

    def orphans(self, hosts: Collection[str], nodes: Iterable[Node], now: float) -> list[str]:
        """Places to give back at `now`: for long no machine was known for them.

        `hosts` are those of all machines that exist or are being made, whoever ordered them, and `nodes` what the
        scheduler has, both as they were heard just now. A node that is up has a machine, known or not.
        """
        left = {n.name for n in nodes if n.admitted and n.state in _MAY_BE_ORPHANED}
        left = (left | self._kept) - set(hosts)
        self._orphaned_since = {host: self._orphaned_since.get(host, now) for host in left}
        due = [host for host, at in self._orphaned_since.items() if now - at >= ORPHAN_SECONDS]
        for host in due:
            self._kept.discard(host)
            del self._orphaned_since[host]
        return sorted(due)
