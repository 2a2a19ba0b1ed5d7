"""The schedulers that `schedulers.py` measures, each a private one of its own on this machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from nodemanager.schedulers.base import JobSpec, Scheduler, SchedulerContext
from nodemanager.schedulers.commands import Answer, Call, Commands
from nodemanager.schedulers.registry import find_scheduler
from tests.clusters.gridengine import GridEngineCell
from tests.clusters.slurm import SlurmCluster, SlurmNode, SlurmSettings

CLUSTER = "zzzzz"
SLEEPER = b"#!/bin/sh\nsleep 1000\n"
PATIENCE_SECONDS = 300.0


class Subject(ABC):
    """A scheduler under measurement, none of whose nodes takes work unless told so."""

    word: str
    """`[Dispatch] scheduler`"""
    environment: Mapping[str, str]
    runs_commands = False
    """Jobs are the containers' commands themselves."""
    stdin = b"x" * 1000
    """What a job is given."""

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

    def daemon_options(self) -> dict[str, str]:
        """Those of `[Scheduler]` for a daemon."""
        return self.options()

    def fill(self, scheduler: Scheduler, jobs: Sequence[JobSpec]) -> None:
        """Let these wait, too, however they get there."""
        for start in range(0, len(jobs), 1000):
            scheduler.submit(jobs[start : start + 1000])

    def report_more(self, console: Console, live: int) -> None:  # noqa: B027 (most have nothing)
        """What else there is to say while so many jobs wait."""

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


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Raises `SlurmMissing`."""
    node = SlurmNode("n1", cpus=8, memory_mb=64_000, tmp_mb=100_000)
    with SlurmCluster(SlurmSettings(nodes=(node,), restd=True)) as cluster:
        yield Slurm(cluster)


@contextmanager
def grid_engine() -> Iterator[GridEngine]:
    """Raises `GridEngineMissing`."""
    with GridEngineCell() as cell:
        yield GridEngine(cell)


def _accepted(commands: Commands, calls: Sequence[Call], at_once: int) -> int:
    answers = commands.run_all(calls, at_once)
    return sum(isinstance(answer, Answer) and answer.status == 0 for answer in answers)
