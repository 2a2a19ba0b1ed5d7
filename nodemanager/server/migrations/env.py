"""What Alembic runs; the connection comes from `nodemanager.server.migrations.migrate`.

On the command line, to write the next migration (see docs/how-to/change-the-schema.md), it is given a URL.
"""

from alembic import context
from sqlalchemy import create_engine

from nodemanager.server import schema

_config = context.config


def _run(connection: object) -> None:
    context.configure(
        connection=connection,  # type: ignore[arg-type]
        target_metadata=schema.metadata,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if (_connection := _config.attributes.get("connection")) is not None:
    _run(_connection)
else:
    with create_engine(_config.get_main_option("sqlalchemy.url") or "").begin() as _made:
        _run(_made)
