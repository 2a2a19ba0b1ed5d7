"""The example requests on a private Slurm that has no nodes until they are needed: `make run-slurm`.

Starts a Slurm of Debian's packages in a temporary directory (they are installed when that is allowed), writes a
config file for it, and runs what the command line names as `arvados-node-manager --run` does. Nodes are slurmds on
this machine, started and ended by the daemon as a cloud's machines would be. Nothing stays but logs and outputs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.clusters.daemons import free_port
from tests.clusters.slurm import (
    NodeKind,
    SlurmCluster,
    SlurmMissing,
    SlurmNode,
    SlurmPartition,
    SlurmSettings,
)

CORES, RAM_MB, SCRATCH_MB = 2, 1536, 4000
NODES = 4

_CONFIG = """\
# Written anew each time by `make run-slurm`; a Slurm of your own needs much less of it.
[Api]
port = {port}
advertise_url = https://127.0.0.1:{port}

[Dispatch]
scheduler = slurm

[Scheduler]
conf = {conf}
nodes = predefined
poll_time = 1 s

[Runner]
input_dirs = {inputs}

[Daemon]
state_dir = {state}
max_nodes = {nodes}
poll_time = 1 s

[Cloud]
provider = loopback
shutdown_windows = 0, 999999
turn_time = 1 s
idle_time = 2 s

[Cloud Create]
start = slurmd -D -b -N %h
cores = {all_cores}
ram = {all_ram} MiB

[Size worker]
cores = {cores}
ram = {ram}
scratch = {scratch}
price = 0.10
"""


def main() -> int:
    """Run the requests; the exit status is that of `--run`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("requests", type=Path, help="a file or directory of requests")
    parser.add_argument("--state", type=Path, required=True, help="where logs and outputs stay")
    flags = parser.parse_args()
    state = flags.state.resolve()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = SlurmSettings(
        tuple(
            SlurmNode(f"cloud{number}", CORES, RAM_MB, tmp_mb=SCRATCH_MB, kind=NodeKind.FUTURE)
            for number in range(1, NODES + 1)
        ),
        (SlurmPartition("main", default=True),),
    )
    try:
        with SlurmCluster(settings) as cluster:
            sys.stdout.write(
                "A Slurm without nodes is running. To look at it meanwhile, in another shell:\n"
                f"    export SLURM_CONF={cluster.conf}; sinfo -N; squeue -a\n\n"
            )
            sys.stdout.flush()
            return _run(cluster, state, flags.requests)
    except SlurmMissing as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _run(cluster: SlurmCluster, state: Path, requests: Path) -> int:
    config = state / "nodemanager.cfg"
    inputs = requests if requests.is_dir() else requests.parent
    config.write_text(
        _CONFIG.format(
            port=free_port(),
            conf=cluster.conf,
            inputs=inputs.resolve(),
            state=state / "state",
            nodes=NODES,
            all_cores=NODES * CORES,
            all_ram=NODES * RAM_MB,
            cores=CORES,
            ram=RAM_MB,
            scratch=SCRATCH_MB,
        ),
        "utf-8",
    )
    return run_requests(config, requests, cluster.env)


def run_requests(config: Path, requests: Path, env: Mapping[str, str]) -> int:
    """Run the daemon to the end of all requests; its exit status."""
    command = (
        *(sys.executable, "-m", "nodemanager.launcher"),
        *("--config", str(config), "--run", str(requests)),
    )
    # Ctrl-C is for the daemon, which ends in order; its scheduler has to stay until then.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(command, env={**os.environ, **env}, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())
