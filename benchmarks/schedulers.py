"""How fast batch schedulers take jobs from us, what looking at many costs, and how soon an end is known.

    python benchmarks/schedulers.py [--schedulers slurm sge kubernetes] [--jobs 1000] [--live 10 10000]
                                    [--containers 1000]

Starts a private Slurm, a private Grid Engine and, where it has been built, a private Kubernetes, one after the other,
and prints for each

- containers accepted per second: by a plain loop of sbatch, qsub or kubectl, several at once, slurmrestd, one array
  job (the scheduler's own limit), the official client of Kubernetes, against our module with containers that are alike,
  of twenty kinds, and all different;
- one look at all jobs and nodes with few and with many live jobs: commands or requests, and milliseconds;
- for Kubernetes, the memory that it takes to watch them;
- with a real daemon: from a queue of containers that all fall due at once to all of them accepted as jobs, and from the
  last line of a container's command to its final state in the API; for Kubernetes also from falling due to the final
  state of all.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
from nodemanager.schedulers.base import JobSpec, Scheduler
from on_kubernetes import kubernetes
from subjects import CLUSTER, PATIENCE_SECONDS, Subject, grid_engine, slurm
from tests.clusters.gridengine import GridEngineMissing
from tests.clusters.kubernetes import KubernetesMissing
from tests.clusters.slurm import SlurmMissing

KINDS = 20
SUBJECTS: dict[str, Callable[[], AbstractContextManager[Subject]]] = {
    "slurm": slurm,
    "sge": grid_engine,
    "kubernetes": kubernetes,
}


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--schedulers", nargs="+", choices=[*SUBJECTS], default=[*SUBJECTS])
    parser.add_argument(
        "--jobs", type=int, default=1000, help="jobs of a submission (default 1000)"
    )
    parser.add_argument("--live", type=int, nargs="+", default=[10, 1000, 10_000])
    parser.add_argument("--containers", type=int, default=1000, help="for the real daemon; 0: none")
    flags = parser.parse_args()
    console = Console()
    for word in flags.schedulers:
        try:
            with SUBJECTS[word]() as subject:
                measure(console, subject, flags)
        except (SlurmMissing, GridEngineMissing, KubernetesMissing) as error:
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
            specs = [spec(subject, kinds) for _ in range(number)]
            began = time.monotonic()
            answers = scheduler.submit(specs)
            seconds = time.monotonic() - began
            accepted = sum(bool(answer.job_id) for answer in answers)
            yield _row(console, title, number, accepted, seconds)
            subject.purge()
            scheduler.close()


_numbers = count()


def spec(subject: Subject, kinds: int) -> JobSpec:
    """A job of one of so many kinds, by a name that no other has."""
    number = next(_numbers)
    ram_bytes = (16 + number % kinds) << 20
    name = f"{CLUSTER}-dz642-{number:015d}"
    return JobSpec(name, ("sleep", "1000"), Resources(1, ram_bytes), stdin=subject.stdin)


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
            subject.fill(scheduler, [spec(subject, KINDS) for _ in range(live, size)])
            live = size
            # One that watches is told of them a little later.
            wait_for(partial(_are_listed, scheduler, size), "all are listed")
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
        scheduler.close()
    console.print(table)
    subject.report_more(console, live)
    subject.purge()


# The real daemon.


def report_daemon(console: Console, subject: Subject, containers: int) -> None:
    """From the queue to accepted jobs, and from the end of a command to the final state."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with _daemon(folder, subject, containers) as api:
            rate = _queue_to_accepted(console, subject, api, containers)
            subject.open(takes_work=True)
            log = "combined.txt" if subject.runs_commands else "stdout.txt"
            samples = [run(api, folder, log) for _ in range(10)]
            completed = _due_to_final(api, containers) if subject.runs_commands else 0.0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table(title=f"{subject.word}: a real daemon")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_row(f"{containers:,} containers, from due to accepted", f"{rate:,.0f} per s")
    if completed:
        table.add_row("the same of `true`, from due to complete", f"{completed:,.0f} per s")
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
    requests, due = _commit(api, containers, ["sleep", "1000"])
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        scheduler = subject.module(Path(name), {})
        wait_for(lambda: len(_live(scheduler)) >= containers, "all are accepted")
        rate = containers / (time.time() - due)
        for uuid in requests:
            call(api.container_requests().update(uuid=uuid, body={"priority": 0}))
        wait_for(lambda: not _live(scheduler), "all are cancelled")
        scheduler.close()
    return rate


def _due_to_final(api: Any, containers: int) -> float:
    """How many a second are created, run and recorded."""
    requests, due = _commit(api, containers, ["true"])
    left = [["uuid", "in", requests], ["state", "=", "Final"]]

    def are_final() -> bool:
        found = call(api.container_requests().list(filters=left, limit=0, count="exact"))
        return bool(found["items_available"] >= containers)

    wait_for(are_final, "all are final")
    return containers / (time.time() - due)


def _commit(api: Any, containers: int, command: Sequence[str]) -> tuple[list[str], float]:
    """Requests that all fall due at a time, which has just come."""
    due = time.time() + 15 + containers / 150
    attributes = {
        "command": [*command],
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
    return requests, due


def _are_listed(scheduler: Scheduler, jobs: int) -> bool:
    return len(_live(scheduler)) >= jobs


def _live(scheduler: Scheduler) -> list[str]:
    return [job.name for job in scheduler.poll().jobs if job.state is not JobState.ENDED]


@contextmanager
def _daemon(folder: Path, subject: Subject, containers: int) -> Iterator[Any]:
    """A daemon on that scheduler; its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = "\n".join(f"{key} = {value}" for key, value in subject.daemon_options().items())
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


def _row(console: Console, title: str, jobs: int, accepted: int, seconds: float) -> Row:
    if accepted != jobs:
        raise SystemExit(f"{title}: {accepted:,} of {jobs:,} were accepted")
    console.print(f"  {title}: {jobs:,} in {seconds:.3f} s", style="dim")
    return Row(title, jobs, seconds)


if __name__ == "__main__":
    main()
