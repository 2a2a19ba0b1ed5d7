"""Claims can be paused, by dispatcher and for all; who holds a container says why; heartbeats are counted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """To this version."""
    for table, name in (("dispatchers", "own_pause"), ("containers", "hold_reason")):
        op.add_column(table, sa.Column(name, TEXT, nullable=False, server_default=""))
    op.add_column(
        "heartbeat", sa.Column("beats", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "claims_pause",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("why", TEXT, nullable=False),
    )
