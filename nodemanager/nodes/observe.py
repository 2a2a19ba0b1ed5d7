"""What a list of the cloud and a view of the scheduler tell about one node: pure."""

from __future__ import annotations

from dataclasses import replace

from nodemanager.clouds.base import CloudNode, CloudState
from nodemanager.model import Node, NodeSize, NodeState
from nodemanager.nodes.order import behaviour_of, host_of, ordered_at_of, record_of
from nodemanager.nodes.states import Asked, NodeSituation, is_drained, is_ours_drained

DOWN_PAUSE_SECONDS = 4.0
"""Views that do not have a node up and follow each other faster count as one: a controller that has been started
again may not have heard from its nodes yet."""
NODE_ORDER_PATIENCE_SECONDS = 30.0
"""How long a drain or resume may go unanswered before it is asked for again."""
DESTROY_PATIENCE_SECONDS = 10.0
"""A machine that is still listed so long after its destruction is destroyed once more, as Go's dispatcher
does; doubles with each try, since what a cloud refuses once it often refuses for long."""
LONGEST_DESTROY_PATIENCE_SECONDS = 300.0

_WITHOUT_WORK = frozenset({NodeState.IDLE, NodeState.DRAINED})


def taken_up(cloud: CloudNode, size: NodeSize | None, wall: float) -> NodeSituation:
    """A machine that exists, seen for the first time at `wall`: its tags say all that is known.

    `size` is None when its tag names one that is not configured any more.
    """
    return NodeSituation(
        name=cloud.name,
        host=host_of(cloud),
        size=size,
        ordered_at=ordered_at_of(cloud, wall),
        record_uuid=record_of(cloud),
        created=Asked.DONE,
        cloud=cloud,
        behaviour=behaviour_of(cloud),
        was_going=cloud.state is CloudState.STOPPING,
    )


def seen_in_cloud(before: NodeSituation, cloud: CloudNode | None, asked_at: float) -> NodeSituation:
    """A list that was asked for at `asked_at` (elapsed seconds) has it so, or lacks it (None)."""
    if cloud is None:
        if before.cloud is None:
            return before
        # A list may be behind the creation of a machine; one that was listed once is not forgotten.
        counts = before.was_listed or before.destroy is Asked.DONE
        return replace(before, misses=before.misses + counts, listed_at=asked_at)
    stopping = cloud.state is CloudState.STOPPING
    survived = (
        before.destroy is Asked.DONE
        and not stopping
        and asked_at - before.destroyed_at >= _destroy_patience(before.destroy_tries)
    )
    return replace(
        before,
        # When it was not known yet, its create is under way or its answer was lost: here it is.
        created=Asked.DONE,
        cloud=cloud,
        was_listed=True,
        misses=0,
        listed_at=asked_at,
        condemned=before.condemned or ("the cloud takes it away" if stopping else ""),
        # It was to be destroyed and is still there: once more.
        destroy=Asked.NO if survived else before.destroy,
    )


def _destroy_patience(tries: int) -> float:
    pause = DESTROY_PATIENCE_SECONDS * 2.0 ** min(max(tries - 1, 0), 10)
    return min(pause, LONGEST_DESTROY_PATIENCE_SECONDS)


def seen_in_scheduler(
    before: NodeSituation, node: Node | None, asked_at: float, now: float
) -> NodeSituation:
    """A view that was asked for at `asked_at` has it so, or lacks it (None). Both are elapsed seconds."""
    after = replace(before, node=node, viewed_at=asked_at)
    up = after.is_up
    joined_at = now if up and before.joined_at is None else before.joined_at
    is_idle = node is not None and node.state in _WITHOUT_WORK
    idle_since = now if before.idle_since is None else before.idle_since
    is_down = joined_at is not None and not up
    # Not when it was asked for: it may have waited long for a controller that has just come back.
    counts = is_down and now - before.down_at >= DOWN_PAUSE_SECONDS
    after = replace(
        after,
        joined_at=joined_at,
        down_views=before.down_views + counts if is_down else 0,
        down_at=now if counts else before.down_at,
        idle_views=before.idle_views + 1 if is_idle else 0,
        idle_since=idle_since if is_idle else None,
    )
    if before.drain is Asked.NO and asked_at >= before.node_order_at and is_ours_drained(node):
        # A former process did that: its drain is ours to use or to end.
        return replace(after, drain=Asked.DONE, drained_at=asked_at)
    if before.drain is Asked.DONE and asked_at >= before.drained_at and up and not is_drained(node):
        # Somebody ended it, or the node was down and came back without it.
        return replace(after, drain=Asked.NO, drained_at=float("inf"), resume_asked=False)
    if asked_at - before.node_order_at > NODE_ORDER_PATIENCE_SECONDS:
        # The scheduler refused what was asked of it; ask again if it is still wanted.
        drain = Asked.NO if before.drain is Asked.YES else before.drain
        return replace(after, drain=drain, resume_asked=False)
    return after
