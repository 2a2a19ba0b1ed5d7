"""How much memory the Kubernetes module takes in a process that does nothing else; run by `schedulers.py`.

    python benchmarks/watching.py KUBECONFIG NAMESPACE CLUSTER

Prints, as JSON, the MiB of the process (RSS) before the module was imported, after that, and with it watching, and how
many pods it knows then.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from nodemanager.schedulers.base import SchedulerContext
from nodemanager.schedulers.registry import find_scheduler

_PATIENCE_SECONDS = 120.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    for word in ("kubeconfig", "namespace", "cluster"):
        parser.add_argument(word)
    flags = parser.parse_args()
    before = _rss_mib()
    options = {
        "kubeconfig": flags.kubeconfig,
        "namespace": flags.namespace,
        "image": "none",
        "keep_output": "no",
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        context = SchedulerContext(flags.cluster, Path(name), options, _PATIENCE_SECONDS)
        with closing(find_scheduler("kubernetes")(context)) as scheduler:
            found = {"before": before, "imported": _rss_mib()}
            for _ in range(3):
                found["pods"] = float(len(scheduler.poll().jobs))
                scheduler.nodes()
            found["watching"] = _rss_mib()
    sys.stdout.write(json.dumps(found))


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / (1 << 20)


if __name__ == "__main__":
    main()
