"""The tables, made from the fields of each resource; and the tables that no resource shows.

Times are integers, microseconds since 1970 UTC: exact, ordered, the same in every database. Structured
values are JSON columns. A field that is not `published` never leaves the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

metadata = MetaData()


class FieldType(StrEnum):
    """The type of a field in the API and, through `_COLUMN_TYPES`, in the database."""

    STRING = "string"
    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    JSON_OBJECT = "json_object"
    JSON_ARRAY = "json_array"


_JSON = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# By their bytes, as SQLite does: lists come in the same order everywhere, and no index depends on a locale.
_STRING = String().with_variant(String(collation="C"), "postgresql")
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")
_COLUMN_TYPES: dict[FieldType, TypeEngine[Any]] = {
    FieldType.STRING: _STRING,
    FieldType.TEXT: _TEXT,
    FieldType.INTEGER: BigInteger(),
    FieldType.FLOAT: Float(),
    FieldType.BOOLEAN: Boolean(),
    FieldType.DATETIME: BigInteger(),
    FieldType.JSON_OBJECT: _JSON,
    FieldType.JSON_ARRAY: _JSON,
}


@dataclass(frozen=True)
class Field:
    """One attribute of a resource. `default` None means that it may be null."""

    name: str
    type: FieldType
    default: Any = None
    published: bool = True
    doc: str = ""


def _string(name: str, doc: str = "", default: str | None = None) -> Field:
    return Field(name, FieldType.STRING, default, doc=doc)


def _text(name: str, doc: str = "", default: str | None = None) -> Field:
    return Field(name, FieldType.TEXT, default, doc=doc)


def _integer(name: str, doc: str = "", default: int | None = None) -> Field:
    return Field(name, FieldType.INTEGER, default, doc=doc)


def _boolean(name: str, doc: str = "", default: bool | None = None) -> Field:
    return Field(name, FieldType.BOOLEAN, default, doc=doc)


def _time(name: str, doc: str = "") -> Field:
    return Field(name, FieldType.DATETIME, doc=doc)


def _object(name: str, doc: str = "") -> Field:
    return Field(name, FieldType.JSON_OBJECT, {}, doc=doc)


def _array(name: str, doc: str = "") -> Field:
    return Field(name, FieldType.JSON_ARRAY, [], doc=doc)


def _hidden(name: str, kind: FieldType, doc: str, default: Any = None) -> Field:
    return Field(name, kind, default, published=False, doc=doc)


COMMON_FIELDS = (
    _string("uuid", "Identity of the record."),
    _string("owner_uuid", "The user it belongs to."),
    _time("created_at", "When it was made, by the database's clock."),
    _time("modified_at", "When it last changed."),
    _string("modified_by_user_uuid", "Who changed it last."),
)

_WORK_FIELDS = (
    _array("command", "Program and arguments; no shell is involved."),
    _string("cwd", "Working directory inside the container.", "."),
    _object("environment", "Environment variables, name to value."),
    _string("output_path", "What is below it when the command ends is the output.", ""),
    _array("output_glob", "Patterns of the files to keep of the output; empty keeps all."),
    _string("container_image", "Image the command runs in; engine `none` needs none.", ""),
    _object("mounts", "Target path (or stdin, stdout, stderr) to what is found there."),
    _object("runtime_constraints", "What it needs: vcpus, ram (bytes), gpu, ..."),
    _object(
        "scheduling_parameters",
        "max_run_time, partitions, preemptible, supervisor; and properties: texts by key, by which a"
        " dispatcher with several schedulers may choose.",
    ),
    _array("output_storage_classes", "Storage classes of the output."),
    _boolean("service", "It serves others while it runs.", default=False),
    _object("published_ports", "Ports it serves on."),
    _string("content_address", "Hash over what defines the work."),
)

CONTAINER_REQUEST_FIELDS = (
    *COMMON_FIELDS,
    _string("name", "For people.", ""),
    _text("description", "For people.", ""),
    _object("properties", "Free for its owner; filters reach into it: properties.key."),
    _string("state", "Uncommitted, Committed or Final.", "Uncommitted"),
    _integer("priority", "1 to 1000, larger is more urgent; 0 cancels.", 500),
    *_WORK_FIELDS,
    _string("requesting_container_uuid", "The container that asked for it."),
    _string("container_uuid", "Its current attempt."),
    _integer("container_count_max", "How many attempts may be used up by PermFail.", 1),
    _integer("container_count", "Attempts used up; TempFail uses none.", 0),
    _boolean("use_existing", "A container that did the same work may serve.", default=True),
    _boolean(
        "use_existing_before_run_after",
        "One that was made, or is due, before run_after may serve as well.",
        default=False,
    ),
    _time("run_after", "No attempt starts before."),
    _time("expires_at", "From then on its priority is 0."),
    _string("output_name", "Name for the output."),
    _integer("output_ttl", "Seconds to keep the output; 0 keeps it.", 0),
    _object("output_properties", "Properties for the output."),
    _string("output_uuid", "Where its output is."),
    _string("log_uuid", "Where its logs are."),
    Field("cumulative_cost", FieldType.FLOAT, 0.0, doc="Cost of all its attempts."),
    Field("filters", FieldType.JSON_ARRAY, doc="Kept for old clients; without effect."),
    _hidden("secret_mounts", FieldType.JSON_OBJECT, "Mounts nobody but the container sees.", {}),
    _hidden("runtime_token", FieldType.TEXT, "Token handed to the command."),
)

CONTAINER_FIELDS = (
    *COMMON_FIELDS,
    _string("state", "Queued, Locked, Running, Complete, PermFail, TempFail, Cancelled.", "Queued"),
    _integer("priority", "Larger is more urgent; 0: nobody wants it any more.", 0),
    *_WORK_FIELDS,
    _string("dispatcher", "The dispatcher that claimed it, for ever."),
    _integer("attempt", "1 for the first attempt of its request.", 1),
    _string("previous_uuid", "The attempt before this one."),
    _integer("temp_fails", "TempFails in a row before this attempt.", 0),
    _time("run_after", "It is not claimed before."),
    _boolean("hold", "It waits until an operator releases it.", default=False),
    _text("hold_reason", "Why it is on hold, and who says so; empty when it is not.", ""),
    _boolean("given_back", "It was handed back before it ran.", default=False),
    _string("avoid_dispatcher", "The dispatcher that handed the attempt before it back."),
    _time("avoid_until", "Until then it is not offered to that one."),
    _string("runner_id", "The one runner process that may run it."),
    _string("scheduler_job", "Batch and task index when it is part of an array job."),
    _time("locked_at", "When it was claimed."),
    _time("started_at", "When its runner was confirmed."),
    _time("finished_at", "When it became final."),
    _string("locked_by_uuid", "Token of the dispatcher that claimed it."),
    _integer("lock_count", "1 once it was claimed.", 0),
    _string("auth_uuid", "Token of its runner, while it has one."),
    _string("runtime_user_uuid", "User its command acts as."),
    _array("runtime_auth_scopes", "Scopes of that user's token."),
    _object("runtime_status", "error, warning, activity and their details; facts."),
    _integer("exit_code", "Of the command."),
    _string("log", "Where its logs are."),
    _string("output", "Where its output is."),
    Field("progress", FieldType.FLOAT, doc="0 to 1."),
    _object("output_properties", "Properties for the output."),
    Field("cost", FieldType.FLOAT, 0.0, doc="Cost of this attempt."),
    Field("subrequests_cost", FieldType.FLOAT, 0.0, doc="Cost of what it asked for itself."),
    _string("gateway_address", "Where its runner listens."),
    _boolean("interactive_session_started", "Somebody logged in.", default=False),
    _hidden("secret_mounts", FieldType.JSON_OBJECT, "Wiped at the final state.", {}),
    _hidden("runtime_token", FieldType.TEXT, "Wiped at the final state."),
    _hidden("shape_id", FieldType.INTEGER, "Row of `shapes`: what it asks of a node."),
    _hidden("claim_id", FieldType.STRING, "The claim call that took it."),
    _hidden("change_seq", FieldType.INTEGER, "Its place in its dispatcher's changes.", 0),
)

DISPATCHER_FIELDS = (
    *COMMON_FIELDS,
    _string("name", "What its operator calls it."),
    _string("scheduler", "Name of the batch scheduler module.", ""),
    _object("capabilities", "Largest nodes, those of them that can be taken away, and partitions."),
    _string("state", "alive, lost or retired.", "alive"),
    _integer("epoch", "Raised each time a process takes the record up.", 1),
    _time("first_ping_at", "When it registered."),
    _time("last_ping_at", "When it last renewed its lease."),
    _time("last_turn_at", "When it last went through its work."),
    _time("ended_at", "When it was lost or retired."),
    _string("token_uuid", "The token that made it."),
    _hidden("lease_ends_at", FieldType.DATETIME, "When it is lost if it stays silent."),
    _hidden("own_pause", FieldType.TEXT, "Why it alone claims nothing; empty when it does.", ""),
)

LINK_FIELDS = (
    *COMMON_FIELDS,
    _string("link_class", "`dispatch` for a reason why a container waits.", ""),
    _string("name", "For a reason: its token.", ""),
    _string("tail_uuid", "For a reason: the dispatcher."),
    _string("head_uuid", "For a reason: the container."),
    _object("properties", "For a reason: the reason as data."),
)

LOG_FIELDS = (
    *COMMON_FIELDS,
    _string("object_uuid", "What it is about."),
    _string("object_owner_uuid", "Whose that is."),
    _time("event_at", "When it happened."),
    _string("event_type", "What kind of event.", ""),
    _text("summary", "One sentence.", ""),
    _object("properties", "The data."),
)

NODE_FIELDS = (
    *COMMON_FIELDS,
    _integer("slot_number", "Its place, from 1; no two nodes have the same."),
    _string("hostname", "What it is called; made from the slot when nobody says."),
    _string("domain", "What follows the host name."),
    _string("ip_address", "As it said itself, or as its first ping came from."),
    _string("job_uuid", "What it works on."),
    _time("first_ping_at", "When it first reported."),
    _time("last_ping_at", "When it last reported."),
    _object("info", "What its cloud says, and for administrators the `ping_secret`."),
    _object("properties", "Size and price, and the numbers of its last ping."),
    # Not hashed: whoever boots a machine must be able to read it, again and again.
    _hidden("ping_secret", FieldType.STRING, "Whoever knows it may ping.", ""),
)

USER_FIELDS = (
    *COMMON_FIELDS,
    _string("username", "Short name.", ""),
    _string("email", "", ""),
    _string("first_name", "", ""),
    _string("last_name", "", ""),
    _boolean("is_active", "May act at all.", default=True),
    _boolean("is_admin", "May do everything.", default=False),
)

AUTHORIZATION_FIELDS = (
    *COMMON_FIELDS,
    _string("user_uuid", "Who acts with it."),
    _array("scopes", 'What it may do; ["all"] for everything.'),
    _time("expires_at", "When it dies."),
    _hidden("caller_kind", FieldType.STRING, "user, dispatcher or container.", "user"),
    _hidden("secret_hash", FieldType.STRING, "SHA-256 of the secret; the secret is not kept."),
    _hidden("dispatcher_name", FieldType.STRING, "The dispatcher it may create."),
    _hidden("container_uuid", FieldType.STRING, "The container it belongs to."),
)


def _table(name: str, fields: tuple[Field, ...], *extra: Any) -> Table:
    columns = [
        Column(
            f.name,
            _COLUMN_TYPES[f.type],
            primary_key=f.name == "uuid",
            nullable=f.default is None and f.name != "uuid",
        )
        for f in fields
    ]
    return Table(name, metadata, *columns, *extra)


_WHERE_DISPATCH_LINK = text("link_class = 'dispatch'")

container_requests = _table("container_requests", CONTAINER_REQUEST_FIELDS)
containers = _table("containers", CONTAINER_FIELDS)
dispatchers = _table("dispatchers", DISPATCHER_FIELDS)
links = _table("links", LINK_FIELDS)
logs = _table("logs", LOG_FIELDS)
nodes = _table("nodes", NODE_FIELDS)
users = _table("users", USER_FIELDS)
api_client_authorizations = _table("api_client_authorizations", AUTHORIZATION_FIELDS)

for _each in (container_requests, containers, dispatchers, links, logs, nodes):
    # Lists are ordered by time of change unless asked otherwise.
    Index(f"ix_{_each.name}_modified", _each.c.modified_at, _each.c.uuid)
for _each in (container_requests, dispatchers, links, logs):
    # Users see their own.
    Index(f"ix_{_each.name}_owner", _each.c.owner_uuid, _each.c.modified_at, _each.c.uuid)

_c = containers.c
IS_QUEUED = _c.state == literal_column("'Queued'")
WAS_CHANGED = _c.change_seq > literal_column("0")
"""Conditions that partial indexes have and queries must repeat to the letter, or the index does not serve."""


def _partial(name: str, condition: ColumnElement[bool], *columns: Any) -> None:
    """An index that holds only what `condition` is true of: every other change is spared its upkeep."""
    Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


# Holds every column the claim query looks at, so that passing over misfits reads no table rows.
_partial(
    "ix_containers_waiting",
    IS_QUEUED,
    _c.priority.desc(),
    _c.created_at,
    _c.uuid,
    _c.shape_id,
    _c.run_after,
    _c.hold,
    _c.avoid_dispatcher,
    _c.avoid_until,
    _c.state,
)
for _name in ("run_after", "avoid_until"):
    _partial(
        f"ix_containers_{_name}", and_(IS_QUEUED, _c[_name].is_not(None)), _c[_name], _c.priority
    )
_partial("ix_containers_changes", WAS_CHANGED, _c.dispatcher, _c.change_seq)
_partial("ix_containers_claim", _c.claim_id.is_not(None), _c.dispatcher, _c.claim_id)
# By the time of the claim, so that a hundred that are claimed together stand together.
_partial("ix_containers_held", _c.dispatcher.is_not(None), _c.dispatcher, _c.state, _c.locked_at)
Index("ix_containers_content", _c.content_address)
Index("ix_container_requests_container", container_requests.c.container_uuid)
Index("ix_container_requests_requesting", container_requests.c.requesting_container_uuid)
Index("ix_container_requests_expires", container_requests.c.expires_at)
Index("ix_dispatchers_token", dispatchers.c.token_uuid, dispatchers.c.state)
Index("ix_dispatchers_state", dispatchers.c.state, dispatchers.c.lease_ends_at)
Index("ix_links_head", links.c.head_uuid)
Index("ix_links_reason", links.c.tail_uuid, links.c.head_uuid, unique=True,
      sqlite_where=_WHERE_DISPATCH_LINK, postgresql_where=_WHERE_DISPATCH_LINK)  # fmt: skip
Index("ix_logs_object", logs.c.object_uuid, logs.c.event_at)
Index("ix_authorizations_hash", api_client_authorizations.c.secret_hash, unique=True)
Index("ix_authorizations_container", api_client_authorizations.c.container_uuid)
Index("ix_authorizations_user", api_client_authorizations.c.user_uuid)
Index("ix_nodes_slot", nodes.c.slot_number, unique=True)
Index("ix_nodes_address", nodes.c.ip_address)
Index("ix_users_username", users.c.username, unique=True)

attempts = Table(
    "attempts",
    metadata,
    Column("request_uuid", _STRING, ForeignKey(container_requests.c.uuid), primary_key=True),
    Column("attempt", Integer(), primary_key=True),
    Column("container_uuid", _STRING, ForeignKey(containers.c.uuid), nullable=False, index=True),
)
"""Which containers served a request, in order; several requests may share one."""

shapes = Table(
    "shapes",
    metadata,
    Column("id", Integer(), primary_key=True),
    Column("form", _TEXT, nullable=False, unique=True),
)
"""The distinct demands of containers, as canonical JSON: many containers, few shapes."""

shape_fits = Table(
    "shape_fits",
    metadata,
    Column("dispatcher_uuid", _STRING, ForeignKey(dispatchers.c.uuid), primary_key=True),
    Column("shape_id", Integer(), ForeignKey(shapes.c.id), primary_key=True),
)
"""Which shapes a dispatcher can run at all, so that a claim is one indexed query."""

change_counters = Table(
    "change_counters",
    metadata,
    Column("dispatcher_uuid", _STRING, ForeignKey(dispatchers.c.uuid), primary_key=True),
    Column("seq", BigInteger(), nullable=False),
)
"""Number of the last change of a dispatcher's containers. Not a column of `dispatchers`, whose rows are locked
for the dispatcher's own calls while its runners count up here."""

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("id", Integer(), primary_key=True),
    Column("stamped_at", BigInteger(), nullable=False),
    Column("beats", BigInteger(), nullable=False),
)
"""One row: when an API server last looked after the leases, and how often that was done in all."""

claims_pause = Table(
    "claims_pause",
    metadata,
    Column("id", Integer(), primary_key=True),
    Column("why", _TEXT, nullable=False),
)
"""One row while no dispatcher may claim anything, none otherwise."""
