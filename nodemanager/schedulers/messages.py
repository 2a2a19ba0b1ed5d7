"""The messages to and from the scheduler actor; `JobReport` is in `nodemanager.schedulers.jobs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import pykka

from nodemanager.model import Node, Route
from nodemanager.schedulers.base import Job, JobSpec, Newcomer

Ref: TypeAlias = pykka.ActorRef[Any]


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Begin: poll, and tell `subscriber` a `SchedulerView` after each. There may be several."""

    subscriber: Ref


@dataclass(frozen=True, slots=True)
class Submit:
    """Submit a job once no job named in `earlier` is left; reports go to `owner`."""

    spec: JobSpec
    owner: Ref
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seek:
    """Does the job exist, and how is it? Reports go to `owner` from now on."""

    name: str
    owner: Ref


@dataclass(frozen=True, slots=True)
class Cancel:
    """The job has to end."""

    name: str


@dataclass(frozen=True, slots=True)
class Prioritise:
    """The job's priority has changed."""

    name: str
    priority: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The container's end is recorded; nothing about its job is needed any more."""

    name: str


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Cancel and forget a job of this cluster whose container is final and not ours."""

    name: str


@dataclass(frozen=True, slots=True)
class Drain:
    """The node shall finish its jobs and take no new ones; `reply_to` is told when that is in force."""

    node: str
    reason: str
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Resume:
    """The node shall take jobs again; `reply_to` is told when that is in force."""

    node: str
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class NodeSet:
    """To who asked for a `Drain` or `Resume`: it is in force, so views asked later show it."""

    node: str
    drained: bool
    at: float


@dataclass(frozen=True, slots=True)
class Admit:
    """A machine is going to be ordered: the scheduler shall accept it. The answer, `Admitted` or
    `NotAdmitted`, goes to `reply_to`."""

    newcomer: Newcomer
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Admitted:
    """To who asked: the machine has to join as `host`."""

    host: str


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """To who asked: there is no place for the machine, or the scheduler does not answer."""

    error: str


@dataclass(frozen=True, slots=True)
class Remove:
    """The machine of an admitted node is gone; it is repeated until the scheduler has taken note."""

    host: str


@dataclass(frozen=True, slots=True)
class Look:
    """Poll soon, although none is due."""


@dataclass(frozen=True, slots=True)
class SchedulerView:
    """To the subscribers, after each poll: the nodes, and jobs of this cluster nobody asked for."""

    nodes: tuple[Node, ...]
    strangers: tuple[Job, ...]
    asked_at: float = 0.0
    """Elapsed seconds when the poll began: what was in force then is seen."""
    scheduler: str = ""
    """Which of several schedulers it is of; empty where there is one, and in a view of all of them."""
    routes: tuple[Route, ...] = ()
    """In a view of several schedulers: what each takes and could run."""


@dataclass(frozen=True, slots=True)
class SchedulerSilent:
    """To the subscribers: the scheduler did not answer."""

    error: str
    since: float
    scheduler: str = ""
    """Which of several schedulers; empty where there is one."""
