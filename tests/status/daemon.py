"""A daemon for the management server to look at, and a client of it that sends whatever it is told."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from nodemanager.actors.watchdog import Pulse
from nodemanager.api.base import Identity
from nodemanager.api.story import Attempt, ReasonChange, SaidReason, Story
from nodemanager.clouds.messages import CloudCounts
from nodemanager.dispatch.messages import HeldContainer, News, Status
from nodemanager.errors import ApiRefused
from nodemanager.model import Container, ContainerState, Node, NodeSize, NodeState, Resources
from nodemanager.nodes.messages import Decision, NodesStatus, NodeStanding
from nodemanager.nodes.states import Behaviour, NodePhase
from nodemanager.reason import Reason, ReasonToken
from nodemanager.status.look import DaemonLook, OperatorMessage
from nodemanager.status.records import DispatcherEntry
from nodemanager.status.tally import WorkCounts

GIB = 1 << 30
NOW = 1_800_000_000.0
TOKEN = "the-management-token"
RUNNING = "zzzzz-dz642-runningrunning0"
WAITING = "zzzzz-dz642-waitingwaiting0"

SMALL = NodeSize("small", Resources(2, 4 * GIB), 0.1, instance_type="m5.large")
BIG = NodeSize("big", Resources(16, 64 * GIB), 0.8, preemptible=True)


def in_scheduler(host: str, state: NodeState) -> Node:
    return Node(host, state, SMALL.resources, SMALL.resources)


BUSY = NodeStanding(
    name="compute-busy",
    host="busy",
    size=SMALL,
    phase=NodePhase.BUSY,
    ordered_at=NOW - 600,
    cloud_id="i-busy",
    node=in_scheduler("busy", NodeState.BUSY),
    takes_work=True,
    record_uuid="zzzzz-7ekkf-busybusybusybus",
    pinged=True,
    proved=True,
)
BOOTING = NodeStanding(
    name="compute-booting",
    host="booting",
    size=BIG,
    phase=NodePhase.BOOTING,
    ordered_at=NOW - 60,
    cloud_id="i-booting",
)
HELD = NodeStanding(
    name="compute-held",
    host="held",
    size=None,
    phase=NodePhase.DRAINING,
    ordered_at=NOW - 6000,
    cloud_id="i-held",
    node=in_scheduler("held", NodeState.DRAINING),
    behaviour=Behaviour.HOLD,
)


def container(uuid: str, state: ContainerState = ContainerState.LOCKED) -> Container:
    return Container(uuid, state, 500, SMALL.resources, created_at=NOW - 900)


def waits_for(sentence: str) -> Reason:
    return Reason(ReasonToken.NODE_BOOTING, sentence, since=NOW - 60)


DISPATCHER = Status(
    me=Identity("zzzzz-bmxii-000000000000000", 3),
    lease_seconds=555.55,
    nodes=(in_scheduler("busy", NodeState.BUSY), in_scheduler("held", NodeState.DRAINING)),
    containers=(
        HeldContainer(container(RUNNING, ContainerState.RUNNING), node="busy"),
        HeldContainer(container(WAITING), waits_for("waiting for booting to join")),
    ),
    news=News(api_age_seconds=3.0, scheduler_age_seconds=2.0, adopted=True),
)
NODES = NodesStatus(
    nodes=(BUSY, BOOTING, HELD),
    wishlist={"small": 2, "big": 1},
    waiting=7,
    unplaced=1,
    price=0.9,
    quota=3,
    unavailable={"huge": 41.23456},
    brake="compute-x: it never joined",
    stale="",
    outcomes={"joined": 4, "proved": 3, "failed": 2},
    history=(
        Decision(NOW - 20, "boot 1 x small", {"waiting": 1, "wanted": {"small": 1}}),
        Decision(NOW - 10, "no change", {"waiting": 1}),
    ),
    idle_times={},
    bootable_cores=16,
    sizes=(SMALL, BIG),
)
CLOUDS = CloudCounts(9, 1, 8, 2, 7, 3)
LOOK = DaemonLook(
    version="1.2.3",
    taken_at=NOW,
    dispatcher=DISPATCHER,
    nodes=NODES,
    clouds=CLOUDS,
    failures={"NodeActor": 2, "ContainerActor": 1},
    work=WorkCounts(40, {"Complete": 30, "TempFail": 2}),
)


FAILED = "zzzzz-dz642-failedfailed000"
NEEDS = Reason(
    ReasonToken.NO_NODE_FITS,
    "no node has 96 GiB of RAM",
    facts={"ram_bytes": {"wanted": 96 * GIB, "available": 64 * GIB}, "cores": 4},
    advice="ask for at most 60.8 GiB, or add a [Size] with more",
    since=NOW - 300,
)
STORY = Story(
    request="zzzzz-xvhdp-requestrequest0",
    name="align <b>sample</b> 7",
    request_state="Committed",
    priority=500,
    attempts=(
        Attempt(
            FAILED,
            1,
            ContainerState.TEMPFAIL,
            NOW - 4000,
            started_at=NOW - 3900,
            finished_at=NOW - 1000,
            dispatcher="zzzzz-bmxii-000000000000000",
            node="busy",
            error="the node busy was lost",
        ),
        Attempt(WAITING, 2, ContainerState.LOCKED, NOW - 900, temp_fails=1),
    ),
    reasons=(SaidReason("zzzzz-bmxii-000000000000000", "site1", NEEDS, NOW - 5),),
    history=(
        ReasonChange(
            NOW - 4000,
            FAILED,
            "zzzzz-bmxii-000000000000000",
            Reason(ReasonToken.NODE_BOOTING, "waiting for busy to join", since=NOW - 4000),
        ),
        ReasonChange(NOW - 3900, FAILED, "zzzzz-bmxii-000000000000000", None),
        ReasonChange(NOW - 300, WAITING, "zzzzz-bmxii-000000000000000", NEEDS),
    ),
)
LOG = b"==> stderr.txt <==\n<script>alert(1)</script>\nno such file: sample7.fastq\n"
DISPATCHERS = (
    DispatcherEntry("zzzzz-bmxii-000000000000000", "site1", "slurm", "alive", 3, NOW - 4, NOW - 5),
    DispatcherEntry(
        "zzzzz-bmxii-111111111111111", "site2", "sge", "alive", 1, NOW - 9, NOW - 8, "maintenance"
    ),
    DispatcherEntry("zzzzz-bmxii-222222222222222", "old", "sge", "lost", 1, NOW - 90000, None),
)

_Known = TypeVar("_Known")


@dataclass
class StandIn:
    """The daemon as a test wants it to be: a `Source`."""

    answer: DaemonLook | BaseException = LOOK
    refusal: BaseException | None = None
    beats: Pulse = field(default_factory=lambda: Pulse(1.0, 15.0))
    stories: dict[str, Story] = field(default_factory=lambda: {WAITING: STORY})
    logs: dict[str, bytes] = field(default_factory=lambda: {WAITING: LOG})
    looks: int = 0
    reads: int = 0
    """How often a story or a log was asked for."""
    lists: int = 0
    """How often the dispatchers were asked for."""
    told: list[OperatorMessage] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    """Set when somebody looks."""
    spoken_to: threading.Event = field(default_factory=threading.Event)
    """Set when somebody tells it something."""
    answers: threading.Event = field(default_factory=threading.Event)
    """While it is not set whoever looks hangs."""
    listens: threading.Event = field(default_factory=threading.Event)
    """While it is not set whoever tells hangs."""

    def __post_init__(self) -> None:
        self.wake()

    def wake(self) -> None:
        self.answers.set()
        self.listens.set()

    def look(self, timeout_seconds: float) -> DaemonLook:
        self.looks += 1
        answer = self.answer
        self.asked.set()
        self.answers.wait()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def pulse(self) -> Pulse:
        return self.beats

    def story(self, uuid: str) -> Story:
        return self._read(self.stories, uuid)

    def log_tail(self, uuid: str) -> bytes:
        return self._read(self.logs, uuid)

    def dispatchers(self) -> tuple[DispatcherEntry, ...]:
        self.lists += 1
        if self.refusal is not None:
            raise self.refusal
        return DISPATCHERS

    def _read(self, known: Mapping[str, _Known], uuid: str) -> _Known:
        self.reads += 1
        self.answers.wait()
        if self.refusal is not None:
            raise self.refusal
        if uuid not in known:
            raise ApiRefused(f"{uuid}: there is no such container", 404)
        return known[uuid]

    def tell_nodes(self, message: OperatorMessage) -> None:
        self.spoken_to.set()
        self.listens.wait()
        if self.refusal is not None:
            raise self.refusal
        self.told.append(message)


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    """What the JSON means; None when nothing was sent."""
    headers: dict[str, str]

    @property
    def error(self) -> str:
        [words] = self.body["errors"]
        return str(words)


@dataclass(frozen=True)
class Client:
    url: str
    token: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One call that is answered in JSON. Underscores in names of headers are dashes."""
        answer = self._send(method, path, body, headers)
        return replace(answer, body=json.loads(answer.body) if answer.body else None)

    def fetch(self, path: str, **headers: str) -> Answer:
        """One call whose answer is whatever it is."""
        return self._send("GET", path, None, headers)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        """On a connection of its own."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            named.setdefault("Authorization", f"Bearer {self.token}")
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        try:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, content, received)

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, None, **headers)

    def post(self, path: str, body: bytes | None = None, **headers: str) -> Answer:
        return self.send("POST", path, body, **headers)
