"""Scripts as a real shell runs them, the files they read, and which jobs share one."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.errors import SchedulerError
from nodemanager.model import PRIORITY_STEP, Resources
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.batches import batches, kind_of, priority_class
from nodemanager.schedulers.conformance import ODD_ARGUMENTS
from nodemanager.schedulers.jobfiles import JobFiles
from nodemanager.schedulers.script import Guard, Tasks, names_in, refusal, render

_SHOW = (
    "import json, os, sys; print(json.dumps([sys.argv[1:], sys.stdin.buffer.read().hex(),"
    " os.environ['NODEMANAGER_JOB'], os.environ['PATH']]))"
)


def spec(number: int = 0, *, stdin: bytes = b"", argv: tuple[str, ...] = ("true",)) -> JobSpec:
    return JobSpec(f"zzzzz-dz642-{number:015d}", argv, Resources(1, 1), stdin=stdin)


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    return JobFiles(tmp_path / "a dir with 'quotes' $(x)")


def run(script: bytes, **environment: str) -> list[object]:
    done = subprocess.run(
        ["/bin/sh"], input=script, env=environment, capture_output=True, check=True
    )
    shown: list[object] = json.loads(done.stdout)
    return shown


class TestScript:
    def test_a_shell_passes_on_words_and_input_unchanged(self, files: JobFiles) -> None:
        job = spec(stdin=bytes(range(256)), argv=(sys.executable, "-c", _SHOW, *ODD_ARGUMENTS))
        files.write([job])
        words, stdin, name, path = run(render([job], files))
        assert words == list(ODD_ARGUMENTS)
        assert stdin == job.stdin.hex()
        assert name == job.name
        assert path

    def test_each_task_is_its_own_job(self, files: JobFiles) -> None:
        jobs = [spec(n, stdin=b"%d" % n, argv=(sys.executable, "-c", _SHOW)) for n in range(12)]
        files.write(jobs)
        script = render(jobs, files, Tasks("TASK", first=1))
        for number, job in enumerate(jobs, start=1):
            _, stdin, name, path = run(script, TASK=str(number), PATH="/opt/bin:/bin")
            assert (stdin, name) == (job.stdin.hex(), job.name)
            assert path == "/opt/bin:/bin"

    def test_it_says_which_jobs_it_is_of(self, files: JobFiles) -> None:
        jobs = [spec(n) for n in range(1000)]
        text = render(jobs, files, Tasks("TASK", 0)).decode()
        assert names_in(text) == tuple(job.name for job in jobs)
        assert names_in("#!/bin/sh\nsomebody else's\n") == ()

    def test_it_holds_nothing_that_is_secret(self, files: JobFiles) -> None:
        job = spec(stdin=b"secret-token")
        assert b"secret-token" not in render([job], files)

    def test_a_job_without_its_file_does_not_run(self, files: JobFiles, tmp_path: Path) -> None:
        ran = tmp_path / "ran"
        script = render([spec(argv=("touch", str(ran)))], files)
        done = subprocess.run(["/bin/sh"], input=script, capture_output=True, check=False)
        assert done.returncode != 0
        assert not ran.exists()

    @pytest.mark.parametrize(
        "job",
        [
            replace(spec(), name="zzzzz-$(x)"),
            replace(spec(), name="zzzzz-a b"),
            replace(spec(), name="yyyyy-dz642-000000000000001"),
            replace(spec(), argv=()),
            replace(spec(), argv=("",)),
            replace(spec(), argv=("a", "b\0c")),
        ],
    )
    def test_what_cannot_be_in_a_script_is_refused(self, job: JobSpec) -> None:
        assert refusal(job, "zzzzz-")

    def test_what_can_is_not(self) -> None:
        assert not refusal(spec(argv=("x", *ODD_ARGUMENTS)), "zzzzz-")


class TestGuard:
    """What Grid Engine does: signals go to the whole process group."""

    GUARD = Guard("USR2", ignored=("USR1",), reserved=(99, 100))

    def start(self, files: JobFiles, code: str) -> subprocess.Popen[bytes]:
        job = spec(argv=(sys.executable, "-u", "-c", code))
        files.write([job])
        script = files.directory / "script"
        script.write_bytes(render([job], files, guard=self.GUARD))
        return subprocess.Popen(
            ["/bin/sh", str(script)], start_new_session=True, stdout=subprocess.PIPE
        )

    @pytest.mark.parametrize(("code", "seen"), [(0, 0), (7, 7), (255, 255), (99, 1), (100, 1)])
    def test_exit_statuses_pass_but_for_orders(self, files: JobFiles, code: int, seen: int) -> None:
        with self.start(files, f"raise SystemExit({code})") as process:
            assert process.wait(20) == seen

    def test_a_death_by_signal_is_seen(self, files: JobFiles) -> None:
        with self.start(files, "import os; os.kill(os.getpid(), 11)") as process:
            assert process.wait(20) == 128 + 11

    def test_the_job_gets_term_and_the_shell_dies_of_kill(self, files: JobFiles) -> None:
        code = "import signal; signal.signal(15, lambda *_: exit(3)); print('on'); signal.pause()"
        with self.start(files, code) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
            os.killpg(process.pid, signal.SIGUSR1)
            os.killpg(process.pid, signal.SIGUSR2)
            assert process.wait(20) == -signal.SIGKILL

    def test_a_stubborn_job_outlasts_the_warning(self, files: JobFiles) -> None:
        code = "import signal; signal.signal(15, lambda *_: print('termed')); print('on')\nwhile 1: signal.pause()"
        with self.start(files, code) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
            os.killpg(process.pid, signal.SIGUSR2)
            assert process.stdout.readline() == b"termed\n"
            os.killpg(process.pid, signal.SIGUSR2)
            assert process.stdout.readline() == b"termed\n"
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
            assert process.wait(20) == -signal.SIGKILL

    def test_odd_words_arrive(self, files: JobFiles) -> None:
        job = spec(stdin=b"x", argv=(sys.executable, "-c", _SHOW, *ODD_ARGUMENTS))
        files.write([job])
        words, stdin, name, _ = run(render([job], files, guard=self.GUARD))
        assert (words, stdin, name) == (list(ODD_ARGUMENTS), b"x".hex(), job.name)


class TestFiles:
    def test_only_the_owner_can_read_them(self, files: JobFiles) -> None:
        files.write([spec(stdin=b"token")])
        path = files.path(spec().name)
        assert path.read_bytes() == b"token"
        assert path.stat().st_mode & 0o777 == 0o600
        assert files.directory.stat().st_mode & 0o777 == 0o700

    def test_they_go_with_the_job(self, files: JobFiles) -> None:
        files.write([spec(1), spec(2)])
        files.remove([spec(1).name, spec(3).name])
        assert [path.name for path in files.directory.iterdir()] == [files.path(spec(2).name).name]

    def test_what_a_crash_left_is_swept(self, files: JobFiles) -> None:
        old, known, young = spec(1), spec(2), spec(3)
        theirs = replace(spec(4), name="yyyyy-dz642-000000000000004")
        files.write([old, known, young, theirs])
        for job in (old, known, theirs):
            os.utime(files.path(job.name), (0, time.time() - 86400))
        assert files.sweep("zzzzz-", {known.name}) == [old.name]
        assert not files.path(old.name).exists()
        assert all(files.path(job.name).exists() for job in (known, young, theirs))

    def test_a_directory_that_cannot_be_made_is_an_error_of_the_scheduler(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SchedulerError, match="cannot write a job's input"):
            JobFiles(tmp_path / "file" / "below").write([spec()])


class TestBatches:
    @given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3))), st.integers(1, 5))
    def test_each_job_is_in_one_batch_of_its_kind(
        self, shapes: list[tuple[int, int]], limit: int
    ) -> None:
        jobs = [
            replace(spec(n), resources=Resources(cores, 1), priority=priority)
            for n, (cores, priority) in enumerate(shapes)
        ]
        made = batches(jobs, limit)
        assert sorted(job.name for batch in made for job in batch) == [job.name for job in jobs]
        for batch in made:
            assert 1 <= len(batch) <= limit
            assert len({kind_of(job) for job in batch}) == 1
            assert [job.name for job in batch] == sorted(job.name for job in batch)
        heads = [batch[0].name for batch in made if batch[0] == _first(jobs, batch[0])]
        assert heads == sorted(heads), "a kind comes where its first job came"

    @given(st.integers(1, 1000), st.integers(1, 1 << 45))
    def test_a_users_priority_is_found_in_a_containers(self, wanted: int, created_ms: int) -> None:
        assert priority_class(wanted * PRIORITY_STEP - created_ms) == wanted

    @given(st.integers(-5, 1 << 62), st.integers(-5, 1 << 62))
    def test_classes_keep_the_order(self, one: int, other: int) -> None:
        small, large = sorted((one, other))
        same_scale = (small > 1000) == (large > 1000)
        if same_scale:
            assert priority_class(small) <= priority_class(large)
        assert 0 <= priority_class(small) <= 1000


def _first(jobs: list[JobSpec], one: JobSpec) -> JobSpec:
    return next(job for job in jobs if kind_of(job) == kind_of(one))
