"""One actor per node of ours: it sees the node through from the order to its end.

The actor only turns messages into a `NodeSituation` and `next_step` into messages; every decision about one node
is in `nodemanager.nodes.states`, and which nodes are wanted is the arbiter's to say. Nothing is kept on disk:
after a restart the tags of the machine and the scheduler say all that is known here.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from nodemanager.actors.actor import Actor
from nodemanager.api.node_records import (
    CleanRecord,
    MakeRecord,
    NameRecord,
    RecordMade,
    RecordRefused,
)
from nodemanager.api.nodes import NodeRecord
from nodemanager.clouds.base import BEHAVIOUR_TAG, CloudNode
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
from nodemanager.model import NodeSize
from nodemanager.nodes.limits import NoPlace
from nodemanager.nodes.messages import (
    Behave,
    CloudIs,
    Kill,
    Leave,
    RecordIs,
    Ref,
    SchedulerIs,
    Stay,
    Withdraw,
)
from nodemanager.nodes.observe import seen_in_cloud, seen_in_scheduler, taken_up
from nodemanager.nodes.order import Ping, behaviour_of
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.report import epitaph, verdict
from nodemanager.nodes.reporter import Reporter
from nodemanager.nodes.states import (
    Asked,
    Behaviour,
    NodeSituation,
    NodeStep,
    next_step,
)
from nodemanager.nodes.surroundings import InUse, NodeSurroundings
from nodemanager.schedulers.base import Newcomer
from nodemanager.schedulers.messages import (
    Admit,
    Admitted,
    Drain,
    NodeSet,
    NotAdmitted,
    Remove,
    Resume,
)

log = logging.getLogger(__name__)


class NodeActor(Actor):
    """Sees one node from its order to its end. See the module's docstring."""

    def __init__(
        self,
        around: NodeSurroundings,
        situation: NodeSituation,
        in_use: InUse | None = None,
    ) -> None:
        super().__init__()
        self._around = around
        self._situation = situation
        self._in_use = in_use or InUse()
        self._ping: Ping | None = None
        self._reporter = Reporter(around)
        self._over = False
        self._doubtful = False
        """The create failed, and the machine may turn up all the same: its record is left to it."""

    @classmethod
    def boot(cls, around: NodeSurroundings, name: str, size: NodeSize, in_use: InUse) -> Ref:
        """Order a machine of `size`. What other machines have is not taken for it."""
        situation = NodeSituation(
            name,
            name,
            size,
            around.clock.wall(),
            record=Asked.DONE if around.records is None else Asked.NO,
            admission=Asked.NO if around.admits else Asked.DONE,
        )
        return cls.start_under(around.arbiter, name, around, situation, in_use)

    @classmethod
    def adopt(cls, around: NodeSurroundings, cloud: CloudNode, size: NodeSize | None) -> Ref:
        """Take up a machine that exists, from a former process or a create whose answer was lost."""
        situation = taken_up(cloud, size, around.clock.wall())
        return cls.start_under(around.arbiter, cloud.name, around, situation)

    def on_start(self) -> None:
        """Take the first step."""
        self._proceed()

    def on_receive(self, message: Any) -> None:
        """Note what the message tells, then do what is called for."""
        match message:
            case NodePolicy():
                self._around = replace(self._around, policy=message)
                self._reporter.around = self._around
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
            case Admitted(host):
                self._note_admitted(host)
            case NotAdmitted(error):
                self._note_refusal(NoPlace(error))
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

    def _note_admitted(self, host: str) -> None:
        """The scheduler expects it, perhaps under another name than the one that was proposed."""
        records, situation = self._around.records, self._situation
        if records is not None and situation.record_uuid and host != situation.host:
            records.tell(NameRecord(situation.record_uuid, host))
        self._change(admission=Asked.DONE, host=host)
        if situation.killed:
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
        elif situation.may_be_withdrawn:
            self._change(over="it was not wanted any more")

    def _note_refusal(self, error: CloudError) -> None:
        if self._situation.cloud is not None:
            # A list has shown it meanwhile.
            return
        log.warning(
            "%s was not created: %s",
            self._situation.name,
            error,
            extra={"action": "node_refused", "node": self._situation.name},
        )
        self._doubtful = not isinstance(error, CERTAIN)
        self._change(over=f"it was not created: {error}")
        self._reporter.refused(self._situation, error)

    def _note_destroyed(self) -> None:
        """The cloud has answered; if later lists still have it, it is destroyed once more."""
        self._change(destroy=Asked.DONE, destroyed_at=self._around.clock.elapsed(), misses=0)

    def _note_survival(self, error: CloudError) -> None:
        log.warning(
            "%s was not destroyed: %s",
            self._situation.name,
            error,
            extra={"action": "node_not_destroyed", "node": self._situation.name},
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
        self._reporter.outcomes(self._situation, step)
        self._take(step, elapsed)
        self._reporter.standing(self._situation)
        if step is NodeStep.LET_GO:
            self._over = True
            self.stop()

    def _take(self, step: NodeStep, elapsed: float) -> None:
        around, situation = self._around, self._situation
        match step:
            case NodeStep.MAKE_RECORD:
                self._make_record()
            case NodeStep.ADMIT:
                self._admit()
            case NodeStep.CREATE:
                self._create()
            case NodeStep.DRAIN:
                self._change(drain=Asked.YES, node_order_at=elapsed)
                reason = situation.drain_reason
                around.scheduler.tell(Drain(situation.node_name, reason, self.actor_ref))
            case NodeStep.RESUME:
                self._change(resume_asked=True, node_order_at=elapsed)
                around.scheduler.tell(Resume(situation.node_name, self.actor_ref))
            case NodeStep.DESTROY:
                self._destroy()
            case NodeStep.LET_GO if not self._doubtful:
                self._clean_up()
            case NodeStep.WAIT | NodeStep.LET_GO:
                pass

    @property
    def _size(self) -> NodeSize:
        """Of one that is being ordered."""
        if self._situation.size is None:
            raise RuntimeError(f"{self._situation.name} was ordered without a size")
        return self._situation.size

    def _make_record(self) -> None:
        situation, records, size = self._situation, self._around.records, self._size
        if records is None:
            raise RuntimeError(f"{situation.name} needs no record")
        self._change(record=Asked.YES)
        in_use = self._in_use.records
        records.tell(MakeRecord(situation.name, size.name, size.price, self.actor_ref, in_use))

    def _admit(self) -> None:
        self._change(admission=Asked.YES)
        newcomer = Newcomer(self._situation.host, self._size, self._in_use.hosts)
        self._around.scheduler.tell(Admit(newcomer, self.actor_ref))

    def _create(self) -> None:
        situation = self._situation
        order = self._around.template.order(
            situation.name, situation.host, self._size, situation.ordered_at, self._ping
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
            extra={"action": "node_destroyed", "node": situation.name},
        )
        tries = situation.destroy_tries + 1
        self._change(condemned=why, destroy=Asked.YES, destroy_tries=tries)
        around.cloud.tell(DestroyNode(situation.cloud, self.actor_ref))

    def _clean_up(self) -> None:
        """Give back what it had: the place in the scheduler, the record at the API."""
        around, situation = self._around, self._situation
        if around.admits and situation.admission is Asked.DONE:
            around.scheduler.tell(Remove(situation.node_name))
            self._change(admission=Asked.NO)
        if around.records is not None and situation.record_uuid:
            around.records.tell(CleanRecord(situation.record_uuid, epitaph(situation)))
