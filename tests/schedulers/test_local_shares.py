"""The local scheduler with several nodes: they join, fill, are drained, break and go."""

from __future__ import annotations

import json
import os
import py_compile
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodemanager.clock import ManualClock
from nodemanager.errors import SchedulerError
from nodemanager.model import JobState, Node, NodeState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.conformance import Bench
from nodemanager.schedulers.local import LocalScheduler
from nodemanager.schedulers.shares import Share, Shares

pytestmark = pytest.mark.processes

OPTIONS = {"cores": "4", "ram": "2 GiB", "scratch": "1 GiB", "kill_grace": "500 ms"}
ONE = Resources(1, 256 << 20)
TWO = Resources(2, 512 << 20)


class Site:
    """A directory of machines, a clock that stands still, and a scheduler that can be restarted."""

    def __init__(self, path: Path) -> None:
        self.state = path / "state"
        self.clock = ManualClock()
        self.shares = Shares(path / "machines")
        self.options = {**OPTIONS, "machines": str(self.shares.directory)}
        (path / "shared").mkdir()
        self.bench = Bench(
            self.connect, path / "shared", sys.executable, 30.0, settle=lambda: time.sleep(0.01)
        )

    def connect(self, cluster_id: str) -> LocalScheduler:
        context = SchedulerContext(cluster_id, self.state, self.options)
        return LocalScheduler(context, self.clock)

    @property
    def scheduler(self) -> LocalScheduler:
        scheduler = self.bench.scheduler
        assert isinstance(scheduler, LocalScheduler)
        return scheduler

    def add(self, name: str, resources: Resources = ONE, **change: object) -> Share:
        now = self.clock.wall()
        share = Share(name, f"i-{name}", name, "x", resources, created_at=now, joins_at=now)
        share = replace(share, **change)  # type: ignore[arg-type]
        self.shares.make_directory()
        self.shares.write(share)
        return share

    def nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self.scheduler.nodes()}

    def states(self) -> dict[str, NodeState]:
        return {name: node.state for name, node in self.nodes().items()}

    def run(self, resources: Resources = ONE) -> JobSpec:
        """A job that runs until it is released."""
        spec = self.bench.holder(resources)
        self.bench.submit(spec)
        self.bench.started(spec)
        return spec

    def end(self, spec: JobSpec) -> End:
        """Release it."""
        self.bench.release(spec)
        return self.bench.end(spec)

    def reason(self, spec: JobSpec) -> str:
        return self.bench.waiting(spec).reason


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.scheduler.close()
    del site.options["machines"]
    scheduler = site.bench.restart()
    scheduler.cancel([job.name for job in scheduler.poll().jobs])
    site.bench.until(
        lambda: all(job.state is JobState.ENDED for job in scheduler.poll().jobs), "the end"
    )
    scheduler.close()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Callable[[Site], None]:
    """Waits until the scheduler's thread has looked a few times more, which it does all the time here."""
    looks: list[int] = []
    read = Shares.read

    def count(shares: Shares) -> tuple[Share, ...]:
        looks.append(1)
        return read(shares)

    monkeypatch.setattr(Shares, "read", count)
    monkeypatch.setattr("nodemanager.schedulers.localnodes.LOOK_SECONDS", 0.01)

    def wait(site: Site) -> None:
        looks.clear()
        site.bench.until(lambda: len(looks) > 3, "the thread to look a few times")

    return wait


def pids_of(spawner: JobSpec) -> list[int]:
    return [*map(int, Path(spawner.argv[4]).read_text().split())]


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(b")") + 2 :][:1] not in (b"Z", b"X")


# Coming.


def test_a_machine_is_a_node_once_it_has_joined(site: Site) -> None:
    spec = site.bench.finisher()
    site.bench.submit(spec)
    assert site.reason(spec) == "waits for a node that could hold it: none is here"
    site.add("m1", TWO, host="node-1", joins_at=site.clock.wall() + 5, partitions=("a",))
    site.clock.advance(4)
    assert site.nodes() == {}
    site.bench.waiting(spec)
    site.clock.advance(1)
    assert site.bench.end(spec) == End(EndKind.EXITED, 0)
    assert site.bench.node_of(spec) == "node-1"
    assert site.nodes() == {"node-1": Node("node-1", NodeState.IDLE, TWO, TWO, ("a",))}


def test_a_machine_that_never_joins_never_does(site: Site) -> None:
    site.add("m1", joins_at=None)
    site.clock.advance(1e9)
    assert site.nodes() == {}


@pytest.mark.usefixtures("turns")
def test_a_node_is_noticed_without_anybody_asking(site: Site) -> None:
    spec = site.bench.finisher()
    site.bench.submit(spec)
    news: list[int] = []
    site.scheduler.listen(lambda: news.append(1))
    site.add("m1")
    site.bench.until(lambda: site.bench.starts(spec) == 1 and bool(news), "it to start")


def test_a_clock_that_is_set_back_does_not_make_a_node_leave(site: Site) -> None:
    site.add("m1")
    spec = site.run()
    site.clock.jump(-3600)
    assert site.states() == {"m1": NodeState.BUSY}
    site.bench.restart()
    assert site.states() == {"m1": NodeState.BUSY}
    site.bench.release(spec)
    assert site.bench.end(spec) == End(EndKind.EXITED, 0)


def test_two_machines_of_one_host_name_are_not_mixed_up(site: Site) -> None:
    """The older one has the name."""
    site.add("m1", ONE, host="node")
    site.clock.advance(1)
    site.add("m2", TWO, host="node")
    assert site.nodes()["node"].total == ONE
    site.shares.remove("m1")
    assert site.nodes()["node"].total == TWO


# Sharing.


def test_what_runs_where_survives_a_restart(site: Site) -> None:
    site.add("m1", TWO)
    spec = site.run()
    site.add("m2", TWO)
    site.bench.restart()
    nodes = site.nodes()
    assert nodes["m1"].free == TWO - ONE
    assert nodes["m1"].state is NodeState.BUSY
    assert nodes["m2"].free == TWO
    assert site.bench.node_of(spec) == "m1"
    assert site.end(spec) == End(EndKind.EXITED, 0)
    site.shares.remove("m1")
    site.bench.restart()
    assert site.bench.node_of(spec) == "m1"


def test_what_a_waiting_job_asks_for_survives_a_restart(site: Site) -> None:
    site.add("m1", ONE, partitions=("a",))
    specs = [
        replace(site.bench.finisher(), partitions=("b",)),
        replace(site.bench.finisher(), preemptible=True, partitions=("c",)),
        replace(site.bench.finisher(), exclusive=True, partitions=("d",)),
    ]
    site.bench.submit(*specs)
    site.bench.restart()
    site.add("m2", TWO, partitions=("b",), preemptible=True)
    site.add("m3", TWO, partitions=("c",), preemptible=True)
    assert site.bench.end(specs[1]) == End(EndKind.EXITED, 0)
    assert site.bench.node_of(specs[1]) == "m3"
    site.bench.waiting(specs[0])
    holder = replace(site.bench.holder(), partitions=("d",))
    site.add("m4", TWO, partitions=("d",))
    assert site.bench.end(specs[2]) == End(EndKind.EXITED, 0)
    site.bench.submit(holder)
    site.bench.started(holder)
    alone = replace(site.bench.finisher(), exclusive=True, partitions=("d",))
    site.bench.submit(alone)
    site.bench.restart()
    assert site.reason(alone) == "waits to have m4 to itself"


def test_a_job_is_told_its_node(site: Site) -> None:
    site.add("m1", host="node-1")
    target = site.bench.shared / "record.json"
    spec = site.bench.spec("record", target)
    site.bench.submit(spec)
    site.bench.end(spec)
    assert json.loads(target.read_text())["environment"]["NODEMANAGER_NODE"] == "node-1"


def test_a_job_says_what_it_waits_for(site: Site) -> None:
    site.add("m1", ONE)
    site.add("m2", TWO)
    first, second = site.run(ONE), site.run(TWO)
    waiting = site.bench.finisher(resources=TWO)
    large = site.bench.finisher(resources=Resources(3, 1))
    site.bench.submit(waiting, large)
    words = "waits for cores: wants 2 of 0, RAM: wants 512 MiB of 0 B free on m2"
    assert site.reason(waiting) == words
    words = "waits for a node that could hold it: none of the 2 here could"
    assert site.reason(large) == words
    site.scheduler.drain("m2", "to be let go")
    words = "every node that could hold it is drained: m2: to be let go"
    assert site.reason(waiting) == words
    assert site.reason(large).startswith("waits for a node")
    for spec in (first, second):
        site.bench.release(spec)


def test_only_what_no_node_could_ever_hold_is_refused(site: Site) -> None:
    site.add("m1", ONE)
    too_large = site.bench.finisher(resources=Resources(5, 1))
    answer = site.scheduler.submit([too_large])[0]
    assert answer.refused == "larger than this machine: cores: wants 5 of 4"
    site.bench.submit(site.bench.finisher(resources=Resources(4, 1)))


# Draining.


def test_a_drain_is_for_one_node_and_survives_a_restart(site: Site) -> None:
    site.add("m1", TWO)
    site.add("m2", TWO)
    spec = site.run()
    assert site.bench.node_of(spec) == "m1"
    site.scheduler.drain("m1", "to be let go")
    assert site.states() == {"m1": NodeState.DRAINING, "m2": NodeState.IDLE}
    site.bench.restart()
    other = site.bench.finisher()
    site.bench.submit(other)
    site.bench.end(other)
    assert site.bench.node_of(other) == "m2"
    assert site.nodes()["m1"].reason == "to be let go"
    site.end(spec)
    assert site.states() == {"m1": NodeState.DRAINED, "m2": NodeState.IDLE}
    site.scheduler.resume("m1")
    assert site.states() == {"m1": NodeState.IDLE, "m2": NodeState.IDLE}
    site.bench.restart()
    assert site.states() == {"m1": NodeState.IDLE, "m2": NodeState.IDLE}


def test_a_drain_ends_with_its_machine(site: Site) -> None:
    site.add("m1")
    site.scheduler.drain("m1", "to be let go")
    site.shares.remove("m1")
    with pytest.raises(SchedulerError, match="no node 'm1', only none"):
        site.scheduler.resume("m1")
    assert list((site.state / "spool" / "drains").iterdir()) == []
    site.add("m1")
    assert site.states() == {"m1": NodeState.IDLE}


# Breaking and going.


def lose(site: Site, how: str) -> str:
    """Let m1 be lost; the words for it."""
    if how == "destroyed":
        site.shares.remove("m1")
        return "m1 was destroyed"
    site.clock.advance(60)
    return "m1 broke down"


@pytest.mark.parametrize("how", ["destroyed", "broken"])
@pytest.mark.parametrize("daemon_is_up", [True, False])
def test_a_lost_node_takes_its_jobs_with_it(site: Site, how: str, daemon_is_up: bool) -> None:
    site.add("m1", breaks_at=site.clock.wall() + 60)
    name = site.bench.holder().name
    pids = site.bench.shared / "pids"
    spec = site.bench.named(name, "spawn", site.bench.file(name, "started"), pids)
    site.bench.submit(spec)
    site.bench.started(spec)
    site.add("m2")
    other = site.run()
    assert all(map(is_alive, pids_of(spec)))
    if daemon_is_up:
        words = lose(site, how)
    else:
        site.scheduler.close()
        words = lose(site, how)
        site.bench.restart()
    assert site.bench.end(spec) == End(EndKind.NODE_LOST, detail=words)
    assert [pid for pid in pids_of(spec) if is_alive(pid)] == []
    assert site.bench.starts(spec) == 1
    down = {} if how == "destroyed" else {"m1": NodeState.DOWN}
    assert site.states() == {**down, "m2": NodeState.BUSY}
    site.end(other)


def test_a_broken_node_gets_nothing_and_stays_broken(
    site: Site, turns: Callable[[Site], None]
) -> None:
    site.add("m1", breaks_at=site.clock.wall() + 60)
    assert site.states() == {"m1": NodeState.IDLE}
    heard: list[int] = []
    site.scheduler.listen(lambda: heard.append(1))
    site.clock.advance(60)
    site.scheduler.nodes()
    site.bench.until(lambda: bool(heard), "the news to be told")
    turns(site)
    heard.clear()
    turns(site)
    assert heard == [], "it is told once"
    spec = site.bench.finisher()
    site.bench.submit(spec)
    site.bench.waiting(spec)
    site.clock.jump(-3600)
    assert site.states() == {"m1": NodeState.DOWN}
    assert site.nodes()["m1"].reason == "m1 broke down"
    site.bench.waiting(spec)
    site.shares.remove("m1")
    site.add("m2")
    assert site.bench.end(spec) == End(EndKind.EXITED, 0)


@pytest.mark.usefixtures("turns")
def test_a_lost_node_is_noticed_without_anybody_asking(site: Site) -> None:
    site.add("m1")
    spec = site.run()
    pid = int((site.state / "spool" / "jobs" / spec.name / "lock").read_text())
    site.shares.remove("m1")
    site.bench.until(lambda: not is_alive(pid), "its supervisor to be killed")


def test_a_cancelled_job_on_a_lost_node_is_cancelled(site: Site) -> None:
    site.add("m1")
    name = site.bench.holder().name
    spec = site.bench.named(name, "stubborn", site.bench.file(name, "started"))
    site.bench.submit(spec)
    site.bench.started(spec)
    site.scheduler.cancel([name])
    site.shares.remove("m1")
    assert site.bench.end(spec).kind is EndKind.CANCELLED


def test_a_job_that_had_not_begun_on_a_lost_node_goes_to_another(site: Site) -> None:
    """Its supervisor had not come to its first step."""
    site.scheduler.poll()
    program = site.state / "spool" / "supervise.pyc"
    good = program.read_bytes()
    source = site.bench.shared / "sleep.py"
    begun = site.bench.shared / "begun"
    source.write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(600)\n"
    )
    py_compile.compile(str(source), str(program), doraise=True)
    site.add("m1")
    spec = site.bench.finisher()
    site.bench.submit(spec)

    def found() -> JobState | None:
        job = site.bench.find(spec.name)
        return None if job is None else job.state

    # Only then has it read its program, which may be put back.
    site.bench.until(begun.exists, "it to be started")
    program.write_bytes(good)
    site.shares.remove("m1")
    site.bench.until(lambda: found() is JobState.WAITING, "it to be back in line")
    site.add("m2")
    assert site.bench.end(spec) == End(EndKind.EXITED, 0)
    assert site.bench.node_of(spec) == "m2"


# What cannot be known.


def spoil_file(site: Site) -> Callable[[], object]:
    path = site.shares.directory / "m1.json"
    good = path.read_text()
    path.write_text(good[:-20])
    return lambda: path.write_text(good)


def spoil_directory(site: Site) -> Callable[[], object]:
    elsewhere = site.shares.directory.with_name("elsewhere")
    site.shares.directory.rename(elsewhere)
    return lambda: elsewhere.rename(site.shares.directory)


@pytest.mark.parametrize("spoil", [spoil_file, spoil_directory])
def test_unknown_is_not_gone(
    site: Site,
    spoil: Callable[[Site], Callable[[], object]],
    turns: Callable[[Site], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be read says nothing about any node: no job is killed, none is started."""
    site.add("m1", TWO)
    spec, late = site.run(), site.bench.finisher()
    repair = spoil(site)
    for call in (site.scheduler.poll, site.scheduler.nodes):
        with pytest.raises(
            SchedulerError, match=f"which nodes there are: .*{site.shares.directory}"
        ):
            call()
    site.scheduler.submit([late])
    turns(site)
    assert not (site.state / "spool" / "jobs" / late.name / "node").exists()
    assert caplog.text.count("no job is started") == 1
    repair()
    assert site.bench.end(late) == End(EndKind.EXITED, 0)
    assert site.states() == {"m1": NodeState.BUSY}
    assert site.end(spec) == End(EndKind.EXITED, 0)


def test_check_names_a_directory_that_cannot_be(site: Site) -> None:
    (site.state.parent / "file").touch()
    site.options["machines"] = str(site.state.parent / "file")
    findings = site.bench.restart().check()
    assert [finding.subject for finding in findings if finding.problem] == ["machines"]
    site.options["machines"] = str(site.shares.directory)


# From one node to several, and back.


def test_a_spool_of_one_node_is_taken_up(site: Site) -> None:
    """What runs on the machine as a whole runs to its end, what waits waits for a node."""
    machines = site.options.pop("machines")
    site.bench.restart()
    spec, waiting = site.run(), site.bench.finisher(resources=Resources(4, 1))
    site.bench.submit(waiting)
    whole = site.bench.node_of(spec)
    site.scheduler.drain(whole, "to keep it waiting")
    site.scheduler.close()
    for name in (spec.name, waiting.name):
        # As it was before there could be several nodes.
        path = site.state / "spool" / "jobs" / name / "job"
        header, rest = path.read_bytes().split(b"\n", 1)
        old = json.loads(header)
        for key in ("partitions", "preemptible", "exclusive"):
            del old[key]
        path.write_bytes(json.dumps(old).encode() + b"\n" + rest)
    site.options["machines"] = machines
    site.bench.restart()
    site.add("m1", TWO)
    assert site.states() == {"m1": NodeState.IDLE}
    site.bench.waiting(waiting)
    site.end(spec)
    site.add("m2", Resources(4, 1 << 30))
    assert site.bench.end(waiting) == End(EndKind.EXITED, 0)


def test_a_spool_of_several_nodes_is_taken_up_by_one(site: Site) -> None:
    site.add("m1", TWO)
    spec = site.run()
    machines = site.options.pop("machines")
    site.bench.restart()
    [node] = site.scheduler.nodes()
    assert (node.name, node.total.cores, node.free.cores) == (os.uname().nodename, 4, 3)
    assert site.bench.node_of(spec) == node.name
    site.end(spec)
    site.options["machines"] = machines


def test_without_pidfds_a_lost_node_still_takes_its_jobs_with_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(38, f"Function not implemented for {pid}")

    monkeypatch.setattr("nodemanager.schedulers.supervisors.open_process", refuse)
    site.add("m1")
    spec = site.run()
    site.shares.remove("m1")
    assert site.bench.end(spec) == End(EndKind.NODE_LOST, detail="m1 was destroyed")


def test_a_killed_supervisor_on_a_node_that_is_there_is_no_lost_node(site: Site) -> None:
    site.add("m1")
    spec = site.run()
    pid = int((site.state / "spool" / "jobs" / spec.name / "lock").read_text())
    os.kill(pid, signal.SIGKILL)
    assert site.bench.end(spec).kind is EndKind.SCHEDULER_ERROR
