"""A cloud that only pretends, for tests and benchmarks: settable faults, a journal, machines that join a fake cluster.

Time comes from the clock of its `FakeSky`, which outlives the drivers as a real cloud does::

    sky = FakeSky(clock, join=cluster.add_node, leave=cluster.remove_node)
    sky.fates = lambda machine: Fate(boot_seconds=30)
    cloud = FakeCloud(context, sky)
    cloud.create(order)
    clock.advance(30)
    sky.run_due()        # not needed before a call of the driver: every call does it
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count

from nodemanager.clock import Clock, SystemClock
from nodemanager.clouds.base import (
    CLUSTER_TAG,
    HOST_TAG,
    Cloud,
    CloudContext,
    CloudNode,
    CloudSize,
    CloudState,
    NodeOrder,
)
from nodemanager.clouds.errors import (
    CloudError,
    Denied,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.model import Finding, Node, NodeSize, NodeState, Resources

__all__ = ["FakeCloud", "FakeMachine", "FakeSky", "Fate", "SkyFault"]


_NOTHING = Resources(0, 0)


class SkyFault(Enum):
    """What can go wrong with the next calls of one kind."""

    LIST = "list raises"
    SHORT_LIST = (
        "list lacks every machine that was created within the last minute, as some clouds' do"
    )
    CREATE = "create raises, and nothing was created"
    CREATE_AFTER = "create raises although the machine was created, as a timeout does"
    BARE = "create raises a bare Exception, as libcloud drivers do"
    RATE = "the call is refused with a Retry-After"
    DESTROY = "destroy raises, and the machine stays"
    DESTROY_AFTER = "destroy raises although the machine goes"
    DENIED = "create is refused for good"
    TAG = "set_tags raises, and nothing was set"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a machine."""

    boot_seconds: float | None = 30.0
    """Until it joins; None: never."""
    break_after: float | None = None
    """Seconds after joining until the scheduler finds it down; None: never."""
    hang_after: float | None = None
    """Seconds after joining until nothing ends there any more, though nobody notices; None: never."""
    vanish_after: float | None = None
    """Seconds after creation until it is gone without a word, as spot machines are; None: never."""
    starts_broken: bool = False
    """The cloud itself says that it is of no use."""
    lacks_ram: int = 0
    """So many bytes less than its size promises."""


@dataclass(slots=True)
class FakeMachine:
    """One machine of the sky."""

    node: CloudNode
    size: NodeSize
    host: str
    fate: Fate
    created_at: float
    user_data: str = ""
    joined: bool = False


class _Event(Enum):
    JOINS = "joins"
    BREAKS = "breaks"
    HANGS = "hangs"
    VANISHES = "vanishes"
    GOES = "goes"


def _no_node(_node: Node) -> None:
    pass


def _no_machine(_machine: FakeMachine) -> None:
    pass


def _no_name(_name: str) -> None:
    pass


@dataclass
class FakeSky:
    """The account behind `FakeCloud`. All attributes may be changed at any time.

    `join`, `leave`, `fail` and `hang` are told of machines that join the cluster, are gone, break, or hang; a
    harness gives the methods of its fake cluster.
    """

    clock: Clock = field(default_factory=SystemClock)
    join: Callable[[Node], None] = _no_node
    leave: Callable[[str], None] = _no_name
    fail: Callable[[str], None] = _no_name
    hang: Callable[[str], None] = _no_name
    boot: Callable[[FakeMachine], None] = _no_machine
    """Told of each machine that comes up, before it joins."""
    fates: Callable[[FakeMachine], Fate] = lambda _machine: Fate()
    destroy_seconds: float = 0.0
    """How long a destroyed machine is still listed."""
    quota: int | None = None
    no_capacity: set[str] = field(default_factory=set)
    """Names of sizes of which there are none left."""
    retry_after: float | None = 2.0
    """What `SkyFault.RATE` says."""
    upcoming: Counter[SkyFault] = field(default_factory=Counter)
    """How many of the next calls each fault spoils."""
    spoils: Callable[[str], bool] = lambda _method: False
    """Whether a `create` or `destroy` fails although no fault is set; drawn by a harness."""
    journal: list[tuple[float, str, str]] = field(default_factory=list)
    """Time, method and machine of every call."""
    most: int = 0
    """The most machines there ever were at a time."""

    def __post_init__(self) -> None:
        self._machines: dict[str, FakeMachine] = {}
        self._events: list[tuple[float, int, str, _Event]] = []
        self._serial = count(1)
        self._lock = threading.RLock()

    @property
    def machines(self) -> Mapping[str, FakeMachine]:
        """Every machine that exists, by its cloud id."""
        return self._machines

    def calls(self, method: str) -> int:
        """How often `method` was called."""
        return sum(1 for _, called, _ in self.journal if called == method)

    def next_event_at(self) -> float | None:
        """The `clock.elapsed` at which something will happen by itself; None if nothing will."""
        with self._lock:
            return self._events[0][0] if self._events else None

    def run_due(self) -> None:
        """Let everything happen that is due by the clock."""
        with self._lock:
            while self._events and self._events[0][0] <= self.clock.elapsed():
                _, _, cloud_id, event = heapq.heappop(self._events)
                machine = self._machines.get(cloud_id)
                if machine is not None:
                    self._happen(machine, event)

    def vanish(self, name: str) -> None:
        """The machine of that name is gone without a word."""
        with self._lock:
            for machine in tuple(self._machines.values()):
                if machine.node.name == name:
                    self._happen(machine, _Event.VANISHES)

    def add_foreign(self, name: str, tags: Mapping[str, str] | None = None) -> None:
        """A machine that somebody else created."""
        node = CloudNode(name, name, "foreign", CloudState.RUNNING, tags or {})
        size = NodeSize("foreign", _NOTHING, 0.0)
        self._machines[name] = FakeMachine(node, size, name, Fate(None), self.clock.elapsed())

    # What a driver does.

    def create(self, order: NodeOrder) -> CloudNode:
        """Create a machine and settle its fate."""
        with self._lock:
            now = self.clock.elapsed()
            cloud_id = f"i-{next(self._serial):08d}"
            node = CloudNode(
                cloud_id,
                order.name,
                order.size.cloud_name,
                CloudState.RUNNING,
                dict(order.tags),
                self.clock.wall(),
            )
            host = order.tags.get(HOST_TAG, order.name)
            machine = FakeMachine(node, order.size, host, Fate(), now, order.user_data)
            machine.fate = fate = self.fates(machine)
            if fate.starts_broken:
                machine.node = replace(node, state=CloudState.BROKEN)
            self._machines[cloud_id] = machine
            self.most = max(self.most, len(self._machines))
            if fate.boot_seconds is not None:
                self._at(now + fate.boot_seconds, cloud_id, _Event.JOINS)
            if fate.vanish_after is not None:
                self._at(now + fate.vanish_after, cloud_id, _Event.VANISHES)
            return machine.node

    def destroy(self, cloud_id: str) -> None:
        """The machine goes, at once for the cluster and after `destroy_seconds` for the list."""
        with self._lock:
            machine = self._machines.get(cloud_id)
            if machine is None:
                return
            self.leave(machine.host)
            machine.node = replace(machine.node, state=CloudState.STOPPING)
            self._at(self.clock.elapsed() + self.destroy_seconds, cloud_id, _Event.GOES)
            self.run_due()

    def set_tags(self, cloud_id: str, tags: Mapping[str, str]) -> None:
        """Change a machine's tags."""
        with self._lock:
            machine = self._machines.get(cloud_id)
            if machine is not None:
                machine.node = replace(machine.node, tags={**machine.node.tags, **tags})

    def _happen(self, machine: FakeMachine, event: _Event) -> None:
        now, fate, cloud_id = self.clock.elapsed(), machine.fate, machine.node.cloud_id
        gone = machine.node.state is CloudState.STOPPING
        match event:
            case _Event.JOINS if not gone:
                machine.joined = True
                self.boot(machine)
                self.join(_as_node(machine))
                if fate.break_after is not None:
                    self._at(now + fate.break_after, cloud_id, _Event.BREAKS)
                if fate.hang_after is not None:
                    self._at(now + fate.hang_after, cloud_id, _Event.HANGS)
            case _Event.BREAKS if not gone:
                self.fail(machine.host)
            case _Event.HANGS if not gone:
                self.hang(machine.host)
            case _Event.VANISHES:
                del self._machines[cloud_id]
                self.leave(machine.host)
            case _Event.GOES:
                del self._machines[cloud_id]
            case _:
                pass

    def _at(self, when: float, cloud_id: str, event: _Event) -> None:
        heapq.heappush(self._events, (when, next(self._serial), cloud_id, event))


class FakeCloud(Cloud):
    """See the module's docstring."""

    name = "fake"
    pings = False
    in_process = True

    def __init__(self, context: CloudContext, sky: FakeSky | None = None) -> None:
        super().__init__(context)
        self.sky = sky or FakeSky()

    def check(self) -> Sequence[Finding]:
        """Nothing can be wrong with it."""
        return (Finding("fake cloud", f"{len(self.sky.machines)} pretended machines"),)

    def sizes(self) -> Sequence[CloudSize]:
        """None: the sections say it all."""
        return ()

    def list(self) -> Sequence[CloudNode]:
        """See the base class."""
        self._begin("list")
        self._spoil(SkyFault.LIST)
        nodes = [
            machine
            for machine in self.sky.machines.values()
            if machine.node.tags.get(CLUSTER_TAG) == self.context.cluster_id
        ]
        if self._strikes(SkyFault.SHORT_LIST):
            now = self.sky.clock.elapsed()
            nodes = [machine for machine in nodes if now - machine.created_at >= 60]
        return tuple(machine.node for machine in nodes)

    def create(self, order: NodeOrder) -> CloudNode:
        """See the base class."""
        sky, size = self.sky, order.size.name
        self._begin("create", order.name)
        self._spoil(SkyFault.CREATE)
        if self._strikes(SkyFault.BARE):
            raise Exception("nope")  # noqa: TRY002 (as libcloud drivers do)
        if self._strikes(SkyFault.DENIED):
            raise Denied("fake: you may not")
        if sky.quota is not None and len(sky.machines) >= sky.quota:
            raise QuotaExceeded(f"fake: at most {sky.quota} machines")
        if size in sky.no_capacity:
            raise NoCapacity(f"fake: no {size} left")
        if sky.spoils("create"):
            raise CloudError("fake: create failed")
        node = sky.create(order)
        self._spoil(SkyFault.CREATE_AFTER)
        return node

    def destroy(self, node: CloudNode) -> None:
        """See the base class."""
        self._begin("destroy", node.name)
        self._spoil(SkyFault.DESTROY)
        if self.sky.spoils("destroy"):
            raise CloudError("fake: destroy failed")
        self.sky.destroy(node.cloud_id)
        self._spoil(SkyFault.DESTROY_AFTER)

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        """See the base class."""
        self._begin("set_tags", node.name)
        self._spoil(SkyFault.TAG)
        self.sky.set_tags(node.cloud_id, tags)

    def _begin(self, method: str, machine: str = "") -> None:
        self.sky.run_due()
        self.sky.journal.append((self.sky.clock.elapsed(), method, machine))
        if self._strikes(SkyFault.RATE):
            raise RateLimited("fake: too many calls", self.sky.retry_after)

    def _strikes(self, fault: SkyFault) -> bool:
        if self.sky.upcoming[fault] <= 0:
            return False
        self.sky.upcoming[fault] -= 1
        return True

    def _spoil(self, fault: SkyFault) -> None:
        if self._strikes(fault):
            raise CloudError(f"fake: {fault.value}")


def _as_node(machine: FakeMachine) -> Node:
    """As it joins the scheduler."""
    size = machine.size
    has = replace(size.resources, ram_bytes=size.resources.ram_bytes - machine.fate.lacks_ram)
    return Node(
        machine.host,
        NodeState.IDLE,
        has,
        has,
        partitions=size.partitions,
        preemptible=size.preemptible,
    )
