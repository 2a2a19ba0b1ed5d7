"""The fake scheduler passes the suite: the probe's verbs are played instead of run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from nodemanager.clock import ManualClock
from nodemanager.model import Node, NodeState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.conformance import Connect, SchedulerConformance
from nodemanager.schedulers.fake import FakeCluster, FakeScheduler, Script

SIZE = Resources(cores=4, ram_bytes=4 << 30)
SMALL = Resources(cores=1, ram_bytes=1 << 30)

ONE_NODE = (Node("n1", NodeState.IDLE, SIZE, SIZE),)
NODES = (
    Node("n1", NodeState.IDLE, SMALL, SMALL),
    Node("n2", NodeState.IDLE, SIZE, SIZE),
    Node("n3", NodeState.IDLE, SIZE, SIZE, ("alpha",)),
    Node("n4", NodeState.IDLE, SMALL, SMALL, ("beta",)),
    Node("n5", NodeState.IDLE, SIZE, SIZE, preemptible=True),
)


class Player:
    """Plays what the probe would do, and lets time pass while the suite waits."""

    def __init__(self, nodes: Sequence[Node] = ONE_NODE) -> None:
        self.clock = ManualClock()
        self.cluster = FakeCluster(self.clock, nodes)
        self.cluster.script = self.script
        self.cluster.on_start = self.start
        self.cluster.on_term = self.term
        self.held: dict[str, Path] = {}

    def script(self, spec: JobSpec) -> Script:
        verb, arguments = spec.argv[2], spec.argv[3:]
        if not spec.argv[0].endswith(("python", "python3", "python3.11")):
            return Script(1, End(EndKind.SCHEDULER_ERROR, detail="no such command"))
        if spec.max_run_seconds:
            limit = spec.max_run_seconds
            return Script(limit, End(EndKind.TIME_LIMIT, asked=limit, limit=limit))
        match verb:
            case "exit":
                return Script(1, End(EndKind.EXITED, int(arguments[1])))
            case "die":
                return Script(1, End(EndKind.SIGNALLED, int(arguments[1])))
            case "eat":
                ram = spec.resources.ram_bytes
                return Script(1, End(EndKind.OUT_OF_MEMORY, asked=ram, limit=ram))
            case "stubborn":
                return Script(None, term_seconds=None)
            case "record":
                return Script(1)
            case _:
                return Script(None, term_seconds=1)

    def start(self, name: str, stdin: bytes) -> None:
        job = self.cluster.job(name)
        assert job is not None
        verb, arguments = job.spec.argv[2], job.spec.argv[3:]
        if verb == "record":
            self.record(arguments, stdin)
        elif arguments:
            with Path(arguments[0]).open("a") as file:
                file.write("1\n")
        if verb == "hold":
            self.held[name] = Path(arguments[1])

    @staticmethod
    def record(arguments: Sequence[str], stdin: bytes) -> None:
        content = {
            "arguments": [argument.encode().hex() for argument in arguments[1:]],
            "stdin": stdin.hex(),
            "environment": {},
        }
        Path(arguments[0]).write_text(json.dumps(content))

    def term(self, name: str) -> None:
        job = self.cluster.job(name)
        if job is not None and job.spec.argv[2] == "polite":
            Path(job.spec.argv[4]).touch()

    def settle(self) -> None:
        self.clock.advance(0.5)
        self.cluster.run_due()
        for name, release in tuple(self.held.items()):
            if release.exists():
                del self.held[name]
                self.cluster.finish(name)


class TestFake(SchedulerConformance):
    tells = True

    @pytest.fixture(autouse=True)
    def player(self) -> Player:
        self.playing = Player()
        return self.playing

    def settle(self) -> None:
        self.playing.settle()

    @pytest.fixture
    def connect(self, tmp_path: Path, player: Player) -> Connect:
        return lambda cluster_id: FakeScheduler(
            SchedulerContext(cluster_id, tmp_path / "state"), player.cluster
        )


class TestFakeThatForgetsFast(TestFake):
    """Ended jobs leave the listing at once; only accounting knows them, as on a busy Slurm."""

    @pytest.fixture(autouse=True)
    def player(self) -> Player:
        self.playing = Player()
        self.playing.cluster.keeps_ended = False
        return self.playing


class TestFakeWithNodes(TestFake):
    """Of several kinds, and more may come."""

    refuses_too_big = False
    grows = True

    @pytest.fixture(autouse=True)
    def player(self) -> Player:
        self.playing = Player(NODES)
        self.playing.cluster.refuses_too_big = False
        return self.playing

    def grow(self, resources: Resources) -> None:
        self.playing.cluster.add_node(Node("n9", NodeState.IDLE, resources, resources))
