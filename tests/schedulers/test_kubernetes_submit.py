"""What is made besides the pod of a container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from nodemanager.errors import SchedulerError
from nodemanager.model import Resources, new_uuid
from nodemanager.mount_plan import plan_mounts
from nodemanager.schedulers.base import JobSpec, SchedulerContext
from nodemanager.schedulers.kubernetes.scheduler import KubernetesScheduler
from nodemanager.work import Work
from tests.clusters.kubernetes import KubernetesCluster
from tests.schedulers.kubernetes_objects import kubeconfig

CLUSTER = "subm1"
Make = Callable[..., KubernetesScheduler]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    store.mkdir()
    return store


@pytest.fixture
def make(kubernetes_api: KubernetesCluster, store: Path, tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(**options: str) -> KubernetesScheduler:
            options |= {"kubeconfig": str(kubeconfig(kubernetes_api)), "claims": f"{store} store"}
            context = SchedulerContext(CLUSTER, tmp_path, options, store=store)
            return stack.enter_context(closing(KubernetesScheduler(context)))

        yield make


def a_job() -> JobSpec:
    plan = plan_mounts({"mounts": {}, "output_path": "/out"}, {})
    work = Work("localhost/none:1", ("true",), {}, plan)
    name = new_uuid(CLUSTER, "container")
    return JobSpec(name, ("runner",), Resources(1, 64 << 20), work=work)


def test_a_containers_folder_in_the_store_is_the_daemons_own(make: Make, store: Path) -> None:
    job = a_job()
    scheduler = make()
    assert scheduler.submit([job])[0].job_id
    assert (store / job.name).is_dir()
    assert not (store / job.name / "output").exists()
    clear_away(scheduler, job)


def test_without_it_no_pod_is_made(make: Make, store: Path) -> None:
    store.rmdir()
    job = a_job()
    scheduler = make()
    with pytest.raises(SchedulerError, match=r"\[Runner\] store"):
        scheduler.submit([job])
    assert not [each for each in scheduler.poll().jobs if each.name == job.name]


def test_without_outputs_there_is_room_for_the_log(make: Make, store: Path) -> None:
    job = a_job()
    scheduler = make(keep_output="no")
    assert scheduler.submit([job])[0].job_id
    assert list((store / job.name).iterdir()) == []
    clear_away(scheduler, job)


def clear_away(scheduler: KubernetesScheduler, job: JobSpec) -> None:
    """Nobody runs it, so that it has ended as soon as it is cancelled."""
    scheduler.cancel([job.name])
    scheduler.poll()
    scheduler.forget([job.name])
