"""Which jobs can be one array."""

from dataclasses import replace

from nodemanager.model import Resources
from nodemanager.mount_plan import MountPlan
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.batches import batches, kind_of
from nodemanager.work import Work

SPEC = JobSpec("zzzzz-dz642-000000000000000", ("runner",), Resources(1, 1), stdin=b"private")
WORK = Work("image", ("true",), {"A": "b"}, MountPlan((), "/out", ""))


def test_jobs_that_differ_in_what_they_read_are_alike() -> None:
    other = replace(SPEC, name="zzzzz-dz642-000000000000001", stdin=b"else")
    assert batches([SPEC, other], 10) == [[SPEC, other]]


def test_what_only_another_scheduler_would_run_makes_no_difference() -> None:
    """Where several schedulers share the work, one of which runs the commands themselves."""
    jobs = [replace(SPEC, work=WORK), replace(SPEC, work=replace(WORK, command=("false",)))]
    assert batches(jobs, 10) == [jobs]
    assert kind_of(jobs[0]) == kind_of(SPEC)
    assert len({hash(kind_of(job)) for job in jobs}) == 1
