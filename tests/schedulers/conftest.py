"""Servers that the tests of schedulers share."""

from collections.abc import Iterator

import pytest

from tests.clusters.apiserver import ApiServer, ApiServerMissing


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """A Kubernetes API server that lives as long as the tests: whoever uses it leaves it running."""
    try:
        running = ApiServer().__enter__()
    except ApiServerMissing as error:
        pytest.skip(str(error))
    yield running
    running.__exit__()
