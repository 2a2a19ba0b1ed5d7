"""The node actors of an arbiter: which there are, and how each stands."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nodemanager.actors.actor import tell_if_alive
from nodemanager.api.nodes import NodeRecord, pairs
from nodemanager.clouds.base import SIZE_TAG, CloudNode
from nodemanager.model import Node, NodeSize
from nodemanager.nodes.messages import CloudIs, NodeStanding, RecordIs, Ref, SchedulerIs
from nodemanager.nodes.node import NodeActor
from nodemanager.nodes.order import host_of
from nodemanager.nodes.states import NodePhase
from nodemanager.nodes.surroundings import InUse, NodeSurroundings

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Member:
    actor: Ref
    standing: NodeStanding


class Fleet:
    """The nodes of ours, by name."""

    def __init__(self, sizes: Iterable[NodeSize]) -> None:
        self._sizes = {size.name: size for size in sizes}
        self._members: dict[str, _Member] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._members

    @property
    def standings(self) -> tuple[NodeStanding, ...]:
        """How all of them are."""
        return tuple(member.standing for member in self._members.values())

    @property
    def hosts(self) -> frozenset[str]:
        """Their names in the scheduler."""
        return frozenset(member.standing.host for member in self._members.values())

    @property
    def existing(self) -> int:
        """Machines that the cloud has made: those that count against a quota."""
        uncounted = (NodePhase.ASKED, NodePhase.GONE)
        return sum(standing.phase not in uncounted for standing in self.standings)

    # Who belongs to it.

    def boot(self, around: NodeSurroundings, size: NodeSize, other_hosts: frozenset[str]) -> None:
        """Start the actor of a new node, which may not join under one of `other_hosts`."""
        name = around.template.new_name()
        records = frozenset(standing.record_uuid for standing in self.standings)
        actor = NodeActor.boot(around, name, size, InUse(records, self.hosts | other_hosts))
        wall = around.clock.wall()
        self._members[name] = _Member(actor, NodeStanding(name, name, size, NodePhase.ASKED, wall))

    def adopt(self, around: NodeSurroundings, cloud: CloudNode) -> None:
        """Start an actor for a machine that exists."""
        word = cloud.tags.get(SIZE_TAG, "")
        log.info(
            "taking up %s, of size %s",
            cloud.name,
            word or "unknown",
            extra={"action": "node_adopted", "node": cloud.name, "size": word},
        )
        size = self._sizes.get(word)
        actor = NodeActor.adopt(around, cloud, size)
        wall = around.clock.wall()
        self._members[cloud.name] = _Member(
            actor,
            NodeStanding(cloud.name, host_of(cloud), size, NodePhase.BOOTING, wall, cloud.cloud_id),
        )

    def note(self, standing: NodeStanding) -> NodeStanding | None:
        """Take down how a node is, and say how it was; None when it is none of ours. One that is gone
        belongs to it no more."""
        member = self._members.get(standing.name)
        if member is None:
            return None
        before, member.standing = member.standing, standing
        if before.phase is not standing.phase:
            log.info(
                "%s is %s",
                standing.name,
                standing.phase.value,
                extra={
                    "action": "node_phase",
                    "node": standing.name,
                    "host": standing.host,
                    "cloud_id": standing.cloud_id,
                    "phase": standing.phase.value,
                },
            )
        if standing.phase is NodePhase.GONE:
            del self._members[standing.name]
        return before

    def crashed(self, name: str, actor: Ref) -> bool:
        """Its actor is no more; False when that is old news."""
        member = self._members.get(name)
        if member is None or member.actor != actor:
            return False
        del self._members[name]
        return True

    def stop(self) -> None:
        """Stop all actors; machines stay as they are."""
        for member in self._members.values():
            member.actor.stop(block=False)

    # What they are told.

    def tell(self, name: str, message: Any) -> bool:
        """Tell the node of that name; False when there is none."""
        member = self._members.get(name)
        if member is not None:
            tell_if_alive(member.actor, message)
        return member is not None

    def tell_all(self, message: Any) -> None:
        """Tell every node."""
        for member in self._members.values():
            tell_if_alive(member.actor, message)

    def show_cloud(self, listed: Mapping[str, CloudNode], asked_at: float) -> None:
        """Tell each how a list of the cloud has it."""
        for name, member in self._members.items():
            tell_if_alive(member.actor, CloudIs(listed.get(name), asked_at))

    def show_scheduler(self, nodes: Mapping[str, Node], asked_at: float) -> None:
        """Tell each how a view of the scheduler has it."""
        for member in self._members.values():
            node = nodes.get(member.standing.host)
            tell_if_alive(member.actor, SchedulerIs(node, asked_at))

    def show_records(self, records: Iterable[NodeRecord]) -> None:
        """Tell each of its record at the API, once its machine has pinged there."""
        started = {
            standing.cloud_id: standing.ordered_at
            for standing in self.standings
            if standing.cloud_id
        }
        paired = pairs(records, started)
        for member in self._members.values():
            record = paired.get(member.standing.cloud_id)
            if record is not None:
                tell_if_alive(member.actor, RecordIs(record))
