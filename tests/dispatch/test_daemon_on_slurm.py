"""The whole daemon on a real Slurm whose controller goes away in the middle, and whose node dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.clusters.daemons import Site, create, state_of, wait_for
from tests.clusters.slurm import SlurmCluster, SlurmMissing, SlurmNode, SlurmSettings

pytestmark = pytest.mark.processes


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    nodes = tuple(SlurmNode(name, cpus=2, memory_mb=2000, tmp_mb=1000) for name in ("n1", "n2"))
    try:
        with SlurmCluster(SlurmSettings(nodes)) as cluster:
            monkeypatch.setenv("PATH", cluster.env["PATH"])
            yield cluster
    except SlurmMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def on_slurm(site: Site, slurm: SlurmCluster) -> Site:
    options = (
        f"conf = {slurm.conf}\npoll_time = 500 ms\nmax_poll_time = 2 s\ncommand_timeout = 3 s\n"
    )
    site.use("slurm", options, dispatch="max_claimed = 50\n")
    (site.folder / "ledger").mkdir()
    return site


def command(site: Site, number: int, seconds: float) -> str:
    """A command that notes each of its starts."""
    return f"echo x >> {site.folder}/ledger/{number}; sleep {seconds}"


def starts(site: Site) -> dict[str, int]:
    return {path.name: len(path.read_text().split()) for path in (site.folder / "ledger").iterdir()}


def test_an_outage_of_the_controller_fails_nothing(on_slurm: Site, slurm: SlurmCluster) -> None:
    daemon = on_slurm.start()
    api = on_slurm.serving()
    early = [create(api, command(on_slurm, n, 3)) for n in range(10)]
    wait_for(lambda: len(starts(on_slurm)) >= 2, "some run")
    slurm.stop_controller()
    try:
        late = [create(api, command(on_slurm, n, 0.1)) for n in range(10, 16)]
        wait_for(lambda: state_of(api, late[-1]) == "Locked", "all are claimed")
        # What ran ends meanwhile, and says so to the API itself.
        ran = [early[int(number)] for number in starts(on_slurm)]
        wait_for(lambda: all(state_of(api, u) == "Complete" for u in ran), "what ran has ended")
        assert len(starts(on_slurm)) == len(ran) < 16
    finally:
        slurm.start_controller()

    def states() -> Counter[str]:
        return Counter(state_of(api, uuid) for uuid in (*early, *late))

    wait_for(lambda: states() == {"Complete": 16}, "all complete", 120)
    assert starts(on_slurm) == {str(n): 1 for n in range(16)}
    assert len(on_slurm.containers()) == 16, "no attempt but the first"
    daemon.terminate()
    assert daemon.wait(timeout=60) == 0


def test_a_node_that_dies_costs_an_attempt_and_no_container(
    on_slurm: Site, slurm: SlurmCluster
) -> None:
    daemon = on_slurm.start()
    api = on_slurm.serving()
    go = on_slurm.folder / "go"
    uuid = create(api, f"{command(on_slurm, 0, 0)}; until [ -e {go} ]; do sleep 0.05; done")
    wait_for(lambda: state_of(api, uuid) == "Running", "it runs")
    node = slurm.run("squeue", "-h", "-t", "R", "-o", "%N")
    slurm.kill_node(node)
    slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=it died")
    wait_for(lambda: state_of(api, uuid) == "TempFail", "the attempt has failed")
    go.touch()

    def attempts() -> list[str]:
        return [row["state"] for row in on_slurm.containers()]

    wait_for(lambda: attempts() == ["TempFail", "Complete"], "another attempt completes", 90)
    failed = on_slurm.containers()[0]
    assert "its node was lost (Slurm: NODE_FAIL" in failed["runtime_status"]
    daemon.terminate()
    assert daemon.wait(timeout=60) == 0
