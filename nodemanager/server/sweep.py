"""Looking after the leases: dispatchers that fell silent are lost, and what they held is tried again.

An outage of the API must not look like silence of a dispatcher. Every sweep stamps a heartbeat row; when
the last stamp is older than it should be, nobody was there to be pinged, and every lease is longer by as
much. No lease ever ends later than one ping would make it end now.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from sqlalchemy import bindparam, case, insert, select, update

from nodemanager.server.dispatchers import RELEASE_CHUNK, release, take_out
from nodemanager.server.requests import cancel_expired
from nodemanager.server.schema import containers, dispatchers, heartbeat
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


def sweep(begin: Begin, *, may_lose: bool) -> SweepReport:
    """One round, in several short transactions, each of which leaves everything consistent.

    `may_lose` is false for as long after the server's start as a dispatcher has to ping it.
    """
    report = SweepReport()
    with begin() as tx:
        report.outage_seconds = _stamp(tx)
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


def _stamp(tx: Transaction) -> float:
    """Stamp the heartbeat; after a gap or a jump of the clock extend the leases. Returns seconds."""
    last: int | None = tx.conn.execute(select(heartbeat.c.stamped_at)).scalar()
    if last is None:
        tx.conn.execute(insert(heartbeat).values(id=1, stamped_at=tx.now))
        return 0.0
    tx.conn.execute(update(heartbeat).values(stamped_at=tx.now))
    gap = tx.now - last
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
