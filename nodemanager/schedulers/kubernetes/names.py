"""By which labels, annotations and finalizers we know what is ours, and what is noted there.

A pod keeps everything that is known of it: there is no file beside it. Its finalizer holds the object after any
deletion, whoever asked for that, until its end has been recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "arvados-node-manager"
"""The value of `MANAGED_BY_LABEL` on everything we make."""
CLUSTER_LABEL = "arvados.org/cluster"
"""The cluster id: whose pod it is, whichever dispatcher made it."""
DISPATCHER_LABEL = "arvados.org/dispatcher"
"""The name of the dispatcher that made it; for people, nothing goes by it."""

FINALIZER = "arvados.org/end-recorded"
"""Nobody can make the pod vanish before its end has been recorded: who records it takes this away."""

ASKED = "arvados.org/asked"
"""On a pod: what the container asked for, as `Asked` writes it. The limits of the pod may be larger."""
RUNS = "arvados.org/runs"
"""On a pod: what it runs, `COMMAND` or a runner."""
COMMAND = "command"
"""The container's own command, so that the pod's end is the container's."""
EXCLUSIVE = "arvados.org/exclusive"
"""On a pod, any value: it has its node to itself, and nothing is free there."""
CANCELLED = "arvados.org/cancelled"
"""On a pod: we want its end; the value says who and when. Set before the deletion is asked for."""
HOPELESS = "arvados.org/hopeless"
"""On a pod, set with CANCELLED: it was given up because it could never have started; the value says why."""
DRAINED = "arvados.org/drained"
"""On a node that we cordoned: by whom and why. Without it somebody else did."""

CONTAINER = "main"
"""The name of the container that runs the command; a template may add others."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the container asked for: the number beside the limit when it has reached one."""

    ram_bytes: int = 0
    run_seconds: int = 0
    """0 when it set no limit."""

    def as_annotation(self) -> str:
        """The value of `ASKED`."""
        return json.dumps({"ram_bytes": self.ram_bytes, "run_seconds": self.run_seconds})

    @classmethod
    def from_annotation(cls, text: str) -> Asked:
        """The inverse; whatever else is there says nothing."""
        try:
            value = json.loads(text)
            return cls(int(value["ram_bytes"]), int(value["run_seconds"]))
        except (ValueError, TypeError, KeyError):
            return cls()


def labels_of(cluster_id: str, dispatcher: str) -> Mapping[str, str]:
    """What everything we make is labelled with. `dispatcher` has to be fit for a label, or empty."""
    labels = {MANAGED_BY_LABEL: MANAGED_BY, CLUSTER_LABEL: cluster_id}
    return labels | ({DISPATCHER_LABEL: dispatcher} if dispatcher else {})


def ours(cluster_id: str) -> str:
    """The label selector of everything of this cluster."""
    return f"{MANAGED_BY_LABEL}={MANAGED_BY},{CLUSTER_LABEL}={cluster_id}"


def not_ours(cluster_id: str) -> str:
    """The label selector of everything else."""
    return f"{CLUSTER_LABEL}!={cluster_id}"
