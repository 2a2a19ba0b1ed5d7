"""How many containers to claim, and why a queued one is not claimed: pure decisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nodemanager.fit import explain_misfit
from nodemanager.model import Capabilities, Container, Node, NodeState
from nodemanager.reason import Reason, ReasonToken

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


def explain_unclaimed(
    container: Container,
    capabilities: Capabilities,
    limit: int,
    load: Load,
    *,
    now: float,
    held: Reason | None = None,
) -> Reason | None:
    """Why the queued container is not claimed by us; None when it will be in a moment.

    `held` says why no nodes are booted, if that is what keeps us from claiming more.
    """
    misfit = explain_misfit(container, capabilities, now)
    if misfit is not None:
        return misfit
    if container.hold:
        why = f": {container.error}" if container.error else ""
        return Reason(
            ReasonToken.ON_HOLD,
            f"it is on hold{why}",
            advice="an operator releases it by setting the container's hold to false",
            since=now,
        )
    if container.run_after is not None and container.run_after > now:
        return explain_delay(container.error, container.temp_fails, container.run_after, now)
    if limit <= 0 and held is not None:
        return replace(held, since=now)
    if limit <= 0:
        return Reason(
            ReasonToken.CLAIM_LIMIT,
            # Its numbers change with every claim; in the sentence they would be news for all that wait.
            "the dispatcher has enough to do",
            facts={"live": load.live, "waiting": load.waiting},
            advice="it is claimed when one that it holds starts or ends; "
            "more nodes or a larger [Dispatch] max_claimed would claim it sooner",
            since=now,
        )
    return None


def explain_delay(error: str, temp_fails: int, run_after: float, now: float) -> Reason:
    """Why a container waits until `run_after`: a backoff if the attempt before it ended with `error`
    (after `temp_fails` in a row), otherwise its own wish."""
    if error:
        in_a_row = f" ({temp_fails} in a row)" if temp_fails > 1 else ""
        return Reason(
            ReasonToken.BACKOFF,
            f"{error}{in_a_row}; the next try waits",
            facts={"temp_fails": temp_fails},
            since=now,
            next_attempt_at=run_after,
        )
    return Reason(
        ReasonToken.RUN_AFTER,
        "it asked not to start before its run_after",
        since=now,
        next_attempt_at=run_after,
    )
