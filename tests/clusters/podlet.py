"""Nodes made by hand, whose pods are processes: a kubelet for tests, without root and without containers.

It serves a real API server, scheduler and controllers: registers nodes, keeps them alive, runs what is bound to them
and reports what a kubelet of 1.20 does. Left out: images, isolation, more than one container in a pod, probes and hooks,
restarts (restartPolicy is taken to be Never), admission by the node, volumes other than emptyDir, Secret, ConfigMap, hostPath and claims of such.

`python -m tests.clusters.podlet --kubeconfig FILE --name n1 --root DIR` is one node until TERM.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.clusters.podlet_api import Access, Api
from tests.clusters.podlet_bootstrap import bootstrap
from tests.clusters.podlet_logs import Log, LogServer
from tests.clusters.podlet_node import NodeAgent, PodletNode
from tests.clusters.podlet_process import Processes

__all__ = ["Access", "Podlet", "PodletNode"]


class Podlet:
    """Any number of nodes in this process, while its `with` block lasts.

    `directory` takes what pods have for themselves. Heartbeats come every `heartbeat_seconds`: several of them must fit
    into the controller manager's --node-monitor-grace-period. At the end the machines die; the objects of
    their nodes stay, unless they were removed.
    """

    def __init__(
        self,
        access: Access,
        directory: Path,
        nodes: Iterable[PodletNode] = (),
        *,
        heartbeat_seconds: float = 1.0,
    ) -> None:
        self._access = access
        self._directory = directory
        self._wanted = tuple(nodes)
        self._heartbeat_seconds = heartbeat_seconds
        self._stack = ExitStack()
        self._agents: dict[str, NodeAgent] = {}

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._stack:
            self._api = Api(self._access)
            self._stack.callback(self._api.close)
            self._processes = Processes()
            self._stack.callback(self._processes.close)
            self._logs = LogServer(self._log, self._directory)
            self._stack.callback(self._logs.close)
            self._stack.callback(self._stop)
            for node in self._wanted:
                self.add(node)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, node: PodletNode) -> None:
        """Boot another machine, or one that died."""
        self._agents[node.name] = NodeAgent(
            node,
            self._api,
            self._processes,
            self._directory,
            port=self._logs.port,
            heartbeat_seconds=self._heartbeat_seconds,
        )

    def lose(self, name: str) -> None:
        """The machine dies: its processes are killed, and Kubernetes hears nothing more of it."""
        self._agents.pop(name).stop()

    def remove(self, name: str) -> None:
        """The machine dies, and its Node object is deleted."""
        self.lose(name)
        self._api.delete(f"/api/v1/nodes/{name}", {})

    def freeze(self, name: str) -> None:
        """No heartbeats; its pods go on."""
        self._agents[name].freeze()

    def thaw(self, name: str) -> None:
        """Heartbeats again."""
        self._agents[name].thaw()

    def evict_under_pressure(
        self, pod: str, resource: str = "memory", *, namespace: str = "default", usage: str = ""
    ) -> None:
        """Do what the kubelet does to a pod when its node runs out of a resource.

        `usage`: what its container is said to have used, as a quantity.
        """
        agent = next(agent for agent in self._agents.values() if agent.has(namespace, pod))
        agent.evict(namespace, pod, resource, usage)

    def _log(self, namespace: str, pod: str) -> Log | None:
        for agent in [*self._agents.values()]:
            if agent.has(namespace, pod):
                return agent.log(namespace, pod)
        return None

    def _stop(self) -> None:
        for name in [*self._agents]:
            self.lose(name)


def main() -> None:
    """One node in the foreground, until TERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.clusters.podlet", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--cpu", default=PodletNode.cpu)
    parser.add_argument("--memory", default=PodletNode.memory)
    parser.add_argument("--ephemeral", default=PodletNode.ephemeral)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--taint", action="append", default=[], metavar="KEY=VALUE:EFFECT")
    parser.add_argument("--provider-id", default="")
    parser.add_argument("--root", type=Path, required=True, help="directory for its pods")
    parser.add_argument(
        "--bootstrap",
        action="store_true",
        help="get a certificate with the token of the kubeconfig",
    )
    given = parser.parse_args()
    node = PodletNode(
        given.name,
        cpu=given.cpu,
        memory=given.memory,
        ephemeral=given.ephemeral,
        gpus=given.gpus,
        labels=dict(label.split("=", 1) for label in given.label),
        taints=given.taint,
        provider_id=given.provider_id,
    )
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    access = Access.from_kubeconfig(given.kubeconfig)
    if given.bootstrap:
        access = bootstrap(access, node.name, given.root)
    with Podlet(access, given.root, [node]):
        sys.stdout.write(f"node {node.name} is there\n")
        sys.stdout.flush()
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
