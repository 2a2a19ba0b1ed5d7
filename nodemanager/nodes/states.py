"""What is going on with one node, and what to do next for it: pure decisions.

A `NodeActor` keeps a `NodeSituation` up to date from what it hears of the cloud, the scheduler, the arbiter and the
operator, and after each message does what `next_step` says. As with containers nothing depends on the order
of messages. Times called `_at` are elapsed seconds unless they say wall.

The graph of the phases is in docs/reference/node-states.md, and a test compares it with `PHASE_TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from nodemanager.clouds.base import CloudNode, CloudState
from nodemanager.model import Node, NodeSize, NodeState, format_seconds
from nodemanager.nodes import windows
from nodemanager.nodes.policy import NodePolicy

DRAIN_PREFIX = "node manager: "
"""How the reason of each drain of ours begins; a drain with another reason is somebody else's."""
DOWN_VIEWS = 2
"""So many views of the scheduler in a row must say that a node is down before it counts as lost."""
PROVED_SECONDS = 120.0
"""A node that has been up for so long has proved that its image, network and scheduler work."""
LISTS_WITHOUT = 2
"""So many cloud lists in a row must lack a machine before it is gone: lists of a cloud may be behind."""


class NodePhase(StrEnum):
    """The life of a node of ours."""

    ASKED = "asked"
    """The cloud has been, or is about to be, asked for the machine."""
    BOOTING = "booting"
    """The machine exists and has not joined the scheduler."""
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    """Takes no new work: it is to leave, or an operator drains or holds it."""
    FAILED = "failed"
    """It has not joined in time, or the cloud says that it is of no use."""
    LOST = "lost"
    """It had joined, and the scheduler says that it is down."""
    DESTROYING = "destroying"
    """The cloud has been told to destroy it, and still lists it."""
    GONE = "gone"


PHASE_TRANSITIONS: Mapping[NodePhase, frozenset[NodePhase]] = {
    NodePhase.ASKED: frozenset(
        {NodePhase.BOOTING, NodePhase.IDLE, NodePhase.BUSY, NodePhase.FAILED, NodePhase.GONE}
    ),
    NodePhase.BOOTING: frozenset(
        {
            NodePhase.IDLE,
            NodePhase.BUSY,
            NodePhase.DRAINING,
            NodePhase.FAILED,
            NodePhase.DESTROYING,
            NodePhase.GONE,
        }
    ),
    NodePhase.IDLE: frozenset(
        {
            NodePhase.BUSY,
            NodePhase.DRAINING,
            NodePhase.FAILED,
            NodePhase.LOST,
            NodePhase.DESTROYING,
            NodePhase.GONE,
        }
    ),
    NodePhase.BUSY: frozenset(
        {
            NodePhase.IDLE,
            NodePhase.DRAINING,
            NodePhase.FAILED,
            NodePhase.LOST,
            NodePhase.DESTROYING,
            NodePhase.GONE,
        }
    ),
    NodePhase.DRAINING: frozenset(
        {
            NodePhase.IDLE,
            NodePhase.BUSY,
            NodePhase.FAILED,
            NodePhase.LOST,
            NodePhase.DESTROYING,
            NodePhase.GONE,
        }
    ),
    NodePhase.FAILED: frozenset(
        {NodePhase.IDLE, NodePhase.BUSY, NodePhase.DRAINING, NodePhase.DESTROYING, NodePhase.GONE}
    ),
    NodePhase.LOST: frozenset(
        {
            NodePhase.IDLE,
            NodePhase.BUSY,
            NodePhase.DRAINING,
            NodePhase.FAILED,
            NodePhase.DESTROYING,
            NodePhase.GONE,
        }
    ),
    NodePhase.DESTROYING: frozenset({NodePhase.GONE}),
    NodePhase.GONE: frozenset(),
}


class Behaviour(StrEnum):
    """What an operator has said about a node; kept in a tag of the machine."""

    RUN = "run"
    """Like any other."""
    HOLD = "hold"
    """No new work, and never shut: somebody wants to look at it."""
    DRAIN = "drain"
    """No new work, and shut when it is idle."""


class Asked(Enum):
    """How far something that was asked of another actor has come."""

    NO = "no"
    YES = "yes"
    """Asked, and not answered."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class NodeSituation:
    """Everything that is known of one node."""

    name: str
    host: str
    """Its name in the scheduler."""
    size: NodeSize | None
    """None when its tag names a size that is not configured any more."""
    ordered_at: float
    """Wall clock: when it was ordered; its age counts from here."""
    record: Asked = Asked.DONE
    """Its record at the API's `nodes`; DONE also where machines have none."""
    record_uuid: str = ""
    pinged: bool = False
    """It has announced itself at its record."""
    created: Asked = Asked.NO
    cloud: CloudNode | None = None
    misses: int = 0
    """Cloud lists in a row that lack it."""
    listed_at: float = float("-inf")
    """When the last cloud list that was looked at was asked for."""
    node: Node | None = None
    viewed_at: float = float("-inf")
    """When the last view of the scheduler that was looked at was asked for."""
    joined_at: float | None = None
    """When it was first seen up in the scheduler."""
    down_views: int = 0
    idle_views: int = 0
    idle_since: float | None = None
    behaviour: Behaviour = Behaviour.RUN
    killed: str = ""
    """Why an operator wants it destroyed whatever runs there; empty otherwise."""
    leaving: str = ""
    """Why the arbiter wants it to leave; empty otherwise."""
    drain: Asked = Asked.NO
    drained_at: float = float("inf")
    """Since when a drain of ours is in force."""
    resume_asked: bool = False
    node_order_at: float = float("-inf")
    """When a drain or its end was last asked for."""
    destroy: Asked = Asked.NO
    over: str = ""
    """Why there will be no machine: it was forgone, or refused. Empty otherwise."""

    @property
    def wants_drain(self) -> bool:
        """Whether it is to take no new work."""
        return bool(self.leaving) or self.behaviour is not Behaviour.RUN

    @property
    def drain_reason(self) -> str:
        """The reason of our drain, for people who look at the scheduler."""
        why = self.leaving or f"an operator said {self.behaviour.value}"
        return f"{DRAIN_PREFIX}{why}"

    @property
    def foreign_drain(self) -> str:
        """The reason of a drain that is not ours; empty when there is none."""
        if self.node is None or not _is_drained(self.node):
            return ""
        if self.drain is not Asked.NO or is_ours_drained(self.node):
            return ""
        return self.node.reason or "no reason given"


class NodeStep(StrEnum):
    """What a NodeActor can do."""

    WAIT = "wait"
    MAKE_RECORD = "make-record"
    CREATE = "create"
    DRAIN = "drain"
    RESUME = "resume"
    DESTROY = "destroy"
    LET_GO = "let-go"
    """Nothing is left of it: clean up and stop."""


def age(situation: NodeSituation, wall: float) -> float:
    """Seconds since it was ordered."""
    return max(0.0, wall - situation.ordered_at)


def phase_of(situation: NodeSituation, policy: NodePolicy, wall: float) -> NodePhase:
    """Where it is in its life."""
    if _is_gone(situation):
        return NodePhase.GONE
    if situation.cloud is None:
        return NodePhase.ASKED
    if situation.destroy is not Asked.NO:
        return NodePhase.DESTROYING
    if situation.cloud.state is CloudState.BROKEN:
        return NodePhase.FAILED
    if situation.joined_at is None:
        if age(situation, wall) >= policy.boot_fail_after:
            return NodePhase.FAILED
        return NodePhase.DRAINING if situation.leaving else NodePhase.BOOTING
    if situation.down_views >= DOWN_VIEWS:
        return NodePhase.LOST
    if situation.wants_drain or situation.drain is not Asked.NO:
        return NodePhase.DRAINING
    busy = situation.node is not None and situation.node.state in (
        NodeState.BUSY,
        NodeState.DRAINING,
    )
    return NodePhase.BUSY if busy else NodePhase.IDLE


def next_step(
    situation: NodeSituation, policy: NodePolicy, wall: float, elapsed: float
) -> NodeStep:
    """The one thing to do now."""
    if _is_gone(situation):
        return NodeStep.LET_GO
    if situation.cloud is None:
        return _before_it_exists(situation)
    if situation.destroy is not Asked.NO:
        return NodeStep.WAIT
    if _has_to_go(situation, policy, wall, elapsed):
        return NodeStep.DESTROY
    if situation.joined_at is None:
        return NodeStep.WAIT
    if situation.wants_drain:
        return NodeStep.DRAIN if situation.drain is Asked.NO else NodeStep.WAIT
    if situation.drain is not Asked.NO and not situation.resume_asked:
        return NodeStep.RESUME
    return NodeStep.WAIT


def _before_it_exists(situation: NodeSituation) -> NodeStep:
    match situation.record, situation.created:
        case Asked.NO, _:
            return NodeStep.MAKE_RECORD
        case Asked.DONE, Asked.NO:
            return NodeStep.CREATE
        case _:
            return NodeStep.WAIT


def readiness(situation: NodeSituation, policy: NodePolicy, wall: float, elapsed: float) -> str:
    """Why an idle node may not leave yet; empty when it may.

    Whether anybody still wants it is for the arbiter to say.
    """
    if situation.foreign_drain:
        return f"somebody else drained it: {situation.foreign_drain}"
    if situation.idle_views < policy.consecutive_idle_count:
        return f"seen idle {situation.idle_views} of {policy.consecutive_idle_count} times"
    since = elapsed if situation.idle_since is None else situation.idle_since
    if elapsed - since < policy.idle_time:
        return f"idle for {format_seconds(elapsed - since)} of {format_seconds(policy.idle_time)}"
    wait = windows.until_open(policy.shutdown_windows, age(situation, wall))
    if wait is None:
        return "its shutdown windows never open"
    return f"its shutdown window opens in {format_seconds(wait)}" if wait > 0 else ""


def is_proved(situation: NodeSituation, elapsed: float) -> bool:
    """Whether it has been up long enough to show that nodes can work here at all."""
    return (
        situation.joined_at is not None
        and situation.down_views == 0
        and elapsed - situation.joined_at >= PROVED_SECONDS
    )


def is_ours_drained(node: Node | None) -> bool:
    """Whether a drain of ours, or of a former process, is in force there."""
    return node is not None and _is_drained(node) and node.reason.startswith(DRAIN_PREFIX)


def _is_drained(node: Node) -> bool:
    return node.state in (NodeState.DRAINED, NodeState.DRAINING)


def _is_gone(situation: NodeSituation) -> bool:
    if situation.over:
        return True
    if situation.cloud is None:
        return False
    # A destroyed machine that is missing once is gone; any other might be missing by mistake.
    needed = 1 if situation.destroy is Asked.DONE else LISTS_WITHOUT
    return situation.misses >= needed


def _has_to_go(situation: NodeSituation, policy: NodePolicy, wall: float, elapsed: float) -> bool:
    """Whether the machine has to be destroyed now."""
    if situation.killed:
        return True
    if situation.behaviour is Behaviour.HOLD:
        return False
    if situation.leaving and situation.joined_at is None:
        return True
    fresh = elapsed - min(situation.listed_at, situation.viewed_at) < policy.poll_stale_after
    if not fresh:
        # Without truth no action: it may have joined long ago.
        return False
    node = situation.node
    match phase_of(situation, policy, wall):
        case NodePhase.FAILED:
            return True
        case NodePhase.LOST:
            lived = age(situation, wall)
            return lived >= policy.boot_fail_after or windows.is_open(
                policy.shutdown_windows, lived
            )
        case NodePhase.DRAINING:
            return (
                situation.wants_drain
                and node is not None
                and node.state is NodeState.DRAINED
                and situation.drain is Asked.DONE
                and situation.viewed_at >= situation.drained_at
            )
        case _:
            return False
