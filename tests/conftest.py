"""How the tests of properties draw their examples; servers that several folders share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.clusters.daemons import Site
from tests.clusters.postgresql import PostgresCluster, PostgresqlMissing, postgres_cluster

# The same examples each time: a test that fails here fails everywhere. To look for new ones:
# HYPOTHESIS_PROFILE=explore make test
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


# The suite of the schedulers is shipped, so pytest does not rewrite its assertions by itself.
pytest.register_assert_rewrite("nodemanager.schedulers.conformance")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Daemons on a config file and a state directory of their own."""
    site = Site(tmp_path)
    yield site
    site.end()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresCluster]:
    """A PostgreSQL server that lives as long as the tests."""
    try:
        running = postgres_cluster(durable=False)
        cluster = running.__enter__()
    except PostgresqlMissing as error:
        pytest.skip(str(error))
    yield cluster
    running.__exit__(None, None, None)
