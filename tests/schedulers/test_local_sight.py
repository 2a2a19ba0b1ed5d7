"""What somebody sees of the local scheduler who does not own its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodemanager.errors import SchedulerError
from nodemanager.model import JobState, Resources
from nodemanager.outcome import EndKind
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.local import LocalScheduler
from nodemanager.schedulers.shares import Share, Shares
from nodemanager.schedulers.spool import Limits, Spool

NAME = "zzzzz-dz642-000000000000001"


def scheduler(folder: Path, **options: str) -> LocalScheduler:
    return LocalScheduler(SchedulerContext("zzzzz", folder, {"cores": "2", **options}))


def accepted(folder: Path) -> Spool:
    """A job is in the spool, and nobody starts it."""
    spool = Spool(folder / "spool")
    spool.open()
    spool.store([(JobSpec(NAME, ("true",), Resources(1, 1 << 20)), 7)], Limits(0, 1.0))
    spool.close()
    return spool


def test_a_spool_that_was_never_used(tmp_path: Path) -> None:
    seen = scheduler(tmp_path / "none").observe()
    assert (seen.poll.jobs, seen.poll.complete) == ((), True)
    assert [node.total.cores for node in seen.nodes] == [2]
    assert not (tmp_path / "none").exists()


def test_a_waiting_job_is_not_started(tmp_path: Path) -> None:
    accepted(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    onlooker = scheduler(tmp_path)
    [job] = onlooker.observe().poll.jobs
    onlooker.close()
    assert (job.state, job.job_id) == (JobState.WAITING, "7")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_job_from_before_the_machine_was_restarted_is_over(tmp_path: Path) -> None:
    spool = accepted(tmp_path)
    (spool.directory(NAME) / "start").write_text("another-boot\n1\n2\n3\n0\n")
    [job] = scheduler(tmp_path).observe().poll.jobs
    assert job.state is JobState.ENDED
    assert job.end is not None
    assert job.end.kind is EndKind.NODE_LOST


def test_machines_and_their_drains_stay_as_they_are(tmp_path: Path) -> None:
    shares = Shares(tmp_path / "cloud")
    onlooker = scheduler(tmp_path / "state", machines=str(shares.directory))
    assert onlooker.observe().nodes == ()
    assert not shares.directory.exists()
    shares.make_directory()
    shares.write(Share("one", "share-1", "compute-1", "m", Resources(1, 1 << 30)))
    spool = Spool(tmp_path / "state" / "spool")
    spool.open()
    spool.record_drain("gone", "why")
    spool.close()
    assert [node.name for node in onlooker.observe().nodes] == ["compute-1"]
    assert spool.drains() == {"gone": "why"}


def test_a_file_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    spool = accepted(tmp_path)
    (spool.directory(NAME) / "job").write_text("nonsense\n")
    with pytest.raises(SchedulerError, match=str(spool.directory(NAME))):
        scheduler(tmp_path).observe()
