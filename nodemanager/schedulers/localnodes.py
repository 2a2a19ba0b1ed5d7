"""The nodes of the local scheduler: this machine as one, or the machines that share it.

Not thread-safe: `LocalScheduler` holds its mutex around each call.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from nodemanager.errors import SchedulerError
from nodemanager.model import Node, NodeState, Resources
from nodemanager.reason import Knob, Reason, ReasonToken
from nodemanager.schedulers.shares import Share, Shares
from nodemanager.schedulers.slots import Need, Place, shortage
from nodemanager.schedulers.spool import Spool

LOOK_SECONDS = 1.0
"""Between two looks at the machines while nobody asks for anything. It costs one listing of a directory."""

_NOTHING = Resources(0, 0)


@dataclass(slots=True)
class LocalNode:
    """One node, and what runs there."""

    key: str
    """Unique for ever, unlike the name: that of the share. Empty: this machine as a whole."""
    name: str
    total: Resources
    partitions: tuple[str, ...] = ()
    preemptible: bool = False
    drained: str | None = None
    """Why it takes no new jobs; None when it does."""
    lost: str = ""
    """Why nothing can run there, ever again."""
    is_gone: bool = False
    """It is not listed any more."""
    jobs: dict[str, Need] = field(default_factory=dict)

    @property
    def free(self) -> Resources:
        """What is not occupied; below 0 if the machine was larger when its jobs were started."""
        if any(need.exclusive for need in self.jobs.values()):
            return _NOTHING
        free = self.total
        for need in self.jobs.values():
            free -= need.resources
        return free

    @property
    def takes_work(self) -> bool:
        """Whether a job can be started there, if it fits."""
        return self.drained is None and not self.lost

    def place(self) -> Place:
        """As the line looks at it."""
        return Place(
            node=self.key,
            total=self.total,
            free=self.free,
            partitions=self.partitions,
            preemptible=self.preemptible,
            empty=not self.jobs,
        )

    def as_node(self) -> Node:
        """As the scheduler lists it."""
        free = self.free
        return Node(
            name=self.name,
            state=self._state(),
            total=self.total,
            free=Resources(
                max(free.cores, 0),
                max(free.ram_bytes, 0),
                max(free.scratch_bytes, 0),
                max(free.gpus, 0),
            ),
            partitions=self.partitions,
            reason=self.lost or self.drained or "",
            preemptible=self.preemptible,
        )

    def _state(self) -> NodeState:
        if self.lost:
            return NodeState.DOWN
        if self.drained is not None:
            return NodeState.DRAINING if self.jobs else NodeState.DRAINED
        return NodeState.BUSY if self.jobs else NodeState.IDLE


class LocalNodes(abc.ABC):
    """What the two kinds have in common."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._drains = spool.drains()

    @abc.abstractmethod
    def listed(self) -> Iterable[LocalNode]:
        """The nodes there are."""

    @abc.abstractmethod
    def of(self, key: str, name: str = "") -> LocalNode:
        """The node of that key, or the one on which a job that was recorded under it runs.

        `name` is what it was called then.
        """

    @abc.abstractmethod
    def look(self, now: float) -> bool:
        """Find out which nodes there are at Unix time `now`; whether anything has changed.

        Raises `OSError` or `ValueError` if that cannot be found out; then all stays as it was.
        """

    @abc.abstractmethod
    def next_look(self, now: float) -> float | None:
        """After how many seconds to look again, if nobody asks before; None means never."""

    @abc.abstractmethod
    def why_waiting(self, need: Need) -> Reason:
        """Why a waiting job waits."""

    def lost(self) -> Iterable[LocalNode]:
        """Nodes whose jobs have to end, listed or not."""
        return ()

    def tidy(self) -> None:
        """Forget on disk what is of no use after the last look."""
        return

    def places(self) -> list[Place]:
        """The nodes that take work."""
        return [node.place() for node in self.listed() if node.takes_work]

    def set_drain(self, name: str, reason: str | None) -> None:
        """Let a node take no new jobs, or with None take them again, also after a restart."""
        for node in self.listed():
            if node.name == name:
                self._spool.record_drain(node.key, reason)
                node.drained = reason
                if reason is None:
                    self._drains.pop(node.key, None)
                else:
                    self._drains[node.key] = reason
                return
        names = ", ".join(repr(node.name) for node in self.listed()) or "none"
        raise SchedulerError(f"local: there is no node {name!r}, only {names}")


class OneNode(LocalNodes):
    """The machine as one node, which is always there."""

    def __init__(self, spool: Spool, name: str, total: Resources) -> None:
        super().__init__(spool)
        self._node = LocalNode("", name, total, drained=self._drains.get(""))

    def listed(self) -> Iterable[LocalNode]:
        """The one."""
        return (self._node,)

    def of(self, key: str, name: str = "") -> LocalNode:  # noqa: ARG002 (there is only one)
        """The one, also for what an earlier daemon had put on a share."""
        return self._node

    def look(self, now: float) -> bool:  # noqa: ARG002
        """It does not change."""
        return False

    def next_look(self, now: float) -> float | None:  # noqa: ARG002
        """It does not change."""
        return None

    def why_waiting(self, need: Need) -> Reason:
        """See the base class."""
        if self._node.drained is not None:
            return _drained(f"the node is drained: {self._node.drained}")
        return _waits_on(need, self._node, "", "the node")


class ShareNodes(LocalNodes):
    """The machines of a directory that have joined."""

    def __init__(self, spool: Spool, shares: Shares) -> None:
        super().__init__(spool)
        self._shares = shares
        self._nodes: dict[str, LocalNode] = {}
        self._upcoming: list[float] = []
        """Unix times at which a machine joins or breaks."""
        self._listed: frozenset[str] = frozenset()
        """The keys of all machines at the last look."""
        self._outside = LocalNode("", "", _NOTHING, is_gone=True)
        """For jobs that were started when there were no shares; they run to their end."""

    def listed(self) -> Iterable[LocalNode]:
        """In the order in which they joined."""
        return (node for node in self._nodes.values() if not node.is_gone)

    def lost(self) -> Iterable[LocalNode]:
        """Destroyed or broken."""
        return (node for node in self._nodes.values() if node.lost)

    def of(self, key: str, name: str = "") -> LocalNode:
        """See the base class. One that is not known is taken to be here until the next look."""
        if not key:
            self._outside.name = self._outside.name or name
            return self._outside
        if key not in self._nodes:
            self._nodes[key] = LocalNode(key, name, _NOTHING, drained=self._drains.get(key))
        return self._nodes[key]

    def look(self, now: float) -> bool:
        """A machine that has joined once stays joined, and a broken one broken, however the clock is set."""
        shares = {share.name: share for share in self._shares.read()}
        changed = False
        names = {node.name for node in self.listed() if node.key in shares}
        for share in shares.values():
            node = self._nodes.get(share.name)
            if node is None:
                # Two of one name could not be told apart.
                if not share.has_joined(now) or share.host in names:
                    continue
                node = self.of(share.name)
                names.add(share.host)
                changed = True
            self._describe(node, share)
            if share.is_broken(now) and not node.lost:
                node.lost = f"{node.name} broke down"
                changed = True
        for node in [node for key, node in self._nodes.items() if key not in shares]:
            changed = self._is_destroyed(node) or changed
        self._listed = frozenset(shares)
        moments = [m for s in shares.values() for m in (s.joins_at, s.breaks_at) if m is not None]
        self._upcoming = sorted(moment for moment in moments if moment > now)
        return changed

    def tidy(self) -> None:
        """The drains of machines that are gone: no other one gets their keys."""
        for key in [key for key in self._drains if key and key not in self._listed]:
            del self._drains[key]
            with suppress(OSError):
                self._spool.record_drain(key, None)

    def next_look(self, now: float) -> float | None:
        """See the base class."""
        until = self._upcoming[0] - now if self._upcoming else LOOK_SECONDS
        return min(max(until, 0.0), LOOK_SECONDS)

    def why_waiting(self, need: Need) -> Reason:
        """See the base class."""
        could = [n for n in self.listed() if not n.lost and n.place().could_hold(need)]
        if not could:
            count = sum(1 for _ in self.listed())
            have = f"none of the {count} here could" if count else "none is here"
            return Reason(
                ReasonToken.WAITING_FOR_RESOURCES,
                f"waits for a node that could hold it: {have}",
                advice="it starts when a node that is large enough joins",
            )
        working = [node for node in could if node.takes_work]
        if not working:
            words = "; ".join(f"{node.name}: {node.drained}" for node in could)
            return _drained(f"every node that could hold it is drained: {words}")
        nearest = min(working, key=lambda node: node.place().lack(need))
        return _waits_on(need, nearest, f" on {nearest.name}", nearest.name)

    @staticmethod
    def _describe(node: LocalNode, share: Share) -> None:
        node.name, node.total = share.host, share.resources
        node.partitions, node.preemptible = share.partitions, share.preemptible

    def _is_destroyed(self, node: LocalNode) -> bool:
        """Let go of the node once its last job has ended; whether that it is gone is news."""
        news = not node.is_gone
        node.is_gone = True
        node.lost = f"{node.name} was destroyed"
        if not node.jobs:
            del self._nodes[node.key]
        return news


def in_queue(why: Reason) -> Reason:
    """What is said of a job that waits for that."""
    return replace(why, sentence=f"its job waits in the queue: {why.sentence}")


def _drained(words: str) -> Reason:
    return Reason(
        ReasonToken.SCHEDULER_WAIT,
        words,
        advice="arvados-node-manager nodes list tells why; nodes run NODE lets it take work again",
        whose=Knob.OPERATOR,
    )


def _waits_on(need: Need, node: LocalNode, where: str, name: str) -> Reason:
    free = node.free.as_dict()
    facts = {
        resource: {"wanted": wanted, "available": max(free[resource], 0)}
        for resource, wanted in need.resources.as_dict().items()
        if wanted > free[resource]
    }
    if facts:
        words = f"waits for {shortage(need.resources, node.free)} free{where}"
    elif need.exclusive and node.jobs:
        words = f"waits to have {name} to itself"
    else:
        words = "waits behind a more urgent job"
    return Reason(ReasonToken.WAITING_FOR_RESOURCES, words, facts)
