"""How many containers to claim, and why a queued one is not claimed: pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from nodemanager.fit import explain_misfit
from nodemanager.model import Capabilities, Container, Node, NodeState
from nodemanager.reason import Reason, ReasonToken
from nodemanager.reason.queued import delayed, on_hold

CLAIM_BATCH = 1000
"""Most containers to claim in one call; the API's own limit for a list."""

_TAKES_WORK = frozenset({NodeState.IDLE, NodeState.BUSY})


@dataclass(frozen=True, slots=True)
class Load:
    """What the dispatcher has in hand."""

    live: int
    """Containers claimed and not let go."""
    waiting: int
    """Those of them whose job has not started."""


def claim_limit(
    max_claimed: int, nodes: Iterable[Node], load: Load, bootable_cores: int = 0
) -> int:
    """How many more containers to claim now; 0 when there is enough to do.

    With `max_claimed` set, that many are held at most. Without it, a dispatcher claims what could start at
    once on free cores (a container has at least one), what could start on `bootable_cores` of nodes that are
    booting or may still be booted, and one more per two cores, so that a node that becomes free finds its
    next job waiting in the scheduler. More than that would keep work away from
    other dispatchers without starting it any sooner.
    """
    if max_claimed > 0:
        return max(0, min(CLAIM_BATCH, max_claimed - load.live))
    working = [node for node in nodes if node.state in _TAKES_WORK]
    free_cores = sum(max(0, node.free.cores) for node in working)
    all_cores = sum(node.total.cores for node in working)
    if not working and not bootable_cores:
        return 0
    ahead = max(1, all_cores // 2)
    return max(0, min(CLAIM_BATCH, free_cores + bootable_cores + ahead - load.waiting))


def urgency(container: Container) -> tuple[float, float, str]:
    """The order of the queue, smallest first: that in which the API gives containers out."""
    return -container.priority, container.created_at, container.uuid


@dataclass(frozen=True, slots=True)
class Claimer:
    """Whatever of a dispatcher decides which containers it claims now."""

    uuid: str
    capabilities: Capabilities
    limit: int
    """So many more it claims: `claim_limit`."""
    load: Load
    held: Reason | None = None
    """Why no nodes are booted, if that is what keeps it from claiming more."""
    paused: str = ""
    """Who paused its claims, and why; empty when they are not."""


def explain_queue(
    queue: Iterable[Container], claimer: Claimer, now: float
) -> Mapping[str, Reason | None]:
    """For each container of the queue, most urgent first, why it is not claimed; None: it will be in a moment.

    Those without a word are just those that a claim made now would return: as many as there is room for.
    """
    told: dict[str, Reason | None] = {}
    for container in queue:
        reason = explain_unclaimed(container, claimer, now)
        told[container.uuid] = reason
        if reason is None:
            claimer = replace(claimer, limit=claimer.limit - 1)
    return told


def explain_unclaimed(container: Container, claimer: Claimer, now: float) -> Reason | None:
    """Why the queued container is not claimed; None when it will be in a moment.

    What is worse comes first: one that can never run is not helped by a release, nor one on hold by room.
    """
    if misfit := explain_misfit(container, claimer.capabilities, now):
        return misfit
    if container.hold:
        return on_hold(container, now)
    if claimer.paused:
        return Reason(
            ReasonToken.CLAIMS_PAUSED,
            f"claims are paused: {claimer.paused}",
            facts={"paused": claimer.paused},
            since=now,
        )
    if container.run_after is not None and container.run_after > now:
        return delayed(container.error, container.temp_fails, container.run_after, now)
    if container.avoid == claimer.uuid and container.avoid_until > now:
        return _given_back(container, now)
    if claimer.limit > 0:
        return None
    if claimer.held is not None:
        return replace(claimer.held, since=now)
    return Reason(
        ReasonToken.CLAIM_LIMIT,
        # Its numbers change with every claim; in the sentence they would be news for all that wait.
        "the dispatcher has enough to do",
        facts={"live": claimer.load.live, "waiting": claimer.load.waiting},
        since=now,
    )


def _given_back(container: Container, now: float) -> Reason:
    why = f" ({container.error})" if container.error else ""
    return Reason(
        ReasonToken.GIVEN_BACK,
        f"this dispatcher handed it back{why} and leaves it to others for a while",
        since=now,
        next_attempt_at=container.avoid_until,
    )
