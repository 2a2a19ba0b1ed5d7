"""One actor per claimed container: it sees the container through to its final state.

The actor only turns messages into a `Situation` and `next_step` into messages; every decision is in
`nodemanager.dispatch.steps`. It remembers the step it took last and does not take it again while nothing
else is called for; an answer that leaves the same step to take clears that memory.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from zlib import crc32

from nodemanager import metrics
from nodemanager.actors.actor import Actor
from nodemanager.actors.timer import Schedule
from nodemanager.api.base import Description, Identity, Update, UpdateResult
from nodemanager.api.messages import (
    Describe,
    Described,
    GetToken,
    Read,
    Records,
    Ref,
    Token,
    Write,
    Written,
)
from nodemanager.clock import Clock
from nodemanager.dispatch.job import JobTemplate
from nodemanager.dispatch.messages import (
    Abandon,
    Again,
    Collect,
    Collected,
    ContainerIs,
    Done,
    LingerOver,
    Standing,
)
from nodemanager.dispatch.steps import (
    JobPhase,
    Situation,
    Stage,
    Step,
    job_waits,
    next_step,
    outcome,
    stage_of,
    wait_reason,
    wants_node,
)
from nodemanager.model import Container, ContainerState, JobState
from nodemanager.mount_plan import RequestFaultError
from nodemanager.schedulers.jobs import JobReport
from nodemanager.schedulers.messages import Cancel, Forget, Prioritise, Seek, Submit
from nodemanager.work import Work

log = logging.getLogger(__name__)

LINGER_SECONDS = 30.0
"""How long a job may stay after its container became final, before it is cancelled."""

PAUSE_SECONDS = 5.0
"""Between a refusal of the API and the next try, while the record does not say why."""

_PHASES = {
    None: JobPhase.NONE,
    JobState.WAITING: JobPhase.WAITING,
    JobState.RUNNING: JobPhase.RUNNING,
    JobState.ENDED: JobPhase.ENDED,
    JobState.UNKNOWN: JobPhase.SUBMITTING,
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all container actors of a dispatcher share; one object, never changed."""

    me: Identity
    dispatcher: Ref
    scheduler: Ref
    writer: Ref
    reader: Ref
    timer: Ref
    clock: Clock
    template: JobTemplate
    collectors: Sequence[Ref] = ()
    """They keep what jobs leave that are the commands themselves; none where no scheduler has such jobs."""
    elastic: str = ""
    """Which of several schedulers the booted nodes join; empty where there is one."""


class ContainerActor(Actor):
    """Sees one container from Locked to its end. See the module's docstring."""

    def __init__(self, around: Surroundings, container: Container, *, fresh: bool) -> None:
        """`fresh` says that it was claimed just now, so that no job of it can exist."""
        super().__init__()
        self._around = around
        self._situation = Situation(
            container,
            phase=JobPhase.NONE if fresh else JobPhase.UNKNOWN,
            needs_work=around.template.runs_commands,
        )
        self._asked: Step | None = None
        self._token = ""
        self._work: Work | None = None
        self._collected: Collected | None = None
        self._unanswered: deque[ContainerState] = deque()
        """The states that were written and not answered yet, in order."""
        self._report: JobReport | None = None
        self._node = ""
        self._scheduler = ""
        self._standing: Standing | None = None
        self._stage = stage_of(self._situation)
        self._stage_since = around.clock.elapsed() if fresh else None
        """None: it was in this stage already when it was taken up."""

    def on_start(self) -> None:
        """Take the first step."""
        container = self._situation.container
        log.info(
            "%s: %s, attempt %d",
            container.uuid,
            "taken up again" if self._stage_since is None else "claimed",
            container.attempt,
            extra={"action": "container_taken", **self._who},
        )
        self._proceed()

    def on_receive(self, message: Any) -> None:
        """Note what the message tells, then do what is called for."""
        match message:
            case ContainerIs(container):
                self._note_container(container)
            case JobReport():
                self._note_job(message)
            case Token(_, token):
                self._note_token(token)
            case Described(_, description):
                self._note_work(description)
            case Collected():
                self._collected = message
                self._change(collected=True)
            case Records(containers):
                self._note_read(containers)
            case Written(result):
                self._note_written(result)
            case LingerOver():
                self._change(linger_over=True)
            case Abandon():
                self._change(abandoned=True)
            case Again():
                self._asked = None
                self._change(read_after_end=False)
            case _:
                super().on_receive(message)
        self._proceed()

    # What messages tell.

    def _note_container(self, container: Container) -> None:
        before = self._situation.container
        if before.state.is_final or container.modified_at < before.modified_at:
            return
        self._change(container=container)
        if container.state.is_final and self._situation.has_job:
            self._later(LINGER_SECONDS, LingerOver())
        if 0 < container.priority != before.priority and self._situation.has_job:
            self._around.scheduler.tell(Prioritise(container.uuid, container.priority))

    def _note_job(self, report: JobReport) -> None:
        self._answered(Step.LOOK)
        self._report = report
        self._scheduler = report.scheduler
        self._node = report.node or self._node
        self._change(
            phase=_PHASES[report.state],
            end=report.end,
            runner_id=report.runner_id or self._situation.runner_id,
            hopeless=report.hopeless or self._situation.hopeless,
        )

    def _note_token(self, token: str | None) -> None:
        if token is None:
            # Not ours, or final: the record says which. Until then there is nothing to repeat.
            self._refused()
            return
        self._answered(Step.GET_TOKEN)
        self._token = token
        self._change(has_token=True)

    def _note_work(self, description: Description | None) -> None:
        if description is None:
            # As with the token.
            self._refused()
            return
        self._answered(Step.GET_WORK)
        try:
            self._work = self._around.template.work(description, self._token)
        except RequestFaultError as error:
            self._change(fault=str(error))
        else:
            self._change(has_work=True)

    def _note_read(self, containers: tuple[Container, ...]) -> None:
        self._answered(Step.READ)
        for container in containers:
            self._note_container(container)
        self._change(read_after_end=not self._situation.has_job)

    def _note_written(self, result: UpdateResult) -> None:
        state = self._unanswered.popleft()
        if result.status != HTTPStatus.OK:
            # Somebody else wrote first, or our record was lost: the container's record says what holds.
            log.warning(
                "%s: not written: %s",
                result.uuid,
                result.error,
                extra={"action": "write_refused", **self._who},
            )
            self._refused()
            return
        self._change(container=replace(self._situation.container, state=state))

    def _answered(self, step: Step) -> None:
        if self._asked is step:
            self._asked = None

    def _refused(self) -> None:
        """The API said no: look at the record now, and ask again only after a pause."""
        self._around.reader.tell(Read((self._situation.container.uuid,), self.actor_ref))
        self._later(PAUSE_SECONDS, Again())

    def _later(self, seconds: float, message: Any) -> None:
        at = self._around.clock.elapsed() + seconds
        self._around.timer.tell(Schedule(at, self.actor_ref, message))

    def _change(self, **changes: Any) -> None:
        self._situation = replace(self._situation, **changes)

    # What to do.

    def _proceed(self) -> None:
        step = next_step(self._situation)
        if step is not self._asked:
            self._asked = step
            self._take(step)
        self._note_stage()
        self._tell_standing()

    def _take(self, step: Step) -> None:
        around, uuid = self._around, self._situation.container.uuid
        match step:
            case Step.WAIT:
                pass
            case Step.LOOK:
                around.scheduler.tell(Seek(uuid, self.actor_ref))
            case Step.GET_TOKEN:
                around.writer.tell(GetToken(around.me, uuid, self.actor_ref))
            case Step.SUBMIT:
                self._submit()
            case Step.CANCEL_JOB:
                around.scheduler.tell(Cancel(uuid))
            case Step.READ:
                around.reader.tell(Read((uuid,), self.actor_ref))
            case Step.GET_WORK:
                around.reader.tell(Describe(around.me, uuid, self.actor_ref))
            case Step.CONFIRM:
                self._confirm()
            case Step.COLLECT:
                self._collect()
            case Step.WRITE:
                self._write()
            case Step.LET_GO:
                self._count_end()
                around.scheduler.tell(Forget(uuid))
                around.dispatcher.tell(Done(uuid, self._situation.container))
                self.stop()

    def _submit(self) -> None:
        container = self._situation.container
        earlier = () if container.previous is None else (container.previous,)
        spec = self._around.template.job(container, self._token, self._work)
        # From here on it is the scheduler actor's; texts and secrets are not kept twice.
        self._work = None
        self._change(phase=JobPhase.SUBMITTING, has_work=False)
        self._asked = Step.WAIT
        self._around.scheduler.tell(Submit(spec, self.actor_ref, earlier))

    def _collect(self) -> None:
        collectors = self._around.collectors
        uuid = self._situation.container.uuid
        whose = collectors[crc32(uuid.encode()) % len(collectors)]
        whose.tell(Collect(uuid, self._scheduler, self.actor_ref))

    def _confirm(self) -> None:
        attributes = {
            "state": ContainerState.RUNNING.value,
            "runner_id": self._situation.runner_id,
            "runtime_status": {"node": self._node},
        }
        self._tell_writer(ContainerState.RUNNING, attributes)

    def _write(self) -> None:
        uuid = self._situation.container.uuid
        exits = frozenset(self._around.template.spec.tempfail_exits)
        final = outcome(self._situation, exits)
        if self._collected is not None:
            final = self._collected.judge(final)
        log.info(
            "%s: is %s%s",
            uuid,
            final.state,
            f": {final.error}" if final.error else "",
            extra={"action": "container_judged", **self._who, "state": final.state},
        )
        attributes = final.as_attributes()
        if self._collected is not None:
            attributes = self._collected.add_to(attributes, self._node)
        self._tell_writer(final.state, attributes)

    def _tell_writer(self, state: ContainerState, attributes: dict[str, Any]) -> None:
        around, uuid = self._around, self._situation.container.uuid
        self._unanswered.append(state)
        around.writer.tell(Write(around.me, Update(uuid, attributes), self.actor_ref))

    def _count_end(self) -> None:
        situation = self._situation
        state = "Abandoned" if situation.abandoned else situation.container.state.value
        end = "none" if situation.end is None else situation.end.kind.value
        metrics.CONTAINERS_FINISHED.labels(state, end).inc()

    def _note_stage(self) -> None:
        """Take the time of a stage that it has left, unless it was cut short."""
        stage = stage_of(self._situation)
        if stage is self._stage:
            return
        if stage is Stage.RUN:
            metrics.CONTAINERS_STARTED.inc()
        self._log_stage(stage)
        now = self._around.clock.elapsed()
        if self._stage_since is not None and (stage is not Stage.OVER or self._stage is Stage.RUN):
            seconds = now - self._stage_since
            metrics.CONTAINER_STAGE_SECONDS.labels(self._stage.value).observe(seconds)
        self._stage, self._stage_since = stage, now

    def _log_stage(self, stage: Stage) -> None:
        container = self._situation.container
        match stage:
            case Stage.START:
                log.debug(
                    "%s: the scheduler has its job",
                    container.uuid,
                    extra={"action": "container_submitted", **self._who},
                )
            case Stage.RUN:
                log.info(
                    "%s: runs on %s",
                    container.uuid,
                    self._node or "a node that is not known yet",
                    extra={"action": "container_running", **self._who, "node": self._node},
                )
            case Stage.OVER:
                log.info(
                    "%s: over, %s",
                    container.uuid,
                    container.state.value,
                    extra={
                        "action": "container_over",
                        **self._who,
                        "state": container.state.value,
                        "node": self._node,
                    },
                )

    @property
    def _who(self) -> dict[str, object]:
        """Of whom every event of this actor is, as fields of the log."""
        container = self._situation.container
        return {
            "container": container.uuid,
            "attempt": container.attempt,
            "dispatcher": self._around.me.dispatcher,
        }

    def _tell_standing(self) -> None:
        situation, now = self._situation, self._around.clock.wall()
        reason = wait_reason(situation, self._report, now)
        # A node would join another scheduler than the one that has its job.
        is_elastic = self._scheduler == self._around.elastic
        standing = Standing(
            situation.container.uuid,
            reason,
            job_waits(situation),
            self._node,
            is_elastic and wants_node(situation),
            self._scheduler,
        )
        before = self._standing
        if before is not None and replace(standing, reason=before.reason) == before:
            if reason is None and before.reason is None:
                return
            if reason is not None and reason.same_as(before.reason):
                return
        self._standing = standing
        self._around.dispatcher.tell(standing)
