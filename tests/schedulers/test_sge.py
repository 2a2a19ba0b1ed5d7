"""The Grid Engine module on a real Grid Engine: arrays, and what goes wrong.

What all schedulers have in common is in `test_sge_conformance`.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from nodemanager.clock import Clock, ManualClock, SystemClock
from nodemanager.errors import SchedulerError
from nodemanager.model import JobState, NodeState, Resources, new_uuid
from nodemanager.outcome import End, EndKind
from nodemanager.reason import Reason, ReasonToken
from nodemanager.schedulers.base import Job, JobSpec, SchedulerContext
from nodemanager.schedulers.sge.scheduler import GridEngineScheduler
from tests.clusters.gridengine import (
    GridEngineCell,
    GridEngineMissing,
    GridEngineSettings,
    GridQueue,
)
from tests.clusters.hosts import NamespacesMissing

pytestmark = pytest.mark.processes

QUICK = (("notify", "0:0:1"),)
SMALL = Resources(1, 64 << 20)
PATIENCE = 30.0


class Desk:
    """Whoever tests: an instance of the module, and jobs that tell by files."""

    def __init__(self, cell: GridEngineCell, directory: Path) -> None:
        self.cell = cell
        self.directory = directory
        self.options = {
            "commands": cell.env["PATH"].partition(":")[0],
            "sge_root": cell.env["SGE_ROOT"],
            "sge_cell": cell.env["SGE_CELL"],
            "sge_qmaster_port": cell.env["SGE_QMASTER_PORT"],
            "memory_resource": "",
            "accounting_delay": "2 s",
        }
        self.scheduler = GridEngineScheduler(SchedulerContext("3zzzz", directory, self.options))
        self.connect()

    def connect(
        self, state: str = "state", clock: Clock | None = None, seconds: float = 60, **more: str
    ) -> GridEngineScheduler:
        """A fresh instance; with another `state` it remembers nothing."""
        self.close()
        context = SchedulerContext(
            "3zzzz", self.directory / state, {**self.options, **more}, seconds
        )
        self.scheduler = GridEngineScheduler(context, clock or SystemClock())
        return self.scheduler

    def close(self) -> None:
        self.scheduler.close()

    def spec(self, code: str, **more: object) -> JobSpec:
        """A job that runs Python. `name` is its name, `note(word)` adds a line to its file."""
        name = new_uuid("3zzzz", "container")
        prelude = (
            "import os, sys, time, signal, pathlib\n"
            "name = os.environ['NODEMANAGER_JOB']\n"
            f"home = pathlib.Path({str(self.directory)!r})\n"
            "def note(word):\n"
            "    with (home / name).open('a') as file: file.write(word + '\\n')\n"
            "note('on')\n"
        )
        argv = (sys.executable, "-c", prelude + code)
        return replace(JobSpec(name, argv, SMALL), **more)  # type: ignore[arg-type]

    def holder(self, **more: object) -> JobSpec:
        """A job that runs until `release`."""
        return self.spec("while not (home / f'{name}.go').exists(): time.sleep(0.02)", **more)

    def release(self, spec: JobSpec) -> None:
        (self.directory / f"{spec.name}.go").touch()

    def notes(self, spec: JobSpec) -> list[str]:
        """What the job has noted."""
        path = self.directory / spec.name
        return path.read_text().splitlines() if path.exists() else []

    def submit(self, *specs: JobSpec) -> list[str]:
        """Submit; the ids."""
        answers = self.scheduler.submit(specs)
        assert all(answer.job_id for answer in answers), answers
        return [answer.job_id for answer in answers]

    def find(self, spec: JobSpec) -> Job | None:
        poll = self.scheduler.poll()
        assert poll.complete
        return {job.name: job for job in poll.jobs}.get(spec.name)

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}; {self.scheduler.poll()}"
            time.sleep(0.05)

    def is_in(self, spec: JobSpec, state: JobState) -> bool:
        job = self.find(spec)
        return job is not None and job.state is state

    def running(self, spec: JobSpec) -> None:
        self.until(lambda: self.is_in(spec, JobState.RUNNING) and self.notes(spec), "a job to run")

    def end(self, spec: JobSpec) -> End:
        self.until(lambda: self.is_in(spec, JobState.ENDED), "a job to end")
        job = self.find(spec)
        assert job is not None
        assert job.end is not None
        return job.end

    def fill(self) -> JobSpec:
        """A job that leaves no room on the only host."""
        holder = self.holder(resources=Resources(2, 1))
        self.submit(holder)
        self.running(holder)
        return holder

    def wrap(self, command: str, script: str) -> str:
        """A directory of commands one of which is a script; `$REAL` in it is the real one."""
        directory = self.directory / f"wrapped-{command}"
        directory.mkdir()
        real = Path(self.options["commands"])
        for program in real.iterdir():
            (directory / program.name).symlink_to(program)
        (directory / command).unlink()
        text = f"#!/bin/sh\nREAL={shlex.quote(str(real / command))}\n{script}\n"
        (directory / command).write_text(text)
        (directory / command).chmod(0o755)
        return str(directory)

    def clear(self) -> None:
        """Leave nothing in the queue."""
        ids = [job.split(".")[0] for job in self.cell.job_states()]
        if ids:
            self.cell.run("qdel", "-f", *dict.fromkeys(ids))


def cell_of(settings: GridEngineSettings) -> GridEngineCell:
    try:
        return GridEngineCell(settings).__enter__()
    except (GridEngineMissing, NamespacesMissing) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def shared() -> Iterator[GridEngineCell]:
    """Two slots on this machine."""
    cell = cell_of(GridEngineSettings(queues=(GridQueue("all.q", slots=2, options=QUICK),)))
    yield cell
    cell.__exit__()


@pytest.fixture
def desk(shared: GridEngineCell, tmp_path: Path) -> Iterator[Desk]:
    """At the shared cell, which is left empty and open."""
    desk = Desk(shared, tmp_path)
    yield desk
    desk.close()
    desk.clear()
    desk.cell.run("qmod", "-e", "*")
    desk.cell.wait_until(lambda: not shared.job_states(), 20, "the queue is empty")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Desk]:
    """At a cell of its own, which the test may break."""
    cell = cell_of(GridEngineSettings(queues=(GridQueue("all.q", slots=2, options=QUICK),)))
    desk = Desk(cell, tmp_path)
    yield desk
    desk.close()
    cell.__exit__()


def alike(desk: Desk, count: int, code: str = "") -> list[JobSpec]:
    """Jobs that can be one array."""
    first = desk.spec(code)
    names = [new_uuid("3zzzz", "container") for _ in range(count)]
    return [replace(first, name=name, stdin=name.encode()) for name in names]


class TestArrays:
    def test_jobs_that_are_alike_are_one_array(self, desk: Desk) -> None:
        specs = alike(desk, 5, "note(sys.stdin.read()); sys.exit(int(name[-1], 36) % 5)")
        desk.scheduler.poll()
        before = desk.scheduler.commands_run
        ids = desk.submit(*specs)
        assert desk.scheduler.commands_run - before == 1
        assert {id_.split(".")[0] for id_ in ids} == {ids[0].split(".")[0]}
        assert [id_.split(".")[1] for id_ in ids] == ["1", "2", "3", "4", "5"]
        for spec in specs:
            code = int(spec.name[-1], 36) % 5
            assert desk.end(spec) == End(EndKind.EXITED, code)
            assert desk.notes(spec) == ["on", spec.name]

    def test_a_task_is_cancelled_alone(self, desk: Desk) -> None:
        desk.fill()
        specs = alike(desk, 4)
        desk.submit(*specs)
        desk.scheduler.cancel([specs[1].name, specs[2].name])
        assert desk.end(specs[1]) == desk.end(specs[2]) == End(EndKind.CANCELLED)
        assert desk.is_in(specs[0], JobState.WAITING)
        assert desk.is_in(specs[3], JobState.WAITING)

    def test_whose_the_tasks_are_is_known_to_grid_engine(self, desk: Desk) -> None:
        holder = desk.fill()
        specs = alike(desk, 3, "note('done')")
        ids = desk.submit(*specs)
        desk.connect("a state that remembers nothing")
        found = {job.name: job.job_id for job in desk.scheduler.poll().jobs}
        assert [found[spec.name] for spec in specs] == ids
        assert desk.submit(*specs) == ids
        desk.scheduler.cancel([specs[0].name])
        desk.release(holder)
        for spec in specs[1:]:
            desk.until(lambda spec=spec: "done" in desk.notes(spec), "a task")  # type: ignore[misc]
        assert desk.notes(specs[0]) == []

    def test_ends_of_tasks_are_known_after_a_restart(self, desk: Desk) -> None:
        specs = alike(desk, 3, "sys.exit(3)")
        desk.submit(*specs)
        desk.until(lambda: not desk.cell.job_states(), "all to end")
        desk.connect()
        assert [desk.end(spec) for spec in specs] == [End(EndKind.EXITED, 3)] * 3
        desk.scheduler.forget([spec.name for spec in specs])
        assert desk.scheduler.poll().jobs == ()
        assert not list((desk.directory / "state/notes").glob("*.array"))
        assert not list((desk.directory / "state/jobs").iterdir())

    def test_arrays_can_be_switched_off(self, desk: Desk) -> None:
        desk.connect(arrays="no")
        ids = desk.submit(*alike(desk, 3))
        assert len({id_.split(".")[0] for id_ in ids}) == 3

    def test_the_most_urgent_task_lifts_its_array(self, desk: Desk) -> None:
        desk.fill()
        specs = alike(desk, 3)
        number = desk.submit(*specs)[0].split(".")[0]
        desk.scheduler.prioritise({specs[0].name: 10, specs[1].name: 700, specs[2].name: 20})
        assert f">{700 - 1023}<" in desk.cell.run("qstat", "-xml", "-pri", "-u", "*")
        assert number in desk.cell.run("qstat", "-xml")


class TestOthers:
    def test_ten_thousand_jobs_of_others_are_passed_over(self, desk: Desk) -> None:
        script = "sleep 3000\n"
        common = ("qsub", "-terse", "-h", "-o", "/dev/null", "-j", "y")
        desk.cell.run(*common, "-N", "other", "-t", "1-10000", stdin=script)
        for number in range(20):
            desk.cell.run(*common, "-N", f"A3zzz{number}", stdin=script)
        ours = desk.holder()
        desk.submit(ours)
        desk.running(ours)
        before, began = desk.scheduler.commands_run, time.monotonic()
        assert [job.name for job in desk.scheduler.poll().jobs] == [ours.name]
        assert time.monotonic() - began < 2
        assert desk.scheduler.commands_run - before == 1

    def test_an_array_that_only_looks_like_ours_is_not(self, desk: Desk) -> None:
        name = f"A{new_uuid('3zzzz', 'container')}"
        desk.cell.run("qsub", "-terse", "-h", "-t", "1-3", "-N", name, stdin="sleep 3000\n")
        assert desk.scheduler.poll().jobs == ()
        before = desk.scheduler.commands_run
        assert desk.scheduler.poll().complete
        assert desk.scheduler.commands_run - before == 1, "it is not asked about again"

    def test_a_copy_of_our_job_is_not_ours(self, desk: Desk) -> None:
        ours = desk.holder()
        number = desk.submit(ours)[0]
        desk.running(ours)
        desk.cell.run("qresub", "-h", "u", number)
        job = desk.find(ours)
        assert job is not None
        assert (job.job_id, job.state) == (number, JobState.RUNNING)


class TestEnds:
    def test_a_waiting_job_that_an_operator_deletes(self, desk: Desk) -> None:
        desk.fill()
        spec = desk.spec("")
        number = desk.submit(spec)[0]
        assert desk.is_in(spec, JobState.WAITING)
        desk.cell.run("qdel", number)
        assert desk.end(spec).kind is EndKind.OPERATOR_DELETED

    def test_a_running_job_that_an_operator_deletes(self, desk: Desk) -> None:
        spec = desk.spec(
            "signal.signal(15, lambda *_: (note('term'), sys.exit(0)))\nnote('set')\nsignal.pause()"
        )
        number = desk.submit(spec)[0]
        desk.until(lambda: "set" in desk.notes(spec), "the job to be ready")
        desk.cell.run("qdel", number)
        assert desk.end(spec).kind is EndKind.OPERATOR_DELETED
        assert desk.notes(spec) == ["on", "set", "term"]

    def test_a_job_that_the_kernel_kills_was_not_deleted(self, desk: Desk) -> None:
        spec = desk.spec("os.kill(os.getpid(), 9)")
        desk.submit(spec)
        assert desk.end(spec) == End(EndKind.EXITED, 137)

    @pytest.mark.parametrize("code", [99, 100])
    def test_exit_statuses_that_are_orders_are_not_obeyed(self, desk: Desk, code: int) -> None:
        spec = desk.spec(f"sys.exit({code})")
        desk.submit(spec)
        assert desk.end(spec) == End(EndKind.EXITED, 1)
        assert desk.notes(spec) == ["on"]

    def test_a_job_is_told_where_it_is(self, desk: Desk) -> None:
        spec = desk.spec("note(os.environ['NODEMANAGER_NODE'])")
        desk.submit(spec)
        desk.end(spec)
        assert desk.notes(spec) == ["on", desk.scheduler.nodes()[0].name]

    def test_a_job_that_cannot_be_started(self, desk: Desk) -> None:
        desk.connect(log_dir="/nonexistent/logs")
        spec = desk.spec("")
        desk.submit(spec)
        end = desk.end(spec)
        assert end.kind is EndKind.SCHEDULER_ERROR
        assert "/nonexistent/logs" in end.detail
        desk.connect(log_dir="/nonexistent/logs")
        assert desk.end(spec) == end, "over a restart"
        desk.scheduler.forget([spec.name])
        desk.until(lambda: not desk.cell.job_states(), "it to be deleted")
        assert desk.scheduler.poll().jobs == ()

    def test_the_limit_of_virtual_memory_is_told(
        self, gridengine: GridEngineCell, tmp_path: Path
    ) -> None:
        desk = Desk(gridengine, tmp_path)
        desk.connect(memory_resource="h_vmem")
        spec = desk.spec("bytearray(1 << 30)", resources=Resources(1, 256 << 20))
        desk.submit(spec)
        assert desk.end(spec) == End(EndKind.EXITED, 1), "there was no memory to be had"
        desk.close()


class TestWhyItWaits:
    def test_a_full_queue_and_a_hold_are_told_apart(self, desk: Desk) -> None:
        runs, waits = desk.fill(), desk.spec("")
        desk.submit(waits)

        def why() -> Reason | None:
            # Otherwise Grid Engine is asked once a minute.
            desk.connect()
            job = desk.find(waits)
            return None if job is None else job.waits_for

        def token() -> ReasonToken | None:
            reason = why()
            return None if reason is None else reason.token

        desk.until(lambda: token() is ReasonToken.WAITING_FOR_RESOURCES, "it to say why")
        job = desk.find(waits)
        assert job is not None
        number = job.job_id.split(".")[0]
        assert "full" in job.reason
        desk.cell.run("qhold", number)
        desk.until(lambda: token() is ReasonToken.SCHEDULER_HOLD, "the hold to be seen")
        desk.cell.run("qrls", number)
        desk.release(runs)
        assert desk.end(waits) == End(EndKind.EXITED, 0)


class TestFaults:
    @pytest.mark.timeout(300)
    def test_a_master_that_is_gone_for_a_while(self, own: Desk) -> None:
        # A job that is on its way to its host just then may be said to run for ever after: let none be.
        runs, waits = own.fill(), own.spec("note('done')")
        own.submit(waits)
        own.cell.kill_master()
        with pytest.raises(SchedulerError, match="qmaster"):
            own.scheduler.poll()
        late = own.spec("")
        with pytest.raises(SchedulerError):
            own.scheduler.submit([late])
        with pytest.raises(SchedulerError):
            own.scheduler.cancel([runs.name])
        with pytest.raises(SchedulerError):
            own.scheduler.nodes()
        own.cell.start_master()
        assert own.is_in(runs, JobState.RUNNING)
        assert own.scheduler.submit([late])[0].job_id or own.scheduler.submit([late])[0].busy
        own.release(runs)
        # After a crash of the master it takes an execd half a minute to report to the new one.
        for job in (runs, waits):
            own.until(partial(own.is_in, job, JobState.ENDED), "it to end", 100)
        assert own.end(runs) == own.end(waits) == End(EndKind.EXITED, 0)
        assert own.notes(waits) == ["on", "done"]
        own.until(lambda: own.scheduler.submit([late])[0].job_id, "the doubt to end")
        assert own.end(late) == End(EndKind.EXITED, 0)
        assert own.notes(late) == ["on"]

    def test_a_submission_that_times_out_and_was_accepted(self, desk: Desk) -> None:
        specs = [*alike(desk, 3), desk.spec("")]
        slow = desk.wrap("qsub", '"$REAL" "$@"; sleep 30')
        desk.connect(commands=slow, seconds=1.0)
        with pytest.raises(SchedulerError, match="did not end within 1 s"):
            desk.scheduler.submit(specs)
        desk.connect()
        assert {job.name for job in desk.scheduler.poll().jobs} == {s.name for s in specs}
        desk.submit(*specs)
        for spec in specs:
            assert desk.end(spec) == End(EndKind.EXITED, 0)
            assert desk.notes(spec) == ["on"]

    def test_a_submission_that_times_out_and_was_not_accepted(self, desk: Desk) -> None:
        desk.connect(commands=desk.wrap("qsub", "sleep 30"), seconds=1.0)
        spec = desk.spec("")
        with pytest.raises(SchedulerError):
            desk.scheduler.submit([spec])
        desk.connect()
        job = desk.find(spec)
        assert job is not None
        assert job.state is JobState.UNKNOWN
        desk.until(lambda: desk.find(spec) is None, "the doubt to end")
        assert desk.scheduler.look_up([spec.name]) == {}
        desk.submit(spec)
        assert desk.end(spec) == End(EndKind.EXITED, 0)

    @pytest.mark.parametrize(
        "answer",
        [
            "sleep 30",
            "echo 'error: commlib error: got read error'",
            "echo '<?xml version=\"1.0\"?><job_info><queue_info>'",
            "echo '<html/>'",
            '"$REAL" "$@" | head -c 300',
            "exit 1",
            "head -c 100000 /dev/urandom",
        ],
    )
    def test_a_listing_that_cannot_be_read_proves_nothing(self, desk: Desk, answer: str) -> None:
        spec = desk.holder()
        desk.submit(spec)
        desk.running(spec)
        desk.connect(
            commands=desk.wrap("qstat", f'case $1 in -help) exec "$REAL" -help; esac\n{answer}'),
            seconds=1.0,
        )
        with pytest.raises(SchedulerError):
            desk.scheduler.poll()
        with pytest.raises(SchedulerError):
            desk.scheduler.look_up([spec.name])
        desk.connect()
        assert desk.is_in(spec, JobState.RUNNING)

    def test_a_qsub_that_succeeds_without_a_number_is_in_doubt(self, desk: Desk) -> None:
        desk.connect(commands=desk.wrap("qsub", "echo 'Unable to run job: hm'"))
        spec = desk.spec("")
        with pytest.raises(SchedulerError):
            desk.scheduler.submit([spec])

    def test_an_array_that_cannot_be_asked_about_makes_the_poll_incomplete(
        self, desk: Desk
    ) -> None:
        desk.fill()
        specs = alike(desk, 2)
        desk.submit(*specs)
        script = 'case "$*" in *-j*) exit 1;; esac\nexec "$REAL" "$@"'
        desk.connect("another state", commands=desk.wrap("qstat", script))
        assert not desk.scheduler.poll().complete
        with pytest.raises(SchedulerError):
            desk.scheduler.submit(specs)

    def test_a_machine_that_dies_with_its_jobs(self, own: Desk) -> None:
        own.connect(lost_after="2 s")
        spec = own.holder()
        own.submit(spec)
        own.running(spec)
        own.cell.kill_execd()

        def ended() -> bool:
            own.scheduler.nodes()
            return own.is_in(spec, JobState.ENDED)

        own.until(ended, "the job to be lost")
        end = own.end(spec)
        assert end.kind is EndKind.NODE_LOST
        assert own.cell.host in end.detail
        assert own.scheduler.nodes()[0].state is NodeState.DOWN
        own.connect()
        assert own.end(spec) == end
        own.scheduler.forget([spec.name])
        own.until(lambda: not own.cell.job_states(), "it to be deleted")

    def test_a_machine_that_comes_back_without_its_jobs(self, own: Desk) -> None:
        spec = own.holder()
        own.submit(spec)
        own.running(spec)
        own.cell.kill_execd()
        own.cell.start_execd()
        assert own.end(spec).kind is EndKind.NODE_LOST

    def test_a_job_that_cannot_be_deleted_is_deleted_by_force(self, own: Desk) -> None:
        clock = ManualClock(time.time())
        own.connect(clock=clock)
        spec = own.holder()
        own.submit(spec)
        own.running(spec)
        own.cell.kill_execd()
        own.scheduler.cancel([spec.name])
        clock.advance(301)
        own.scheduler.cancel([spec.name])
        assert own.is_in(spec, JobState.RUNNING), "not while its host may be alive"
        own.until(lambda: own.scheduler.nodes()[0].state is NodeState.DOWN, "silence")
        own.scheduler.cancel([spec.name])
        assert own.end(spec) == End(EndKind.CANCELLED)

    def test_who_may_not_use_force_does_not(self, own: Desk) -> None:
        clock = ManualClock(time.time())
        nobody = 'case $1 in -sm|-so) echo somebody; exit;; esac\nexec "$REAL" "$@"'
        own.connect(clock=clock, commands=own.wrap("qconf", nobody))
        spec = own.holder()
        own.submit(spec)
        own.running(spec)
        own.cell.kill_execd()
        own.scheduler.cancel([spec.name])
        clock.advance(301)
        own.until(lambda: own.scheduler.nodes()[0].state is NodeState.DOWN, "silence")
        own.scheduler.cancel([spec.name])
        assert own.is_in(spec, JobState.RUNNING)


class TestLimits:
    def test_a_limit_of_the_site_is_no_refusal(self, own: Desk) -> None:
        text = own.cell.run("qconf", "-sconf").replace(
            "max_u_jobs                   0", "max_u_jobs 1"
        )
        file = own.directory / "global"
        file.write_text(text + "\n")
        own.cell.run("qconf", "-Mconf", str(file))
        first, second = own.holder(), own.spec("")
        own.submit(first)
        answer = own.scheduler.submit([second])[0]
        assert "only 1 jobs are allowed per user" in answer.busy
        own.release(first)
        own.end(first)
        own.submit(second)
        assert own.end(second) == End(EndKind.EXITED, 0)

    def test_a_site_may_have_what_does_not_fit_sent_back(self, desk: Desk) -> None:
        desk.connect(qsub_arguments="-w e")
        large = desk.spec("", resources=Resources(50, 1))
        answers = desk.scheduler.submit([large, desk.spec("")])
        assert "no suitable queues" in answers[0].unplaced
        assert answers[1].job_id

    def test_what_grid_engine_refuses_is_refused(self, desk: Desk) -> None:
        answer = desk.scheduler.submit([desk.spec("", partitions=("nosuch.q",))])[0]
        assert "nosuch.q" in answer.refused
        assert desk.scheduler.poll().jobs == ()

    def test_commands_do_not_grow_with_jobs(self, desk: Desk) -> None:
        desk.fill()
        counts = []
        for size in (10, 500):
            desk.submit(*alike(desk, size))
            desk.scheduler.poll()
            desk.scheduler.nodes()
            before = desk.scheduler.commands_run
            assert len(desk.scheduler.poll().jobs) >= size
            desk.scheduler.nodes()
            counts.append(desk.scheduler.commands_run - before)
        assert counts == [2, 2]


class TestCheck:
    def problems(self, desk: Desk, **options: str) -> str:
        desk.options |= options
        desk.connect()
        return "; ".join(finding.problem for finding in desk.scheduler.check() if finding.problem)

    def test_a_good_cell(self, desk: Desk) -> None:
        details = {finding.subject: finding.detail for finding in desk.scheduler.check()}
        assert details["dialect"] == "Son of Grid Engine"
        assert "SGE 8.1.9" in details["Grid Engine"]
        assert details["accounting"].endswith("/cell/common/accounting")
        assert desk.scheduler.poll().jobs == ()

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"pe": "nosuch"}, "jobs of several cores need it"),
            ({"pe": "wide"}, "all slots of a job on one host"),
            ({"memory_resource": "nosuch"}, "nosuch is not defined"),
            ({"memory_resource": "h_vmem", "memory_per": "job"}, "h_vmem is not counted per job"),
            ({"gpu_resource": "slots"}, "slots has to be consumable per JOB"),
            ({"accounting_file": "/nonexistent/accounting"}, "share the cell's common directory"),
            ({"sge_qmaster_port": "9"}, "it does not answer"),
            ({"commands": "/nonexistent"}, "it does not answer"),
            ({"nodes": "dynamic", "users": "nobody"}, "nobody is no manager"),
        ],
    )
    def test_what_is_wrong_is_said(self, desk: Desk, options: dict[str, str], problem: str) -> None:
        file = desk.directory / "pe"
        text = desk.cell.run("qconf", "-sp", "smp").replace("$pe_slots", "$round_robin")
        file.write_text(text.replace("smp", "wide", 1) + "\n")
        if options.get("pe") == "wide":
            desk.cell.run("qconf", "-Ap", str(file))
        assert problem in self.problems(desk, **options)


class TestNodes:
    def test_a_drain_of_others_is_left_alone(self, desk: Desk) -> None:
        node = desk.scheduler.nodes()[0]
        desk.cell.run("qmod", "-d", f"*@{node.name}")
        desk.scheduler.drain(node.name, "ours")
        assert "all.q: d" in desk.scheduler.nodes()[0].reason
        desk.scheduler.resume(node.name)
        assert desk.scheduler.nodes()[0].state is NodeState.DRAINED

    def test_a_drain_that_is_refused_is_none(self, desk: Desk) -> None:
        node = desk.scheduler.nodes()[0]
        desk.connect(commands=desk.wrap("qmod", "echo 'you have no permission'; exit 1"))
        with pytest.raises(SchedulerError, match="it needs an operator"):
            desk.scheduler.drain(node.name, "ours")
        desk.cell.run("qmod", "-d", f"*@{node.name}")
        desk.connect()
        desk.scheduler.resume(node.name)
        assert desk.scheduler.nodes()[0].state is NodeState.DRAINED

    def test_a_host_that_is_not_there_cannot_be_drained(self, desk: Desk) -> None:
        with pytest.raises(SchedulerError, match="no exec host 'nosuch'"):
            desk.scheduler.drain("nosuch", "x")
        desk.scheduler.resume("nosuch")
