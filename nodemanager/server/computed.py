"""Attributes that no column holds: what they are made from, as expressions of a query.

One definition serves answers and filters alike, and what hangs on the time goes by the database's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    Text,
    case,
    cast,
    func,
    literal,
    null,
    or_,
    select,
)

from nodemanager.model import UUID_INFIX
from nodemanager.server import schema
from nodemanager.server.schema import Field, FieldType

KIND_OF_INFIX: Mapping[str, str] = {
    infix: "arvados#" + singular[0] + singular.title().replace("_", "")[1:]
    for singular, infix in UUID_INFIX.items()
}
"""The middle of a UUID, and the kind of record it names."""

_SECOND = 1_000_000
STARTUP_PATIENCE = 300 * _SECOND
"""A node that has not pinged for so long after its record was made has failed to start."""

MISSING_AFTER = 3600 * _SECOND
"""A node that has not pinged for so long is missing, and of no interest to users (node.rb, 69-81)."""

_nodes = schema.nodes.c
_dispatchers = schema.dispatchers.c


@dataclass(frozen=True)
class Computed:
    """An attribute, and the expression that is selected or compared in the place of a column."""

    field: Field
    expression: ColumnElement[Any]


def pinged_lately() -> ColumnElement[bool]:
    """Which nodes are there."""
    return _nodes.last_ping_at >= func.api_now() - MISSING_AFTER


def _kind(uuid: Column[Any]) -> ColumnElement[Any]:
    known = case(KIND_OF_INFIX, value=func.substr(uuid, 7, 5), else_=null())
    return case((uuid.like("_____-_____-_______________"), known), else_=null())


def _status() -> ColumnElement[Any]:
    is_new = _nodes.created_at >= func.api_now() - STARTUP_PATIENCE
    return case(
        (pinged_lately(), literal("running")),
        (_nodes.last_ping_at.is_not(None), literal("missing")),
        (is_new, literal("pending")),
        else_=literal("startup-fail"),
    )


def _worker_state() -> ColumnElement[Any]:
    """From what Slurm says of the node, an asterisk (it does not answer) aside (nodelist.py, 41-49)."""
    said = func.rtrim(_nodes.info["slurm_state"].as_string(), "*")
    return case(
        (_nodes.slot_number.is_(None), literal("down")),
        # Not as IN: `hot` wants statements whose text is whole when they are compiled.
        (or_(*(said == word for word in ("alloc", "comp", "mix", "drng"))), literal("busy")),
        (or_(*(said == word for word in ("idle", "fail"))), cast(said, Text)),
        else_=literal("down"),
    )


def _paused() -> ColumnElement[Any]:
    """Its own pause, or that of all."""
    of_all = select(schema.claims_pause.c.why).where(schema.claims_pause.c.id == 1)
    own = func.nullif(_dispatchers.own_pause, "")
    return func.coalesce(own, of_all.scalar_subquery(), "")


def _lease_seconds() -> ColumnElement[Any]:
    left = cast(_dispatchers.lease_ends_at - func.api_now(), Float) / float(_SECOND)
    return case((_dispatchers.state == "alive", left), else_=0.0)


def _held(*states: str) -> ColumnElement[Any]:
    """How many containers it has in these states."""
    held = schema.containers.c
    return (
        select(func.count())
        .where(
            held.dispatcher == _dispatchers.uuid,
            or_(*(held.state == state for state in states)),
        )
        .correlate(schema.dispatchers)
        .scalar_subquery()
    )


def _of(*computed: Computed) -> Mapping[str, Computed]:
    return {each.field.name: each for each in computed}


def _text(name: str, expression: ColumnElement[Any], doc: str) -> Computed:
    return Computed(Field(name, FieldType.STRING, doc=doc), expression)


def _number(name: str, expression: ColumnElement[Any], doc: str) -> Computed:
    return Computed(Field(name, FieldType.INTEGER, doc=doc), expression)


COMPUTED: Mapping[str, Mapping[str, Computed]] = {
    "dispatchers": _of(
        _text(
            "paused",
            _paused(),
            "Who paused its claims, or those of all, and why; empty: it claims.",
        ),
        Computed(
            Field("lease_seconds", FieldType.FLOAT, doc="How long it may stay silent from now on."),
            _lease_seconds(),
        ),
        _number(
            "live_containers", _held("Locked", "Running"), "How many it has claimed that go on."
        ),
        _number("running_containers", _held("Running"), "How many of them run."),
    ),
    "links": _of(
        _text("head_kind", _kind(schema.links.c.head_uuid), "What `head_uuid` names."),
        _text("tail_kind", _kind(schema.links.c.tail_uuid), "What `tail_uuid` names."),
    ),
    "logs": _of(_text("object_kind", _kind(schema.logs.c.object_uuid), "What it is about.")),
    "nodes": _of(
        _text("status", _status(), "pending, startup-fail, running or missing."),
        _text("crunch_worker_state", _worker_state(), "busy, idle, fail or down, says Slurm."),
    ),
}
"""By resource and name."""
