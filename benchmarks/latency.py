"""How long a container waits for us: a real daemon, its embedded API and the local scheduler, an idle queue.

    python benchmarks/latency.py [--containers 50]

Starts a daemon on a temporary directory and submits one container request after the other, each when the one
before is final. Prints, over all of them,

- commit to running: from the commit of the request to the runner's confirmed start of the command;
- end to final: from the command's last line to the final state in the API;
- the parts of the first one: commit to claimed, and claimed to running.

Times are those of the API's database and of the command itself, on one machine and so of one clock.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from nodemanager.api.connection import call, connect
from nodemanager.errors import ApiUnavailable
from nodemanager.model import parse_time

BOUND_SECONDS = 60.0
SCRIPT = "date +%s.%N"


@dataclass(frozen=True)
class Sample:
    """One container, in seconds."""

    to_claimed: float
    to_running: float
    to_final: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--containers", type=int, default=50, help="how many to run (default 50)")
    count = parser.parse_args().containers
    console = Console()
    with tempfile.TemporaryDirectory(prefix="latency-") as name:
        folder = Path(name)
        config = folder / "nodemanager.cfg"
        config.write_text("[Daemon]\nstate_dir = state\n[Logging]\nfile = daemon.log\n")
        daemon = subprocess.Popen(
            [sys.executable, "-m", "nodemanager.launcher", "--config", str(config)]
        )
        try:
            api = wait_for(lambda: answering(folder / "state"), "the API answers")
            run(api, folder)  # the first one pays for what is read from disk once
            samples = [
                run(api, folder)
                for _ in track(range(count), "containers", console=console, transient=True)
            ]
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(BOUND_SECONDS)
    report(console, samples)


def run(api: Any, folder: Path, log: str = "stdout.txt") -> Sample:
    """Submit one container, wait for its end, and read the times. `log`: where its output goes."""
    attributes = {
        "command": ["sh", "-c", SCRIPT],
        "container_image": "none",
        "cwd": "/work",
        "output_path": "/work/out",
        "mounts": {"/work/out": {"kind": "tmp", "capacity": 1 << 20}},
        "runtime_constraints": {"vcpus": 1, "ram": 1 << 26},
        "use_existing": False,
        "state": "Committed",
    }
    request = call(api.container_requests().create(body={"container_request": attributes}))
    uuid = request["container_uuid"]

    def final() -> Any:
        record = call(api.containers().get(uuid=uuid))
        return record if record["state"] not in ("Queued", "Locked", "Running") else None

    record = wait_for(final, f"{uuid} is final")
    if record["state"] != "Complete":
        raise SystemExit(f"{uuid} ended {record['state']}: {record['runtime_status']}")
    ended = float((folder / "state/store" / uuid / "log" / log).read_text())
    committed = parse_time(record["created_at"])
    return Sample(
        to_claimed=parse_time(record["locked_at"]) - committed,
        to_running=parse_time(record["started_at"]) - committed,
        to_final=parse_time(record["finished_at"]) - ended,
    )


def report(console: Console, samples: Sequence[Sample]) -> None:
    """Print the table."""
    table = Table(title=f"{len(samples)} containers one after the other, milliseconds")
    table.add_column("from ... to")
    for heading in ("p50", "p90", "p99", "max"):
        table.add_column(heading, justify="right")
    for name, values in (
        ("commit to running", [s.to_running for s in samples]),
        ("  commit to claimed", [s.to_claimed for s in samples]),
        ("  claimed to running", [s.to_running - s.to_claimed for s in samples]),
        ("end to final", [s.to_final for s in samples]),
    ):
        table.add_row(name, *(f"{1000 * value:.0f}" for value in figures(values)))
    console.print(table)


def figures(values: Sequence[float]) -> tuple[float, float, float, float]:
    """p50, p90, p99 and the largest."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[89], cuts[98], max(values)


def answering(state: Path, port: str = "") -> Any:
    """The API of the daemon, or None while it does not answer; `port` if it was not free to choose one."""
    try:
        port = port or (state / "api/port").read_text().strip()
        token = (state / "api/root_token").read_text().strip()
        url = f"https://127.0.0.1:{port}"
        return connect(url, token, ca_file=state / "api/certificate.pem")
    except (OSError, ApiUnavailable):
        return None


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` returns once it is true; asks every few milliseconds, for a minute."""
    end = time.monotonic() + BOUND_SECONDS
    while not (found := condition()):
        if time.monotonic() > end:
            raise SystemExit(f"not within {BOUND_SECONDS} s: {what}")
        time.sleep(0.02)
    return found


if __name__ == "__main__":
    main()
