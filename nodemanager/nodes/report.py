"""What a node tells the arbiter, and people, of itself: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nodemanager.clouds.base import CloudState
from nodemanager.clouds.errors import CERTAIN, CloudError
from nodemanager.model import NodeState
from nodemanager.nodes.messages import BootOutcome, NodeStanding
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import (
    Asked,
    NodePhase,
    NodeSituation,
    NodeStep,
    is_proved,
    phase_of,
    readiness,
)

_BAD = frozenset({BootOutcome.FAILED, BootOutcome.REFUSED})
_TAKES_WORK = frozenset({NodeState.IDLE, NodeState.BUSY})


def standing_of(
    situation: NodeSituation, policy: NodePolicy, wall: float, elapsed: float, *, proved: bool
) -> NodeStanding:
    """How it is."""
    phase, node = phase_of(situation, policy, wall), situation.node
    is_idle = phase is NodePhase.IDLE
    return NodeStanding(
        name=situation.name,
        host=situation.host,
        size=situation.size,
        phase=phase,
        ordered_at=situation.ordered_at,
        cloud_id="" if situation.cloud is None else situation.cloud.cloud_id,
        node=node,
        behaviour=situation.behaviour,
        leaving=situation.leaving,
        takes_work=(
            phase in (NodePhase.IDLE, NodePhase.BUSY)
            and node is not None
            and node.state in _TAKES_WORK
        ),
        not_ready=readiness(situation, policy, wall, elapsed) if is_idle else "",
        idle_since=situation.idle_since if is_idle else None,
        idle_seen=situation.idle_views > 0,
        record_uuid=situation.record_uuid,
        pinged=situation.pinged,
        proved=proved,
        admitted=situation.admission is Asked.DONE,
    )


def outcomes_of(
    situation: NodeSituation,
    step: NodeStep,
    told: Collection[BootOutcome],
    policy: NodePolicy,
    *,
    wall: float,
    elapsed: float,
) -> Iterator[tuple[BootOutcome, str, CloudError | None]]:
    """How its boot came out, as far as that is known by now, with words and, for REFUSED, the cloud's error.

    `step` is what is about to be done. Those that were `told` before are included. A machine that the cloud could not bring to life, for want
    of quota or capacity, was as good as refused.
    """
    phase = phase_of(situation, policy, wall)
    if situation.joined_at is not None:
        yield BootOutcome.JOINED, f"joined as {situation.host}", None
    if is_proved(situation, elapsed) or _leaves_in_peace(situation, phase, step):
        yield BootOutcome.PROVED, "has been of use", None
    elif phase is NodePhase.FAILED and isinstance(_fault(situation), CERTAIN):
        yield BootOutcome.REFUSED, str(_fault(situation)), _fault(situation)
    elif phase in (NodePhase.FAILED, NodePhase.LOST) and BootOutcome.PROVED not in told:
        yield BootOutcome.FAILED, verdict(situation, policy, wall), None
    if phase is NodePhase.GONE and _BAD.isdisjoint(told):
        if not (situation.over or situation.was_going) and situation.destroy is Asked.NO:
            yield BootOutcome.DISAPPEARED, "the machine vanished", None
        elif situation.joined_at is None:
            yield BootOutcome.ABORTED, situation.over or "it was not wanted any more", None


def verdict(situation: NodeSituation, policy: NodePolicy, wall: float) -> str:
    """Why it is destroyed although nobody asked it to leave."""
    match phase_of(situation, policy, wall):
        case NodePhase.FAILED:
            return _why_failed(situation)
        case NodePhase.LOST:
            return "it had joined, and the scheduler says that it is down"
        case _:
            return "an operator drained it"


def epitaph(situation: NodeSituation) -> str:
    """Why it is no more, for people who look at its record."""
    why = situation.over or situation.killed or situation.leaving or situation.condemned
    return f"shut down by the node manager: {why or 'it was of no use'}"


def _leaves_in_peace(situation: NodeSituation, phase: NodePhase, step: NodeStep) -> bool:
    """It joined, was well to the end, and goes because nobody wants it."""
    return step is NodeStep.DESTROY and phase is NodePhase.DRAINING and situation.has_drained


def _fault(situation: NodeSituation) -> CloudError | None:
    return None if situation.cloud is None else situation.cloud.fault


def _why_failed(situation: NodeSituation) -> str:
    if situation.cloud is not None and situation.cloud.state is CloudState.BROKEN:
        fault = situation.cloud.fault
        return f"the cloud says that it is broken{f': {fault}' if fault else ''}"
    if not situation.record_uuid:
        return "it never joined the scheduler"
    if situation.pinged:
        return "it pinged the API and never joined the scheduler"
    return "it never pinged the API, and never joined the scheduler"
