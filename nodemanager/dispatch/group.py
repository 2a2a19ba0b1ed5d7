"""The actors that make up one dispatcher, started together.

They know each other by reference and fail together: when one of them crashes the supervisor stops all and
starts them anew, and the new ones adopt what the old ones held, as after a restart of the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.actors.actor import Actor
from nodemanager.api.base import Api
from nodemanager.api.feed import ChangeActor, ClaimActor, Line
from nodemanager.api.lease import LeaseActor
from nodemanager.api.messages import Ref
from nodemanager.api.node_records import RecordActor
from nodemanager.api.nodes import NodesApi
from nodemanager.api.readwrite import ReaderActor, WriterActor
from nodemanager.clock import Clock
from nodemanager.clouds.actor import CloudActor, CloudPace, Hands
from nodemanager.clouds.base import Cloud
from nodemanager.clouds.hand import CloudHand
from nodemanager.dispatch.dispatcher import DispatcherActor, DispatchSettings, NodeActors, Peers
from nodemanager.dispatch.job import JobTemplate
from nodemanager.dispatch.wishlist import WishlistActor
from nodemanager.model import NodeSize
from nodemanager.nodes.arbiter import ArbiterActor
from nodemanager.nodes.order import OrderTemplate
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.surroundings import NodePeers
from nodemanager.schedulers.actor import Pace, SchedulerActor
from nodemanager.schedulers.base import Scheduler


@dataclass(frozen=True, slots=True)
class NodePlant:
    """What sees to it that there are nodes is made of. `connect` makes a driver for each hand, at every start."""

    connect: Callable[[], Cloud]
    sizes: tuple[NodeSize, ...]
    policy: NodePolicy
    template: OrderTemplate
    pace: CloudPace
    hands: int
    """So many calls of the cloud may be under way at once."""
    call_seconds: float
    """The longest that one may take."""
    in_process: bool = False
    """The cloud's calls go nowhere; see `Cloud.in_process`."""
    connect_records: Callable[[], NodesApi] | None = None
    """Makes a client for the API's `nodes`; None when machines have no records there."""
    record_stale_seconds: float = 7200.0


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
    nodes: NodePlant | None = None
    """None: only the nodes that are there are used."""

    def start(self, supervisor: Ref, key: Hashable) -> Sequence[Ref]:
        """Start all actors under `supervisor`; the dispatcher comes first. See `StartGroup`."""
        scheduler = self.scheduler()
        started: list[Ref] = []
        try:
            return self._start(supervisor, key, scheduler, started)
        except BaseException:
            # The supervisor only knows actors it was given.
            for actor in started:
                actor.stop(block=False)
            raise

    def _start(
        self, supervisor: Ref, key: Hashable, scheduler: Scheduler, started: list[Ref]
    ) -> Sequence[Ref]:
        def start(kind: type[Actor], *args: Any, **kwargs: Any) -> Ref:
            actor = kind.start_under(supervisor, key, *args, **kwargs)
            started.append(actor)
            return actor

        timer, clock = self.timer, self.clock
        dispatcher = start(DispatcherActor, self.settings, self.template, clock)
        line = Line(
            connect=self.connect,
            dispatcher=dispatcher,
            timer=timer,
            clock=clock,
            wait_seconds=self.claim_wait_seconds,
            poll_seconds=self.settings.turn_seconds,
        )
        lease = start(
            LeaseActor,
            connect=self.connect,
            name=self.name,
            scheduler=scheduler.name,
            ping_seconds=self.ping_seconds,
            dispatcher=dispatcher,
            timer=timer,
            clock=clock,
        )
        scheduler_actor = start(SchedulerActor, scheduler, self.pace, timer, clock)
        nodes = None
        if self.nodes is not None:
            nodes = self._start_nodes(
                start, self.nodes, scheduler_actor, dispatcher, admits=scheduler.admits
            )
        # All others wait to be told something; the dispatcher begins when it knows them.
        dispatcher.tell(
            Peers(
                scheduler=scheduler_actor,
                lease=lease,
                claims=start(ClaimActor, line),
                changes=start(ChangeActor, line),
                reader=start(ReaderActor, self.connect, timer, clock),
                writer=start(WriterActor, self.connect, timer, clock),
                timer=timer,
                nodes=nodes,
            )
        )
        return started

    def _start_nodes(
        self,
        start: Callable[..., Ref],
        plant: NodePlant,
        scheduler: Ref,
        dispatcher: Ref,
        *,
        admits: bool,
    ) -> NodeActors:
        timer, clock = self.timer, self.clock
        cloud = start(CloudActor, plant.pace, timer, clock, unpaced=plant.in_process)
        hands = [
            start(CloudHand, plant.connect, cloud, plant.call_seconds) for _ in range(plant.hands)
        ]
        cloud.tell(Hands(hands))
        arbiter = start(ArbiterActor, plant.sizes, plant.policy, plant.template, clock)
        wishlist = start(WishlistActor, arbiter, clock)
        records = None
        if plant.connect_records is not None:
            records = start(
                RecordActor,
                plant.connect_records,
                timer,
                clock,
                dispatcher=self.name,
                stale_after_seconds=plant.record_stale_seconds,
            )
        arbiter.tell(NodePeers(scheduler, cloud, wishlist, dispatcher, timer, records, admits))
        return NodeActors(cloud, wishlist, arbiter)
