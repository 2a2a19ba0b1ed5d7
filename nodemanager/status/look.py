"""What the management server shows, and whom it asks: a frozen look at the daemon, and its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from nodemanager.actors.watchdog import Pulse
from nodemanager.api.story import Story
from nodemanager.clouds.messages import CloudCounts
from nodemanager.dispatch.messages import Status
from nodemanager.model import format_time
from nodemanager.nodes.messages import Behave, Kill, NodesStatus, ReleaseBrake
from nodemanager.status.records import DispatcherEntry
from nodemanager.status.tally import WorkCounts

OperatorMessage: TypeAlias = Behave | Kill | ReleaseBrake
"""What operators can say to the arbiter."""


@dataclass(frozen=True, slots=True)
class DaemonLook:
    """How things stand at one moment. What an actor did not answer is None."""

    version: str
    """Of this package."""
    taken_at: float
    """Wall clock."""
    dispatcher: Status | None = None
    """None while the actors are being started anew."""
    nodes: NodesStatus | None = None
    """None when no nodes are booted, and while the actors are being started anew."""
    clouds: CloudCounts | None = None
    """None whenever `nodes` is."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """How many actors of each class have crashed since the start, by the name of the class."""
    stopping: bool = False
    """The daemon is about to end."""
    work: WorkCounts = field(default_factory=WorkCounts)


class Source(Protocol):
    """The daemon, as the management server sees it.

    All methods but `pulse` are called in threads of the management server, never in an actor's and never in its event
    loop, so they may block; no more than one look is under way at a time. What they raise becomes a 503 (an
    `ApiRefused` with 404 a 404); the words of a `NodeManagerError` are shown to whoever asked, all else only
    goes to the log.
    """

    def look(self, timeout_seconds: float) -> DaemonLook:
        """Ask the actors how they are; nobody waits for the answer longer than that."""
        ...

    def pulse(self) -> Pulse:
        """Whether the actors answer at all. Called in the event loop: it neither waits nor raises."""
        ...

    def tell_nodes(self, message: OperatorMessage) -> None:
        """Pass an operator's word on to the arbiter, without waiting for what comes of it.

        Raises `NodeManagerError` when there is no arbiter to be told.
        """
        ...

    def story(self, uuid: str) -> Story:
        """All that the API tells of a container, or of a request."""
        ...

    def log_tail(self, uuid: str) -> bytes:
        """The ends of what a container wrote, whole lines; empty when there is nothing (yet)."""
        ...

    def dispatchers(self) -> tuple[DispatcherEntry, ...]:
        """Every dispatcher that the API knows."""
        ...


def shown_time(seconds: float) -> str | None:
    """A time in the API's form; None for one that is in no year, as a machine's tags may claim anything."""
    try:
        return format_time(seconds)
    except (ValueError, OverflowError, OSError):
        return None
