"""How the tests of properties draw their examples; servers that several folders share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.clusters.daemons import Site
from tests.clusters.gridengine import (
    H_VMEM_CONSUMABLE,
    GridEngineCell,
    GridEngineMissing,
    GridEngineSettings,
    GridQueue,
)
from tests.clusters.kubelet import KubeletMissing, RealKubelet
from tests.clusters.kubernetes import KubernetesCluster, KubernetesMissing, KubernetesSettings
from tests.clusters.postgresql import PostgresCluster, PostgresqlMissing, postgres_cluster
from tests.clusters.slurm import (
    SlurmCluster,
    SlurmMissing,
    SlurmNode,
    SlurmPartition,
    SlurmSettings,
)

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


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """A Slurm that lives as long as the tests: whoever uses it leaves no job and no drained node.

    Of partitions it has one that lacks nodes, and one for those who bear to be preempted.
    """
    nodes = tuple(SlurmNode(name, tmp_mb=10_000) for name in ("n1", "n2", "n3", "n4"))
    partitions = (
        SlurmPartition("main", ("n1", "n2"), default=True),
        SlurmPartition("large", ("n3",)),
        SlurmPartition("spot", ("n4",)),
    )
    try:
        running = SlurmCluster(SlurmSettings(nodes, partitions)).__enter__()
    except SlurmMissing as error:
        pytest.skip(str(error))
    yield running
    running.__exit__()


@pytest.fixture(scope="session")
def gridengine() -> Iterator[GridEngineCell]:
    """A Grid Engine of one host and two queues that lives as long as the tests: whoever uses it leaves nothing.

    Its host has memory in two ways: h_vmem, by which jobs are limited, and `ram`, which is only counted.
    """
    settings = GridEngineSettings(
        queues=(GridQueue("all.q"), GridQueue("large.q", slots=2)),
        complexes=(
            H_VMEM_CONSUMABLE,
            "ram ram MEMORY <= YES YES 0 0",
            "scratch scratch MEMORY <= YES YES 0 0",
        ),
        host_values=("h_vmem=16G", "ram=4G", "scratch=10G"),
    )
    try:
        running = GridEngineCell(settings).__enter__()
    except GridEngineMissing as error:
        pytest.skip(str(error))
    yield running
    running.__exit__()


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[KubernetesCluster]:
    """A Kubernetes without nodes that lives as long as the tests: whoever uses it makes a namespace of its own, and
    leaves no node.

    Nodes are found to be lost within seconds.
    """
    try:
        running = KubernetesCluster(KubernetesSettings(node_grace_seconds=4)).__enter__()
    except KubernetesMissing as error:
        pytest.skip(str(error))
    yield running
    running.__exit__()


@pytest.fixture(scope="session")
def kubernetes_api() -> Iterator[KubernetesCluster]:
    """A Kubernetes API server alone, that lives as long as the tests: whoever uses it leaves it running."""
    try:
        running = KubernetesCluster(KubernetesSettings(alone=True)).__enter__()
    except KubernetesMissing as error:
        pytest.skip(str(error))
    yield running
    running.__exit__()


@pytest.fixture(scope="session")
def kubelet(kubernetes: KubernetesCluster) -> Iterator[RealKubelet]:
    """A real node of the shared Kubernetes, for root, that lives as long as the tests.

    What is to run on it needs the nodeSelector `pool: real`, a toleration of the taint `only=real`, and an image
    of tests/clusters/images.py.
    """
    try:
        running = RealKubelet(kubernetes).__enter__()
    except KubeletMissing as error:
        pytest.skip(str(error))
    yield running
    running.__exit__()


UNFINISHED_HANDSHAKE = "ignore:unclosed <ssl.SSLSocket:ResourceWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a Kubernetes is marked so, for `make test-kubernetes`."""
    for item in items:
        if not {"kubernetes", "kubernetes_api"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kubernetes)
            # urllib3 leaves a socket whose handshake the server did not live to end to the garbage collector.
            item.add_marker(pytest.mark.filterwarnings(UNFINISHED_HANDSHAKE))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once, however many they are, how to run what was skipped for want of a Kubernetes.

    What was skipped in one place, for one reason, is one line of pytest's.
    """
    for report in terminalreporter.stats.get("skipped", ()):
        if isinstance(report.longrepr, tuple) and "make test-kubernetes" in report.longrepr[2]:
            report.longrepr = (__file__, None, report.longrepr[2])
