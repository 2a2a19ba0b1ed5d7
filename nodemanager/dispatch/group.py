"""The actors that make up one dispatcher, started together.

They know each other by reference and fail together: when one of them crashes the supervisor stops all and
starts them anew, and the new ones adopt what the old ones held, as after a restart of the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nodemanager.actors.actor import Actor, tell_if_alive
from nodemanager.api.base import Api
from nodemanager.api.feed import ChangeActor, ClaimActor, Line
from nodemanager.api.lease import LeaseActor
from nodemanager.api.messages import AskEvery, PingEvery, Ref
from nodemanager.api.node_records import RecordActor
from nodemanager.api.nodes import NodesApi
from nodemanager.api.readwrite import ReaderActor, WriterActor
from nodemanager.clock import Clock
from nodemanager.clouds.actor import CloudActor, CloudPace, Hands
from nodemanager.clouds.base import Cloud
from nodemanager.clouds.hand import CloudHand
from nodemanager.dispatch.collector import CollectorActor, Store
from nodemanager.dispatch.dispatcher import DispatcherActor, DispatchSettings, NodeActors, Peers
from nodemanager.dispatch.job import JobTemplate
from nodemanager.dispatch.wishlist import WishlistActor
from nodemanager.model import NodeSize
from nodemanager.nodes.arbiter import ArbiterActor
from nodemanager.nodes.order import OrderTemplate
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.surroundings import NodePeers
from nodemanager.rule import Rule
from nodemanager.schedulers.actor import Pace, SchedulerActor
from nodemanager.schedulers.base import Scheduler
from nodemanager.schedulers.router import RouterActor, Way

COLLECTORS = 4
"""How many logs are fetched at once."""


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
class SchedulerPlant:
    """What one scheduler's part is made of. `make` makes a new module at every start."""

    make: Callable[[], Scheduler]
    pace: Pace
    name: str = ""
    """Which of several it is; empty where there is one."""
    rule: Rule = Rule()  # noqa: RUF009 (frozen)
    """Which jobs it accepts, of several."""


@dataclass(frozen=True, slots=True)
class Plant:
    """What a dispatcher is made of. `connect` makes a new client at every start."""

    name: str
    connect: Callable[[], Api]
    schedulers: tuple[SchedulerPlant, ...]
    """In the order in which they are tried."""
    template: JobTemplate
    settings: DispatchSettings
    ping_seconds: float
    claim_wait_seconds: float
    clock: Clock
    timer: Ref
    nodes: NodePlant | None = None
    """None: only the nodes that are there are used."""
    elastic: str = ""
    """Which of several schedulers the booted nodes join."""
    make_store: Callable[[], Store] | None = None
    """Makes what a collector keeps logs and outputs in; needed where jobs are the commands themselves."""

    def start(self, supervisor: Ref, key: Hashable) -> Sequence[Ref]:
        """Start all actors under `supervisor`; the dispatcher comes first. See `StartGroup`."""
        modules = [(plant, plant.make()) for plant in self.schedulers]
        started: list[Ref] = []
        try:
            return self._start(supervisor, key, modules, started)
        except BaseException:
            # The supervisor only knows actors it was given.
            for actor in started:
                actor.stop(block=False)
            raise

    def retell(self, before: Plant, actors: Sequence[Ref]) -> None:
        """Tell the actors that `before` has started what is different here: settings, paces, policy and template.

        All else takes other actors, and is not told.
        """

        def tell(kind: type[Actor], message: Any, *, changed: bool) -> None:
            for actor in actors:
                if changed and issubclass(actor.actor_class, kind):
                    tell_if_alive(actor, message)

        settings, earlier = self.settings, before.settings
        tell(DispatcherActor, settings, changed=settings != earlier)
        tell(DispatcherActor, self.template, changed=self.template != before.template)
        asks = settings.turn_seconds != earlier.turn_seconds
        for kind in (ClaimActor, ChangeActor):
            tell(kind, AskEvery(settings.turn_seconds), changed=asks)
        pings = self.ping_seconds != before.ping_seconds
        tell(LeaseActor, PingEvery(self.ping_seconds), changed=pings)
        in_order = [actor for actor in actors if issubclass(actor.actor_class, SchedulerActor)]
        for actor, now, then in zip(in_order, self.schedulers, before.schedulers, strict=False):
            if now.pace != then.pace:
                tell_if_alive(actor, now.pace)
        if self.nodes is not None and before.nodes is not None:
            tell(ArbiterActor, self.nodes.policy, changed=self.nodes.policy != before.nodes.policy)
            tell(CloudActor, self.nodes.pace, changed=self.nodes.pace != before.nodes.pace)

    def _start(
        self,
        supervisor: Ref,
        key: Hashable,
        modules: Sequence[tuple[SchedulerPlant, Scheduler]],
        started: list[Ref],
    ) -> Sequence[Ref]:
        def start(kind: type[Actor], *args: Any, **kwargs: Any) -> Ref:
            actor = kind.start_under(supervisor, key, *args, **kwargs)
            started.append(actor)
            return actor

        timer, clock = self.timer, self.clock
        runs_commands = any(module.runs_commands for _plant, module in modules)
        template = replace(self.template, runs_commands=runs_commands)
        dispatcher = start(DispatcherActor, self.settings, template, clock)
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
            scheduler=", ".join(plant.name or module.name for plant, module in modules),
            ping_seconds=self.ping_seconds,
            dispatcher=dispatcher,
            timer=timer,
            clock=clock,
        )
        actors = {
            plant.name: start(SchedulerActor, module, plant.pace, timer, clock, plant.name)
            for plant, module in modules
        }
        admits = any(module.admits for plant, module in modules if plant.name == self.elastic)
        nodes = None
        if self.nodes is not None:
            nodes = self._start_nodes(
                start, self.nodes, actors[self.elastic], dispatcher, admits=admits
            )
        # All others wait to be told something; the dispatcher begins when it knows them.
        dispatcher.tell(
            Peers(
                scheduler=self._one_for_all(start, actors),
                lease=lease,
                claims=start(ClaimActor, line),
                changes=start(ChangeActor, line),
                reader=start(ReaderActor, self.connect, timer, clock),
                writer=start(WriterActor, self.connect, timer, clock),
                timer=timer,
                collectors=self._start_collectors(start, modules) if runs_commands else (),
                nodes=nodes,
                elastic=self.elastic,
            )
        )
        return started

    def _start_collectors(
        self, start: Callable[..., Ref], modules: Sequence[tuple[SchedulerPlant, Scheduler]]
    ) -> Sequence[Ref]:
        fetchers = {plant.name: module.fetch_log for plant, module in modules}
        return [
            start(CollectorActor, self.make_store, fetchers, self.timer, self.clock)
            for _ in range(COLLECTORS)
        ]

    def _one_for_all(self, start: Callable[..., Ref], actors: Mapping[str, Ref]) -> Ref:
        """Who is spoken to as the scheduler: the one there is, or a router to several."""
        if len(actors) == 1:
            return next(iter(actors.values()))
        sizes = () if self.nodes is None else self.nodes.sizes
        return start(
            RouterActor,
            [
                Way(
                    plant.name, plant.rule, actors[plant.name], sizes * (plant.name == self.elastic)
                )
                for plant in self.schedulers
            ],
        )

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
