"""The forecast as one JSON document, for scripts. Names on it are kept; new ones may be added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nodemanager.config import Config
from nodemanager.dry_run.outcome import Change, Forecast, Lot, Unclaimed, Work
from nodemanager.dry_run.sight import Sight
from nodemanager.model import Finding, NodeSize, format_time
from nodemanager.nodes.demand import Shape


def document(
    config: Config, sight: Sight, told: Iterable[Finding], made: Forecast
) -> Mapping[str, Any]:
    """Everything that the report tells, of all groups."""
    return {
        "config": str(config.path),
        "taken_at": format_time(sight.now),
        "looked_at": [
            {"subject": each.subject, "detail": each.detail, "problem": each.problem}
            for each in told
        ],
        "queued": made.queued,
        "claimed": made.claimed,
        "work": [_work(work) for work in made.works],
        "unclaimed": [_unclaimed(group) for group in made.unclaimed],
        "held": {"running": made.running, "ending": made.ending, "unknown": made.unknown},
        "cancelled_jobs": list(made.cancelled),
        "nodes": {
            "here": dict(made.phases),
            "boot": [{**_size(boot.size), "count": boot.count} for boot in made.boots],
            "boots_per_turn": made.boots_per_turn,
            "changes": [_change(change) for change in made.changes],
            "price_now": made.price_now,
            "price_then": made.price_then,
            "is_packed": made.is_packed,
            "stale": made.stale,
        },
        "limits": [{"words": limit.words, "reached": limit.binds} for limit in made.limits],
    }


def _work(work: Work) -> Mapping[str, Any]:
    return {
        **_shape(work.shape),
        "scheduler": work.scheduler,
        "claimed": work.claimed,
        "resubmitted": work.resubmitted,
        "waiting": work.waiting,
        "example": work.example,
        "places": [_lot(lot) for lot in work.lots],
    }


def _lot(lot: Lot) -> Mapping[str, Any]:
    return {"count": lot.count, "reason": lot.reason.as_dict(), "nodes": list(lot.nodes)}


def _unclaimed(group: Unclaimed) -> Mapping[str, Any]:
    return {"count": group.count, "reason": group.reason.as_dict(), "example": group.example}


def _shape(shape: Shape) -> Mapping[str, Any]:
    return {
        "resources": shape.resources.as_dict(),
        "partitions": list(shape.partitions),
        "preemptible": shape.preemptible,
    }


def _size(size: NodeSize) -> Mapping[str, Any]:
    return {"size": size.name, "resources": size.resources.as_dict(), "price": size.price}


def _change(change: Change) -> Mapping[str, Any]:
    return {
        "node": change.node,
        "what": change.kind.value,
        "why": change.why,
        "price": change.price,
    }
