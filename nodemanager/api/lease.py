"""The actor that keeps a dispatcher alive: it registers, and pings well before the lease ends.

A lease is counted from the moment the ping was *sent*, on a clock that also runs while the machine is
suspended: whatever the network does, we never believe ourselves alive for longer than the API does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from nodemanager import metrics
from nodemanager.actors.actor import tell_if_alive
from nodemanager.actors.timer import CancelTimer
from nodemanager.api.actor import ApiActor
from nodemanager.api.base import Api, DispatcherRecord, Identity
from nodemanager.api.messages import (
    LeaseLost,
    LeaseRenewed,
    Offer,
    PingEvery,
    Ref,
    Register,
    Registered,
    Turned,
)
from nodemanager.clock import Clock
from nodemanager.errors import ApiRefused, ApiUnavailable
from nodemanager.model import Capabilities, DispatcherState

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""Between two tries while the API does not answer: short against any lease, long against any load."""


@dataclass(frozen=True, slots=True)
class _Ping:
    """To itself, from the timer."""


class LeaseActor(ApiActor[Api]):
    """Registers on `Register`, then pings every `ping_seconds`; tells `dispatcher` what came of it."""

    def __init__(
        self,
        *,
        connect: Callable[[], Api],
        name: str,
        scheduler: str,
        ping_seconds: float,
        dispatcher: Ref,
        timer: Ref,
        clock: Clock,
    ) -> None:
        super().__init__(connect, timer, clock)
        self._name = name
        self._scheduler = scheduler
        self._ping_seconds = ping_seconds
        self._dispatcher = dispatcher
        self._me: Identity | None = None
        self._capabilities = Capabilities(())
        self._offer: Capabilities | None = None
        self._turned = False
        metrics.LAST_PING.set(clock.wall())

    def on_receive(self, message: Any) -> None:
        """Register, or ping; both again and again until the API answers."""
        match message:
            case Register(capabilities):
                self._capabilities, self._offer, self._me = capabilities, None, None
                self._ping()
            case Offer(capabilities):
                self._capabilities = self._offer = capabilities
            case Turned():
                self._turned = True
            case PingEvery(seconds):
                self._ping_seconds = seconds
                if self._me is not None:
                    # The next one may have been planned for too late.
                    self._ping()
            case _Ping():
                self._ping()
            case _:
                super().on_receive(message)

    def _ping(self) -> None:
        sent_at, sent_at_wall = self._clock.elapsed(), self._clock.wall()
        try:
            record = self._call()
        except ApiUnavailable as error:
            log.warning(
                "the API does not answer: %s",
                error,
                extra={"action": "api_silent", "dispatcher": self._uuid},
            )
            self._again(sent_at + RETRY_SECONDS)
            return
        except ApiRefused as error:
            self._refused(error)
            return
        lease_until = sent_at + record.lease_seconds
        if record.state is not DispatcherState.ALIVE:
            self._lost(f"the API says it is {record.state}")
            return
        metrics.LAST_PING.set(sent_at_wall)
        metrics.CLAIMS_PAUSED.set(bool(record.paused))
        if self._me is None:
            metrics.REGISTRATIONS.inc()
            self._me = Identity(record.uuid, record.epoch)
            tell_if_alive(self._dispatcher, Registered(self._me, lease_until, record.paused))
        else:
            tell_if_alive(self._dispatcher, LeaseRenewed(lease_until, record.paused))
        self._offer, self._turned = None, False
        # A lease shorter than the configured interval is still renewed three times over.
        self._again(sent_at + min(self._ping_seconds, record.lease_seconds / 3))

    def _call(self) -> DispatcherRecord:
        api = self._api()
        if self._me is None:
            return api.register(self._name, self._scheduler, self._capabilities)
        return api.ping(self._me, self._offer, turned=self._turned)

    def _refused(self, error: ApiRefused) -> None:
        if self._me is not None and error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            self._lost(str(error))
            return
        log.warning(
            "the API refuses us: %s",
            error,
            extra={"action": "ping_refused", "dispatcher": self._uuid},
        )
        self._again(self._clock.elapsed() + self._ping_seconds)

    @property
    def _uuid(self) -> str:
        """Of the record, for the log; empty when there is none."""
        return "" if self._me is None else self._me.dispatcher

    def _lost(self, why: str) -> None:
        metrics.LOSSES.inc()
        self._me = None
        self._timer.tell(CancelTimer(self.actor_urn))
        tell_if_alive(self._dispatcher, LeaseLost(why))

    def _again(self, at: float) -> None:
        self._at(at, _Ping(), self.actor_urn)
