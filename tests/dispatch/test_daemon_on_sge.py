"""The whole daemon on a real Grid Engine: what ends well, what fails, what is cancelled, and a kill in the middle."""

from __future__ import annotations

import os

import pytest

from nodemanager.api.connection import call
from tests.clusters.daemons import Site, create, state_of, wait_for
from tests.clusters.gridengine import GridEngineCell

pytestmark = pytest.mark.processes


@pytest.fixture
def on_sge(site: Site, gridengine: GridEngineCell, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name, value in gridengine.env.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    options = (
        "poll_time = 500 ms\nmemory_resource = ram\nscratch_resource = scratch\nqueue = all.q\n"
    )
    site.use("sge", options, dispatch="max_claimed = 50\n")
    return site


def test_containers_run_once_and_end_as_they_should(
    on_sge: Site, gridengine: GridEngineCell
) -> None:
    ledger, go = on_sge.folder / "ledger", on_sge.folder / "go"
    ledger.mkdir()
    daemon = on_sge.start()
    api = on_sge.serving()

    def noting(number: int, rest: str) -> str:
        return create(api, f"echo x >> {ledger}/{number}; {rest}")

    short = [noting(number, "true") for number in range(6)]
    wrong = noting(6, "exit 3")
    held = noting(7, f"until [ -e {go} ]; do sleep 0.05; done")
    endless = create(api, "sleep 1000")
    wait_for(lambda: state_of(api, held) == "Running", "one runs")
    wait_for(lambda: state_of(api, endless) == "Running", "another runs")
    on_sge.kill(daemon)
    daemon = on_sge.start()
    api = on_sge.serving()
    go.touch()
    [request] = call(api.container_requests().list(filters=[["container_uuid", "=", endless]]))[
        "items"
    ]
    call(api.container_requests().update(uuid=request["uuid"], body={"priority": 0}))
    wait_for(lambda: state_of(api, endless) == "Cancelled", "it is cancelled")
    wait_for(lambda: all(state_of(api, u) == "Complete" for u in (*short, held)), "all complete")
    wait_for(lambda: state_of(api, wrong) == "PermFail", "the wrong one has failed")
    assert {path.name: path.read_text() for path in ledger.iterdir()} == {
        str(number): "x\n" for number in range(8)
    }
    wait_for(lambda: not gridengine.job_states(), "no job is left")
    daemon.terminate()
    assert daemon.wait(timeout=60) == 0
