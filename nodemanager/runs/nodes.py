"""The nodes of a run, as they are shown."""

from __future__ import annotations

from collections import Counter

from nodemanager.model import ContainerState, format_bytes
from nodemanager.nodes.messages import NodeStanding
from nodemanager.runs.plan import NodeRow
from nodemanager.status.look import DaemonLook


def node_rows(look: DaemonLook) -> list[NodeRow]:
    """One row for each node that was booted, oldest first; none when nobody could be asked."""
    if look.nodes is None:
        return []
    running: Counter[str] = Counter()
    if look.dispatcher is not None:
        running.update(
            held.node
            for held in look.dispatcher.containers
            if held.container.state is ContainerState.RUNNING
        )
    return [
        NodeRow(
            name=node.host,
            size="unknown" if node.size is None else node.size.name,
            state=node.phase.value,
            running=running[node.host],
            detail=_detail(node),
        )
        for node in sorted(look.nodes.nodes, key=lambda node: (node.ordered_at, node.name))
    ]


def _detail(node: NodeStanding) -> str:
    """Why it leaves, or else what is free there."""
    if node.leaving:
        return node.leaving
    if node.node is None or not node.takes_work:
        return ""
    free = node.node.free
    return f"{free.cores} cores, {format_bytes(free.ram_bytes)} of RAM free"
