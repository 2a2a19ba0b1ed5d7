"""The messages between the dispatcher and its container actors."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodemanager.api.base import Identity
from nodemanager.api.messages import Ref
from nodemanager.model import Container, Node
from nodemanager.outcome import Outcome, spoilt
from nodemanager.reason import Reason


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
class Collect:
    """To the collector: keep what the job of this container left; it was the command itself, and has ended."""

    uuid: str
    scheduler: str
    """Which of several schedulers has the job."""
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Collected:
    """Answer to `Collect`."""

    log: str = ""
    """Where the log is; empty when there is none."""
    output: str = ""
    """Where the output is."""
    warning: str = ""
    """What could not be kept, and why."""
    spoils: Outcome | None = None
    """What a command becomes that did well, because its output cannot be kept."""

    def judge(self, outcome: Outcome) -> Outcome:
        """The outcome, knowing what became of the output."""
        return outcome if self.spoils is None else spoilt(outcome, self.spoils)

    def add_to(self, attributes: Mapping[str, Any], node: str) -> dict[str, Any]:
        """The attributes of a final write with all this in them."""
        status = {**attributes.get("runtime_status", {}), "node": node}
        if self.warning:
            status["warning"] = self.warning
        found = {"log": self.log, "output": self.output, "runtime_status": status}
        return {**attributes, **{name: value for name, value in found.items() if value}}


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
    scheduler: str = ""
    """Which of several schedulers has its job; empty where there is one."""


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
class HeldContainer:
    """A container that the dispatcher has claimed, as it stands."""

    container: Container
    reason: Reason | None = None
    """Why it waits; None: it does not."""
    node: str = ""
    """Where it runs."""
    scheduler: str = ""
    """Which of several schedulers has its job; empty where there is one."""


@dataclass(frozen=True, slots=True)
class QueuedContainer:
    """A container that nobody has claimed, and why this dispatcher does not; None: it is about to."""

    container: Container
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What the dispatcher heard last of those it depends on; ages are seconds, None: never."""

    api_age_seconds: float | None = None
    """Since it was asked with success whether we are alive."""
    scheduler_age_seconds: float | None = None
    """Since the last poll that was answered began; of several schedulers the one that was heard least lately."""
    scheduler_error: str = ""
    """Why the last poll was not answered; empty when it was."""
    adopted: bool = False
    """What a former process left has been taken up, so that work is claimed."""
    stopping: bool = False
    """It claims no more."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the dispatcher has in hand, and what it sees in the queue (the most urgent ones)."""

    me: Identity | None
    lease_seconds: float
    nodes: tuple[Node, ...]
    containers: tuple[HeldContainer, ...]
    queued: tuple[QueuedContainer, ...] = ()
    news: News = News()
