"""The harness with a cloud, and what scenarios ask of it again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodemanager.clouds.fake import FakeMachine, FakeSky, Fate
from nodemanager.model import Node, NodeSize, Resources
from nodemanager.nodes.messages import NodeStanding
from nodemanager.nodes.policy import NodePolicy
from nodemanager.server.policy import Policy
from nodemanager.testing import GIB, ROOT_TOKEN, Harness, Program, Site

SMALL = NodeSize("small", Resources(2, 4 * GIB, 100 * GIB), 0.1)
LARGE = NodeSize("large", Resources(8, 16 * GIB, 100 * GIB), 0.5)

ALWAYS_OPEN = (0.0, 999999.0)
"""Shutdown windows of nodes that may leave whenever they are idle."""


def paced(seconds: float) -> dict[str, Any]:
    """For scenarios that last for hours: whatever is polled is polled so often, the cloud half as often."""
    return {
        "claim_poll_seconds": seconds,
        "scheduler_poll_seconds": seconds,
        "cloud_poll_seconds": 2 * seconds,
        "ping_seconds": 120.0,
        "policy": Policy(root_token=ROOT_TOKEN, sweep_interval=300.0),
        "step_seconds": seconds / 2,
    }


SLOWLY = paced(30.0)


def policy(**options: Any) -> NodePolicy:
    """Ten nodes that may leave at any time, but for `options`."""
    return NodePolicy(**{"max_nodes": 10, "shutdown_windows": ALWAYS_OPEN, **options})


@dataclass
class Elastic(Harness):
    """A site whose nodes all come from a cloud. A machine boots in 30 seconds, a command takes a minute."""

    nodes: Sequence[Node] = ()
    sizes: Sequence[NodeSize] = (SMALL, LARGE)
    node_policy: NodePolicy = field(default_factory=policy)
    program: Callable[[Mapping[str, Any]], Program] = lambda _record: Program(seconds=60)
    step_seconds: float = 1.0
    """How often a condition is looked at that is waited for."""

    @property
    def sky(self) -> FakeSky:
        """The first site's cloud account."""
        return sky_of(self.site)

    def ask(self, cores: int = 2, ram_gib: int = 1, **more: Any) -> str:
        """Commit a request for so much; its UUID."""
        constraints = {"vcpus": cores, "ram": ram_gib * GIB}
        return self.submit(runtime_constraints=constraints, **more)

    def ask_for(self, count: int, cores: int = 2, **more: Any) -> list[str]:
        return [self.ask(cores, **more) for _ in range(count)]

    def states(self, requests: Sequence[str]) -> Counter[str]:
        """How many of the requests' current containers are in which state."""
        return Counter(self.container_of(request)["state"] for request in requests)

    def complete(self, requests: Sequence[str], limit_seconds: float = 3600) -> None:
        """Wait until all are Complete, and see that each attempt ran at most once."""
        pending = list(requests)

        def all_are() -> bool:
            while pending and self.container_of(pending[-1])["state"] == "Complete":
                pending.pop()
            return not pending

        self.until(all_are, limit_seconds)
        started = [uuid for uuid, _ in self.ledger]
        assert len(started) == len(set(started))

    def until(self, condition: Callable[[], bool], limit_seconds: float = 3600) -> float:
        """Wait until it holds; how long that took."""
        began = self.clock.elapsed()
        while not condition():
            assert self.clock.elapsed() - began < limit_seconds, f"not within {limit_seconds} s"
            self.advance(self.step_seconds)
        return self.clock.elapsed() - began

    @property
    def fleet(self) -> list[NodeStanding]:
        """The first site's nodes, in the order of their making."""
        return list(self.nodes_status().nodes)

    @property
    def phases(self) -> Counter[str]:
        return Counter(node.phase.value for node in self.fleet)

    @property
    def booted_sizes(self) -> list[str]:
        return sorted(node.size.name for node in self.fleet if node.size is not None)

    @property
    def machines(self) -> list[FakeMachine]:
        return list(self.sky.machines.values())

    @property
    def deserted(self) -> bool:
        """No machine is left, and none is thought to be."""
        return not self.machines and not self.fleet

    @property
    def creates(self) -> int:
        """How often the cloud was asked for a machine."""
        return self.sky.calls("create")

    def decisions(self) -> list[str]:
        return [decision.sentence for decision in self.nodes_status().history]

    def all_fates(self, **fate: Any) -> None:
        """What becomes of every machine that is made from now on."""
        self.sky.fates = lambda _machine: Fate(**fate)


def sky_of(site: Site) -> FakeSky:
    assert site.sky is not None
    return site.sky
