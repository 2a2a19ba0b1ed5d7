"""Orders and contexts that the tests of every driver use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nodemanager.clouds.base import (
    BOOTED_TAG,
    CLUSTER_TAG,
    HOST_TAG,
    SIZE_TAG,
    CloudContext,
    NodeOrder,
)
from nodemanager.model import NodeSize, Resources

CLUSTER = "zzzzz"
TAGS = {
    CLUSTER_TAG: CLUSTER,
    SIZE_TAG: "Small size",
    HOST_TAG: "compute1.example",
    BOOTED_TAG: "1764032400.5",
}
BOOT_SCRIPT = "#!/bin/sh\necho 'a \"script\"' >/run/started\n"


def size(
    instance_type: str, *, scratch_bytes: int = 0, gpus: int = 0, preemptible: bool = False
) -> NodeSize:
    """A size of that type of the cloud's."""
    resources = Resources(cores=2, ram_bytes=4 << 30, scratch_bytes=scratch_bytes, gpus=gpus)
    return NodeSize("Small size", resources, 0.1, instance_type, preemptible)


def order(of: NodeSize, name: str = "zzzzz-compute-x1") -> NodeOrder:
    """An order with all there is."""
    return NodeOrder(name, of, TAGS, BOOT_SCRIPT)


def context(
    state_dir: Path,
    credentials: Mapping[str, str],
    list_options: Mapping[str, str],
    create_options: Mapping[str, str],
    driver_class: str = "",
) -> CloudContext:
    """What the daemon would give a driver."""
    return CloudContext(
        CLUSTER, state_dir, credentials, list_options, create_options, driver_class, 10.0
    )
