"""The steps from one version of the tables to the next, on real files and servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from nodemanager.clock import ManualClock
from nodemanager.server import migrations, schema
from nodemanager.server.database import Database, DatabaseError
from nodemanager.server.migrations import HEAD

HERE = Path(migrations.__file__).parent
FIRST_VERSION = Path(__file__).parent / "first_version.sql"
"""A database as the first version made and filled it; dumped with `sqlite3 FILE .dump`."""


@pytest.fixture
def old_file(tmp_path: Path) -> str:
    """The URL of a database that the first version left."""
    url = f"sqlite:///{tmp_path}/old.sqlite"
    with create_engine(url).connect() as conn:
        driver = conn.connection.driver_connection
        assert driver is not None
        driver.executescript(FIRST_VERSION.read_text())
    return url


def test_the_last_step_is_the_one_the_program_wants() -> None:
    assert ScriptDirectory(str(HERE)).get_heads() == [HEAD]


def test_the_steps_lead_to_the_tables_of_the_schema(any_url: Callable[[], str]) -> None:
    database = Database(any_url(), ManualClock())
    with database.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    database.close()


def test_a_database_of_the_first_version_keeps_its_records(old_file: str) -> None:
    database = Database(old_file, ManualClock())
    with database.read() as conn:
        states = conn.exec_driver_sql("SELECT state FROM containers ORDER BY 1").scalars().all()
        counted = conn.exec_driver_sql("SELECT seq FROM change_counters").scalars().all()
        assert inspect(conn).has_table("schema_version") is False
    database.close()
    assert states == ["Locked", "Queued"]
    assert counted == [3]


def test_an_up_to_date_database_is_left_alone(old_file: str) -> None:
    for _ in range(2):
        Database(old_file, ManualClock()).close()


def test_a_database_of_a_newer_version_is_refused(any_url: Callable[[], str]) -> None:
    url = any_url()
    database = Database(url, ManualClock())
    with database.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(DatabaseError, match="has schema version 9999, this program knows"):
        Database(url, ManualClock())


def test_a_step_that_fails_leaves_the_old_version(
    old_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create_engine(old_file).begin() as conn:
        conn.exec_driver_sql("CREATE TABLE change_counters (in_the_way INTEGER)")
    with pytest.raises(DatabaseError, match="already exists"):
        Database(old_file, ManualClock())
    with create_engine(old_file).begin() as conn:
        assert inspect(conn).has_table("schema_version")
        conn.exec_driver_sql("DROP TABLE change_counters")
    Database(old_file, ManualClock()).close()
