"""How fast batch schedulers take jobs from us, what looking at many costs, and how soon an end is known.

    python benchmarks/schedulers.py [--schedulers slurm sge] [--jobs 1000] [--live 10 10000] [--containers 1000]

Starts a private Slurm and a private Grid Engine, one after the other, and prints for each

- containers accepted per second: by a plain loop of sbatch or qsub, several at once, slurmrestd, and one array
  job (the scheduler's own limit), against our module with containers that are alike, of twenty kinds, and all different;
- one look at all jobs and nodes with few and with many live jobs: commands and milliseconds;
- with a real daemon: from a queue of containers that all fall due at once to all of them accepted as jobs, and from the
  last line of a container's command to its final state in the API.

Everything happens on this machine, so a scheduler shares its cores with whoever feeds it: compare within one run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from rich.table import Table

from latency import answering, run, wait_for
from nodemanager.api.connection import call
from nodemanager.model import JobState, Resources, format_time
from nodemanager.schedulers.base import JobSpec, Scheduler, SchedulerContext
from nodemanager.schedulers.commands import Answer, Call, Commands
from nodemanager.schedulers.registry import find_scheduler
from tests.clusters.gridengine import GridEngineCell, GridEngineMissing
from tests.clusters.slurm import SlurmCluster, SlurmMissing, SlurmNode, SlurmSettings

CLUSTER = "zzzzz"
KINDS = 20
SLEEPER = b"#!/bin/sh\nsleep 1000\n"
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Row:
    """One way of submitting, and how fast it was."""

    title: str
    jobs: int
    seconds: float

    @property
    def rate(self) -> float:
        """Jobs accepted per second."""
        return self.jobs / self.seconds


class Subject(ABC):
    """A scheduler under measurement, none of whose nodes takes work unless told so."""

    word: str
    """`[Dispatch] scheduler`"""
    environment: Mapping[str, str]

    @abstractmethod
    def options(self) -> dict[str, str]:
        """The module's options."""

    @abstractmethod
    def plain(self) -> Iterator[tuple[str, int, Callable[[], int]]]:
        """Ways of submitting without us: title, jobs, and what does it and says how many were accepted."""

    @abstractmethod
    def variants(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Options of the module by which jobs that all differ can go."""

    @abstractmethod
    def purge(self) -> None:
        """Let no job be left."""

    @abstractmethod
    def open(self, *, takes_work: bool) -> None:
        """Whether its nodes take work."""

    def module(self, directory: Path, more: Mapping[str, str]) -> Scheduler:
        """Our module for it."""
        options = {**self.options(), **more}
        context = SchedulerContext(CLUSTER, directory, options, PATIENCE_SECONDS, "bench")
        return find_scheduler(self.word)(context)


class Slurm(Subject):
    """A Slurm with one node."""

    word = "slurm"

    def __init__(self, cluster: SlurmCluster) -> None:
        self._cluster = cluster
        self.environment = cluster.env
        self._commands = Commands(PATIENCE_SECONDS, dict(cluster.env))

    def options(self) -> dict[str, str]:
        """It finds everything by SLURM_CONF."""
        return {}

    def plain(self) -> Iterator[tuple[str, int, Callable[[], int]]]:
        """See the base class."""
        words = (
            "sbatch",
            "--parsable",
            "--mem=1M",
            "--output=/dev/null",
            "--export=NIL",
            "--chdir=/",
        )
        one = Call(words, SLEEPER)
        for at_once, jobs in ((1, 200), (4, 400)):
            title = f"sbatch, {at_once} at a time"
            yield title, jobs, partial(_accepted, self._commands, [one] * jobs, at_once)
        array = Call((*words, "--array=0-999"), SLEEPER)
        yield (
            "one array of 1,000: Slurm's own limit",
            1000,
            lambda: 1000 * _accepted(self._commands, [array], 1),
        )

    def variants(self) -> Iterator[tuple[str, dict[str, str]]]:
        """See the base class."""
        yield "sbatch", {}
        yield "slurmrestd", {"rest_socket": str(self._cluster.restd_socket)}

    def purge(self) -> None:
        """See the base class."""
        self._cluster.run("scancel", "--user", self._cluster.run("id", "-un"), seconds=300)
        self._cluster.wait_until(
            lambda: not self._cluster.run("squeue", "-h", "-o", "%i"), 300, "no job is left"
        )

    def open(self, *, takes_work: bool) -> None:
        """See the base class."""
        state = ("state=resume",) if takes_work else ("state=drain", "reason=benchmark")
        self._cluster.run("scontrol", "update", "nodename=n1", *state)


class GridEngine(Subject):
    """A Grid Engine whose only host is this machine."""

    word = "sge"

    def __init__(self, cell: GridEngineCell) -> None:
        self._cell = cell
        self.environment = cell.env
        self._commands = Commands(PATIENCE_SECONDS, dict(cell.env))

    def options(self) -> dict[str, str]:
        """Debian's own programs are wrapped in slow scripts."""
        return {}

    def plain(self) -> Iterator[tuple[str, int, Callable[[], int]]]:
        """See the base class."""
        words = ("qsub", "-terse", "-o", "/dev/null", "-j", "y", "-S", "/bin/sh")
        one = Call(words, SLEEPER)
        for at_once, jobs in ((1, 200), (4, 400)):
            title = f"qsub, {at_once} at a time"
            yield title, jobs, partial(_accepted, self._commands, [one] * jobs, at_once)
        array = Call((*words, "-t", "1-1000"), SLEEPER)
        yield (
            "one array of 1,000: Grid Engine's own limit",
            1000,
            lambda: 1000 * _accepted(self._commands, [array], 1),
        )

    def variants(self) -> Iterator[tuple[str, dict[str, str]]]:
        """See the base class."""
        yield "qsub", {"submit_at_once": "1"}
        yield "qsub, 4 at a time", {"submit_at_once": "4"}

    def purge(self) -> None:
        """See the base class."""
        self._commands.run("qdel", "-f", "-u", "*")
        self._cell.wait_until(lambda: not self._cell.job_states(), 300, "no job is left")

    def open(self, *, takes_work: bool) -> None:
        """See the base class."""
        self._cell.run("qmod", "-e" if takes_work else "-d", "*")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--schedulers", nargs="+", choices=("slurm", "sge"), default=["slurm", "sge"]
    )
    parser.add_argument(
        "--jobs", type=int, default=1000, help="jobs of a submission (default 1000)"
    )
    parser.add_argument("--live", type=int, nargs="+", default=[10, 1000, 10_000])
    parser.add_argument("--containers", type=int, default=1000, help="for the real daemon; 0: none")
    flags = parser.parse_args()
    console = Console()
    for word in flags.schedulers:
        try:
            with _subject(word) as subject:
                measure(console, subject, flags)
        except (SlurmMissing, GridEngineMissing) as error:
            console.print(f"{word}: {error}")


def measure(console: Console, subject: Subject, flags: argparse.Namespace) -> None:
    """Everything about one scheduler."""
    os.environ.update(subject.environment)
    subject.open(takes_work=False)
    report_submissions(console, subject, [*submissions(console, subject, flags.jobs)])
    report_looks(console, subject, flags.live)
    if flags.containers:
        report_daemon(console, subject, flags.containers)


# Submissions.


def submissions(console: Console, subject: Subject, jobs: int) -> Iterator[Row]:
    """Every way, one after the other, each with an empty queue."""
    for title, number, submit in subject.plain():
        began = time.monotonic()
        accepted = submit()
        yield _row(console, title, number, accepted, time.monotonic() - began)
        subject.purge()
    few = min(jobs, 400)
    for title, kinds, number, options in (
        ("ours, all alike", 1, jobs, {}),
        (f"ours, {KINDS} kinds", KINDS, jobs, {}),
        *((f"ours, all different, by {word}", few, few, more) for word, more in subject.variants()),
    ):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            scheduler = subject.module(Path(name), options)
            scheduler.poll()
            scheduler.nodes()
            specs = [spec(kinds) for _ in range(number)]
            began = time.monotonic()
            answers = scheduler.submit(specs)
            seconds = time.monotonic() - began
            accepted = sum(bool(answer.job_id) for answer in answers)
            yield _row(console, title, number, accepted, seconds)
            subject.purge()
            scheduler.close()


_numbers = count()


def spec(kinds: int) -> JobSpec:
    """A job of one of so many kinds, by a name that no other has."""
    number = next(_numbers)
    ram_bytes = (16 + number % kinds) << 20
    name = f"{CLUSTER}-dz642-{number:015d}"
    return JobSpec(name, ("sleep", "1000"), Resources(1, ram_bytes), stdin=b"x" * 1000)


def report_submissions(console: Console, subject: Subject, rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(title=f"{subject.word}: jobs accepted per second")
    table.add_column("how")
    for heading in ("jobs", "seconds", "per second", "against the plain loop"):
        table.add_column(heading, justify="right")
    for row in rows:
        ratio = row.rate / rows[0].rate
        table.add_row(
            row.title, f"{row.jobs:,}", f"{row.seconds:.3f}", f"{row.rate:,.0f}", f"{ratio:.2f}"
        )
    console.print(table)


# Looking.


def report_looks(console: Console, subject: Subject, sizes: Sequence[int]) -> None:
    """What one poll of jobs and nodes costs with so many live jobs."""
    table = Table(title=f"{subject.word}: one look at all jobs and nodes")
    table.add_column("live jobs", justify="right")
    for heading in ("commands", "milliseconds", "jobs listed"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        scheduler = subject.module(Path(name), {})
        live = 0
        for size in sizes:
            fresh = [spec(KINDS) for _ in range(live, size)]
            for start in range(0, len(fresh), 1000):
                scheduler.submit(fresh[start : start + 1000])
            live = size
            scheduler.poll()
            before, times = scheduler.commands_run, []
            for _ in range(5):
                began = time.monotonic()
                poll = scheduler.poll()
                scheduler.nodes()
                times.append(time.monotonic() - began)
            commands = (scheduler.commands_run - before) / 5
            listed = sum(job.state is not JobState.ENDED for job in poll.jobs)
            table.add_row(
                f"{size:,}",
                f"{commands:g}",
                f"{1000 * statistics.median(times):.0f}",
                f"{listed:,}",
            )
        subject.purge()
        scheduler.close()
    console.print(table)


# The real daemon.


def report_daemon(console: Console, subject: Subject, containers: int) -> None:
    """From the queue to accepted jobs, and from the end of a command to the final state."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with _daemon(folder, subject, containers) as api:
            rate = _queue_to_accepted(console, subject, api, containers)
            subject.open(takes_work=True)
            samples = [run(api, folder) for _ in range(10)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table(title=f"{subject.word}: a real daemon")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_row(f"{containers:,} containers, from due to accepted", f"{rate:,.0f} per s")
    for title, values in (
        ("commit to running, median", [s.to_running for s in samples]),
        ("end of the command to final state, median", [s.to_final for s in samples]),
        ("the same, longest", [max(s.to_final for s in samples)]),
    ):
        table.add_row(title, f"{1000 * statistics.median(values):.0f} ms")
    console.print(table)


def _queue_to_accepted(console: Console, subject: Subject, api: Any, containers: int) -> float:
    """All of them fall due at once; how many a second are jobs."""
    console.print(f"{subject.word}: committing {containers:,} requests", style="dim")
    due = time.time() + 15 + containers / 150
    attributes = {
        "command": ["sleep", "1000"],
        "container_image": "none",
        "cwd": "/work",
        "output_path": "/work/out",
        "mounts": {"/work/out": {"kind": "tmp", "capacity": 1 << 20}},
        "runtime_constraints": {"vcpus": 1, "ram": 1 << 26},
        "run_after": format_time(due),
        "use_existing": False,
        "state": "Committed",
    }
    requests = [
        call(api.container_requests().create(body={"container_request": attributes}))["uuid"]
        for _ in range(containers)
    ]
    if time.time() > due:
        raise SystemExit("committing took longer than expected; try fewer containers")
    time.sleep(due - time.time())
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        scheduler = subject.module(Path(name), {})
        wait_for(lambda: len(_live(scheduler)) >= containers, "all are accepted")
        rate = containers / (time.time() - due)
        for uuid in requests:
            call(api.container_requests().update(uuid=uuid, body={"priority": 0}))
        wait_for(lambda: not _live(scheduler), "all are cancelled")
        scheduler.close()
    return rate


def _live(scheduler: Scheduler) -> list[str]:
    return [job.name for job in scheduler.poll().jobs if job.state is not JobState.ENDED]


@contextmanager
def _daemon(folder: Path, subject: Subject, containers: int) -> Iterator[Any]:
    """A daemon on that scheduler; its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = "\n".join(f"{key} = {value}" for key, value in subject.options().items())
    config = folder / "nodemanager.cfg"
    config.write_text(
        f"[Api]\nport = {port}\nadvertise_url = https://127.0.0.1:{port}\n"
        f"[Dispatch]\nscheduler = {subject.word}\nmax_claimed = {containers + 100}\n"
        f"[Scheduler]\npoll_time = 2 s\n{options}\n"
        "[Daemon]\nstate_dir = state\n[Logging]\nfile = daemon.log\n"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-m", "nodemanager.launcher", "--config", str(config)],
        env={**os.environ, **subject.environment},
    )
    try:
        yield wait_for(lambda: answering(folder / "state", str(port)), "the API answers")
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(PATIENCE_SECONDS)
        subject.purge()


# Inside.


@contextmanager
def _subject(word: str) -> Iterator[Subject]:
    if word == "slurm":
        node = SlurmNode("n1", cpus=8, memory_mb=64_000, tmp_mb=100_000)
        with SlurmCluster(SlurmSettings(nodes=(node,), restd=True)) as cluster:
            yield Slurm(cluster)
    else:
        with GridEngineCell() as cell:
            yield GridEngine(cell)


def _accepted(commands: Commands, calls: Sequence[Call], at_once: int) -> int:
    answers = commands.run_all(calls, at_once)
    return sum(isinstance(answer, Answer) and answer.status == 0 for answer in answers)


def _row(console: Console, title: str, jobs: int, accepted: int, seconds: float) -> Row:
    if accepted != jobs:
        raise SystemExit(f"{title}: {accepted:,} of {jobs:,} were accepted")
    console.print(f"  {title}: {jobs:,} in {seconds:.3f} s", style="dim")
    return Row(title, jobs, seconds)


if __name__ == "__main__":
    main()
