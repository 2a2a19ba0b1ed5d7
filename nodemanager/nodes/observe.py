"""What a list of the cloud and a view of the scheduler tell about one node: pure."""

from __future__ import annotations

from dataclasses import replace

from nodemanager.clouds.base import CloudNode, CloudState
from nodemanager.model import Node, NodeState
from nodemanager.nodes.states import Asked, NodeSituation, is_ours_drained

NODE_ORDER_PATIENCE_SECONDS = 30.0
"""How long a drain or resume may go unanswered before it is asked for again."""

_UP = frozenset({NodeState.IDLE, NodeState.BUSY, NodeState.DRAINING, NodeState.DRAINED})
_WITHOUT_WORK = frozenset({NodeState.IDLE, NodeState.DRAINED})


def seen_in_cloud(before: NodeSituation, cloud: CloudNode | None, asked_at: float) -> NodeSituation:
    """A list that was asked for at `asked_at` (elapsed seconds) has it so, or lacks it (None)."""
    if before.cloud is None:
        if cloud is None:
            return before
        # Its create is under way or its answer was lost: here it is.
        return replace(before, created=Asked.DONE, cloud=cloud, listed_at=asked_at)
    if cloud is None:
        return replace(before, misses=before.misses + 1, listed_at=asked_at)
    survived = before.destroy is Asked.DONE and cloud.state is not CloudState.STOPPING
    return replace(
        before,
        cloud=cloud,
        misses=0,
        listed_at=asked_at,
        # It was to be destroyed and is still there: once more.
        destroy=Asked.NO if survived else before.destroy,
    )


def seen_in_scheduler(
    before: NodeSituation, node: Node | None, asked_at: float, now: float
) -> NodeSituation:
    """A view that was asked for at `asked_at` has it so, or lacks it (None). Both are elapsed seconds."""
    up = node is not None and node.state in _UP
    joined_at = now if up and before.joined_at is None else before.joined_at
    is_idle = node is not None and node.state in _WITHOUT_WORK
    idle_since = now if before.idle_since is None else before.idle_since
    after = replace(
        before,
        node=node,
        viewed_at=asked_at,
        joined_at=joined_at,
        down_views=0 if up or joined_at is None else before.down_views + 1,
        idle_views=before.idle_views + 1 if is_idle else 0,
        idle_since=idle_since if is_idle else None,
    )
    if before.drain is Asked.NO and asked_at >= before.node_order_at and is_ours_drained(node):
        # A former process did that: its drain is ours to use or to end.
        return replace(after, drain=Asked.DONE, drained_at=asked_at)
    if asked_at - before.node_order_at > NODE_ORDER_PATIENCE_SECONDS:
        # The scheduler refused what was asked of it; ask again if it is still wanted.
        drain = Asked.NO if before.drain is Asked.YES else before.drain
        return replace(after, drain=drain, resume_asked=False)
    return after
