"""The node-size arbiter: decides which nodes are booted, and which leave.

Its loop, in five steps:

1. It hears of machines from the cloud, of nodes from the scheduler, of its own nodes from their actors, and of
   changed wishes from the wishlist.
2. Not more often than every `turn_time`, it takes stock: one frozen snapshot of all that.
3. The wishlist packs everything that waits into that snapshot.
4. `plan` decides on the snapshot and its wishlist, and nothing else.
5. New node actors are started, others told to leave or stay; the decision is logged and kept, and the
   dispatcher learns what could still be booted and why each container waits.

Machines of this daemon that it does not know (from a former process, or from a create whose answer was lost) are
adopted; those of others are left alone.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nodemanager import metrics
from nodemanager.actors.actor import Actor, ChildFailed
from nodemanager.actors.timer import Schedule
from nodemanager.api.node_records import CleanRecord, ListRecords, RecordList
from nodemanager.api.nodes import NodeRecord
from nodemanager.clock import Clock
from nodemanager.clouds.base import CloudNode
from nodemanager.clouds.messages import CloudSilent, CloudView, FollowCloud
from nodemanager.model import Node, NodeSize
from nodemanager.nodes.fleet import Fleet
from nodemanager.nodes.lessons import Lessons
from nodemanager.nodes.limits import Brake
from nodemanager.nodes.messages import (
    Assess,
    Behave,
    Booted,
    BootOutcome,
    Decision,
    Dissolve,
    GetNodesStatus,
    Heard,
    Kill,
    Leave,
    NodesStatus,
    NodeStanding,
    Outlook,
    ReleaseBrake,
    Stay,
    WishesChanged,
    Wishlist,
    Withdraw,
)
from nodemanager.nodes.node import NodeActor
from nodemanager.nodes.order import OrderTemplate, host_of
from nodemanager.nodes.orphans import Places, orphaned_records
from nodemanager.nodes.plan import Plan, plan
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import NodePhase
from nodemanager.nodes.status import status_of
from nodemanager.nodes.stock import (
    Stock,
    bootable_cores,
    by_host,
    offer_of,
    rooms_of,
    staleness,
)
from nodemanager.nodes.surroundings import NodePeers, NodeSurroundings
from nodemanager.nodes.why import held_by
from nodemanager.schedulers.messages import (
    Look,
    Remove,
    SchedulerSilent,
    SchedulerView,
    Subscribe,
)

log = logging.getLogger(__name__)

HISTORY = 500
"""Decisions that are kept for people to look at."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """To itself: time for another decision."""


@dataclass(frozen=True, slots=True)
class _AskRecords:
    """To itself: list the API's records of nodes."""


class ArbiterActor(Actor):
    """See the module's docstring. It has to be told its `NodePeers` once they exist."""

    def __init__(
        self,
        sizes: tuple[NodeSize, ...],
        policy: NodePolicy,
        template: OrderTemplate,
        clock: Clock,
    ) -> None:
        """`sizes` are cheapest first."""
        super().__init__()
        self._sizes = sizes
        self._policy = policy
        self._template = template
        self._clock = clock
        self._peers: NodePeers | None = None
        self._around: NodeSurroundings | None = None
        self._fleet = Fleet(sizes)
        self._places = Places()
        self._machine_hosts: frozenset[str] = frozenset()
        """Of all machines of this cluster, whoever ordered them, by the last list."""
        self._hosts_by_machine: dict[str, str] = {}
        """By the cloud's ids: for schedulers that know machines by these."""
        self._scheduler_nodes: dict[str, Node] = {}
        self._heard: dict[str, float | None] = {"cloud": None, "scheduler": None, "API": None}
        self._lessons = Lessons()
        self._serial = 0
        self._assessing: Stock | None = None
        self._news = False
        """Something was heard since the stock was taken."""
        self._next_turn_at = clock.elapsed()
        self._turn_set = False
        self._viewed_at = float("-inf")
        """The view of the scheduler that the last decision was made on."""
        self._wanted = self._confirmed = 0
        """How many new nodes the last wishlist asked for, and the last one on an older view."""
        self._dissolving = False
        self._last_wishlist: Wishlist | None = None
        self._last_held = ""
        self._last_withdrawn: frozenset[str] = frozenset()
        self._outcomes: Counter[str] = Counter()
        self._history: deque[Decision] = deque(maxlen=HISTORY)
        metrics.ACTOR_RESTARTS.labels(NodeActor.__name__)  # from now on it counts 0

    def on_receive(self, message: Any) -> NodesStatus | None:
        """Hand each message to the method that says what it means."""
        match message:
            case NodePeers():
                self._begin(message)
            case CloudView(nodes, asked_at):
                self._see_cloud(nodes, asked_at)
            case SchedulerView():
                self._see_scheduler(message)
            case CloudSilent() | SchedulerSilent():
                self._consider()
            case Heard(at):
                self._heard["API"] = at
                self._consider()
            case NodeStanding():
                self._note_standing(message)
            case Booted():
                self._note_outcome(message)
            case WishesChanged():
                self._consider()
            case Wishlist():
                self._decide(message)
            case _Turn():
                self._turn_set = False
                self._consider()
            case _AskRecords():
                self._ask_records()
            case RecordList(records):
                self._see_records(records)
            case Behave(name, behaviour):
                self._obey(name, message, f"an operator says {behaviour.value} to {name}")
            case Kill(name, why):
                self._obey(name, message, f"an operator has {name} destroyed: {why}")
            case ReleaseBrake():
                self._lessons = replace(self._lessons, brake=Brake())
                self._record("an operator released the brake", {})
                self._consider()
            case Dissolve():
                self._dissolving = True
                self._record("every node goes as soon as it is idle: the daemon is ending", {})
                self._consider()
            case NodePolicy():
                self._follow(message)
            case ChildFailed():
                self._see_failure(message)
            case GetNodesStatus():
                return self._status()
            case _:
                super().on_receive(message)
        return None

    def on_stop(self) -> None:
        """Its node actors end with it; machines stay."""
        self._fleet.stop()

    def on_failure(self, *_: object) -> None:
        """As when it is stopped: whoever comes next adopts."""
        self.on_stop()

    @property
    def _to(self) -> NodePeers:
        if self._peers is None:
            raise RuntimeError("the arbiter was started and not told its peers")
        return self._peers

    def _begin(self, peers: NodePeers) -> None:
        self._peers = peers
        self._around = NodeSurroundings(
            arbiter=self.actor_ref,
            cloud=peers.cloud,
            scheduler=peers.scheduler,
            records=peers.records,
            clock=self._clock,
            policy=self._policy,
            template=self._template,
            admits=peers.admits,
        )
        peers.cloud.tell(FollowCloud(self.actor_ref))
        peers.scheduler.tell(Subscribe(self.actor_ref))
        self._ask_records()
        self._tell_outlook(self._take_stock(), Plan())

    def _follow(self, policy: NodePolicy) -> None:
        """The operator has decided otherwise; nodes that are there are treated by the new rules as well."""
        self._policy = policy
        if self._around is not None:
            self._around = replace(self._around, policy=policy)
        self._fleet.tell_all(policy)
        self._next_turn_at = min(self._next_turn_at, self._clock.elapsed() + policy.turn_time)
        self._consider()

    # What it hears.

    def _see_cloud(self, nodes: tuple[CloudNode, ...], asked_at: float) -> None:
        self._heard["cloud"] = asked_at
        if self._around is None:
            return
        self._machine_hosts = frozenset(host_of(node) for node in nodes)
        # A machine that is gone may have left its node in the scheduler.
        left = {node.machine for node in self._scheduler_nodes.values()}
        kept = {id_: host for id_, host in self._hosts_by_machine.items() if id_ in left}
        self._hosts_by_machine = kept | {node.cloud_id: host_of(node) for node in nodes}
        listed = {node.name: node for node in nodes if self._template.is_ours(node)}
        for name, node in listed.items():
            if name not in self._fleet:
                self._fleet.adopt(self._around, node)
        self._fleet.show_cloud(listed, asked_at)
        self._consider()

    def _see_scheduler(self, view: SchedulerView) -> None:
        self._heard["scheduler"] = view.asked_at
        self._scheduler_nodes = by_host(view.nodes, self._hosts_by_machine)
        self._fleet.show_scheduler(self._scheduler_nodes, view.asked_at)
        if self._to.admits and self._hears_cloud:
            hosts = self._fleet.hosts | self._machine_hosts
            for host in self._places.orphans(hosts, view.nodes, self._clock.elapsed()):
                words = "the scheduler expects %s, and there is no such machine: removed there"
                log.warning(words, host, extra={"action": "place_orphaned", "host": host})
                self._to.scheduler.tell(Remove(host))
        self._consider()

    @property
    def _hears_cloud(self) -> bool:
        """Whether a machine that is not listed can be said not to exist."""
        at = self._heard["cloud"]
        return at is not None and self._clock.elapsed() - at <= self._policy.poll_stale_after

    def _ask_records(self) -> None:
        """How machines announce themselves; only people and the words of a failed boot depend on it."""
        peers = self._to
        if peers.records is None:
            return
        peers.records.tell(ListRecords(self.actor_ref))
        at = self._clock.elapsed() + self._policy.record_poll_time
        peers.timer.tell(Schedule(at, self.actor_ref, _AskRecords()))

    def _see_records(self, records: tuple[NodeRecord, ...]) -> None:
        """Tell the nodes, and free the records of machines that never came or have gone unnoticed."""
        self._fleet.show_records(records)
        if self._to.records is not None and self._hears_cloud:
            orders = {standing.name for standing in self._fleet.standings}
            me, now = self._template.dispatcher, self._clock.wall()
            for record in orphaned_records(records, me, orders, now):
                self._to.records.tell(CleanRecord(record.uuid, "its machine is gone"))

    def _note_standing(self, standing: NodeStanding) -> None:
        self._places.note(standing)
        before = self._fleet.note(standing)
        if before is None:
            return
        size, node = standing.size, standing.node
        if size is not None:
            unmade = (NodePhase.ASKED, NodePhase.GONE)
            if before.phase is NodePhase.ASKED and standing.phase not in unmade:
                self._lessons = self._lessons.created(size, self._fleet.existing)
            if node is not None and standing.takes_work:
                self._measure(size, node)
        self._consider()

    def _measure(self, size: NodeSize, node: Node) -> None:
        learnt = self._lessons.measure(size, node.total)
        if learnt is not self._lessons:
            log.warning(
                "%s has %s and not %s, as [Size %s] promises: such nodes are reckoned with what they have",
                node.name,
                node.total.as_dict(),
                size.resources.as_dict(),
                size.name,
                extra={"action": "size_measured", "node": node.name, "size": size.name},
            )
        self._lessons = learnt

    def _note_outcome(self, booted: Booted) -> None:
        """Learn from how a boot came out."""
        now, policy = self._clock.elapsed(), self._policy
        self._outcomes[booted.outcome.value] += 1
        _count_boot(booted)
        before = self._lessons.brake
        self._lessons = self._lessons.came_out(booted, self._fleet.existing, policy, now)
        brake = self._lessons.brake
        if brake.is_on(policy) and brake is not before:
            self._record(
                f"the brake is on: {brake.failures} nodes in a row came to nothing, the last was "
                f"{brake.last}",
                {"failures": brake.failures},
            )
        elif before.is_on(policy) and not brake.is_on(policy):
            self._record(f"the brake is off: {booted.name} {booted.words}", {})
        if booted.outcome is BootOutcome.JOINED:
            # Jobs that no node could hold until now need not wait until the scheduler is due again.
            self._to.scheduler.tell(Look())

    def _see_failure(self, failure: ChildFailed) -> None:
        """A node actor crashed: the next cloud list brings the machine back."""
        name = str(failure.key)
        if self._fleet.crashed(name, failure.actor):
            metrics.ACTOR_RESTARTS.labels(NodeActor.__name__).inc()
            log.error(
                "the actor of %s crashed (%s); taken up again from the next list",
                name,
                failure.error,
                extra={"action": "node_actor_crashed", "node": name},
            )

    def _obey(self, name: str, message: Behave | Kill, sentence: str) -> None:
        if self._fleet.tell(name, message):
            self._record(sentence, {"node": name})
        else:
            log.warning("there is no node %s", name, extra={"action": "no_such_node", "node": name})

    # The turn.

    def _consider(self) -> None:
        """Take stock now, or when the turn's time has come."""
        if self._peers is None:
            return
        if self._assessing is not None:
            self._news = True
            return
        now = self._clock.elapsed()
        if now < self._next_turn_at:
            if not self._turn_set:
                self._turn_set = True
                self._to.timer.tell(Schedule(self._next_turn_at, self.actor_ref, _Turn()))
            return
        self._next_turn_at = now + self._policy.turn_time
        self._serial += 1
        self._news = False
        self._assessing = stock = self._take_stock()
        self._to.wishlist.tell(Assess(self._serial, rooms_of(stock), offer_of(stock, self._policy)))

    def _take_stock(self) -> Stock:
        now = self._clock.elapsed()
        nodes, lessons = self._fleet.standings, self._lessons
        hosts = {node.host for node in nodes}
        ages = {name: None if at is None else now - at for name, at in self._heard.items()}
        return Stock(
            wall=self._clock.wall(),
            elapsed=now,
            viewed_at=self._heard["scheduler"] or float("-inf"),
            nodes=nodes,
            others=tuple(n for n in self._scheduler_nodes.values() if n.name not in hosts),
            sizes=self._sizes,
            quota=lessons.quota,
            shortages=lessons.shortages,
            brake=lessons.brake,
            stale=staleness(ages, self._policy),
            measured=lessons.measured,
            dissolving=self._dissolving,
        )

    def _decide(self, wishlist: Wishlist) -> None:
        stock = self._assessing
        if stock is None or wishlist.serial != self._serial:
            return
        self._assessing = None
        self._last_wishlist = wishlist
        metrics.PACKING_SECONDS.observe(wishlist.seconds)
        if stock.viewed_at > self._viewed_at:
            self._viewed_at, self._confirmed = stock.viewed_at, self._wanted
        made = plan(stock, wishlist, self._policy, self._confirmed)
        self._wanted = made.wanted
        self._confirmed = max(0, self._confirmed - len(made.boot))
        if made.wanted and not made.boot:
            # Another view of the scheduler has to confirm it.
            self._to.scheduler.tell(Look())
        withdraws = not self._last_withdrawn.issuperset(made.withdraw)
        if made.acts or withdraws or (made.held and made.held != self._last_held):
            self._record(made.sentence, made.numbers)
        self._last_held, self._last_withdrawn = made.held, frozenset(made.withdraw)
        self._act(made)
        self._tell_outlook(stock, made)
        if self._news:
            self._consider()

    def _act(self, made: Plan) -> None:
        around = self._around
        if around is None:
            return
        for size in made.boot:
            self._fleet.boot(around, size, self._machine_hosts | self._places.hosts)
        for name, why in made.leave.items():
            self._fleet.tell(name, Leave(why))
        for name in made.stay:
            self._fleet.tell(name, Stay("it is wanted again"))
        for name in made.withdraw:
            self._fleet.tell(name, Withdraw())

    def _tell_outlook(self, stock: Stock, made: Plan) -> None:
        self._to.dispatcher.tell(
            Outlook(
                offer_of(stock, self._policy).sizes,
                bootable_cores(stock, self._policy),
                made.reasons,
                held_by(stock, self._policy),
            )
        )

    # For people.

    def _record(self, sentence: str, numbers: Mapping[str, Any]) -> None:
        log.info("%s", sentence, extra={"action": "decision", **_prefixed(numbers)})
        self._history.append(Decision(self._clock.wall(), sentence, numbers))

    def _status(self) -> NodesStatus:
        return status_of(
            self._take_stock(),
            self._last_wishlist,
            self._policy,
            outcomes=dict(self._outcomes),
            history=tuple(self._history),
        )


def _count_boot(booted: Booted) -> None:
    size = "unknown" if booted.size is None else booted.size.name
    metrics.BOOT_OUTCOMES.labels(booted.outcome.value, size).inc()
    if booted.outcome is not BootOutcome.PROVED:
        # That one says how long it was of use, and not how long it took to boot.
        metrics.BOOT_SECONDS.labels(size, booted.outcome.value).observe(booted.seconds)


def _prefixed(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """As attributes of a log record, some of whose names are taken."""
    return {f"plan_{name}": value for name, value in numbers.items()}
