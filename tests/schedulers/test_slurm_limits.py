"""What a site allows, on a real Slurm: how long arrays may be, how many jobs there may be, and what keeps a job waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from nodemanager.model import JobState, Resources
from nodemanager.schedulers.base import Job, JobSpec, SchedulerContext
from nodemanager.schedulers.slurm.scheduler import SlurmScheduler
from tests.clusters.slurm import (
    SlurmCluster,
    SlurmMissing,
    SlurmNode,
    SlurmPartition,
    SlurmSettings,
)

MIB = 1 << 20

_serial = count()

Start = Callable[..., SlurmCluster]
Connect = Callable[..., SlurmScheduler]


@pytest.fixture
def start() -> Iterator[Start]:
    """A Slurm of one node with lines of its own in slurm.conf."""
    running: list[SlurmCluster] = []

    def start(*lines: str, partitions: tuple[SlurmPartition, ...] = ()) -> SlurmCluster:
        settings = SlurmSettings((SlurmNode("n1"),), extra=lines)
        if partitions:
            settings = SlurmSettings((SlurmNode("n1"),), partitions, extra=lines)
        try:
            running.append(SlurmCluster(settings).__enter__())
        except SlurmMissing as error:
            pytest.skip(str(error))
        return running[-1]

    yield start
    for cluster in running:
        cluster.__exit__()


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    def connect(cluster: SlurmCluster, **options: str) -> SlurmScheduler:
        given = {"conf": str(cluster.conf), **options}
        return SlurmScheduler(SchedulerContext("zzzzz", tmp_path / "state", given, 30))

    return connect


def specs(number: int, *, cores: int = 1, seconds: int = 0) -> list[JobSpec]:
    """Jobs that are alike."""
    return [
        JobSpec(
            f"zzzzz-dz642-{next(_serial):015d}",
            ("sleep", "1000"),
            Resources(cores, 10 * MIB),
            max_run_seconds=seconds,
        )
        for _ in range(number)
    ]


def accepted(slurm: SlurmScheduler, jobs: list[JobSpec]) -> list[str]:
    """Job ids, in order; who has none is told that there is a limit."""
    answers = slurm.submit(jobs)
    assert all(bool(answer.job_id) is not bool(answer.busy) for answer in answers)
    return [answer.job_id for answer in answers if answer.job_id]


def array_of(job_id: str) -> str:
    return job_id.partition("_")[0]


class TestArrays:
    def test_they_are_as_long_as_the_site_allows(self, start: Start, connect: Connect) -> None:
        cluster = start("MaxArraySize=4")
        slurm = connect(cluster)
        jobs = specs(10)
        ids = accepted(slurm, jobs)
        sizes = [
            len([i for i in ids if array_of(i) == array])
            for array in dict.fromkeys(map(array_of, ids))
        ]
        assert sizes == [4, 4, 2]
        poll = slurm.poll()
        assert poll.complete
        assert {job.name for job in poll.jobs} == {job.name for job in jobs}

    @pytest.mark.parametrize("size", [0, 1])
    def test_where_there_are_none_jobs_go_one_by_one(
        self, start: Start, connect: Connect, size: int
    ) -> None:
        slurm = connect(start(f"MaxArraySize={size}"))
        ids = accepted(slurm, specs(3))
        assert len(ids) == 3
        assert not any("_" in job_id for job_id in ids)

    def test_a_limit_that_was_lowered_meanwhile_is_found_out(
        self, start: Start, connect: Connect
    ) -> None:
        cluster = start("MaxArraySize=100")
        slurm = connect(cluster)
        assert len(accepted(slurm, specs(2))) == 2
        conf = cluster.conf.read_text()
        cluster.stop_controller()
        cluster.conf.write_text(conf.replace("MaxArraySize=100", "MaxArraySize=3"))
        cluster.start_controller()
        jobs = specs(8)
        assert accepted(slurm, jobs) == []
        assert len(accepted(slurm, jobs)) == 8

    def test_one_that_there_is_no_room_for_is_halved_until_there_is(
        self, start: Start, connect: Connect
    ) -> None:
        slurm = connect(start("MaxJobCount=5"))
        jobs = specs(8)
        rounds = [accepted(slurm, jobs)]
        while not rounds[-1] and len(rounds) < 4:
            rounds.append(accepted(slurm, jobs))
        assert len(rounds[-1]) in range(2, 6)
        assert len(slurm.poll().jobs) == len(rounds[-1])


def waiting(cluster: SlurmCluster, slurm: SlurmScheduler, job: JobSpec, word: str) -> Job:
    """The job as soon as it waits for what Slurm calls by that word."""
    found: list[Job] = []

    def told() -> bool:
        found[:] = [each for each in slurm.poll().jobs if each.name == job.name]
        return found[0].state is JobState.WAITING and found[0].reason.startswith(word)

    cluster.wait_until(told, 20, f"{job.name} waits for {word}")
    return found[0]


def advice(job: Job) -> str:
    """What to do about its wait."""
    assert job.waits_for is not None
    return job.waits_for.advice


class TestReasons:
    def test_real_ones_are_explained(self, start: Start, connect: Connect) -> None:
        partitions = (SlurmPartition("main", default=True), SlurmPartition("short"))
        cluster = start(partitions=partitions)
        cluster.run("scontrol", "update", "partitionname=short", "maxtime=1")
        slurm = connect(cluster)
        [running] = specs(1, cores=4)
        accepted(slurm, [running])
        cluster.wait_for_nodes("allocated", 1)
        [first] = specs(1)
        accepted(slurm, [first])
        told = waiting(cluster, slurm, first, "Resources")
        assert "to become free" in told.reason
        [second] = specs(1)
        accepted(slurm, [second])
        assert "more urgent" in waiting(cluster, slurm, second, "Priority").reason
        held = waiting(cluster, slurm, second, "Priority").job_id
        cluster.run("scontrol", "hold", held)
        assert "scontrol release" in advice(waiting(cluster, slurm, second, "JobHeld"))
        long = connect(cluster, partition="short")
        [too_long] = specs(1, seconds=600)
        accepted(long, [too_long])
        told = waiting(cluster, slurm, too_long, "PartitionTimeLimit")
        assert "MaxTime" in told.reason + advice(told)
        cluster.run("scontrol", "update", "partitionname=main", "state=down")
        told = waiting(cluster, slurm, first, "PartitionDown")
        assert "State=UP" in told.reason + advice(told)
        cluster.run("scontrol", "update", "partitionname=main", "state=up")
        cluster.run("scontrol", "update", "nodename=n1", "state=drain", "reason=a test")
        told = waiting(cluster, slurm, first, "Nodes required for job")
        assert "no node that it could use takes work now" in told.reason
