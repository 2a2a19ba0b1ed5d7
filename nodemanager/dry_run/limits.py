"""Which limits are in force, how much of each is used up, and which of them binds. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from nodemanager.dispatch.claiming import Load
from nodemanager.dry_run.fleet import Fleet
from nodemanager.dry_run.outcome import Forecast, Limit
from nodemanager.dry_run.sight import Sight
from nodemanager.model import NodeState
from nodemanager.nodes.stock import bootable_cores
from nodemanager.reason import Reason, ReasonToken, Tier

_TAKES_WORK = frozenset({NodeState.IDLE, NodeState.BUSY})


def limits_of(sight: Sight, fleet: Fleet | None, load: Load, made: Forecast) -> Iterator[Limit]:
    """Those of claims, then those of nodes."""
    if sight.queue is not None:
        yield _claims(sight, fleet, load, made)
    if fleet is not None:
        yield from _nodes(fleet, made)


def _claims(sight: Sight, fleet: Fleet | None, load: Load, made: Forecast) -> Limit:
    binds = any(group.reason.token is ReasonToken.CLAIM_LIMIT for group in made.unclaimed)
    if sight.max_claimed:
        words = f"[Dispatch] max_claimed = {sight.max_claimed}: {load.live} held before"
        return Limit(f"{words}, {made.claimed} claimed now", binds)
    working = [n for s in sight.schedulers for n in s.nodes if n.state in _TAKES_WORK]
    free = sum(max(0, node.free.cores) for node in working)
    bootable = 0 if fleet is None else bootable_cores(fleet.stock, fleet.policy)
    words = f"claims: no more than {free} free cores"
    if fleet is not None:
        words += f" and {bootable} that may be booted"
    words += f" could start, and a few ahead; {load.waiting} claimed before wait"
    return Limit(words, binds)


def _nodes(fleet: Fleet, made: Forecast) -> Iterator[Limit]:
    policy, stock = fleet.policy, fleet.stock
    booted = sum(boot.count for boot in made.boots)
    waits = [lot.reason for work in made.works for lot in work.lots]
    waits += [group.reason for group in made.unclaimed]
    bound = [reason for reason in waits if reason.tier is Tier.LIMIT]
    yield Limit(
        f"[Daemon] max_nodes = {policy.max_nodes}: {len(stock.nodes)} here, {booted} to boot",
        any(_is_of_nodes(reason) for reason in bound),
    )
    if policy.max_total_price > 0:
        yield Limit(
            f"[Daemon] max_total_price = {policy.max_total_price:.4g} per hour: {stock.price:.4g} now",
            any(_is_of_price(reason) for reason in bound),
        )
    if policy.min_nodes > 0:
        yield Limit(f"[Daemon] min_nodes = {policy.min_nodes}: kept even when nothing waits", False)


def _is_of_price(reason: Reason) -> bool:
    return reason.token is ReasonToken.NODE_LIMIT and "max_total_price" in reason.facts


def _is_of_nodes(reason: Reason) -> bool:
    return reason.token is ReasonToken.NODE_LIMIT and "max_total_price" not in reason.facts
