"""Takes a sample of how things are every few seconds, whether or not anybody looks, for the plots."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from nodemanager.clock import Clock
from nodemanager.model import ContainerState
from nodemanager.nodes.states import NodePhase
from nodemanager.status.asking import Asker, NoAnswer
from nodemanager.status.history import FINE_SECONDS, History, Sample
from nodemanager.status.look import DaemonLook
from nodemanager.status.waits import waits_of

_BOOTING = frozenset({NodePhase.ASKED, NodePhase.BOOTING})
_HERE = frozenset({NodePhase.IDLE, NodePhase.BUSY, NodePhase.DRAINING})


@dataclass(slots=True)
class Recorder:
    """Belongs to the event loop's thread."""

    asker: Asker
    clock: Clock
    history: History
    began_at: float
    """Wall clock: there is nothing from before."""

    @classmethod
    def at_start(cls, asker: Asker, clock: Clock) -> Recorder:
        """With nothing to tell yet."""
        return cls(asker, clock, History(), clock.wall())

    def go_on_from(self, other: Recorder) -> None:
        """Begin with what `other` has recorded, by the same clock."""
        self.history, self.began_at = other.history, other.began_at

    async def run(self, every_seconds: float = FINE_SECONDS) -> None:
        """Take samples until cancelled."""
        while True:
            await self.record()
            await asyncio.sleep(every_seconds)

    async def record(self) -> None:
        """Take one, if the actors can tell how they are; otherwise there is a gap."""
        try:
            look = await self.asker.look()
        except NoAnswer:
            return
        # 100,000 containers take a moment, in which others are served.
        sample = await asyncio.to_thread(sample_of, look, self.clock.elapsed())
        if sample is not None:
            self.history = self.history.with_sample(sample)


def sample_of(look: DaemonLook, elapsed: float) -> Sample | None:
    """The look in numbers; None while the actors are being started anew."""
    if look.dispatcher is None:
        return None
    states = waits_of(look.dispatcher, look.taken_at).states
    nodes = () if look.nodes is None else look.nodes.nodes
    return Sample(
        at=elapsed,
        queued=states.get(ContainerState.QUEUED, 0),
        waiting=states.get(ContainerState.LOCKED, 0),
        running=states.get(ContainerState.RUNNING, 0),
        nodes=sum(node.phase in _HERE for node in nodes),
        booting=sum(node.phase in _BOOTING for node in nodes),
        price=0.0 if look.nodes is None else look.nodes.price,
        started=look.work.started,
        ended=look.work.all_ended,
    )
