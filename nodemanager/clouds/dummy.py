"""A cloud without machines: libcloud's dummy driver, for trying the daemon.

It lives in this process: machines run at once, never join anything, and are forgotten when the process ends. Two are
there from the start and belong to somebody else. All drivers of one daemon see the same machines.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nodemanager.clouds.base import CloudContext, CloudNode, NodeOrder
from nodemanager.clouds.errors import Denied, Gone
from nodemanager.clouds.libcloud import LibcloudCloud
from nodemanager.clouds.options import CREATE, CREATION, LIST, read_given
from nodemanager.model import Finding

_ACCOUNTS: dict[tuple[str, Path], Any] = {}
"""libcloud's drivers, which hold the machines, by cluster and state directory."""
_LOCK = threading.RLock()
"""Held while one of them is used."""


class Dummy(LibcloudCloud):
    """The machines that this process pretends to have."""

    name = "dummy"
    libcloud_class = "libcloud.compute.drivers.dummy:DummyNodeDriver"
    pings = False
    in_process = True

    def __init__(self, context: CloudContext) -> None:
        super().__init__(context)
        listed = read_given(LIST, self.owner, context.list_options, {})
        created = read_given(CREATE, self.owner, context.create_options, CREATION)
        self.tags = {**created.tags, **listed.tags}

    @property
    def driver(self) -> Any:
        """The driver that all of us share."""
        account = (self.context.cluster_id, self.context.state_dir)
        with _LOCK:
            if account not in _ACCOUNTS:
                _ACCOUNTS[account] = super().driver
            return _ACCOUNTS[account]

    def constructor_arguments(self) -> dict[str, Any]:
        """All that libcloud's driver takes: what it calls credentials is how many machines are there."""
        return {"creds": self.credentials.passed.get("creds", "0")}

    def check(self) -> Sequence[Finding]:
        """There is nothing that could be wrong."""
        return (
            self.finding("machines", lambda: f"{len(self.list())} of {self.context.cluster_id}"),
        )

    def list(self) -> Sequence[CloudNode]:
        """All of ours."""
        with _LOCK:
            return super().list()

    def create(self, order: NodeOrder) -> CloudNode:
        """Pretend to create it; libcloud's numbers are given twice, so that it gets an id of its own."""
        with _LOCK, self.talking(f"creating {order.name}"):
            for known in self.driver.list_nodes():
                if known.name == order.name and self.is_ours(known):
                    return self.cloud_node(known)
            wanted = order.size.cloud_name
            found = [s for s in self.driver.list_sizes() if wanted in (str(s.id), s.name)]
            if not found:
                raise Denied(f"{self.name}: there is no size {wanted!r}")
            node = self.driver.create_node(order.name, found[0], self.driver.list_images()[0])
            node.id, node.name, node.size = str(uuid.uuid4()), order.name, found[0]
            node.created_at = datetime.fromtimestamp(self.clock.wall(), UTC)
            node.extra = {"tags": {**self.tags, **order.tags}}
            return self.cloud_node(node)

    def destroy(self, node: CloudNode) -> None:
        """Forget it."""
        with _LOCK, self.about(node, "destroying"):
            for known in self.driver.list_nodes():
                if str(known.id) == node.cloud_id:
                    self.driver.destroy_node(known)
                    return

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        """Set these tags and leave the others."""
        with _LOCK, self.about(node, "tagging"):
            for known in self.driver.list_nodes():
                if str(known.id) == node.cloud_id:
                    known.extra["tags"].update(tags)
                    return
            raise Gone(f"{self.name}: there is no {node.name} ({node.cloud_id})")

    def instance_type_of(self, node: Any) -> str:
        """The name of its size."""
        return str(node.size.name)
