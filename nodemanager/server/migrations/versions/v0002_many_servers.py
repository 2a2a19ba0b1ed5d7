"""Counters of changes beside the dispatchers' records; the clock of a PostgreSQL database."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from nodemanager.server.migrations import API_NOW

revision = "0002"
down_revision = "0001"

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
STRING = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """To this version."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.execute(API_NOW)
    op.create_table(
        "change_counters",
        sa.Column("dispatcher_uuid", STRING, sa.ForeignKey("dispatchers.uuid"), primary_key=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
    )
    op.execute(
        "INSERT INTO change_counters (dispatcher_uuid, seq) SELECT uuid, change_seq FROM dispatchers"
    )
    op.add_column(
        "container_requests",
        sa.Column(
            "use_existing_before_run_after",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
        ),
    )
    op.create_index(
        "ix_container_requests_requesting", "container_requests", ["requesting_container_uuid"]
    )
    op.drop_column("dispatchers", "change_seq")
    op.drop_table("schema_version")
    op.create_index("ix_authorizations_user", "api_client_authorizations", ["user_uuid"])
    _nodes()
    _partial_indexes()


def _nodes() -> None:
    """The machines of a cloud, as the older node manager kept them."""
    op.create_table(
        "nodes",
        sa.Column("uuid", STRING, primary_key=True),
        *(
            sa.Column(name, STRING)
            for name in (
                "owner_uuid", "modified_by_user_uuid", "hostname", "domain", "ip_address", "job_uuid",
            )
        ),
        *(
            sa.Column(name, sa.BigInteger())
            for name in ("created_at", "modified_at", "slot_number", "first_ping_at", "last_ping_at")
        ),
        *(sa.Column(name, JSON, nullable=False) for name in ("info", "properties")),
        sa.Column("ping_secret", STRING, nullable=False),
    )  # fmt: skip
    op.create_index("ix_nodes_modified", "nodes", ["modified_at", "uuid"])
    op.create_index("ix_nodes_slot", "nodes", ["slot_number"], unique=True)
    op.create_index("ix_nodes_address", "nodes", ["ip_address"])


def _partial_indexes() -> None:
    """What a claim need not keep up is not kept."""
    op.drop_index("ix_containers_owner", "containers")
    for name in ("waiting", "run_after", "avoid_until", "changes", "claim", "held"):
        op.drop_index(f"ix_containers_{name}", "containers")
    _index(
        "waiting",
        "state = 'Queued'",
        sa.text("priority DESC"), "created_at", "uuid", "shape_id", "run_after", "hold",
        "avoid_dispatcher", "avoid_until", "state",
    )  # fmt: skip
    for name in ("run_after", "avoid_until"):
        _index(name, f"state = 'Queued' AND {name} IS NOT NULL", name, "priority")
    _index("changes", "change_seq > 0", "dispatcher", "change_seq")
    _index("claim", "claim_id IS NOT NULL", "dispatcher", "claim_id")
    _index("held", "dispatcher IS NOT NULL", "dispatcher", "state", "locked_at")


def _index(name: str, condition: str, *columns: str | sa.TextClause) -> None:
    op.create_index(
        f"ix_containers_{name}",
        "containers",
        list(columns),
        sqlite_where=sa.text(condition),
        postgresql_where=sa.text(condition),
    )
