"""The actors that make up one dispatcher, started together.

They know each other by reference and fail together: when one of them crashes the supervisor stops all and
starts them anew, and the new ones adopt what the old ones held, as after a restart of the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from nodemanager.api.base import Api
from nodemanager.api.feed import ChangeActor, ClaimActor, Line
from nodemanager.api.lease import LeaseActor
from nodemanager.api.messages import Ref
from nodemanager.api.readwrite import ReaderActor, WriterActor
from nodemanager.clock import Clock
from nodemanager.dispatch.dispatcher import DispatcherActor, DispatchSettings, Peers
from nodemanager.dispatch.job import JobTemplate
from nodemanager.schedulers.actor import Pace, SchedulerActor
from nodemanager.schedulers.base import Scheduler


@dataclass(frozen=True, slots=True)
class Plant:
    """What a dispatcher is made of. `connect` and `scheduler` make a new one at every start."""

    name: str
    connect: Callable[[], Api]
    scheduler: Callable[[], Scheduler]
    template: JobTemplate
    settings: DispatchSettings
    pace: Pace
    ping_seconds: float
    claim_wait_seconds: float
    clock: Clock
    timer: Ref

    def start(self, supervisor: Ref, key: Hashable) -> Sequence[Ref]:
        """Start all actors under `supervisor`; the dispatcher comes first. See `StartGroup`."""
        scheduler = self.scheduler()
        dispatcher = DispatcherActor.start_under(
            supervisor, key, self.settings, self.template, self.clock
        )
        line = Line(
            connect=self.connect,
            dispatcher=dispatcher,
            timer=self.timer,
            clock=self.clock,
            wait_seconds=self.claim_wait_seconds,
            poll_seconds=self.settings.turn_seconds,
        )
        lease = LeaseActor.start_under(
            supervisor,
            key,
            connect=self.connect,
            name=self.name,
            scheduler=scheduler.name,
            ping_seconds=self.ping_seconds,
            dispatcher=dispatcher,
            timer=self.timer,
            clock=self.clock,
        )
        peers = Peers(
            scheduler=SchedulerActor.start_under(
                supervisor, key, scheduler, self.pace, dispatcher, self.timer, self.clock
            ),
            lease=lease,
            claims=ClaimActor.start_under(supervisor, key, line),
            changes=ChangeActor.start_under(supervisor, key, line),
            reader=ReaderActor.start_under(supervisor, key, self.connect, self.timer, self.clock),
            writer=WriterActor.start_under(supervisor, key, self.connect, self.timer, self.clock),
            timer=self.timer,
        )
        dispatcher.tell(peers)
        return (
            dispatcher,
            peers.scheduler,
            peers.lease,
            peers.claims,
            peers.changes,
            peers.reader,
            peers.writer,
        )
