"""The messages between the dispatcher and its container actors."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from nodemanager.api.base import Identity
from nodemanager.model import Container, ContainerState, Node, Reason


@dataclass(frozen=True, slots=True)
class ContainerIs:
    """To a container actor: the record as the API has it now."""

    container: Container


@dataclass(frozen=True, slots=True)
class Abandon:
    """To a container actor: our record was lost; get rid of the job and stop."""


@dataclass(frozen=True, slots=True)
class LingerOver:
    """To a container actor, from the timer: the job has had time to end by itself."""


@dataclass(frozen=True, slots=True)
class Again:
    """To a container actor: ask once more for whatever is still called for."""


@dataclass(frozen=True, slots=True)
class Standing:
    """From a container actor, when it changes: why it waits (None: it does not), and where it runs."""

    uuid: str
    reason: Reason | None
    job_waits: bool
    """The container is claimed and its job has not started."""
    node: str = ""
    wants_node: bool = False
    """It is certain that the job has not started, and that it is wanted: a node may be booted for it."""


@dataclass(frozen=True, slots=True)
class Done:
    """From a container actor: nothing is left to do for this container; it stops."""

    uuid: str
    container: Container


@dataclass(frozen=True, slots=True)
class Turn:
    """To the dispatcher, from the timer: do the periodic work."""


@dataclass(frozen=True, slots=True)
class Relist:
    """To the dispatcher, from the timer: compare the whole list of held containers with our actors."""


@dataclass(frozen=True, slots=True)
class Restart:
    """To the dispatcher, from the timer: start the actor of a container again from its record."""

    uuid: str


@dataclass(frozen=True, slots=True)
class Stop:
    """To the dispatcher: claim no more, write what is unwritten, then set `stopped`. Jobs run on."""

    stopped: threading.Event


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask the dispatcher for its `Status`."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the dispatcher has in hand: per container its state, node and why it waits."""

    me: Identity | None
    lease_seconds: float
    nodes: tuple[Node, ...]
    containers: tuple[tuple[str, ContainerState, str, str], ...]
