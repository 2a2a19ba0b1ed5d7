"""One real actor of a node, with ears in the places of the cloud, the scheduler and the arbiter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from nodemanager.actors.actor import Actor
from nodemanager.actors.inline import InlinePool
from nodemanager.actors.pool import use_pool
from nodemanager.clock import ManualClock
from nodemanager.clouds.base import CloudNode, CloudState
from nodemanager.clouds.messages import Created, CreateNode
from nodemanager.model import Node, NodeSize, NodeState, Resources
from nodemanager.nodes.messages import Booted, CloudIs, NodeStanding, SchedulerIs
from nodemanager.nodes.node import NodeActor
from nodemanager.nodes.order import OrderTemplate
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.states import DRAIN_PREFIX
from nodemanager.nodes.surroundings import InUse, NodeSurroundings
from nodemanager.schedulers.messages import NodeSet

GIB = 1 << 30
SIZE = NodeSize("small", Resources(2, 4 * GIB), 0.1)
OURS = f"{DRAIN_PREFIX}it is idle"

T = TypeVar("T")


class Ear(Actor):
    """Keeps what it is told."""

    def __init__(self, heard: list[Any]) -> None:
        super().__init__()
        self._heard = heard

    def on_receive(self, message: Any) -> None:
        self._heard.append(message)


class NodeBench:
    """What the actor said is in `cloud`, `scheduler` and `arbiter`, oldest first."""

    def __init__(
        self, policy: NodePolicy, *, with_records: bool = False, admits: bool = False
    ) -> None:
        """`with_records`: the machine has a record at the API, which has to be made first. `admits`: the
        scheduler has to admit it, too."""
        self.policy = policy
        self.clock = ManualClock()
        # Times that are 0 are taken for none by careless code.
        self.clock.advance(1000)
        self.pool = InlinePool()
        self._using = use_pool(self.pool)
        self.cloud: list[Any] = []
        self.scheduler: list[Any] = []
        self.arbiter: list[Any] = []
        self.records: list[Any] = []
        self.around = NodeSurroundings(
            arbiter=Ear.start(self.arbiter),
            cloud=Ear.start(self.cloud),
            scheduler=Ear.start(self.scheduler),
            records=Ear.start(self.records) if with_records else None,
            clock=self.clock,
            policy=policy,
            template=OrderTemplate("zzzzz", "me"),
            admits=admits,
        )
        self.name = "node1"
        in_use = InUse(hosts=frozenset({"node2", "node3"}))
        self.actor = NodeActor.boot(self.around, self.name, SIZE, in_use)
        self.pool.run_until_idle()
        self.machine = CloudNode("i-1", self.name, SIZE.name, CloudState.RUNNING)
        self._ordered()

    def _ordered(self) -> None:
        """The machine has the tags of the order, once there is one."""
        for asked in self.told(CreateNode, self.cloud):
            self.machine = replace(self.machine, tags=asked.order.tags)

    def adopt(self, **tags: str) -> None:
        """A new actor for the same machine, as after a restart; what the old one said is forgotten."""
        self.actor.stop()
        self.machine = replace(self.machine, tags={**self.machine.tags, **tags})
        for heard in (self.cloud, self.scheduler, self.arbiter):
            heard.clear()
        self.actor = NodeActor.adopt(self.around, self.machine, SIZE)
        self.pool.run_until_idle()

    def close(self) -> None:
        if self.actor.is_alive():
            self.actor.stop()
        around = self.around
        for ear in (around.arbiter, around.cloud, around.scheduler, around.records):
            if ear is not None:
                ear.stop()
        self._using.__exit__()

    def tell(self, *messages: Any) -> None:
        for message in messages:
            if self.actor.is_alive():
                self.actor.tell(message)
            self.pool.run_until_idle()

    def told(self, kind: type[T], to: list[Any]) -> list[T]:
        return [message for message in to if isinstance(message, kind)]

    # What the cloud and the scheduler say.

    def created(self) -> None:
        self._ordered()
        self.tell(Created(self.machine))

    def listed(self, state: CloudState | None = CloudState.RUNNING) -> None:
        """In the next cloud list; None: it is missing."""
        cloud = None if state is None else replace(self.machine, state=state)
        self.tell(CloudIs(cloud, self.clock.elapsed()))

    def viewed(self, state: NodeState | None, reason: str = "") -> None:
        """In the next view of the scheduler; None: it is missing."""
        node = None
        if state is not None:
            node = Node(self.name, state, SIZE.resources, SIZE.resources, reason=reason)
        self.tell(SchedulerIs(node, self.clock.elapsed()))

    def node_set(self, *, drained: bool) -> None:
        """The scheduler has done what it was asked last."""
        self.tell(NodeSet(self.name, drained, self.clock.elapsed()))

    def join(self) -> None:
        """Created, listed and idle."""
        self.created()
        self.listed()
        self.viewed(NodeState.IDLE)

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # What the actor says.

    @property
    def standings(self) -> list[NodeStanding]:
        return self.told(NodeStanding, self.arbiter)

    @property
    def phase(self) -> str:
        return self.standings[-1].phase.value

    @property
    def outcomes(self) -> list[str]:
        return [booted.outcome.value for booted in self.told(Booted, self.arbiter)]
