"""The example requests on a private Kubernetes that has no nodes until they are needed: `make run-kubernetes`.

API server, scheduler and controllers are real. Nodes are processes on this machine, started and ended by the daemon
as a cloud's machines would be; their pods are processes, too, so that this needs neither root nor images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.clusters.daemons import REPOSITORY, free_port
from tests.clusters.demo import run_requests
from tests.clusters.kubernetes import KubernetesCluster, KubernetesMissing
from tests.clusters.processes import environment

CORES, RAM_MB, SCRATCH_MB = 2, 1536, 4000
NODES = 4
NAMESPACE = "arvados"

_CONFIG = """\
# Written anew each time by `make run-kubernetes`; a Kubernetes of your own needs much less of it.
[Api]
port = {port}
advertise_url = https://127.0.0.1:{port}

[Dispatch]
scheduler = kubernetes

[Scheduler]
kubeconfig = {kubeconfig}
namespace = {namespace}
image = localhost/none:1
claims = {store} store, {inputs} inputs
nodes = joining
poll_time = 1 s
commands_per_second = 400

[Runner]
store = {store}
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
start = {node}
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
    try:
        with KubernetesCluster() as cluster:
            config = make_config(cluster, state, flags.requests)
            sys.stdout.write(
                "A Kubernetes without nodes is running. To look at it meanwhile, in another shell:\n"
                f"    export KUBECONFIG={cluster.admin_kubeconfig} PATH={cluster.programs}:$PATH; "
                f"kubectl get nodes; kubectl -n {NAMESPACE} get pods\n\n"
            )
            sys.stdout.flush()
            return run_requests(config, flags.requests, environment())
    except KubernetesMissing as error:
        sys.stderr.write(f"{error}\n")
        return 2


def make_config(cluster: KubernetesCluster, state: Path, requests: Path) -> Path:
    """A config file for the daemon on this cluster, whose claims have the store and the inputs."""
    inputs = (requests if requests.is_dir() else requests.parent).resolve()
    store = state / "store"
    store.mkdir(mode=0o700, exist_ok=True)
    cluster.make_namespace(NAMESPACE)
    cluster.make_claim(NAMESPACE, "store", store)
    cluster.make_claim(NAMESPACE, "inputs", inputs)
    node = (
        f"env PYTHONPATH={REPOSITORY} {sys.executable} -m tests.clusters.podlet --kubeconfig {cluster.admin_kubeconfig} "
        f"--name %h --cpu {CORES} --memory {RAM_MB}Mi --ephemeral {SCRATCH_MB}M "
        f"--root {cluster.directory}/machines/%h"
    )
    config = state / "nodemanager.cfg"
    config.write_text(
        _CONFIG.format(
            port=free_port(),
            kubeconfig=cluster.admin_kubeconfig,
            namespace=NAMESPACE,
            store=store,
            inputs=inputs,
            state=state / "state",
            nodes=NODES,
            node=node,
            all_cores=NODES * CORES,
            all_ram=NODES * RAM_MB,
            cores=CORES,
            ram=RAM_MB,
            scratch=SCRATCH_MB,
        ),
        "utf-8",
    )
    return config


if __name__ == "__main__":
    sys.exit(main())
