"""Several schedulers that look like one: each job goes to the first that takes it.

It speaks to the dispatcher and its containers as a `SchedulerActor` does, and has one of those for each scheduler.
Where a job goes is decided in `routes`, once: a job that a scheduler has been handed stays there. A job that is
sought, after a restart, is looked for everywhere; it is known to be absent when all have said so, and a
scheduler that does not answer has not. Orders for nodes do not pass through here: whoever boots nodes speaks to
the scheduler that they join.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nodemanager.actors.actor import Actor, tell_if_alive
from nodemanager.actors.lease import ActUntil
from nodemanager.fit import capabilities_of
from nodemanager.model import JobState, NodeSize, Route
from nodemanager.rule import Rule
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.batches import kind_of
from nodemanager.schedulers.jobs import JobReport
from nodemanager.schedulers.messages import (
    Cancel,
    Dismiss,
    Forget,
    Look,
    Prioritise,
    Ref,
    SchedulerSilent,
    SchedulerView,
    Seek,
    Submit,
    Subscribe,
)
from nodemanager.schedulers.routes import Choice, Line, choose

log = logging.getLogger(__name__)

SILENCES = 3
"""So often in a row a scheduler has not to answer before its work goes to others."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the schedulers, in the order in which they are tried."""

    name: str
    rule: Rule
    actor: Ref
    sizes: tuple[NodeSize, ...] = ()
    """Of nodes that may be booted for it."""


@dataclass(slots=True)
class _Job:
    owner: Ref
    spec: JobSpec | None = None
    """What is to be submitted, as long as no scheduler has it."""
    earlier: tuple[str, ...] = ()
    at: str = ""
    """The scheduler that has it."""
    choice: Choice = field(default_factory=Choice)
    sought_at: set[str] = field(default_factory=set)
    """Where it was looked for and no answer came yet."""


class RouterActor(Actor):
    """See the module's docstring."""

    def __init__(self, ways: Sequence[Way]) -> None:
        super().__init__()
        self._ways = {way.name: way for way in ways}
        self._lines = {way.name: Line(way.name, way.rule) for way in ways}
        self._views: dict[str, SchedulerView] = {}
        self._subscribers: list[Ref] = []
        self._jobs: dict[str, _Job] = {}
        self._waiting: dict[str, None] = {}
        """Those that no scheduler has been handed."""
        self._silences: dict[str, int] = {}
        """How often in a row a scheduler has not answered."""
        self._tried_with: tuple[Line, ...] = ()
        """How things stood when places were last looked for."""

    def on_receive(self, message: Any) -> None:
        """Pass each message on to where it belongs."""
        match message:
            case Subscribe(subscriber):
                self._subscribe(subscriber)
            case SchedulerView():
                self._see(message)
            case SchedulerSilent():
                self._hear_nothing(message)
            case JobReport():
                self._report(message)
            case Submit(spec, owner, earlier):
                self._submit(_Job(owner, spec, earlier))
            case Seek(name, owner):
                self._seek(name, owner)
            case Cancel(name):
                self._cancel(name)
            case Prioritise(name, priority):
                self._prioritise(name, priority)
            case Forget(name):
                self._pass_on(name, message)
                self._drop(name)
            case Dismiss(name):
                self._pass_on(name, message)
            case Look() | ActUntil():
                for way in self._ways.values():
                    tell_if_alive(way.actor, message)
            case _:
                super().on_receive(message)

    # What the schedulers say.

    def _subscribe(self, subscriber: Ref) -> None:
        if not self._subscribers:
            for way in self._ways.values():
                way.actor.tell(Subscribe(self.actor_ref))
        self._subscribers.append(subscriber)

    def _see(self, view: SchedulerView) -> None:
        way = self._ways[view.scheduler]
        route = Route(way.name, way.rule, capabilities_of(view.nodes, way.sizes))
        self._views[view.scheduler] = view
        self._silences.pop(view.scheduler, None)
        self._lines[view.scheduler] = Line(way.name, way.rule, route)
        # The room that is left goes out before jobs take it.
        self._tell_view()
        self._place_waiting()

    def _hear_nothing(self, silent: SchedulerSilent) -> None:
        line = self._lines[silent.scheduler]
        times = self._silences[silent.scheduler] = self._silences.get(silent.scheduler, 0) + 1
        # One failed poll moves no work elsewhere.
        is_silent = line.route is None or times >= SILENCES
        self._lines[silent.scheduler] = replace(line, silent=is_silent)
        for subscriber in self._subscribers:
            tell_if_alive(subscriber, silent)
        self._tell_view()
        self._place_waiting()

    def _tell_view(self) -> None:
        """One view of all that have answered, once each has answered or is known not to."""
        if any(line.route is None and not line.silent for line in self._lines.values()):
            return
        views = [view for name in self._ways if (view := self._views.get(name)) is not None]
        if not views:
            return
        # Of one that does not answer nobody knows what is free, and its jobs prove nothing; what it could run
        # stays as it was.
        answering = [view for view in views if not self._lines[view.scheduler].silent]
        merged = SchedulerView(
            nodes=tuple(node for view in answering for node in view.nodes),
            strangers=tuple(job for view in answering for job in view.strangers),
            asked_at=min(view.asked_at for view in views),
            routes=tuple(line.route for line in self._lines.values() if line.route is not None),
        )
        for subscriber in self._subscribers:
            tell_if_alive(subscriber, merged)

    def _report(self, report: JobReport) -> None:
        job = self._jobs.get(report.name)
        if job is None:
            return
        if job.at == report.scheduler:
            words = "; ".join(filter(None, (report.words, job.choice.words)))
            is_waiting = report.state is JobState.WAITING
            tell_if_alive(job.owner, replace(report, words=words) if is_waiting else report)
        elif report.scheduler in job.sought_at:
            self._found(job, report)

    def _found(self, job: _Job, report: JobReport) -> None:
        """An answer about a job that is looked for everywhere."""
        if report.state is None:
            job.sought_at.discard(report.scheduler)
            self._ways[report.scheduler].actor.tell(Forget(report.name))
            if not job.sought_at:
                self._drop(report.name)
                tell_if_alive(job.owner, replace(report, scheduler=""))
            return
        if report.state is JobState.UNKNOWN:
            return
        for name in job.sought_at - {report.scheduler}:
            self._ways[name].actor.tell(Forget(report.name))
        job.sought_at.clear()
        job.at = report.scheduler
        tell_if_alive(job.owner, report)

    # What owners ask.

    def _submit(self, job: _Job) -> None:
        spec = job.spec
        if spec is None:
            return
        known = self._jobs.get(spec.name)
        if known is not None and known.at:
            # It has been handed on: whoever has it says what is known.
            known.owner = job.owner
            self._ways[known.at].actor.tell(Submit(spec, self.actor_ref, job.earlier))
            return
        self._jobs[spec.name] = job
        self._waiting[spec.name] = None
        self._place(spec.name, job, choose(spec, self._lines.values()))

    def _place_waiting(self) -> None:
        """Look for places again, if anything has changed; once for all jobs that are alike."""
        lines = tuple(self._lines.values())
        if lines == self._tried_with:
            return
        self._tried_with = lines
        choices: dict[JobSpec, Choice] = {}
        for name in list(self._waiting):
            job = self._jobs[name]
            if job.spec is not None:
                kind = kind_of(job.spec, properties=job.spec.properties)
                if kind not in choices:
                    choices[kind] = choose(kind, lines)
                self._place(name, job, choices[kind])

    def _place(self, name: str, job: _Job, made: Choice) -> None:
        """Hand it to the scheduler that takes it, or say why it waits."""
        spec, before = job.spec, job.choice
        if spec is None:
            return
        job.choice = made
        if made.scheduler:
            log.debug(
                "%s goes to %s %s",
                name,
                made.scheduler,
                made.words,
                extra={"action": "job_routed", "container": name, "scheduler": made.scheduler},
            )
            job.at, job.spec = made.scheduler, None
            self._waiting.pop(name, None)
            # Across schedulers attempts may overlap for a while; only the writes are fenced.
            for other, view in self._views.items():
                if other != job.at:
                    for gone in {each.name for each in view.strangers} & set(job.earlier):
                        self._ways[other].actor.tell(Dismiss(gone))
            self._ways[job.at].actor.tell(Submit(spec, self.actor_ref, job.earlier))
        elif made.trouble is not None and not made.trouble.same_as(before.trouble):
            report = JobReport(name, JobState.UNKNOWN, trouble=made.trouble)
            tell_if_alive(job.owner, report)

    def _seek(self, name: str, owner: Ref) -> None:
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = _Job(owner, sought_at=set(self._ways))
        job.owner = owner
        if job.spec is not None and not job.at:
            # It waits here: no scheduler was ever given it.
            self._drop(name)
            tell_if_alive(owner, JobReport(name, None))
            return
        if job.at:
            self._ways[job.at].actor.tell(Seek(name, self.actor_ref))
        for place in job.sought_at:
            self._ways[place].actor.tell(Seek(name, self.actor_ref))

    def _cancel(self, name: str) -> None:
        job = self._jobs.get(name)
        if job is not None and job.spec is not None and not job.at:
            # No scheduler has seen it.
            self._drop(name)
            tell_if_alive(job.owner, JobReport(name, None))
            return
        self._pass_on(name, Cancel(name))

    def _prioritise(self, name: str, priority: int) -> None:
        job = self._jobs.get(name)
        if job is not None and job.spec is not None:
            job.spec = replace(job.spec, priority=priority)
        else:
            self._pass_on(name, Prioritise(name, priority))

    def _drop(self, name: str) -> None:
        self._jobs.pop(name, None)
        self._waiting.pop(name, None)

    def _pass_on(self, name: str, message: Any) -> None:
        """To who has the job of that name; to all if nobody knows who that is."""
        job = self._jobs.get(name)
        ways: Mapping[str, Way] = self._ways
        if job is not None and job.at:
            ways = {job.at: self._ways[job.at]}
        for way in ways.values():
            tell_if_alive(way.actor, message)
