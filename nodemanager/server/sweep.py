"""Looking after the leases: dispatchers that fell silent are lost, and what they held is tried again.

An outage of the API must not look like silence of a dispatcher. Every sweep stamps a heartbeat row; when
the last stamp is older than it should be, nobody was there to be pinged, and every lease is longer by as
much. No lease ever ends later than one ping would make it end now.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from sqlalchemy import bindparam, case, select, update

from nodemanager.server import heartbeat
from nodemanager.server.dispatchers import RELEASE_CHUNK, release, take_out
from nodemanager.server.heartbeat import Beat
from nodemanager.server.requests import cancel_expired
from nodemanager.server.schema import containers, dispatchers
from nodemanager.server.transaction import Transaction

Begin = Callable[[], AbstractContextManager[Transaction]]
"""Opens one transaction of the server's own."""

_MISSED_STAMPS = 3
"""Stamps may be late by so many intervals before it counts as an outage."""

_d = dispatchers.c
_c = containers.c

_SILENT = (
    select(dispatchers)
    .where(_d.state == "alive", _d.lease_ends_at <= bindparam("now"))
    .with_for_update()
)
_GONE_BUT_HOLDING = (
    select(dispatchers)
    .where(
        _d.state != "alive",
        select(_c.uuid)
        .where(_c.dispatcher == _d.uuid, _c.state.in_(("Locked", "Running")))
        .exists(),
    )
    .limit(1)
)


@dataclass
class SweepReport:
    """What one sweep found and did."""

    outage_seconds: float = 0.0
    """By how much leases were extended, because no server had been there (or the clock jumped)."""
    lost: list[str] = field(default_factory=list)
    """Dispatchers that are lost since now."""
    released: int = 0
    """Containers of dead dispatchers that became TempFail."""
    expired: int = 0
    """Requests cancelled because their `expires_at` has come."""
    beats: int = 0
    """How many heartbeats the database has seen; 0: another server swept."""
    distrust: str = ""
    """Why claims were paused: the database was restored beneath this server."""


def sweep(begin: Begin, *, may_lose: bool) -> SweepReport:
    """One round, in several short transactions, each of which leaves everything consistent.

    `may_lose` is false for as long after the server's start as a dispatcher has to ping it.
    """
    report = SweepReport()
    with begin() as tx:
        last = heartbeat.last_beat(tx.conn)
        report.distrust = heartbeat.distrust_what_went_back(tx, last)
        report.outage_seconds = _extend_leases(tx, last)
        report.beats = heartbeat.stamp(tx, last).beats
    if may_lose:
        with begin() as tx:
            silent = tx.conn.execute(_SILENT, {"now": tx.now}).mappings().all()
            for dispatcher in silent:
                take_out(tx, dispatcher, "lost")
                report.lost.append(dispatcher["uuid"])
    while True:
        with begin() as tx:
            holder = tx.conn.execute(_GONE_BUT_HOLDING).mappings().first()
            if holder is None:
                break
            report.released += release(tx, holder)
    while True:
        with begin() as tx:
            cancelled = cancel_expired(tx, RELEASE_CHUNK)
        report.expired += cancelled
        if cancelled < RELEASE_CHUNK:
            break
    return report


def _extend_leases(tx: Transaction, last: Beat | None) -> float:
    """After a gap in the heartbeat, or a jump of the clock: seconds by which leases are longer."""
    if last is None:
        return 0.0
    gap = tx.now - last.stamped_at
    late = gap - round(_MISSED_STAMPS * tx.policy.sweep_interval * 1_000_000)
    if gap >= 0 and late <= 0:
        return 0.0
    # A clock that was set back has already made every lease seem longer; they are only cut to what a
    # ping would give.
    longer = max(gap, 0)
    limit = tx.after(tx.policy.ping_timeout)
    extended = _d.lease_ends_at + longer
    tx.conn.execute(
        update(dispatchers)
        .where(_d.state == "alive")
        .values(lease_ends_at=case((extended > limit, limit), else_=extended))
    )
    return abs(gap) / 1_000_000
