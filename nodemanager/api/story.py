"""Everything that the API tells of one container: its request, its attempts, and why it waited when.

What `why` prints, and what the page of one container shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodemanager.model import ContainerState
from nodemanager.reason import Reason


@dataclass(frozen=True, slots=True)
class Attempt:
    """One container of a request. Times are Unix seconds."""

    uuid: str
    number: int
    """1 for the first."""
    state: ContainerState
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    run_after: float | None = None
    dispatcher: str = ""
    """UUID of who claimed it."""
    node: str = ""
    error: str = ""
    """How it failed."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of that, such as asked and limit."""
    exit_code: int | None = None
    temp_fails: int = 0
    hold: bool = False
    log: str = ""
    """Where its logs are."""
    output: str = ""


@dataclass(frozen=True, slots=True)
class SaidReason:
    """What one dispatcher says now."""

    dispatcher: str
    """Its UUID."""
    name: str
    """What its operator calls it."""
    reason: Reason
    last_checked: float | None = None
    """When that dispatcher last went through its work."""


@dataclass(frozen=True, slots=True)
class ReasonChange:
    """A reason began, or (None) there was none any more."""

    at: float
    container: str
    dispatcher: str
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Story:
    """One container request with all its attempts, or a container that no request names any more."""

    request: str
    """UUID; empty when there is none."""
    name: str
    request_state: str
    priority: int
    attempts: tuple[Attempt, ...]
    """Oldest first; the last is the current one. Never empty."""
    reasons: tuple[SaidReason, ...] = ()
    """Of the current attempt, mildest first: the first is the one to show."""
    history: tuple[ReasonChange, ...] = ()
    """Oldest first, of all attempts."""

    @property
    def current(self) -> Attempt:
        """The attempt that counts."""
        return self.attempts[-1]
