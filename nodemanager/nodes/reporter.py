"""What a node's actor tells the arbiter: how the boot came out, and how the node is, each when it is news."""

from __future__ import annotations

import logging

from nodemanager.actors.actor import tell_if_alive
from nodemanager.clouds.errors import CloudError
from nodemanager.model import format_seconds
from nodemanager.nodes.messages import Booted, BootOutcome, NodeStanding
from nodemanager.nodes.report import outcomes_of, standing_of
from nodemanager.nodes.states import NodeSituation, NodeStep, age
from nodemanager.nodes.surroundings import NodeSurroundings

log = logging.getLogger(__name__)


class Reporter:
    """Remembers what it has told. It is used by the actor whose node it is about, and by nobody else."""

    def __init__(self, around: NodeSurroundings) -> None:
        self.around = around
        """The node's surroundings; another policy makes them others."""
        self._told: set[BootOutcome] = set()
        self._standing: NodeStanding | None = None

    def refused(self, situation: NodeSituation, error: CloudError) -> None:
        """There will be no machine."""
        self._tell(situation, BootOutcome.REFUSED, str(error), error)

    def outcomes(self, situation: NodeSituation, step: NodeStep) -> None:
        """How its boot came out, as far as that is known by now; each outcome once. `step` is about to be taken."""
        around = self.around
        news = outcomes_of(
            situation,
            step,
            frozenset(self._told),
            around.policy,
            wall=around.clock.wall(),
            elapsed=around.clock.elapsed(),
        )
        for outcome, words, error in news:
            self._tell(situation, outcome, words, error)

    def standing(self, situation: NodeSituation) -> None:
        """How it is, whenever that changes."""
        around = self.around
        wall, elapsed = around.clock.wall(), around.clock.elapsed()
        proved = BootOutcome.PROVED in self._told
        standing = standing_of(situation, around.policy, wall, elapsed, proved=proved)
        if standing != self._standing:
            self._standing = standing
            tell_if_alive(around.arbiter, standing)

    def _tell(
        self,
        situation: NodeSituation,
        outcome: BootOutcome,
        words: str,
        error: CloudError | None,
    ) -> None:
        if outcome in self._told:
            return
        self._told.add(outcome)
        lived = age(situation, self.around.clock.wall())
        proved = BootOutcome.PROVED in self._told
        tell_if_alive(
            self.around.arbiter,
            Booted(situation.name, situation.size, outcome, words, lived, error, proved),
        )
        if outcome is BootOutcome.REFUSED:
            # That was warned of.
            return
        log.info(
            "%s: %s (%s after it was ordered)",
            situation.name,
            words,
            format_seconds(lived),
            extra={"action": "boot_outcome", "node": situation.name, "outcome": outcome.value},
        )
