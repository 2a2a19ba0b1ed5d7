"""What Alembic runs; the connection comes from `nodemanager.server.migrations`."""

from alembic import context

from nodemanager.server import schema


def _run(connection: object) -> None:
    context.configure(
        connection=connection,  # type: ignore[arg-type]
        target_metadata=schema.metadata,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_run(context.config.attributes["connection"])
