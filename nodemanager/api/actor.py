"""What all actors that call the API have in common: a client of their own thread, and the timer."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from nodemanager.actors.actor import Actor
from nodemanager.actors.timer import Schedule
from nodemanager.api.base import Api
from nodemanager.api.messages import Ref
from nodemanager.clock import Clock


class ApiActor(Actor):
    """Has a thread of its own, since its calls block and the client belongs to one thread."""

    kind = "io"

    def __init__(self, connect: Callable[[], Api], timer: Ref, clock: Clock) -> None:
        super().__init__()
        self._connect = connect
        self._timer = timer
        self._clock = clock
        self._client: Api | None = None

    def _api(self) -> Api:
        """The client, made at the first call; raises `ApiUnavailable` while it cannot be."""
        self._client = self._client or self._connect()
        return self._client

    def _at(self, elapsed: float, message: Any, key: Hashable | None = None) -> None:
        """Be told `message` at `elapsed` seconds of the clock; the same `key` replaces."""
        self._timer.tell(Schedule(elapsed, self.actor_ref, message, key))
