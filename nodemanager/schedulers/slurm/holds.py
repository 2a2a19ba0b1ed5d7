"""Jobs that Slurm holds because no node has what they ask for: released when a node comes that may have it.

That happens when the last node with a feature leaves while jobs wait for such. By itself Slurm 22.05 looks at them
again up to 30 s after a node has come, and older ones are known for never doing so. When there still is no node for
one, it is held again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from nodemanager.model import NodeState
from nodemanager.schedulers.slurm.controller import Controller
from nodemanager.schedulers.slurm.ids import joint
from nodemanager.schedulers.slurm.nodes import SlurmNode

log = logging.getLogger(__name__)

_USELESS = frozenset({NodeState.DOWN, NodeState.UNKNOWN})


class Holds:
    """Costs a command only when there are such jobs, and a node that was not there at the last look."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._held: tuple[str, ...] = ()
        self._offered: frozenset[tuple[str, tuple[str, ...]]] = frozenset()
        """The nodes of the last look, with their features."""

    def found(self, held: Sequence[str]) -> None:
        """How Slurm calls the jobs that it holds now."""
        self._held = tuple(held)

    def look_at(self, nodes: Iterable[SlurmNode]) -> None:
        """These are the nodes now."""
        offered = frozenset(
            (node.name, node.features)
            for node in nodes
            if node.is_present and node.state not in _USELESS
        )
        come = offered - self._offered
        if come and self._held:
            # One that has just been cancelled, or released by somebody, is complained about: no matter.
            self._controller.ask("scontrol", "release", ",".join(joint(self._held)))
            log.info(
                "%d jobs released, for which no node was there", len(self._held),
                extra={"action": "jobs_released", "jobs": len(self._held)},
            )  # fmt: skip
        self._offered = offered
