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

_UP = frozenset({NodeState.IDLE, NodeState.BUSY, NodeState.DRAINING, NodeState.DRAINED})
_WORKS = frozenset({NodeState.BUSY, NodeState.DRAINING})

DRAIN_PREFIX = "node manager: "
"""How the reason of each drain of ours begins; a drain with another reason is somebody else's."""
DOWN_VIEWS = 2
"""So many views of the scheduler in a row must say that a node is down before it counts as lost."""
PROVED_SECONDS = 120.0
"""A node that has been up for so long has proved that its image, network and scheduler work."""
LISTS_WITHOUT = 2
"""So many cloud lists in a row must lack a machine that was listed before it is gone."""
UNLISTED_SECONDS = 300.0
"""A machine that no list has shown so long after its creation will never be of use: lists of a cloud may be
behind, but not so far."""


class NodePhase(StrEnum):
    """The life of a node of ours."""

    ASKED = "asked"
    """The cloud has been, or is about to be, asked for the machine. Where the scheduler has to admit it, that
    comes first."""
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
    """The cloud has been told to destroy it, or takes it away by itself, and still lists it."""
    GONE = "gone"


_HERE = frozenset({NodePhase.IDLE, NodePhase.BUSY, NodePhase.DRAINING})
_ENDS = frozenset({NodePhase.DESTROYING, NodePhase.GONE})

PHASE_TRANSITIONS: Mapping[NodePhase, frozenset[NodePhase]] = {
    # The scheduler may know a machine, and an operator speak of it, before the cloud answers.
    NodePhase.ASKED: frozenset(NodePhase) - {NodePhase.ASKED},
    NodePhase.BOOTING: _HERE | _ENDS | {NodePhase.FAILED},
    NodePhase.IDLE: _HERE - {NodePhase.IDLE} | _ENDS | {NodePhase.FAILED, NodePhase.LOST},
    NodePhase.BUSY: _HERE - {NodePhase.BUSY} | _ENDS | {NodePhase.FAILED, NodePhase.LOST},
    NodePhase.DRAINING: _HERE - {NodePhase.DRAINING} | _ENDS | {NodePhase.FAILED, NodePhase.LOST},
    NodePhase.FAILED: _HERE | _ENDS | {NodePhase.BOOTING, NodePhase.LOST},
    NodePhase.LOST: _HERE | _ENDS | {NodePhase.FAILED},
    NodePhase.DESTROYING: frozenset({NodePhase.GONE}),
    NodePhase.GONE: frozenset(),
}
"""What may follow what; one is reported after each message, so that several steps may be one here."""


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
    admission: Asked = Asked.DONE
    """Whether the scheduler keeps a place for it; DONE also where it takes in whatever comes."""
    pinged: bool = False
    """It has announced itself at its record."""
    created: Asked = Asked.NO
    created_at: float = float("-inf")
    """When the cloud said that it exists."""
    cloud: CloudNode | None = None
    was_listed: bool = False
    """Some cloud list has shown it."""
    misses: int = 0
    """Cloud lists in a row that lack it, though it was listed before or should be gone."""
    listed_at: float = float("-inf")
    """When the last cloud list that was looked at was asked for."""
    node: Node | None = None
    viewed_at: float = float("-inf")
    """When the last view of the scheduler that was looked at was asked for."""
    joined_at: float | None = None
    """When it was first seen up in the scheduler."""
    down_views: int = 0
    """Views in a row that do not have it up, not counting those that follow another of them at once."""
    down_at: float = float("-inf")
    """When the last view that counts as such came."""
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
    was_going: bool = False
    """It was being destroyed when this process first saw it."""
    condemned: str = ""
    """Why it is to be destroyed, or taken away by the cloud; empty otherwise. Never taken back."""
    destroy: Asked = Asked.NO
    destroy_tries: int = 0
    destroyed_at: float = float("-inf")
    """When the cloud last answered that."""
    over: str = ""
    """Why there will be no machine: it was forgone, or refused. Empty otherwise."""

    @property
    def node_name(self) -> str:
        """What the scheduler calls it: not as we do, perhaps, where it was known by its machine."""
        if self.node is not None and self.node.machine:
            return self.node.name
        return self.host

    @property
    def may_be_withdrawn(self) -> bool:
        """Whether neither the cloud has been asked for it, nor anybody else who would have to be told."""
        return self.created is Asked.NO and Asked.YES not in (self.record, self.admission)

    @property
    def is_broken(self) -> bool:
        """Whether the cloud says that it is of no use, whatever the scheduler thinks of it."""
        return self.cloud is not None and self.cloud.state is CloudState.BROKEN

    @property
    def wants_drain(self) -> bool:
        """Whether it is to take no new work."""
        return bool(self._drain_words)

    @property
    def drain_reason(self) -> str:
        """The reason of our drain, for people who look at the scheduler."""
        return f"{DRAIN_PREFIX}{self._drain_words}"

    @property
    def _drain_words(self) -> str:
        if self.leaving or self.condemned:
            return self.leaving or self.condemned
        if self.behaviour is not Behaviour.RUN:
            return f"an operator said {self.behaviour.value}"
        return "the cloud says that it is broken" if self.is_broken else ""

    @property
    def is_up(self) -> bool:
        """Whether the scheduler's last word is that it is there."""
        return self.node is not None and self.node.state in _UP

    @property
    def has_jobs(self) -> bool:
        """Whether jobs run there, by the scheduler's last word."""
        return self.node is not None and self.node.state in _WORKS

    @property
    def has_drained(self) -> bool:
        """Whether a drain of ours is in force there and nothing runs any more."""
        return (
            self.node is not None
            and self.node.state is NodeState.DRAINED
            and self.drain is Asked.DONE
            and self.viewed_at >= self.drained_at
        )

    @property
    def foreign_drain(self) -> str:
        """The reason of a drain that is not ours; empty when there is none."""
        if self.node is None or not is_drained(self.node):
            return ""
        if self.drain is not Asked.NO or is_ours_drained(self.node):
            return ""
        return self.node.reason or "no reason given"


class NodeStep(StrEnum):
    """What a NodeActor can do."""

    WAIT = "wait"
    MAKE_RECORD = "make-record"
    ADMIT = "admit"
    """Announce it to the scheduler, which may say under which name it has to join."""
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
    if situation.condemned:
        return NodePhase.DESTROYING
    if situation.is_broken:
        return NodePhase.FAILED
    if situation.joined_at is None:
        return NodePhase.FAILED if _comes_to_nothing(situation, policy, wall) else NodePhase.BOOTING
    if situation.down_views >= DOWN_VIEWS:
        return NodePhase.LOST
    if situation.wants_drain or situation.drain is not Asked.NO:
        return NodePhase.DRAINING
    return NodePhase.BUSY if situation.has_jobs else NodePhase.IDLE


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
    if situation.joined_at is None or not situation.is_up:
        return NodeStep.WAIT
    if situation.wants_drain:
        return NodeStep.DRAIN if situation.drain is Asked.NO else NodeStep.WAIT
    if situation.drain is not Asked.NO and not situation.resume_asked:
        return NodeStep.RESUME
    return NodeStep.WAIT


def _before_it_exists(situation: NodeSituation) -> NodeStep:
    match situation.record, situation.admission, situation.created:
        case Asked.NO, _, _:
            return NodeStep.MAKE_RECORD
        case Asked.DONE, Asked.NO, _:
            return NodeStep.ADMIT
        case Asked.DONE, Asked.DONE, Asked.NO:
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


def is_drained(node: Node | None) -> bool:
    """Whether it takes no new work, whoever said so."""
    return node is not None and node.state in (NodeState.DRAINED, NodeState.DRAINING)


def is_ours_drained(node: Node | None) -> bool:
    """Whether a drain of ours, or of a former process, is in force there."""
    return node is not None and is_drained(node) and node.reason.startswith(DRAIN_PREFIX)


def _is_gone(situation: NodeSituation) -> bool:
    if situation.over:
        return True
    if situation.cloud is None:
        return False
    # A destroyed machine that is missing once is gone; any other might be missing by mistake.
    needed = 1 if situation.destroy is Asked.DONE else LISTS_WITHOUT
    return situation.misses >= needed


def _comes_to_nothing(situation: NodeSituation, policy: NodePolicy, wall: float) -> bool:
    """Whether a machine that has not joined will not be waited for any longer."""
    if situation.viewed_at == float("-inf"):
        # Taken up just now: the scheduler may have known it for long.
        return False
    never_listed = (
        not situation.was_listed and situation.listed_at - situation.created_at >= UNLISTED_SECONDS
    )
    return never_listed or age(situation, wall) >= policy.boot_fail_after


def _has_to_go(situation: NodeSituation, policy: NodePolicy, wall: float, elapsed: float) -> bool:
    """Whether the cloud has to be told now to destroy the machine."""
    if situation.cloud is None or situation.cloud.state is CloudState.STOPPING:
        return False
    if situation.killed:
        return True
    if situation.behaviour is Behaviour.HOLD:
        return False
    if elapsed - min(situation.listed_at, situation.viewed_at) >= policy.poll_stale_after:
        # Without truth no action: it may have joined long ago.
        return False
    if situation.condemned:
        return situation.has_drained or not situation.is_up
    if situation.leaving and situation.joined_at is None:
        return True
    match phase_of(situation, policy, wall):
        case NodePhase.FAILED:
            return situation.has_drained or not situation.is_up
        case NodePhase.LOST:
            lived = age(situation, wall)
            return lived >= policy.boot_fail_after or windows.is_open(
                policy.shutdown_windows, lived
            )
        case NodePhase.DRAINING:
            return situation.wants_drain and situation.has_drained
        case _:
            return False
