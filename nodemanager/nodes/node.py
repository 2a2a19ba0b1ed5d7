"""One actor per node of ours: it sees the node through from the order to its end.

The actor only turns messages into a `NodeSituation` and `next_step` into messages; every decision about one node
is in `nodemanager.nodes.states`, and which nodes are wanted is the arbiter's to say. Nothing is kept on disk:
after a restart the tags of the machine and the scheduler say all that is known here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from nodemanager.actors.actor import Actor
from nodemanager.api.node_records import CleanRecord, MakeRecord, RecordMade, RecordRefused
from nodemanager.api.nodes import NodeRecord
from nodemanager.clock import Clock
from nodemanager.clouds.base import BEHAVIOUR_TAG, CloudNode, CloudState
from nodemanager.clouds.errors import CERTAIN, CloudError, QuotaExceeded
from nodemanager.clouds.messages import (
    Created,
    CreateFailed,
    CreateNode,
    Destroyed,
    DestroyFailed,
    DestroyNode,
    Forgo,
    Forgone,
    TagNode,
)
from nodemanager.model import NodeSize, format_seconds
from nodemanager.nodes.messages import (
    Behave,
    Booted,
    BootOutcome,
    CloudIs,
    Kill,
    Leave,
    NodeStanding,
    RecordIs,
    Ref,
    SchedulerIs,
    Stay,
    Withdraw,
)
from nodemanager.nodes.observe import seen_in_cloud, seen_in_scheduler
from nodemanager.nodes.order import (
    OrderTemplate,
    Ping,
    behaviour_of,
    host_of,
    ordered_at_of,
    record_of,
)
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.report import epitaph, outcomes_of, standing_of, verdict
from nodemanager.nodes.states import (
    Asked,
    Behaviour,
    NodeSituation,
    NodeStep,
    age,
    next_step,
)
from nodemanager.schedulers.messages import Drain, NodeSet, Resume

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeSurroundings:
    """What all node actors of an arbiter share; one object, never changed."""

    arbiter: Ref
    cloud: Ref
    scheduler: Ref
    records: Ref | None
    """None when machines have no records at the API."""
    clock: Clock
    policy: NodePolicy
    template: OrderTemplate


class NodeActor(Actor):
    """Sees one node from its order to its end. See the module's docstring."""

    def __init__(
        self,
        around: NodeSurroundings,
        situation: NodeSituation,
        records_in_use: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self._around = around
        self._situation = situation
        self._records_in_use = records_in_use
        self._ping: Ping | None = None
        self._standing: NodeStanding | None = None
        self._told: set[BootOutcome] = set()
        self._over = False
        self._doubtful = False
        """The create failed, and the machine may turn up all the same: its record is left to it."""

    @classmethod
    def boot(
        cls, around: NodeSurroundings, name: str, size: NodeSize, records_in_use: frozenset[str]
    ) -> Ref:
        """Order a machine of `size`. A record of other machines, `records_in_use`, is not taken for it."""
        record = Asked.DONE if around.records is None else Asked.NO
        situation = NodeSituation(name, name, size, around.clock.wall(), record)
        return cls.start_under(around.arbiter, name, around, situation, records_in_use)

    @classmethod
    def adopt(cls, around: NodeSurroundings, cloud: CloudNode, size: NodeSize | None) -> Ref:
        """Take up a machine that exists, from a former process or a create whose answer was lost."""
        situation = NodeSituation(
            name=cloud.name,
            host=host_of(cloud),
            size=size,
            ordered_at=ordered_at_of(cloud, around.clock.wall()),
            record_uuid=record_of(cloud),
            created=Asked.DONE,
            cloud=cloud,
            behaviour=behaviour_of(cloud),
            was_going=cloud.state is CloudState.STOPPING,
        )
        return cls.start_under(around.arbiter, cloud.name, around, situation)

    def on_start(self) -> None:
        """Take the first step."""
        self._proceed()

    def on_receive(self, message: Any) -> None:
        """Note what the message tells, then do what is called for."""
        match message:
            case CloudIs(cloud, asked_at):
                self._situation = seen_in_cloud(self._situation, cloud, asked_at)
            case SchedulerIs(node, asked_at):
                now = self._around.clock.elapsed()
                self._situation = seen_in_scheduler(self._situation, node, asked_at, now)
            case RecordMade(_, record):
                self._note_record(record)
            case RecordRefused(_, error):
                # As a rule there is no free slot, which is a quota of the API's.
                self._note_refusal(QuotaExceeded(f"the API gives it no record: {error}"))
            case RecordIs(record):
                self._change(pinged=record.first_ping_at is not None)
            case Created(node):
                self._note_created(node)
            case CreateFailed(_, error):
                self._note_refusal(error)
            case Forgone():
                self._change(over="it was not wanted any more")
            case Destroyed():
                self._note_destroyed()
            case DestroyFailed(_, error):
                self._note_survival(error)
            case NodeSet(_, drained, at):
                self._note_node_set(at, drained=drained)
            case Leave(why):
                self._change(leaving=why)
            case Stay():
                self._change(leaving="")
            case Withdraw():
                self._withdraw()
            case Behave(_, behaviour):
                self._behave(behaviour)
            case Kill(_, why):
                self._change(killed=why or "an operator said so")
                self._withdraw()
            case _:
                super().on_receive(message)
        self._proceed()

    # What messages tell.

    def _note_record(self, record: NodeRecord) -> None:
        """It is to join under the name that the API has given it."""
        self._ping = Ping(record.uuid, record.ping_secret)
        self._change(
            record=Asked.DONE,
            record_uuid=record.uuid,
            host=record.hostname or self._situation.name,
        )
        if self._situation.killed:
            self._withdraw()

    def _note_created(self, cloud: CloudNode) -> None:
        self._change(created=Asked.DONE, cloud=cloud, created_at=self._around.clock.elapsed())
        behaviour = self._situation.behaviour
        if behaviour is not behaviour_of(cloud):
            # An operator spoke while it was being made.
            self._around.cloud.tell(TagNode(cloud, {BEHAVIOUR_TAG: behaviour.value}))

    def _withdraw(self) -> None:
        situation = self._situation
        if situation.created is Asked.YES:
            self._around.cloud.tell(Forgo(situation.name))
        elif situation.created is Asked.NO and situation.record is not Asked.YES:
            self._change(over="it was not wanted any more")

    def _note_refusal(self, error: CloudError) -> None:
        if self._situation.cloud is not None:
            # A list has shown it meanwhile.
            return
        log.warning(
            "%s was not created: %s",
            self._situation.name,
            error,
            extra={"action": "create_failed", "node": self._situation.name},
        )
        self._doubtful = not isinstance(error, CERTAIN)
        self._change(over=f"it was not created: {error}")
        self._tell_outcome(BootOutcome.REFUSED, str(error), error)

    def _note_destroyed(self) -> None:
        """The cloud has answered; if later lists still have it, it is destroyed once more."""
        self._change(destroy=Asked.DONE, destroyed_at=self._around.clock.elapsed(), misses=0)

    def _note_survival(self, error: CloudError) -> None:
        log.warning(
            "%s was not destroyed: %s",
            self._situation.name,
            error,
            extra={"action": "destroy_failed", "node": self._situation.name},
        )
        self._note_destroyed()

    def _note_node_set(self, at: float, *, drained: bool) -> None:
        if drained:
            self._change(drain=Asked.DONE, drained_at=at)
        else:
            self._change(
                drain=Asked.NO, drained_at=float("inf"), resume_asked=False, node_order_at=at
            )

    def _behave(self, behaviour: Behaviour) -> None:
        self._change(behaviour=behaviour)
        cloud = self._situation.cloud
        if cloud is not None:
            self._around.cloud.tell(TagNode(cloud, {BEHAVIOUR_TAG: behaviour.value}))

    def _change(self, **changes: Any) -> None:
        self._situation = replace(self._situation, **changes)

    # What to do.

    def _proceed(self) -> None:
        if self._over:
            return
        around = self._around
        wall, elapsed = around.clock.wall(), around.clock.elapsed()
        step = next_step(self._situation, around.policy, wall, elapsed)
        # Before the step is taken: one that is being destroyed does not show any more that it has failed.
        self._tell_outcomes(step, wall, elapsed)
        self._take(step, elapsed)
        self._tell_standing(wall, elapsed)
        if step is NodeStep.LET_GO:
            self._over = True
            self.stop()

    def _take(self, step: NodeStep, elapsed: float) -> None:
        around, situation = self._around, self._situation
        match step:
            case NodeStep.MAKE_RECORD:
                self._make_record()
            case NodeStep.CREATE:
                self._create()
            case NodeStep.DRAIN:
                self._change(drain=Asked.YES, node_order_at=elapsed)
                reason = situation.drain_reason
                around.scheduler.tell(Drain(situation.host, reason, self.actor_ref))
            case NodeStep.RESUME:
                self._change(resume_asked=True, node_order_at=elapsed)
                around.scheduler.tell(Resume(situation.host, self.actor_ref))
            case NodeStep.DESTROY:
                self._destroy()
            case NodeStep.LET_GO:
                if around.records is not None and situation.record_uuid and not self._doubtful:
                    around.records.tell(CleanRecord(situation.record_uuid, epitaph(situation)))
            case NodeStep.WAIT:
                pass

    def _make_record(self) -> None:
        situation, records = self._situation, self._around.records
        if records is None or situation.size is None:
            raise RuntimeError(f"{situation.name} was ordered without a size, or needs no record")
        self._change(record=Asked.YES)
        size = situation.size
        records.tell(
            MakeRecord(situation.name, size.name, size.price, self.actor_ref, self._records_in_use)
        )

    def _create(self) -> None:
        situation = self._situation
        if situation.size is None:
            raise RuntimeError(f"{situation.name} was ordered without a size")
        order = self._around.template.order(
            situation.name, situation.host, situation.size, situation.ordered_at, self._ping
        )
        self._change(created=Asked.YES)
        self._around.cloud.tell(CreateNode(order, self.actor_ref))

    def _destroy(self) -> None:
        around, situation = self._around, self._situation
        wall = around.clock.wall()
        if situation.cloud is None:
            return
        why = (
            situation.killed
            or situation.condemned
            or situation.leaving
            or verdict(situation, around.policy, wall)
        )
        log.info(
            "destroying %s: %s",
            situation.name,
            why,
            extra={"action": "destroy", "node": situation.name},
        )
        tries = situation.destroy_tries + 1
        self._change(condemned=why, destroy=Asked.YES, destroy_tries=tries)
        around.cloud.tell(DestroyNode(situation.cloud, self.actor_ref))

    # What the arbiter has to know.

    def _tell_outcome(
        self, outcome: BootOutcome, words: str, error: CloudError | None = None
    ) -> None:
        if outcome in self._told:
            return
        self._told.add(outcome)
        situation = self._situation
        lived = age(situation, self._around.clock.wall())
        proved = BootOutcome.PROVED in self._told
        message = Booted(situation.name, situation.size, outcome, words, lived, error, proved)
        self._around.arbiter.tell(message)
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

    def _tell_outcomes(self, step: NodeStep, wall: float, elapsed: float) -> None:
        """How its boot came out, as far as that is known by now; each outcome once."""
        news = outcomes_of(
            self._situation,
            step,
            frozenset(self._told),
            self._around.policy,
            wall=wall,
            elapsed=elapsed,
        )
        for outcome, words, error in news:
            self._tell_outcome(outcome, words, error)

    def _tell_standing(self, wall: float, elapsed: float) -> None:
        """How it is, whenever that changes."""
        around, situation = self._around, self._situation
        proved = BootOutcome.PROVED in self._told
        standing = standing_of(situation, around.policy, wall, elapsed, proved=proved)
        if standing != self._standing:
            self._standing = standing
            around.arbiter.tell(standing)
