"""What the local scheduler promises beyond the suite: its limits, its machine, its processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodemanager.errors import ConfigError, SchedulerError
from nodemanager.model import JobState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.schedulers import supervisors
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.conformance import Bench
from nodemanager.schedulers.local import LocalScheduler

pytestmark = pytest.mark.processes

OPTIONS = {"cores": "2", "ram": "1 GiB", "scratch": "1 GiB", "kill_grace": "500 ms"}


@pytest.fixture
def connect(tmp_path: Path) -> Callable[[str], LocalScheduler]:
    options = {**OPTIONS, "ram_allowance": "16 MiB"}
    return lambda cluster_id: LocalScheduler(
        SchedulerContext(cluster_id, tmp_path / "state", options)
    )


@pytest.fixture
def bench(connect: Callable[[str], LocalScheduler], tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "shared").mkdir()
    bench = Bench(
        connect, tmp_path / "shared", sys.executable, 30.0, settle=lambda: time.sleep(0.01)
    )
    yield bench
    bench.restart()
    names = [job.name for job in bench.scheduler.poll().jobs]
    bench.scheduler.cancel(names)
    bench.until(
        lambda: all(job.state is JobState.ENDED for job in bench.scheduler.poll().jobs), "the end"
    )
    bench.scheduler.close()


def open_scheduler(state: Path, **options: str) -> LocalScheduler:
    return LocalScheduler(SchedulerContext("zzzzz", state, {**OPTIONS, **options}))


def job_directory(bench: Bench, spec: JobSpec) -> Path:
    return bench.scheduler.context.state_dir / "spool" / "jobs" / spec.name


def supervisor(bench: Bench, spec: JobSpec) -> int:
    return int((job_directory(bench, spec) / "lock").read_text())


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(b")") + 2 :][:1] not in (b"Z", b"X")


def zombies() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = entry.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
        if state == b"Z" and int(parent) == os.getpid():
            found.append(int(entry.parent.name))
    return found


@pytest.fixture
def of_others() -> frozenset[int]:
    """Zombies that other tests' servers left."""
    return frozenset(zombies())


def assert_no_zombies(bench: Bench, of_others: frozenset[int]) -> None:
    def none_is_left() -> bool:
        # Whatever wakes the scheduler lets it reap what an earlier one in this process had started.
        bench.scheduler.cancel([])
        return of_others.issuperset(zombies())

    bench.until(none_is_left, "zombies to be reaped")


def script(spec: JobSpec, code: str, *arguments: object) -> JobSpec:
    """The same job with another program."""
    return replace(spec, argv=(sys.executable, "-c", code, *map(str, arguments)))


# What a job is given, and what is left of it.


def test_the_environment_is_small_and_files_are_private(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEMON_SECRET", "x")
    monkeypatch.setenv("PYTHONPATH", "/x")
    target = bench.shared / "record.json"
    spec = bench.spec("record", target)
    bench.submit(spec)
    bench.end(spec)
    environment = json.loads(target.read_text())["environment"]
    assert environment["NODEMANAGER_JOB"] == spec.name
    assert environment["PATH"] == os.environ["PATH"]
    allowed = {"PATH", "LANG", "HOME", "USER", "LOGNAME", "TMPDIR", "NODEMANAGER_JOB", "LC_CTYPE"}
    assert set(environment) <= allowed
    assert target.stat().st_mode & 0o077 == 0
    for path in (bench.scheduler.context.state_dir / "spool").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_output_goes_to_the_job_directory_and_stdin_is_removed(bench: Bench) -> None:
    code = "import os, sys; print(os.getcwd()); print(sys.stdin.read(), file=sys.stderr)"
    spec = replace(script(bench.finisher(), code), stdin=b"token")
    bench.submit(spec)
    assert bench.end(spec) == End(EndKind.EXITED, 0)
    directory = job_directory(bench, spec)
    assert (directory / "job.out").read_text().split() in (
        [str(directory), "token"],
        ["token", str(directory)],
    )
    assert not (directory / "stdin").exists()


@pytest.fixture
def ignored() -> Iterator[None]:
    """As for a daemon that a shell has started in the background."""
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGQUIT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("ignored")
def test_signals_mean_to_the_job_what_they_always_mean(bench: Bench) -> None:
    spec = replace(bench.finisher(), argv=("grep", "-E", "SigBlk|SigIgn", "/proc/self/status"))
    bench.submit(spec)
    bench.end(spec)
    words = (job_directory(bench, spec) / "job.out").read_text().split()
    assert words[0::2] == ["SigBlk:", "SigIgn:"]
    # Above 31 are signals that the C library keeps for itself.
    assert [int(word, 16) & 0x7FFFFFFF for word in words[1::2]] == [0, 0]


def test_nobody_is_left_when_a_job_has_ended(bench: Bench) -> None:
    """Processes it left behind, in whatever session, end before its end is told."""
    code = (
        "import subprocess, sys\n"
        "ps = [subprocess.Popen(['sleep', '600'], start_new_session=n) for n in (True, False)]\n"
        "open(sys.argv[1], 'w').write(' '.join(str(p.pid) for p in ps))"
    )
    pids = bench.shared / "pids"
    spec = script(bench.finisher(), code, pids)
    bench.submit(spec)
    assert bench.end(spec) == End(EndKind.EXITED, 0)
    assert [pid for pid in map(int, pids.read_text().split()) if is_alive(pid)] == []


def test_there_are_no_zombies(bench: Bench, of_others: frozenset[int]) -> None:
    specs = [bench.finisher() for _ in range(6)]
    bench.submit(*specs)
    bench.restart()
    for spec in specs:
        bench.end(spec)
    assert_no_zombies(bench, of_others)


# Limits.


def test_shared_memory_counts_once(bench: Bench) -> None:
    """A program that loads its data and forks is not killed for the sum of what it shares."""
    code = (
        "import os, sys, time\n"
        "data = bytearray(os.urandom(1 << 20) * 40)\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0: break\n"
        "else:\n"
        "    open(sys.argv[1], 'w').close()\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.02)\n"
    )
    name = bench.holder().name
    started, release = bench.file(name, "started"), bench.file(name, "release")
    spec = script(bench.named(name, "hold"), code, started, release)
    spec = replace(spec, resources=Resources(1, 128 << 20))
    bench.submit(spec)
    bench.until(started.exists, "the forks")
    ticks = 3

    def supervisor_ticks() -> bool:
        """It has looked at the memory a few more times: each look is a voluntary context switch."""
        status = Path(f"/proc/{supervisor(bench, spec)}/status").read_text()
        return int(status.split("voluntary_ctxt_switches:")[1].split()[0]) >= switches + ticks

    switches = 0
    status = Path(f"/proc/{supervisor(bench, spec)}/status").read_text()
    switches = int(status.split("voluntary_ctxt_switches:")[1].split()[0])
    bench.until(supervisor_ticks, "the supervisor to look")
    release.touch()
    assert bench.end(spec) == End(EndKind.EXITED, 0)


def test_memory_of_grandchildren_counts(bench: Bench) -> None:
    code = (
        "import subprocess, sys\n"
        "eat = 'import time; x = bytearray(b\"x\") * (200 << 20); time.sleep(600)'\n"
        "subprocess.run([sys.executable, '-c', eat], start_new_session=True)\n"
        "import time; time.sleep(600)"
    )
    spec = replace(script(bench.finisher(), code), resources=Resources(1, 64 << 20))
    bench.submit(spec)
    end = bench.end(spec)
    assert (end.kind, end.asked, end.limit) == (EndKind.OUT_OF_MEMORY, 64 << 20, 80 << 20)
    assert "processes used" in end.detail


def test_the_first_in_line_gets_its_turn(tmp_path: Path) -> None:
    """With no patience for those behind, a large job is not passed by small ones."""
    (tmp_path / "shared").mkdir()
    bench = Bench(
        lambda _cluster: open_scheduler(tmp_path / "state", pass_for="0 s"),
        tmp_path / "shared",
        sys.executable,
        30.0,
        settle=lambda: time.sleep(0.01),
    )
    holder = bench.holder()
    bench.submit(holder)
    bench.started(holder)
    large, small = bench.finisher(resources=Resources(2, 1 << 20)), bench.finisher()
    bench.submit(large, small)
    assert "cores: wants 2 of 1" in bench.waiting(large).reason
    assert "behind a more urgent job" in bench.waiting(small).reason
    bench.release(holder)
    bench.end(large)
    bench.end(small)
    first, second = (bench.file(s.name, "started").stat().st_mtime_ns for s in (large, small))
    assert first < second
    bench.scheduler.close()


# When supervisors die.


@pytest.mark.parametrize("daemon_is_up", [True, False])
def test_a_job_never_outlives_its_supervisor(bench: Bench, daemon_is_up: bool) -> None:
    name = bench.holder().name
    pids = bench.shared / "pids"
    spec = bench.named(name, "spawn", bench.file(name, "started"), pids)
    bench.submit(spec)
    bench.started(spec)
    family = [*map(int, pids.read_text().split()), int(bench.file(name, "started").read_text())]
    assert all(map(is_alive, family))
    pid = supervisor(bench, spec)
    if not daemon_is_up:
        bench.scheduler.close()
    os.kill(pid, signal.SIGKILL)
    if not daemon_is_up:
        bench.restart()
    end = bench.end(spec)
    assert end == End(EndKind.SCHEDULER_ERROR, detail="its supervisor was killed")
    assert [pid for pid in family if is_alive(pid)] == []
    assert bench.starts(spec) == 1


def test_a_killed_supervisor_of_a_cancelled_job_is_a_cancellation(bench: Bench) -> None:
    name = bench.holder().name
    spec = bench.named(name, "stubborn", bench.file(name, "started"))
    bench.submit(spec)
    bench.started(spec)
    pid = supervisor(bench, spec)
    bench.scheduler.cancel([name])
    os.kill(pid, signal.SIGKILL)
    assert bench.end(spec).kind is EndKind.CANCELLED


def test_a_supervisor_that_is_told_to_stop_is_a_lost_node(bench: Bench) -> None:
    """As when the machine shuts down: not the job's fault."""
    spec = bench.holder()
    bench.submit(spec)
    bench.started(spec)
    os.kill(supervisor(bench, spec), signal.SIGTERM)
    end = bench.end(spec)
    assert end.kind is EndKind.NODE_LOST
    assert "signal 15" in end.detail


def test_a_reboot_loses_what_ran_and_keeps_what_waited(bench: Bench) -> None:
    """A reboot is a spool whose locks are free and whose records are of another boot."""
    holders = bench.fill()
    waiting = bench.finisher()
    bench.submit(waiting)
    bench.waiting(waiting)
    bench.scheduler.close()
    for holder in holders:
        os.kill(supervisor(bench, holder), signal.SIGKILL)
        record = job_directory(bench, holder) / "start"
        lines = record.read_text().splitlines()
        record.write_text("\n".join(["another-boot", *lines[1:]]) + "\n")
    bench.restart()
    for holder in holders:
        end = bench.end(holder)
        assert end == End(EndKind.NODE_LOST, detail="the machine was restarted while it ran")
    assert bench.end(waiting) == End(EndKind.EXITED, 0)


def test_strangers_are_not_killed_for_a_number(bench: Bench) -> None:
    """A process that has the leader's old number, or is in a session of that number, is left alone."""
    spec = bench.holder()
    bench.submit(spec)
    bench.started(spec)
    bench.scheduler.close()
    pid = supervisor(bench, spec)
    os.kill(pid, signal.SIGKILL)
    stranger = os.posix_spawn("/bin/sleep", ["sleep", "600"], {}, setsid=True)
    try:
        record = job_directory(bench, spec) / "start"
        lines = record.read_text().splitlines()
        record.write_text("\n".join([lines[0], lines[1], str(stranger), "1", lines[4]]) + "\n")
        bench.restart()
        assert bench.end(spec).kind is EndKind.SCHEDULER_ERROR
        assert is_alive(stranger)
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


def test_a_job_whose_directory_was_removed_has_vanished(bench: Bench) -> None:
    spec = bench.holder()
    bench.submit(spec)
    bench.started(spec)
    pid = supervisor(bench, spec)
    directory = job_directory(bench, spec)
    directory.rename(directory.with_name("elsewhere"))
    os.kill(pid, signal.SIGKILL)
    assert bench.end(spec).kind is EndKind.VANISHED


def test_a_supervisor_that_cannot_start_is_tried_again_then_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, of_others: frozenset[int]
) -> None:
    monkeypatch.setattr("nodemanager.schedulers.localjobs.RETRY_SECONDS", 0.01)
    bench.scheduler.poll()
    program = bench.scheduler.context.state_dir / "spool" / "supervise.pyc"
    program.write_bytes(b"broken")
    spec = bench.finisher()
    bench.submit(spec)
    end = bench.end(spec)
    assert end.kind is EndKind.SCHEDULER_ERROR
    assert "cannot be started" in end.detail
    assert bench.starts(spec) == 0
    assert_no_zombies(bench, of_others)


# Without the newest kernel.


def test_it_works_without_pidfds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, of_others: frozenset[int]
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, f"Function not implemented for {pid}")

    monkeypatch.setattr(supervisors, "open_process", refuse)
    bench.restart()
    ended, cancelled = bench.finisher(3), bench.holder()
    bench.submit(ended, cancelled)
    assert bench.end(ended) == End(EndKind.EXITED, 3)
    bench.started(cancelled)
    bench.restart()
    bench.scheduler.cancel([cancelled.name])
    assert bench.end(cancelled).kind is EndKind.CANCELLED
    assert_no_zombies(bench, of_others)


# The spool.


def test_only_one_daemon_has_the_spool(bench: Bench) -> None:
    bench.scheduler.poll()
    other = open_scheduler(bench.scheduler.context.state_dir)
    with pytest.raises(SchedulerError, match="in use by another daemon"):
        other.poll()
    assert [finding.problem for finding in other.check()] == ["", "", ""]
    bench.scheduler.close()
    assert other.poll().jobs == ()
    other.close()
    with pytest.raises(SchedulerError, match="was closed"):
        other.poll()


def test_a_changed_priority_survives_a_restart(bench: Bench) -> None:
    holders = bench.fill()
    whole = bench.whole_node()
    specs = [replace(bench.finisher(resources=whole), priority=p) for p in (3, 2, 1)]
    bench.submit(*specs)
    bench.scheduler.prioritise({specs[2].name: 9})
    bench.restart()
    for holder in holders:
        bench.release(holder)
    for spec in specs:
        bench.end(spec)
    moments = [bench.file(spec.name, "started").stat().st_mtime_ns for spec in specs]
    assert moments[2] < moments[0] < moments[1]


def test_a_job_that_no_longer_fits_is_given_back(tmp_path: Path) -> None:
    state = tmp_path / "state"
    scheduler = open_scheduler(state)
    node = scheduler.nodes()[0].name
    scheduler.drain(node, "to keep it waiting")
    spec = JobSpec("zzzzz-dz642-000000000000001", ("true",), Resources(2, 1 << 20))
    assert scheduler.submit([spec])[0].job_id
    assert "drained: to keep it waiting" in scheduler.poll().jobs[0].reason
    scheduler.close()
    scheduler = open_scheduler(state, cores="1")
    end = scheduler.poll().jobs[0].end
    assert end is not None
    assert end.kind is EndKind.GIVEN_BACK
    assert "cores: wants 2 of 1" in end.detail
    scheduler.close()


def test_job_ids_grow_over_restarts(bench: Bench) -> None:
    numbers = []
    for _ in range(3):
        spec = bench.finisher()
        numbers.append(int(bench.submit(spec)[0].job_id))
        bench.end(spec)
        bench.scheduler.forget([spec.name])
        bench.restart()
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    "change",
    [
        {"argv": ()},
        {"argv": ("a\0b",)},
        {"name": "zzzzz-../../etc"},
        {"name": "zzzzz-" + "x" * 300},
        {"resources": Resources(1, 1 << 20, gpus=1)},
        {"resources": Resources(1, 1 << 20, scratch_bytes=1 << 40)},
    ],
)
def test_what_can_never_run_is_refused(bench: Bench, change: dict[str, object]) -> None:
    spec = replace(bench.finisher(), **change)  # type: ignore[arg-type]
    answer = bench.scheduler.submit([spec])[0]
    assert answer.refused
    assert bench.scheduler.poll().jobs == ()


_opened: list[str] = []
_counting = threading.Event()


def _count_opens(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _counting.is_set():
        _opened.append(str(arguments[0]))


def test_a_thousand_waiting_jobs_cost_no_reading(tmp_path: Path) -> None:
    """Files are the log, memory is the state: polls and moves read nothing."""
    sys.addaudithook(_count_opens)
    scheduler = open_scheduler(tmp_path / "state")
    scheduler.drain(scheduler.nodes()[0].name, "to keep them waiting")
    specs = [
        JobSpec(f"zzzzz-dz642-{n:015d}", ("true",), Resources(1, 1 << 20)) for n in range(1000)
    ]
    assert all(answer.job_id for answer in scheduler.submit(specs))
    _counting.set()
    for _ in range(3):
        assert len(scheduler.poll().jobs) == 1000
    scheduler.prioritise({specs[500].name: 5})
    scheduler.cancel([specs[1].name])
    _counting.clear()
    spool = [path for path in _opened if "/spool/jobs/" in path]
    scheduler.close()
    touched = (specs[500].name, specs[1].name)
    assert [path for path in spool if not any(name in path for name in touched)] == []
    assert len(spool) < 8


# The options.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"core": "2"}, "core: the local scheduler has no such option; did you mean cores?"),
        ({"cores": "0"}, r"\[Scheduler\] cores: .*at least 1.*found '0'"),
        ({"ram": "much"}, r"\[Scheduler\] ram: .*512 MiB.*found 'much'"),
        ({"kill_grace": "-1"}, r"\[Scheduler\] kill_grace:"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_scheduler(tmp_path, **options)


def test_without_options_it_takes_the_machine(tmp_path: Path) -> None:
    scheduler = LocalScheduler(SchedulerContext("zzzzz", tmp_path))
    total = scheduler.nodes()[0].total
    scheduler.close()
    assert total.cores == len(os.sched_getaffinity(0))
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    assert 0 < total.ram_bytes <= 0.9 * machine
    assert total.scratch_bytes > 0
    assert total.gpus == 0


def test_check_names_a_spool_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    findings = LocalScheduler(SchedulerContext("zzzzz", tmp_path / "file")).check()
    assert [finding.subject for finding in findings if finding.problem] == ["spool"]
