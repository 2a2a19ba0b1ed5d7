"""The distinct demands of containers, and which dispatcher can run which.

Many containers have few shapes. `fit.can_run` is asked once per shape and dispatcher, and the answer kept
in `shape_fits`: so a claim is one indexed query that is exactly as strict as `fit`, and a queue full of
containers that fit nowhere stays fast.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from nodemanager.fit import can_run
from nodemanager.model import (
    Capabilities,
    Container,
    ContainerState,
    Resources,
    properties_of,
    resources_of,
)
from nodemanager.server.errors import invalid
from nodemanager.server.resources import Row
from nodemanager.server.schema import dispatchers, shape_fits, shapes
from nodemanager.server.transaction import Transaction

# ASCII, and below the 2.7 kB that PostgreSQL can have in an index.
_LONGEST_FORM = 2500
_FIND = select(shapes.c.id).where(shapes.c.form == bindparam("form"))
_ALIVE = select(dispatchers.c.uuid, dispatchers.c.capabilities).where(
    dispatchers.c.state == "alive"
)
_FITS = select(shape_fits.c.shape_id).where(
    shape_fits.c.dispatcher_uuid == bindparam("dispatcher"),
    shape_fits.c.shape_id == bindparam("shape"),
)


def shape_of(tx: Transaction, container: Row) -> int:
    """The id of the shape of a container about to be stored; a new shape is judged at once.

    Raises `ServerError` 422 for demands that are too long to be told apart by an index.
    """
    form = _form(container)
    if len(form) > _LONGEST_FORM:
        raise invalid(
            "scheduling_parameters, runtime_constraints: too many or too long names of partitions, properties"
            " and GPUs"
        )
    found = tx.conn.execute(_FIND, {"form": form}).scalar()
    if found is not None:
        return int(found)
    made = tx.conn.execute(insert(shapes).values(form=form)).inserted_primary_key
    assert made is not None  # noqa: S101  (an insert of one row always has one)
    shape_id = int(made[0])
    for dispatcher in tx.conn.execute(_ALIVE).mappings().all():
        capabilities = Capabilities.from_dict(dispatcher["capabilities"])
        if can_run(_example(form), capabilities):
            _add(tx.conn, dispatcher["uuid"], [shape_id])
    return shape_id


def judge_all(tx: Transaction, dispatcher_uuid: str, capabilities: Capabilities) -> None:
    """Work out anew which shapes the dispatcher can run; to be called when its capabilities change."""
    forget(tx.conn, dispatcher_uuid)
    rows = tx.conn.execute(select(shapes.c.id, shapes.c.form)).all()
    _add(tx.conn, dispatcher_uuid, [r.id for r in rows if can_run(_example(r.form), capabilities)])


def forget(conn: Connection, dispatcher_uuid: str) -> None:
    """The dispatcher runs nothing any more."""
    conn.execute(delete(shape_fits).where(shape_fits.c.dispatcher_uuid == dispatcher_uuid))


def is_fit(conn: Connection, dispatcher_uuid: str, shape_id: int) -> bool:
    """Whether the dispatcher can run containers of this shape at all."""
    return (
        conn.execute(_FITS, {"dispatcher": dispatcher_uuid, "shape": shape_id}).first() is not None
    )


def _add(conn: Connection, dispatcher_uuid: str, shape_ids: list[int]) -> None:
    if shape_ids:
        conn.execute(
            insert(shape_fits),
            [{"dispatcher_uuid": dispatcher_uuid, "shape_id": shape_id} for shape_id in shape_ids],
        )


def _form(container: Row) -> str:
    """Everything of a container that `fit` looks at, in one canonical text."""
    scheduling: Mapping[str, Any] = container["scheduling_parameters"] or {}
    return json.dumps(
        {
            **resources_of(container).as_dict(),
            "partitions": sorted(scheduling.get("partitions") or ()),
            "preemptible": bool(scheduling.get("preemptible")),
            **({"properties": properties} if (properties := scheduling.get("properties")) else {}),
        },
        sort_keys=True,
    )


def _example(form: str) -> Container:
    """A container of that shape, to show to `fit`."""
    value = json.loads(form)
    return Container(
        uuid="",
        state=ContainerState.QUEUED,
        priority=1,
        resources=Resources.from_dict(value),
        created_at=0.0,
        partitions=tuple(value["partitions"]),
        preemptible=value["preemptible"],
        properties=properties_of(value),
    )
