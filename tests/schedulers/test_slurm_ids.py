"""Many jobs in few words, and that a real Slurm understands them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.model import JobState, Resources, new_uuid
from nodemanager.schedulers.base import Job, JobSpec, SchedulerContext
from nodemanager.schedulers.slurm.ids import joint
from nodemanager.schedulers.slurm.scheduler import SlurmScheduler
from tests.clusters.slurm import SlurmCluster

numbers = st.integers(0, 40)
ids = st.one_of(
    numbers.map(str), st.tuples(numbers, numbers).map(lambda pair: f"{pair[0]}_{pair[1]}")
)


def told(words: list[str]) -> list[str]:
    """The jobs that are meant."""
    return [job_id for word in words for job_id in taken_apart(word)]


def taken_apart(word: str) -> list[str]:
    array, mark, tasks = word.partition("_")
    if not mark:
        return [word]
    found = []
    for part in tasks.removeprefix("[").removesuffix("]").split(","):
        first, _, last = part.partition("-")
        found += [f"{array}_{task}" for task in range(int(first), int(last or first) + 1)]
    return found


def test_neighbours_are_a_range() -> None:
    assert joint(["7", "5_7", "5_1", "9_4", "5_0", "5_2"]) == ["7", "5_[0-2,7]", "9_[4]"]


@given(st.lists(ids, unique=True))
def test_all_are_told_and_no_others(jobs: list[str]) -> None:
    assert sorted(told(joint(jobs))) == sorted(jobs)


@given(st.lists(ids, unique=True))
def test_an_array_is_one_word(jobs: list[str]) -> None:
    arrays = [word.partition("_")[0] for word in joint(jobs) if "_" in word]
    assert len(arrays) == len(set(arrays))


@pytest.fixture
def scheduler(slurm: SlurmCluster, tmp_path: Path) -> Iterator[SlurmScheduler]:
    context = SchedulerContext("zzzzz", tmp_path / "state", {"conf": str(slurm.conf)}, 30)
    scheduler = SlurmScheduler(context)
    yield scheduler
    scheduler.cancel([job.name for job in scheduler.poll().jobs])
    slurm.wait_until(lambda: not slurm.run("squeue", "-h"), 30, "no job is left")


def test_slurm_ends_and_orders_just_those(slurm: SlurmCluster, scheduler: SlurmScheduler) -> None:
    """Tasks of an array, of which some run and some wait, and a single job."""
    tasks, [single] = specs(5, cores=4), specs(1, cores=3)
    scheduler.submit(tasks)
    slurm.wait_until(lambda: len(in_state(scheduler, JobState.RUNNING)) == 2, 30, "two run")
    scheduler.submit([single])
    runs = sorted(in_state(scheduler, JobState.RUNNING))
    waits = sorted(in_state(scheduler, JobState.WAITING) - {single.name})
    urgent = {runs[0]: 1000, waits[0]: 1000, waits[1]: 1000, single.name: 1000}
    scheduler.prioritise(urgent)
    nices = dict(
        line.split() for line in slurm.run("squeue", "-h", "-r", "-o", "%i %y").splitlines()
    )
    known = {job.name: job.job_id for job in scheduler.poll().jobs}
    changed = [name for name, job_id in known.items() if nices.get(job_id) == "0"]
    assert set(changed) >= {waits[0], waits[1], single.name}
    assert waits[2] not in changed
    ended = {runs[0], waits[0], waits[2], single.name}
    before = scheduler.commands_run
    scheduler.cancel(sorted(ended))
    assert scheduler.commands_run == before + 1
    left = {runs[1], waits[1]}

    def are_gone() -> bool:
        live = in_state(scheduler, JobState.RUNNING) | in_state(scheduler, JobState.WAITING)
        return live == left

    slurm.wait_until(are_gone, 30, "these have ended, and no others")


def specs(number: int, *, cores: int) -> list[JobSpec]:
    return [
        JobSpec(
            new_uuid("zzzzz", "container"),
            ("sleep", "1000"),
            Resources(cores, 10 << 20),
            priority=500,
        )
        for _ in range(number)
    ]


def in_state(scheduler: SlurmScheduler, state: JobState) -> set[str]:
    jobs: tuple[Job, ...] = scheduler.poll().jobs
    return {job.name for job in jobs if job.state is state}
