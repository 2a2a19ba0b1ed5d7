"""Why containers wait, as dispatchers say it: one link per container and dispatcher, and a log of changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from nodemanager.container_request import plain
from nodemanager.model import new_uuid
from nodemanager.reason import Reason
from nodemanager.server.access import acting_dispatcher
from nodemanager.server.resources import Row
from nodemanager.server.rows import write
from nodemanager.server.schema import containers, links, logs
from nodemanager.server.transaction import Call, Transaction

MAX_ANNOTATIONS = 1000
"""Reasons of one call."""

LINK_CLASS = "dispatch"

_c = containers.c
_l = links.c
_CONTAINERS = (
    select(_c.uuid, _c.owner_uuid, _c.state, _c.dispatcher)
    .where(_c.uuid.in_(bindparam("uuids", expanding=True)))
    # None of them starts or ends meanwhile (which takes its reasons away); any may be claimed.
    .with_for_update(read=True, key_share=True)
)
_SAID_BEFORE = select(links).where(
    _l.link_class == LINK_CLASS,
    _l.tail_uuid == bindparam("dispatcher"),
    _l.head_uuid.in_(bindparam("uuids", expanding=True)),
)


def annotate(tx: Transaction, call: Call) -> dict[str, Any]:
    """``containers.annotate``: say, or take back (reason null), why containers wait.

    Any dispatcher may speak about a Queued container, and about one it has Locked. Items are answered
    in order with a status: 200, 404 (unknown), 403 (held by another), 422 (started, or no reason).
    Nothing is written for a reason that a reader would not tell from the last one.
    """
    tx.lock_graph()
    dispatcher = acting_dispatcher(tx, call.needed("dispatcher"), call.needed("epoch"))
    items = call.items("annotations", MAX_ANNOTATIONS)
    uuids = [str(i["uuid"]) for i in items if isinstance(i, Mapping) and "uuid" in i]
    answers = []
    rows = _by(tx, _CONTAINERS, "uuid", uuids=uuids)
    said = _by(tx, _SAID_BEFORE, "head_uuid", uuids=uuids, dispatcher=dispatcher["uuid"])
    news = _News(tx, dispatcher["uuid"], said)
    for item in items:
        answer, reason = _judge(item, rows, dispatcher["uuid"])
        if answer["status"] == 200:
            news.add(rows[answer["uuid"]], reason)
        answers.append(answer)
    news.store()
    return {"items": answers}


def _by(tx: Transaction, statement: Any, key: str, **parameters: Any) -> dict[str, Row]:
    return {row[key]: row for row in tx.conn.execute(statement, parameters).mappings()}


def _judge(
    item: Any, rows: Mapping[str, Row], dispatcher_uuid: str
) -> tuple[dict[str, Any], Reason | None]:
    """The answer to one item, and its reason."""
    if not isinstance(item, Mapping) or not isinstance(item.get("uuid"), str):
        return _answer(None, 422, "annotations: must be {uuid, reason}"), None
    uuid = item["uuid"]
    row = rows.get(uuid)
    if row is None:
        return _answer(uuid, 404, "Path not found"), None
    if row["dispatcher"] not in (None, dispatcher_uuid):
        return _answer(uuid, 403, f"{uuid} is held by {row['dispatcher']}"), None
    if row["state"] not in ("Queued", "Locked"):
        return _answer(uuid, 422, f"{uuid} does not wait: it is {row['state']}"), None
    value = item.get("reason")
    if value is None:
        return _answer(uuid, 200), None
    problem = next(iter(plain("reason", value)), None)
    if problem is not None:
        return _answer(uuid, 422, str(problem)), None
    try:
        return _answer(uuid, 200), Reason.from_dict(value)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        return _answer(uuid, 422, f"reason: cannot be read: {error!r}"), None


def _answer(uuid: str | None, status: int, *errors: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"uuid": uuid, "status": status}
    if errors:
        answer["errors"] = list(errors)
    return answer


class _News:
    """What is different from what the dispatcher `said` before, gathered and stored together."""

    def __init__(self, tx: Transaction, dispatcher_uuid: str, said: Mapping[str, Row]) -> None:
        self._tx = tx
        self._dispatcher_uuid = dispatcher_uuid
        self._said: dict[str, Row] = dict(said)
        self._links: list[dict[str, Any]] = []
        self._logs: list[dict[str, Any]] = []

    def add(self, container: Row, reason: Reason | None) -> None:
        """Take note of `reason`, if it is news."""
        before = self._said.get(container["uuid"])
        if reason is None:
            if before is not None:
                del self._said[container["uuid"]]
                self._drop(before["uuid"])
                self._log(container, {}, "no reason to wait any more")
            return
        if before is not None and reason.same_as(Reason.from_dict(before["properties"])):
            return
        columns: dict[str, Any] = {"name": reason.token.value, "properties": reason.as_dict()}
        if before is None:
            self._said[container["uuid"]] = self._link(container, columns)
        else:
            self._rewrite(before, columns)
        self._log(container, reason.as_dict(), reason.sentence)

    def store(self) -> None:
        """Write what is new."""
        if self._links:
            self._tx.conn.execute(insert(links), self._links)
        if self._logs:
            self._tx.conn.execute(insert(logs), self._logs)

    def _link(self, container: Row, columns: Mapping[str, Any]) -> dict[str, Any]:
        row = {
            **self._stamp("link", container),
            "link_class": LINK_CLASS,
            "tail_uuid": self._dispatcher_uuid,
            "head_uuid": container["uuid"],
            **columns,
        }
        self._links.append(row)
        return row

    def _rewrite(self, before: Row, columns: Mapping[str, Any]) -> None:
        new = {**before, **columns}
        self._said[before["head_uuid"]] = new
        for index, row in enumerate(self._links):
            if row["uuid"] == before["uuid"]:
                self._links[index] = new
                return
        write(self._tx, "links", before["uuid"], columns)

    def _drop(self, uuid: str) -> None:
        kept = [row for row in self._links if row["uuid"] != uuid]
        if len(kept) == len(self._links):
            self._tx.conn.execute(delete(links).where(_l.uuid == uuid))
        self._links = kept

    def _log(self, container: Row, properties: Mapping[str, Any], summary: str) -> None:
        self._logs.append(
            {
                **self._stamp("log", container),
                "object_uuid": container["uuid"],
                "object_owner_uuid": container["owner_uuid"],
                "event_at": self._tx.now,
                "event_type": LINK_CLASS,
                "summary": summary,
                "properties": {**properties, "dispatcher": self._dispatcher_uuid},
            }
        )

    def _stamp(self, kind: str, container: Row) -> dict[str, Any]:
        # Owned by the container's user: a link is readable through its owner, not through its head.
        return {
            "uuid": new_uuid(self._tx.cluster_id, kind),
            "owner_uuid": container["owner_uuid"],
            "created_at": self._tx.now,
            "modified_at": self._tx.now,
            "modified_by_user_uuid": self._tx.caller.user_uuid,
        }
