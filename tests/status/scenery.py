"""A busy cluster for people to look at: what the screenshots in the docs show, and what 10,000 containers cost.

Nothing here is measured or real; it is what a daemon in the middle of a working day might tell.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from nodemanager.dispatch.messages import HeldContainer, News, QueuedContainer, Status
from nodemanager.model import (
    PRIORITY_STEP,
    Container,
    ContainerState,
    Node,
    NodeSize,
    NodeState,
    Resources,
)
from nodemanager.nodes.messages import Decision, NodesStatus, NodeStanding
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.reason import Reason, ReasonToken
from nodemanager.status.history import COARSE_SECONDS, FINE_SECONDS, History, Sample
from nodemanager.status.look import DaemonLook
from nodemanager.status.tally import WorkCounts
from tests.status.daemon import DISPATCHER, GIB

SIZES = (
    NodeSize("small", Resources(4, 15 * GIB, 100 * GIB), 0.17, "m5.xlarge"),
    NodeSize(
        "spot-large", Resources(16, 61 * GIB, 400 * GIB), 0.31, "m5.4xlarge", preemptible=True
    ),
    NodeSize("large", Resources(16, 61 * GIB, 400 * GIB), 0.77, "m5.4xlarge"),
    NodeSize("huge-memory", Resources(32, 488 * GIB, 800 * GIB), 4.1, "x2iedn.8xlarge"),
)
_DRAWS = random.Random(7)


@dataclass(frozen=True)
class Crowd:
    """So many containers that wait alike."""

    count: int
    reason: Reason | None
    is_held: bool = True
    resources: Resources = SIZES[0].resources
    age_seconds: float = 900.0
    error: str = ""
    attempt: int = 1


def crowds(now: float, many: int) -> tuple[Crowd, ...]:
    """All of them; `many` are the largest crowd."""
    return (
        Crowd(
            many,
            Reason(
                ReasonToken.NODE_LIMIT,
                "max_nodes (24) is reached",
                facts={"nodes": {"wanted": 61, "available": 24}},
                advice="raise [Daemon] max_nodes, or wait until some of what runs has ended",
                since=now - 2400,
            ),
            age_seconds=5100,
        ),
        Crowd(
            37,
            Reason(
                ReasonToken.NODE_BOOTING,
                "waiting for a spot-large that is booting",
                since=now - 95,
            ),
            resources=Resources(8, 24 * GIB),
            age_seconds=340,
        ),
        Crowd(
            12,
            Reason(
                ReasonToken.NO_NODE_FITS,
                "no node has 640 GiB of RAM",
                facts={"ram_bytes": {"wanted": 640 * GIB, "available": 488 * GIB}},
                advice="ask for at most 463.6 GiB, or add a [Size] section with more",
                since=now - 7100,
            ),
            is_held=False,
            resources=Resources(8, 640 * GIB),
            age_seconds=7200,
        ),
        Crowd(
            9,
            Reason(
                ReasonToken.BACKOFF,
                "the last attempt failed: the next one is after a pause",
                since=now - 60,
                next_attempt_at=now + 185,
            ),
            is_held=False,
            age_seconds=400,
            error="the node compute-k3 was lost (spot instance reclaimed)",
            attempt=4,
        ),
        Crowd(
            3,
            Reason(
                ReasonToken.ON_HOLD,
                "an operator holds it",
                advice="release it when the reference data is repaired",
                since=now - 86000,
            ),
            is_held=False,
            age_seconds=86400,
            error="somebody deleted its job in the scheduler",
            attempt=2,
        ),
        Crowd(2, None, is_held=False, age_seconds=1),
    )


def uuid_of(number: int) -> str:
    return f"zzzzz-dz642-{_DRAWS.getrandbits(60):013x}{number % 100:02d}"[:27]


def scene(now: float, many: int = 1860) -> DaemonLook:
    """The whole cluster at Unix time `now`."""
    nodes = tuple(_nodes(now))
    held: list[HeldContainer] = []
    queued: list[QueuedContainer] = []
    for crowd in crowds(now, many):
        for number in range(crowd.count):
            container = Container(
                uuid_of(number),
                ContainerState.LOCKED if crowd.is_held else ContainerState.QUEUED,
                _DRAWS.choice((500, 500, 800, 100)) * PRIORITY_STEP,
                crowd.resources,
                created_at=now - crowd.age_seconds * (0.4 + 0.6 * _DRAWS.random()),
                attempt=crowd.attempt,
                error=crowd.error,
            )
            if crowd.is_held:
                held.append(HeldContainer(container, crowd.reason))
            else:
                queued.append(QueuedContainer(container, crowd.reason))
    busy = [node for node in nodes if node.phase in (NodePhase.BUSY, NodePhase.DRAINING)]
    for number in range(61):
        running = Container(
            uuid_of(number),
            ContainerState.RUNNING,
            500 * PRIORITY_STEP,
            Resources(4, 12 * GIB),
            created_at=now - 3000 * _DRAWS.random() - 60,
        )
        held.append(HeldContainer(running, None, busy[number % len(busy)].host))
    return DaemonLook(
        version="3.0.0",
        taken_at=now,
        dispatcher=Status(
            me=DISPATCHER.me,
            lease_seconds=588.0,
            nodes=tuple(node.node for node in nodes if node.node is not None),
            containers=tuple(held),
            queued=tuple(queued),
            news=News(api_age_seconds=4.0, scheduler_age_seconds=7.0, adopted=True),
        ),
        nodes=_status(now, nodes),
        failures={},
        work=WorkCounts(5214, {"Complete": 5038, "PermFail": 71, "TempFail": 44}),
    )


def _nodes(now: float) -> list[NodeStanding]:
    found = []
    for number in range(21):
        size = SIZES[(0, 1, 1, 2)[number % 4]] if number else SIZES[3]
        host = f"compute-{_DRAWS.getrandbits(24):06x}"
        phase = NodePhase.BUSY if number < 17 else (NodePhase.IDLE, NodePhase.BOOTING)[number % 2]
        state = {NodePhase.BUSY: NodeState.BUSY, NodePhase.IDLE: NodeState.IDLE}.get(phase)
        found.append(
            NodeStanding(
                name=host,
                host=host,
                size=size,
                phase=phase,
                ordered_at=now - 300 * (number + 1),
                cloud_id=f"i-0{_DRAWS.getrandbits(60):015x}",
                node=None if state is None else Node(host, state, size.resources, size.resources),
                takes_work=state is not None,
                proved=True,
                not_ready="shutdown window opens in 12 min" if phase is NodePhase.IDLE else "",
            )
        )
    found[5] = replace(found[5], phase=NodePhase.DRAINING, leaving="nobody waits for its size")
    found[9] = replace(found[9], phase=NodePhase.DRAINING, behaviour=Behaviour.HOLD)
    return found


def _status(now: float, nodes: tuple[NodeStanding, ...]) -> NodesStatus:
    return NodesStatus(
        nodes=nodes,
        wishlist={"small": 2, "spot-large": 1},
        waiting=1897,
        unplaced=1860,
        price=sum(node.price for node in nodes),
        quota=None,
        unavailable={"huge-memory": 212.0},
        brake="",
        stale="",
        outcomes={"joined": 214, "proved": 209, "failed": 3, "refused": 2},
        history=(
            Decision(now - 310, "boot 2 x spot-large", {"waiting": 1904, "price": 9.3}),
            Decision(now - 190, "huge-memory cannot be had: not asked for again in 8 min", {}),
            Decision(now - 95, "boot 2 x spot-large", {"waiting": 1899, "price": 9.9}),
            Decision(now - 20, "boot nothing: max_nodes (24) is reached", {"unplaced": 1860}),
        ),
        idle_times={node.host: 140.0 for node in nodes if node.phase is NodePhase.IDLE},
        sizes=SIZES,
    )


def past(elapsed: float) -> History:
    """A day until `elapsed`."""
    history = History()
    steps = round(24 * 3600 / COARSE_SECONDS)
    coarse = tuple(_sample(elapsed - COARSE_SECONDS * n, elapsed) for n in range(steps, 30, -1))
    history = History(coarse=coarse)
    for n in range(round(3600 / FINE_SECONDS), 0, -1):
        history = history.with_sample(_sample(elapsed - FINE_SECONDS * (n - 0.5), elapsed))
    return history


def _sample(at: float, until: float) -> Sample:
    age = until - at
    wave = 0.5 + 0.5 * math.cos(age / 5200) * math.cos(age / 23000)
    quick = 0.5 + 0.5 * math.sin(age / 340)
    nodes = round(9 + 10 * wave)
    booting = 2 if quick > 0.7 else 0
    waiting = 1200 * wave + 500 * quick + 160
    if age < 1200:
        waiting += (1200 - age) * 0.4
    return Sample(
        at=at,
        queued=round(26 + 60 * quick),
        waiting=round(waiting),
        running=round(3.1 * nodes - 4 * quick),
        nodes=nodes,
        booting=booting,
        price=round((nodes + booting) * 0.46 + 4.1, 2),
        started=round(5214 - age * 0.06),
        ended=round(5153 - age * 0.055),
    )
