"""Nodes that come and go: their machines are booted for us, and their kubelets join by themselves.

A node is drained as `kubectl drain` does it, but for our own pods, which finish: it is cordoned, and the pods of others
are evicted as far as their PodDisruptionBudgets allow; what these forbid is asked for again after a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.errors import NodeManagerError, SchedulerError
from nodemanager.schedulers.base import Newcomer
from nodemanager.schedulers.kubernetes.client import KubeClient, KubeRefused
from nodemanager.schedulers.kubernetes.names import DRAINED, not_ours
from nodemanager.schedulers.kubernetes.podnodes import FIXED_OWNERS, KubeNode
from nodemanager.schedulers.kubernetes.pods import FINAL_PHASES
from nodemanager.schedulers.kubernetes.view import View

log = logging.getLogger(__name__)

ROUND_SECONDS = 5.0
"""Between two attempts to evict what a budget forbids now, or what takes its time to leave."""

_STATIC = "kubernetes.io/config.mirror"
"""The annotation of pods that a kubelet has from a file of its own: the API server only mirrors them."""


@dataclass(frozen=True, slots=True)
class _Guest:
    """A pod of somebody else that has to leave."""

    namespace: str
    name: str
    uid: str


class Elastic:
    """What the module does about nodes."""

    def __init__(self, client: KubeClient, view: View, cluster_id: str) -> None:
        self._client = client
        self._view = view
        self._cluster_id = cluster_id
        self._mark = f" (by {cluster_id})"
        """How the reasons of our drains end."""
        self._next_round = 0.0
        """Not before, in seconds of a monotonic clock."""
        self._to_empty: set[str] = set()
        """Nodes that may have pods of others which could not be evicted yet."""

    def drain(self, name: str, reason: str) -> None:
        """Cordon it, and begin to evict. A node that does not exist raises `SchedulerError`."""
        self._change(
            name,
            {
                "metadata": {"annotations": {DRAINED: f"{reason}{self._mark}"}},
                "spec": {"unschedulable": True},
            },
        )
        self._to_empty.add(name)
        self._next_round = 0.0
        self.go_on()

    def resume(self, name: str) -> None:
        """End a drain of ours; one of somebody else's stays."""
        self._to_empty.discard(name)
        if self._find(name).drained.endswith(self._mark):
            self._change(
                name,
                {
                    "metadata": {"annotations": {DRAINED: None}},
                    "spec": {"unschedulable": None},
                },
            )

    def go_on(self) -> None:
        """Evict what could not be evicted yet. Whatever goes wrong with that keeps nobody from looking.

        Others' pods are listed for that, so it is not done with every look.
        """
        if not self._to_empty or time.monotonic() < self._next_round:
            return
        self._next_round = time.monotonic() + ROUND_SECONDS
        for name in tuple(self._to_empty):
            try:
                left = [guest for guest in self._guests(name) if not self._evict(guest)]
            except NodeManagerError as error:
                log.warning(
                    "%s: not emptied yet: %s",
                    name,
                    error,
                    extra={"action": "evict_failed", "node": name},
                )
            else:
                if not left:
                    self._to_empty.discard(name)

    def admit(self, newcomer: Newcomer) -> str:
        """A silent node of that name was another machine's: with its object its pods are given up."""
        self._remove(newcomer.host, only_silent=True)
        return newcomer.host

    def remove(self, name: str) -> None:
        """Delete the node's object; none is no error."""
        self._to_empty.discard(name)
        self._remove(name, only_silent=False)

    # Inside.

    def _find(self, name: str) -> KubeNode:
        for node in self._view.kube_nodes():
            if node.name == name:
                return node
        raise SchedulerError(f"kubernetes: there is no node {name!r}")

    def _change(self, name: str, patch: Mapping[str, Any]) -> None:
        try:
            # The watch may be a moment behind, and whoever asked looks at once.
            self._view.changed_node(self._client.patch_node(name, patch))
        except KubeRefused as error:
            raise SchedulerError(f"kubernetes: node {name}: {error}") from error

    def _remove(self, name: str, *, only_silent: bool) -> None:
        for node in self._view.kube_nodes():
            if node.name == name and not (only_silent and node.ready):
                try:
                    self._client.delete_node(name, uid=node.uid)
                except KubeRefused as error:
                    if not error.is_gone:
                        raise SchedulerError(f"kubernetes: node {name}: {error}") from error

    def _guests(self, node: str) -> Sequence[_Guest]:
        selector = not_ours(self._cluster_id)
        listing = self._client.all_pods(selector, f"spec.nodeName={node}")
        found = []
        for pod in self._client.list(listing):
            metadata = pod["metadata"]
            owners = {owner.get("kind") for owner in metadata.get("ownerReferences") or ()}
            stays = owners & FIXED_OWNERS or _STATIC in (metadata.get("annotations") or {})
            over = (pod.get("status") or {}).get("phase") in FINAL_PHASES
            if not stays and not over:
                found.append(_Guest(metadata["namespace"], metadata["name"], metadata["uid"]))
        return found

    def _evict(self, guest: _Guest) -> bool:
        """Whether it is certain to leave."""
        try:
            self._client.evict_pod(guest.name, guest.namespace, uid=guest.uid)
        except KubeRefused as error:
            if error.is_missing:
                return True
            words = "%s in %s is not evicted yet: %s"
            log.info(words, guest.name, guest.namespace, error, extra={"action": "evict_later"})
            return False
        return True
