"""The two actors that hold a call open at the API: one for claims, one for changes.

The API answers such a call as soon as there is something to tell, so a claim takes milliseconds and not
a poll interval. With `wait_seconds` 0 (an API that cannot hold calls open, or a test) they ask every
`poll_seconds` instead.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from nodemanager import metrics
from nodemanager.actors.actor import tell_if_alive
from nodemanager.api.actor import ApiActor
from nodemanager.api.base import Api, Identity
from nodemanager.api.messages import AskEvery, Changed, Claim, Claimed, Follow, Following, Ref
from nodemanager.clock import Clock
from nodemanager.errors import ApiError

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
MARGIN_SECONDS = 60.0
"""A held call that is not answered this long after it should have been counts as hanging."""


@dataclass(frozen=True, slots=True)
class Line:
    """How these actors reach the API and the clock."""

    connect: Callable[[], Api]
    dispatcher: Ref
    timer: Ref
    clock: Clock
    wait_seconds: float
    poll_seconds: float


@dataclass(frozen=True, slots=True)
class _Next:
    """To itself: go on."""


class _HoldingActor(ApiActor[Api]):
    """What the two have in common: calls that take long, and patience."""

    def __init__(self, line: Line) -> None:
        super().__init__(line.connect, line.timer, line.clock)
        self._line = line

    @property
    def answers_within(self) -> float:
        """Seconds a handler may legally take, for the watchdog."""
        return self._line.wait_seconds + MARGIN_SECONDS

    def on_receive(self, message: Any) -> None:
        """What both are told."""
        match message:
            case AskEvery(seconds):
                self._line = replace(self._line, poll_seconds=seconds)
            case _:
                super().on_receive(message)

    def _later(self, seconds: float) -> None:
        self._at(self._clock.elapsed() + seconds, _Next(), self.actor_urn)

    def _complain(self, error: ApiError) -> None:
        name = type(self).__name__
        log.warning("%s: %s", name, error, extra={"action": "api_call_failed", "actor": name})
        self._later(RETRY_SECONDS)


class ClaimActor(_HoldingActor):
    """Answers each `Claim` with one `Claimed`.

    A call whose answer was lost is repeated under the same claim id, and returns what it claimed.
    """

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self._claim: Claim | None = None
        self._claim_id = ""

    def on_receive(self, message: Any) -> None:
        """A new claim replaces the one before."""
        match message:
            case Claim():
                self._claim, self._claim_id = message, secrets.token_hex(16)
                self._call()
            case _Next():
                self._call()
            case _:
                super().on_receive(message)

    def _call(self) -> None:
        claim = self._claim
        if claim is None:
            return
        try:
            claims = self._api().claim(
                claim.me, self._claim_id, claim.limit, self._line.wait_seconds
            )
        except ApiError as error:
            self._complain(error)
            return
        if not claims.containers and self._line.wait_seconds <= 0:
            # Nothing yet; the same question again is the same claim.
            self._later(self._line.poll_seconds)
            return
        self._claim = None
        tell_if_alive(self._line.dispatcher, Claimed(claim.me, claims.containers, claims.paused))


class ChangeActor(_HoldingActor):
    """After `Follow`, tells every change of the dispatcher's containers, once it has told `Following`."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self._me: Identity | None = None
        self._cursor = ""

    def on_receive(self, message: Any) -> None:
        """Follow one identity at a time."""
        match message:
            case Follow(me):
                started = self._me is not None
                self._me, self._cursor = me, ""
                if not started:
                    self._call()
            case _Next():
                self._call()
            case _:
                super().on_receive(message)

    def _call(self) -> None:
        me = self._me
        if me is None:
            return
        first = not self._cursor
        try:
            changes = self._api().changes(
                me, self._cursor, 0.0 if first else self._line.wait_seconds
            )
        except ApiError as error:
            self._complain(error)
            return
        metrics.LAST_POLL.labels("changes", "").set(self._clock.wall())
        self._cursor = changes.cursor
        if first:
            tell_if_alive(self._line.dispatcher, Following(me))
        if changes.containers:
            tell_if_alive(self._line.dispatcher, Changed(me, changes.containers))
        if changes.containers or first or self._line.wait_seconds > 0:
            self.actor_ref.tell(_Next())
        else:
            self._later(self._line.poll_seconds)
