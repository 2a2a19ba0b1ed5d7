"""The numbered steps from one version of the tables to the next, one module each in `versions`.

A database of any older version is brought up to date when a server starts, in one transaction, while other
servers that start wait. Alembic does the work; it is loaded only when there is some.

To change a table: change `schema`, write the next module in `versions` by the example of the others, and raise
`HEAD`. ``pytest tests/server/test_migrations.py`` shows, on both databases, what the steps and `schema` do not
agree on. A step that was released is never changed: it says what old databases look like.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, column, func, inspect, select, table

from nodemanager.errors import NodeManagerError
from nodemanager.server import schema

HEAD = "0003"
"""The version of the tables in `schema`: the last step in `versions`."""

FIRST = "0001"
"""The version that databases have which were made before the steps were numbered by Alembic."""

API_NOW = """
CREATE OR REPLACE FUNCTION api_now() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$
"""
"""The clock of a PostgreSQL database, in microseconds since 1970; SQLite connections bring their own."""

log = logging.getLogger(__name__)

_VERSION_TABLE = "alembic_version"
_UNNUMBERED_TABLE = "schema_version"
_version = table(_VERSION_TABLE, column("version_num"))


class VersionError(NodeManagerError):
    """The tables are of a version that this program does not know."""


def migrate(conn: Connection) -> None:
    """Make the tables, or bring them up to date; in `conn`'s transaction. Raises `VersionError`.

    The caller sees to it that no other server does the same.
    """
    found = _version_of(conn)
    if found == HEAD:
        return
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A tenth of a second and some MiB that most starts do without.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    log.info(
        "the tables are brought from version %s to %s",
        found or "none",
        HEAD,
        extra={"action": "tables_made", "version": HEAD},
    )
    config = Config(attributes={"connection": conn})
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        if found is None and inspect(conn).has_table(_UNNUMBERED_TABLE):
            command.stamp(config, FIRST)
        command.upgrade(config, "head")
    except CommandError as error:
        raise VersionError(
            f"has schema version {found}, this program knows those up to {HEAD}; use the matching "
            "version of arvados-node-manager"
        ) from error


def make_tables(conn: Connection) -> None:
    """Make all tables at once, for a database that nobody else will ever open."""
    schema.metadata.create_all(conn)


def _version_of(conn: Connection) -> str | None:
    if not inspect(conn).has_table(_VERSION_TABLE):
        return None
    return conn.execute(select(func.max(_version.c.version_num))).scalar()
