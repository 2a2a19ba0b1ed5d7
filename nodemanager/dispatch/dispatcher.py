"""The dispatcher: registers, claims no more than it can use, and has one actor per claimed container.

Its life in five steps:

1. The scheduler's first answer says what can run at all; with that it registers at the API.
2. It follows the changes of its containers, then lists those it already holds and adopts them.
3. It claims as long as there is room, and starts a `ContainerActor` for each claim.
4. At every turn it says why the containers it knows of are waiting, and clears away jobs of this cluster
   whose containers are final.
5. Told that it is lost, it gets rid of its jobs and begins at 1 with a new record. Told to stop, it stops
   claiming and flushes; its jobs run on and the next process adopts them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nodemanager import metrics
from nodemanager.actors.actor import Actor, ChildFailed
from nodemanager.actors.lease import ActUntil
from nodemanager.actors.timer import Schedule
from nodemanager.api.base import Identity
from nodemanager.api.messages import (
    Annotate,
    Changed,
    Claim,
    Claimed,
    Flush,
    Flushed,
    Follow,
    Following,
    Held,
    LeaseLost,
    LeaseRenewed,
    ListHeld,
    ListWaiting,
    Offer,
    Read,
    Records,
    Ref,
    Register,
    Registered,
    Turned,
    Waiting,
)
from nodemanager.clock import Clock
from nodemanager.dispatch.children import Children
from nodemanager.dispatch.claiming import Claimer, claim_limit
from nodemanager.dispatch.container import ContainerActor, Surroundings
from nodemanager.dispatch.explaining import Explainer
from nodemanager.dispatch.job import JobTemplate
from nodemanager.dispatch.messages import (
    Abandon,
    Again,
    Done,
    GetStatus,
    News,
    Relist,
    Restart,
    Standing,
    Status,
    Stop,
    Turn,
)
from nodemanager.fit import capabilities_with
from nodemanager.model import Capabilities, Container, Node, Route
from nodemanager.nodes.demand import Shape
from nodemanager.nodes.messages import Heard, Outlook, Waits, WaitsNoMore
from nodemanager.schedulers.base import Job
from nodemanager.schedulers.messages import (
    Dismiss,
    Forget,
    SchedulerSilent,
    SchedulerView,
    Subscribe,
)

log = logging.getLogger(__name__)

STRANGER_PATIENCE_SECONDS = 30.0
"""Between two questions at the API about the same job that nobody here asked for."""


@dataclass(frozen=True, slots=True)
class NodeActors:
    """Those who see to it that there are nodes."""

    cloud: Ref
    wishlist: Ref
    arbiter: Ref


@dataclass(frozen=True, slots=True)
class Peers:
    """The actors a dispatcher works with."""

    scheduler: Ref
    lease: Ref
    claims: Ref
    changes: Ref
    reader: Ref
    writer: Ref
    timer: Ref
    collectors: Sequence[Ref] = ()
    """Who keeps what jobs leave that are the commands themselves; none where no scheduler has such jobs."""
    nodes: NodeActors | None = None
    """None when no nodes are booted."""
    elastic: str = ""
    """Which of several schedulers the booted nodes join; empty where there is one."""


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """The options of `[Dispatch]` that the dispatcher reads."""

    max_claimed: int
    turn_seconds: float
    relist_seconds: float


class DispatcherActor(Actor):
    """See the module's docstring. It has to be told its `Peers` once they exist."""

    def __init__(self, settings: DispatchSettings, template: JobTemplate, clock: Clock) -> None:
        super().__init__()
        self._settings = settings
        self._template = template
        self._clock = clock
        self._peers: Peers | None = None
        self._around: Surroundings | None = None
        self._children = Children(self.actor_ref)
        self._explainer = Explainer(self._children)
        self._nodes: tuple[Node, ...] | None = None
        self._routes: tuple[Route, ...] = ()
        """What each of several schedulers takes and could run."""
        self._outlook: Outlook | None = None
        self._capabilities: Capabilities | None = None
        self._lease_until = float("-inf")
        self._api_heard_at: float | None = None
        self._scheduler_heard_at: float | None = None
        self._scheduler_error = ""
        self._paused = ""
        """Who said that we shall claim nothing, and why; empty: nobody."""
        self._adopted = False
        self._claiming = False
        self._stopping: Stop | None = None
        self._strangers_asked: dict[str, float] = {}
        metrics.ACTOR_RESTARTS.labels(ContainerActor.__name__)  # from now on it counts 0

    def on_receive(self, message: Any) -> Status | None:  # noqa: PLR0915 (a table: one line per message)
        """Hand each message to the method that says what it means."""
        match message:
            case Peers():
                self._peers = message
                message.scheduler.tell(Subscribe(self.actor_ref))
                self._tick(Turn(), self._settings.turn_seconds)
                self._tick(Relist(), self._settings.relist_seconds)
            case SchedulerView():
                self._see_scheduler(message)
            case Outlook():
                self._outlook = message
                self._see_capabilities()
            case SchedulerSilent(error, _):
                if not message.scheduler:
                    # Of several the router knows which job is whose.
                    self._explainer.silent(message)
                # The scheduler's actor has logged it.
                self._scheduler_error = error
            case Registered(me, lease_until, paused):
                self._begin(me, lease_until)
                self._see_pause(paused)
            case LeaseRenewed(lease_until, paused):
                self._see_pause(paused)
                self._renew(lease_until)
            case LeaseLost(why):
                self._end_of_record(why)
            case Following(me):
                if self._is_me(me):
                    self._to.reader.tell(ListHeld(me, self.actor_ref))
            case Held(me, containers):
                if self._is_me(me):
                    self._compare(containers)
            case Claimed(me, containers, paused):
                if self._is_me(me):
                    self._see_pause(paused)
                self._take_claimed(me, containers)
            case Changed(_, containers):
                self._pass_on(containers)
            case Records(containers):
                self._see_records(containers)
            case Waiting(containers):
                self._explain(containers)
            case Standing():
                self._note_standing(message)
            case Done():
                self._let_go(message)
            case ChildFailed():
                self._see_failure(message)
            case Restart(uuid):
                self._to.reader.tell(Read((uuid,), self.actor_ref))
            case DispatchSettings():
                self._settings = message
                self._tick(Turn(), message.turn_seconds)
                self._tick(Relist(), message.relist_seconds)
                self._claim()
            case JobTemplate():
                self._use(message)
            case Turn():
                self._turn()
            case Relist():
                self._relist()
            case Stop():
                self._stopping = message
                self._to.writer.tell(Flush(self.actor_ref))
            case Flushed():
                if self._stopping is not None:
                    self._stopping.stopped.set()
            case GetStatus():
                return self._status()
            case _:
                super().on_receive(message)
        return None

    def on_stop(self) -> None:
        """Its container actors end with it; containers and jobs stay as they are."""
        self._children.stop()

    def on_failure(self, *_: object) -> None:
        """As when it is stopped: whoever comes next adopts."""
        self.on_stop()

    # The record at the API.

    @property
    def _to(self) -> Peers:
        if self._peers is None:
            raise RuntimeError("the dispatcher was started and not told its peers")
        return self._peers

    @property
    def _uuid(self) -> str:
        """Of the record, for the log; empty when there is none."""
        return "" if self._around is None else self._around.me.dispatcher

    def _is_me(self, me: Identity) -> bool:
        return self._around is not None and self._around.me == me

    def _begin(self, me: Identity, lease_until: float) -> None:
        log.info(
            "registered as %s, epoch %d",
            me.dispatcher,
            me.epoch,
            extra={"action": "registered", "dispatcher": me.dispatcher, "epoch": me.epoch},
        )
        peers = self._to
        self._around = Surroundings(
            me=me,
            dispatcher=self.actor_ref,
            scheduler=peers.scheduler,
            writer=peers.writer,
            reader=peers.reader,
            timer=peers.timer,
            clock=self._clock,
            template=self._template,
            collectors=peers.collectors,
            elastic=peers.elastic,
        )
        self._adopted = self._claiming = False
        self._explainer.book.rewrite()
        self._renew(lease_until)
        peers.changes.tell(Follow(me))

    def _use(self, template: JobTemplate) -> None:
        """Jobs of containers that come from now on are told this."""
        self._template = replace(template, runs_commands=self._template.runs_commands)
        if self._around is not None:
            self._around = replace(self._around, template=self._template)

    def _renew(self, lease_until: float) -> None:
        self._lease_until = lease_until
        self._api_heard_at = self._clock.elapsed()
        self._to.scheduler.tell(ActUntil(lease_until))
        if self._to.nodes is not None:
            self._to.nodes.cloud.tell(ActUntil(lease_until))
            self._tell_heard()

    def _tell_heard(self) -> None:
        """The arbiter may rely on the wishes from now on: whatever is held is known."""
        if self._to.nodes is not None and self._adopted:
            self._to.nodes.arbiter.tell(Heard(self._clock.elapsed()))

    def _end_of_record(self, why: str) -> None:
        log.error(
            "this dispatcher was declared lost (%s): cancelling %d jobs, then registering anew",
            why,
            len(self._children),
            extra={
                "action": "dispatcher_lost",
                "dispatcher": self._uuid,
                "jobs": len(self._children),
            },
        )
        self._around = None
        self._adopted = False
        self._children.tell(Abandon())
        if self._capabilities is not None and self._stopping is None:
            self._to.lease.tell(Register(self._capabilities))

    # The scheduler.

    def _see_scheduler(self, view: SchedulerView) -> None:
        self._nodes, self._routes = view.nodes, view.routes
        self._explainer.silent(None)
        self._scheduler_heard_at, self._scheduler_error = view.asked_at, ""
        self._see_capabilities()
        if self._adopted:
            self._see_strangers(view.strangers)

    def _see_capabilities(self) -> None:
        """What can run here at all is known once the scheduler, and the arbiter if there is one, have spoken."""
        if self._nodes is None or (self._to.nodes is not None and self._outlook is None):
            return
        sizes = () if self._outlook is None else self._outlook.sizes
        capabilities = capabilities_with(self._nodes, sizes, self._routes)
        if self._capabilities is None:
            self._to.lease.tell(Register(capabilities))
        elif capabilities != self._capabilities:
            self._to.lease.tell(Offer(capabilities))
        self._capabilities = capabilities
        self._claim()

    def _see_strangers(self, jobs: tuple[Job, ...]) -> None:
        """Jobs of this cluster that nobody here asked for: their containers' records say what to do."""
        now = self._clock.elapsed()
        self._strangers_asked = {
            job.name: self._strangers_asked[job.name]
            for job in jobs
            if job.name in self._strangers_asked
        }
        asked = []
        for job in jobs:
            last = self._strangers_asked.get(job.name)
            if last is None or now - last >= STRANGER_PATIENCE_SECONDS:
                self._strangers_asked[job.name] = now
                asked.append(job.name)
        if asked:
            self._to.reader.tell(Read(tuple(asked), self.actor_ref))

    # Containers coming in.

    def _take_claimed(self, me: Identity, containers: tuple[Container, ...]) -> None:
        if not self._is_me(me):
            return
        self._claiming = False
        now = self._clock.wall()
        for container in containers:
            _count_claim(container, now)
            self._start_child(container, fresh=True)
        if containers:
            log.info(
                "claimed %d containers",
                len(containers),
                extra={
                    "action": "claimed",
                    "dispatcher": me.dispatcher,
                    "containers": len(containers),
                },
            )
        self._claim()

    def _see_pause(self, why: str) -> None:
        """A claim is asked for all the same, and held open at the API: it is answered when the pause is over."""
        if why == self._paused:
            return
        if why:
            log.warning(
                "claims are paused: %s",
                why,
                extra={"action": "dispatcher_paused", "dispatcher": self._uuid},
            )
        else:
            log.info(
                "claims go on", extra={"action": "dispatcher_resumed", "dispatcher": self._uuid}
            )
        self._paused = why

    def _compare(self, held: tuple[Container, ...]) -> None:
        """The whole list of what we hold: adopt what has no actor, refresh what has one."""
        uuids = {container.uuid for container in held}
        for container in held:
            if container.uuid not in self._children:
                metrics.CONTAINERS_ADOPTED.inc()
                self._start_child(container, fresh=False)
        self._pass_on(held)
        silent = tuple(uuid for uuid in self._children if uuid not in uuids)
        if silent:
            self._to.reader.tell(Read(silent, self.actor_ref))
        if not self._adopted:
            log.info(
                "adopted %d containers",
                len(held),
                extra={"action": "adopted", "dispatcher": self._uuid, "containers": len(held)},
            )
        self._adopted = True
        self._tell_heard()
        self._claim()

    def _see_records(self, containers: tuple[Container, ...]) -> None:
        """Records asked for because of a stranger, a crashed actor, or a silent one."""
        for container in containers:
            uuid = container.uuid
            if uuid in self._children:
                self._children.show(container)
            elif container.state.is_final:
                # Nobody's job any more; a container that is unknown (404) or held by another proves
                # nothing, and its job is left alone.
                self._to.scheduler.tell(Dismiss(uuid))
                self._to.scheduler.tell(Forget(uuid))
            elif self._around is not None and container.dispatcher == self._around.me.dispatcher:
                self._start_child(container, fresh=False)

    def _start_child(self, container: Container, *, fresh: bool) -> None:
        if self._around is not None:
            self._children.start(self._around, container, fresh=fresh)
            self._explainer.claimed(container.uuid)

    def _claim(self) -> None:
        """Ask for more work when there is room for it and no question is under way."""
        if self._claiming or not self._adopted or self._around is None or self._stopping:
            return
        limit = self._room()
        if limit > 0:
            self._claiming = True
            self._to.claims.tell(Claim(self._around.me, limit))

    def _room(self) -> int:
        bootable_cores = 0 if self._outlook is None else self._outlook.bootable_cores
        nodes = self._nodes or ()
        return claim_limit(self._settings.max_claimed, nodes, self._children.load, bootable_cores)

    # Containers under way.

    def _pass_on(self, containers: tuple[Container, ...]) -> None:
        for container in containers:
            self._children.show(container)
            child = self._children.get(container.uuid)
            if child is not None and child.wants_node:
                # Its priority may be another.
                self._tell_wish(container.uuid)

    def _note_standing(self, standing: Standing) -> None:
        if self._children.note(standing):
            self._explainer.book.note(standing.uuid, standing.reason)
            self._tell_wish(standing.uuid)
            self._claim()

    def _tell_wish(self, uuid: str) -> None:
        """Does the container want a node, and how urgently? The wishlist passes over what it knows."""
        if self._to.nodes is None:
            return
        child, wishlist = self._children.get(uuid), self._to.nodes.wishlist
        if child is not None and child.wants_node:
            container = child.container
            wishlist.tell(Waits(uuid, Shape.of(container), container.priority))
        else:
            wishlist.tell(WaitsNoMore(uuid))

    def _let_go(self, done: Done) -> None:
        if self._children.finished(done.uuid):
            self._explainer.book.drop(done.uuid)
            self._tell_wish(done.uuid)
            self._claim()

    def _see_failure(self, failure: ChildFailed) -> None:
        """A container actor crashed: start another from the record, a little later each time."""
        uuid = str(failure.key)
        pause = self._children.crashed(uuid)
        if pause is None:
            return
        self._tell_wish(uuid)
        metrics.ACTOR_RESTARTS.labels(ContainerActor.__name__).inc()
        log.error(
            "the actor of %s crashed (%s); started again in %.0f s",
            uuid,
            failure.error,
            pause,
            extra={
                "action": "container_actor_crashed",
                "container": uuid,
                "dispatcher": self._uuid,
            },
        )
        self._tick(Restart(uuid), pause)

    # The periodic work.

    def _turn(self) -> None:
        self._tick(Turn(), self._settings.turn_seconds)
        if self._around is None or not self._adopted:
            return
        if self._clock.elapsed() >= self._lease_until:
            log.warning(
                "the lease has run out: nothing is submitted or cancelled until the API answers",
                extra={"action": "lease_over", "dispatcher": self._uuid},
            )
            return
        self._to.reader.tell(ListWaiting(self._explainer.looks_at, self.actor_ref))

    def _explain(self, containers: tuple[Container, ...]) -> None:
        """Say why queued containers are not claimed, and write every reason that changed."""
        if self._around is None or self._capabilities is None:
            return
        annotations = self._explainer.explain(
            containers,
            self._claimer(self._around.me.dispatcher, self._capabilities),
            self._outlook,
            wall=self._clock.wall(),
            elapsed=self._clock.elapsed(),
        )
        if annotations:
            self._to.writer.tell(Annotate(self._around.me, annotations))
        self._to.lease.tell(Turned())

    def _claimer(self, uuid: str, capabilities: Capabilities) -> Claimer:
        """What decides now whether we claim."""
        held = None
        if self._outlook is not None and self._settings.max_claimed == 0:
            # With `max_claimed` it might claim no more if it had all the nodes of the world.
            held = self._outlook.held
        return Claimer(uuid, capabilities, self._room(), self._children.load, held, self._paused)

    def _relist(self) -> None:
        self._tick(Relist(), self._settings.relist_seconds)
        self._children.tell(Again())
        if self._around is not None and self._adopted:
            self._to.reader.tell(ListHeld(self._around.me, self.actor_ref))

    def _tick(self, message: Any, seconds: float) -> None:
        key = (self.actor_ref.actor_urn, message)
        self._to.timer.tell(Schedule(self._clock.elapsed() + seconds, self.actor_ref, message, key))

    def _status(self) -> Status:
        reason = self._explainer.book.get
        held = (child.shown(reason(child.container.uuid)) for child in self._children.all())
        now = self._clock.elapsed()
        return Status(
            me=None if self._around is None else self._around.me,
            lease_seconds=self._lease_until - now,
            nodes=self._nodes or (),
            containers=tuple(held),
            queued=tuple(self._explainer.queued()),
            news=News(
                api_age_seconds=_age(self._api_heard_at, now),
                scheduler_age_seconds=_age(self._scheduler_heard_at, now),
                scheduler_error=self._scheduler_error,
                adopted=self._adopted,
                stopping=self._stopping is not None,
            ),
        )


def _age(heard_at: float | None, now: float) -> float | None:
    return None if heard_at is None else now - heard_at


def _count_claim(container: Container, now: float) -> None:
    """Count a claim, and how long the container could have been claimed before. `now` is wall clock."""
    metrics.CONTAINERS_CLAIMED.inc()
    if container.attempt > 1:
        metrics.CONTAINER_RETRIES.labels("temp" if container.temp_fails else "perm").inc()
    due = max(container.created_at, container.run_after or 0.0)
    metrics.CONTAINER_STAGE_SECONDS.labels("claim").observe(max(0.0, now - due))
