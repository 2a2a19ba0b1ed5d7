"""What all actors that call the API have in common: a client of their own thread, the timer, patience."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nodemanager.actors.actor import Actor
from nodemanager.actors.timer import Schedule
from nodemanager.api.messages import Ref
from nodemanager.clock import Clock
from nodemanager.errors import ApiError

log = logging.getLogger(__name__)

Client = TypeVar("Client")
"""The interface that is spoken: `nodemanager.api.base.Api`, or another beside it."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class ApiActor(Actor, Generic[Client]):
    """Has a thread of its own, since its calls block and the client belongs to one thread."""

    kind = "io"

    def __init__(self, connect: Callable[[], Client], timer: Ref, clock: Clock) -> None:
        super().__init__()
        self._connect = connect
        self._timer = timer
        self._clock = clock
        self._client: Client | None = None

    def _api(self) -> Client:
        """The client, made at the first call; raises `ApiUnavailable` while it cannot be."""
        self._client = self._client or self._connect()
        return self._client

    def _at(self, elapsed: float, message: Any, key: Hashable | None = None) -> None:
        """Be told `message` at `elapsed` seconds of the clock; the same `key` replaces."""
        self._timer.tell(Schedule(elapsed, self.actor_ref, message, key))


@dataclass(frozen=True, slots=True)
class _Go:
    """To itself: send what has gathered."""


class BatchingActor(ApiActor[Client]):
    """Gathers until its own `_Go` comes round, which is after everything that was told before it."""

    def __init__(self, connect: Callable[[], Client], timer: Ref, clock: Clock) -> None:
        super().__init__(connect, timer, clock)
        self._gone = False
        self._pause = FIRST_PAUSE_SECONDS

    def on_receive(self, message: Any) -> None:
        """Send, when its own message comes round."""
        match message:
            case _Go():
                self._go()
            case _:
                super().on_receive(message)

    def _send(self) -> None:
        """Make the calls; raises `ApiError` with everything unanswered still gathered."""
        raise NotImplementedError

    def _gathered(self) -> None:
        if not self._gone:
            self._gone = True
            self.actor_ref.tell(_Go())

    def _go(self) -> None:
        try:
            self._send()
        except ApiError as error:
            log.warning(
                "%s: trying again in %.0f s: %s",
                type(self).__name__,
                self._pause,
                error,
                extra={"action": "api_call_failed", "actor": type(self).__name__},
            )
            self._at(self._clock.elapsed() + self._pause, _Go())
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            return
        self._gone = False
        self._pause = FIRST_PAUSE_SECONDS
