"""The tables as they were before the steps were numbered."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

STRING = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INTEGER, NUMBER, FLAG = sa.BigInteger(), sa.Float(), sa.Boolean()
JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
IS_DISPATCH = sa.text("link_class = 'dispatch'")


def known(kind: sa.types.TypeEngine[Any], names: str) -> Iterator[sa.Column[Any]]:
    """Columns that always have a value."""
    return (sa.Column(name, kind, nullable=False) for name in names.split())


def maybe(kind: sa.types.TypeEngine[Any], names: str) -> Iterator[sa.Column[Any]]:
    """Columns that may be null."""
    return (sa.Column(name, kind, nullable=True) for name in names.split())


def records(name: str, *columns: sa.Column[Any]) -> None:
    """A table of records with a UUID."""
    op.create_table(
        name,
        sa.Column("uuid", STRING, primary_key=True),
        *maybe(STRING, "owner_uuid modified_by_user_uuid"),
        *maybe(INTEGER, "created_at modified_at"),
        *columns,
    )


def work() -> Iterator[sa.Column[Any]]:
    """What a request asks for and a container does."""
    yield from known(STRING, "cwd output_path container_image")
    yield from known(FLAG, "service")
    yield from known(
        JSON,
        "command environment output_glob mounts runtime_constraints scheduling_parameters "
        "output_storage_classes published_ports output_properties secret_mounts",
    )
    yield from maybe(STRING, "content_address")
    yield from maybe(TEXT, "runtime_token")
    yield from maybe(INTEGER, "run_after")


def upgrade() -> None:
    """To this version."""
    _requests_and_containers()
    _dispatchers()
    _other_records()
    for name in ("container_requests", "containers", "dispatchers", "links", "logs"):
        op.create_index(f"ix_{name}_modified", name, ["modified_at", "uuid"])
        op.create_index(f"ix_{name}_owner", name, ["owner_uuid", "modified_at", "uuid"])
    op.create_table("schema_version", sa.Column("version", sa.Integer(), primary_key=True))


def _requests_and_containers() -> None:
    records(
        "container_requests",
        *work(),
        *known(STRING, "name state"),
        *known(TEXT, "description"),
        *known(JSON, "properties"),
        *known(INTEGER, "priority container_count_max container_count output_ttl"),
        *known(FLAG, "use_existing"),
        *known(NUMBER, "cumulative_cost"),
        *maybe(STRING, "requesting_container_uuid container_uuid output_name output_uuid log_uuid"),
        *maybe(INTEGER, "expires_at"),
        *maybe(JSON, "filters"),
    )
    op.create_index("ix_container_requests_container", "container_requests", ["container_uuid"])
    op.create_index("ix_container_requests_expires", "container_requests", ["expires_at"])
    records(
        "containers",
        *work(),
        *known(STRING, "state"),
        *known(INTEGER, "priority attempt temp_fails lock_count change_seq"),
        *known(FLAG, "hold given_back interactive_session_started"),
        *known(JSON, "runtime_auth_scopes runtime_status"),
        *known(NUMBER, "cost subrequests_cost"),
        *maybe(
            STRING,
            "dispatcher previous_uuid runner_id scheduler_job locked_by_uuid auth_uuid "
            "runtime_user_uuid log output gateway_address avoid_dispatcher claim_id",
        ),
        *maybe(INTEGER, "locked_at started_at finished_at exit_code shape_id avoid_until"),
        *maybe(NUMBER, "progress"),
    )
    op.create_index(
        "ix_containers_waiting",
        "containers",
        [
            "state", sa.text("priority DESC"), "created_at", "uuid", "shape_id", "run_after", "hold",
            "avoid_dispatcher", "avoid_until",
        ],
    )  # fmt: skip
    for name, columns in {
        "run_after": ["state", "run_after", "priority"],
        "avoid_until": ["state", "avoid_until", "priority"],
        "changes": ["dispatcher", "change_seq"],
        "held": ["dispatcher", "state"],
        "claim": ["dispatcher", "claim_id"],
        "content": ["content_address"],
    }.items():
        op.create_index(f"ix_containers_{name}", "containers", columns)
    op.create_table(
        "attempts",
        sa.Column(
            "request_uuid", STRING, sa.ForeignKey("container_requests.uuid"), primary_key=True
        ),
        sa.Column("attempt", sa.Integer(), primary_key=True),
        sa.Column("container_uuid", STRING, sa.ForeignKey("containers.uuid"), nullable=False),
    )
    op.create_index("ix_attempts_container_uuid", "attempts", ["container_uuid"])


def _dispatchers() -> None:
    records(
        "dispatchers",
        *known(STRING, "scheduler state"),
        *known(INTEGER, "epoch change_seq"),
        *known(JSON, "capabilities"),
        *maybe(STRING, "name token_uuid"),
        *maybe(INTEGER, "first_ping_at last_ping_at last_turn_at ended_at lease_ends_at"),
    )
    op.create_index("ix_dispatchers_token", "dispatchers", ["token_uuid", "state"])
    op.create_index("ix_dispatchers_state", "dispatchers", ["state", "lease_ends_at"])
    op.create_table(
        "shapes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("form", TEXT, nullable=False, unique=True),
    )
    op.create_table(
        "shape_fits",
        sa.Column("dispatcher_uuid", STRING, sa.ForeignKey("dispatchers.uuid"), primary_key=True),
        sa.Column("shape_id", sa.Integer(), sa.ForeignKey("shapes.id"), primary_key=True),
    )
    op.create_table(
        "heartbeat",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("stamped_at", INTEGER, nullable=False),
    )


def _other_records() -> None:
    records(
        "links",
        *known(STRING, "link_class name"),
        *known(JSON, "properties"),
        *maybe(STRING, "tail_uuid head_uuid"),
    )
    op.create_index("ix_links_head", "links", ["head_uuid"])
    op.create_index(
        "ix_links_reason",
        "links",
        ["tail_uuid", "head_uuid"],
        unique=True,
        sqlite_where=IS_DISPATCH,
        postgresql_where=IS_DISPATCH,
    )
    records(
        "logs",
        *known(STRING, "event_type"),
        *known(TEXT, "summary"),
        *known(JSON, "properties"),
        *maybe(STRING, "object_uuid object_owner_uuid"),
        *maybe(INTEGER, "event_at"),
    )
    op.create_index("ix_logs_object", "logs", ["object_uuid", "event_at"])
    records(
        "users",
        *known(STRING, "username email first_name last_name"),
        *known(FLAG, "is_active is_admin"),
    )
    op.create_index("ix_users_username", "users", ["username"], unique=True)
    records(
        "api_client_authorizations",
        *known(STRING, "caller_kind"),
        *known(JSON, "scopes"),
        *maybe(STRING, "user_uuid secret_hash dispatcher_name container_uuid"),
        *maybe(INTEGER, "expires_at"),
    )
    op.create_index(
        "ix_authorizations_hash", "api_client_authorizations", ["secret_hash"], unique=True
    )
    op.create_index("ix_authorizations_container", "api_client_authorizations", ["container_uuid"])
