"""Dispatches on a scheduler whose jobs are the containers' commands themselves: there is no runner."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodemanager.dispatch.collector import LOG_NAME
from nodemanager.outcome import End, EndKind
from nodemanager.reason import ReasonToken
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.fake import Fault
from nodemanager.testing import Harness, Program


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    worlds: list[Harness] = []

    def make(**options: Any) -> Harness:
        worlds.append(Harness(store=tmp_path, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., Harness]) -> Harness:
    return make_world()


def put_output(world: Harness, text: str = "x") -> None:
    """What pods do that have the store in their file system."""
    store = world.store
    assert store is not None

    def start(job: str, _stdin: bytes) -> None:
        world.ledger.append((job, "itself"))
        (store / job / "output").mkdir(parents=True)
        (store / job / "output" / "result").write_text(text)

    world.site.cluster.on_start = start


def specs_of(world: Harness) -> list[JobSpec]:
    seen: list[JobSpec] = []
    submit = world.site.scheduler.submit

    def note(jobs: Any) -> Any:
        seen.extend(jobs)
        return submit(jobs)

    world.site.scheduler.submit = note  # type: ignore[method-assign]
    return seen


def test_the_dispatcher_sees_it_from_running_to_complete(world: Harness) -> None:
    put_output(world)
    world.program = lambda _record: Program(seconds=30)
    request = world.submit()
    world.advance(10)
    running = world.container_of(request)
    assert running["state"] == "Running"
    assert running["runner_id"] == "fake-1"
    assert running["runtime_status"]["node"] == "node1"
    world.advance(40)
    (attempt,) = world.attempts(request)
    done = world.container_of(request)
    assert (attempt["state"], done["exit_code"]) == ("Complete", 0)
    assert Path(done["output"], "result").read_text() == "x"
    assert Path(done["log"], LOG_NAME).read_text() == f"the log of {done['uuid']}\n"
    assert "warning" not in done["runtime_status"]
    assert world.site.scheduler.poll().jobs == ()


def test_one_that_is_over_at_once_was_running_too(world: Harness) -> None:
    put_output(world)
    world.program = lambda _record: Program(seconds=0)
    request = world.submit()
    world.advance(10)
    done = world.container_of(request)
    assert done["state"] == "Complete"
    assert done["started_at"]


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (End(EndKind.EXITED, 3), "PermFail"),
        (End(EndKind.EXITED, 75), "TempFail"),
        (End(EndKind.SIGNALLED, 11), "PermFail"),
        (End(EndKind.OUT_OF_MEMORY, asked=1, limit=2), "PermFail"),
        (End(EndKind.TIME_LIMIT, asked=1, limit=2), "PermFail"),
        (End(EndKind.NODE_LOST), "TempFail"),
        (End(EndKind.OPERATOR_DELETED), "TempFail"),
    ],
)
def test_its_end_is_the_containers(world: Harness, end: End, state: str) -> None:
    world.program = lambda _record: Program(seconds=1, end=end)
    request = world.submit()
    world.advance(10)
    attempt = world.attempts(request)[0]
    assert attempt["state"] == state


def test_the_work_has_everything_of_the_request(world: Harness) -> None:
    specs = specs_of(world)
    request = world.submit(
        command=["echo", "hello"],
        environment={"A": "b"},
        container_image="busybox",
        cwd="/work",
        scheduling_parameters={"max_run_time": 60},
        mounts={
            "/work/out": {"kind": "tmp", "capacity": 5},
            "/work/in.json": {"kind": "json", "content": {"a": 1}},
        },
        secret_mounts={"/work/key": {"kind": "text", "content": "hidden"}},
    )
    world.advance(10)
    (spec,) = specs
    work = spec.work
    assert work is not None
    assert (work.command, work.image) == (("echo", "hello"), "busybox")
    uuid = world.container_of(request)["uuid"]
    assert work.environment == {
        "A": "b",
        "ARVADOS_CONTAINER_UUID": uuid,
        "CONTAINER_ATTEMPT": "1",
    }
    assert work.max_run_seconds == 60
    assert work.api is None
    contents = {mount.target: mount.content for mount in work.plan.mounts}
    assert contents["/work/in.json"] == b'{"a": 1}'
    assert contents["/work/key"] == b"hidden"
    assert "hidden" not in repr(spec)


def test_only_who_asks_for_the_api_gets_a_token(world: Harness) -> None:
    specs = specs_of(world)
    world.submit(runtime_constraints={"vcpus": 1, "ram": 1 << 28, "API": True})
    world.advance(10)
    work = specs[0].work
    assert work is not None
    assert work.api is not None
    assert work.api.host == "localhost:1"
    assert work.api.token.startswith("v2/")
    assert work.api.token not in repr(specs[0])


def test_what_can_never_run_is_told_and_not_submitted(world: Harness) -> None:
    specs = specs_of(world)
    request = world.submit(mounts={"/work/out": {"kind": "tmp"}, "/keep": {"kind": "collection"}})
    world.advance(10)
    (attempt,) = world.attempts(request)
    assert attempt["state"] == "PermFail"
    assert (
        "kind collection needs crunch-run" in world.container_of(request)["runtime_status"]["error"]
    )
    assert specs == []


def test_an_output_that_is_not_kept_is_told(world: Harness) -> None:
    request = world.submit()
    world.advance(10)
    done = world.container_of(request)
    assert done["state"] == "Complete"
    assert done["output"] is None
    assert "output was not kept" in done["runtime_status"]["warning"]


def test_an_output_that_cannot_be_kept_spoils_it(world: Harness) -> None:
    store = world.store
    assert store is not None

    def start(job: str, _stdin: bytes) -> None:
        (store / job / "output").mkdir(parents=True)
        (store / job / "output" / "way-out").symlink_to("/etc/passwd")

    world.site.cluster.on_start = start
    request = world.submit()
    world.advance(10)
    done = world.container_of(request)
    assert done["state"] == "PermFail"
    assert "links to /etc/passwd, outside the output" in done["runtime_status"]["error"]


def test_a_log_that_is_out_of_reach_for_a_while_is_waited_for(world: Harness) -> None:
    put_output(world)
    world.site.scheduler.faults.upcoming[Fault.LOG] = 3
    request = world.submit()
    world.advance(4)
    assert world.container_of(request)["state"] == "Running"
    world.advance(30)
    done = world.container_of(request)
    assert done["state"] == "Complete"
    assert Path(done["log"], LOG_NAME).exists()


def test_a_store_that_is_not_mounted_is_waited_for(world: Harness) -> None:
    world.site.cluster.on_start = lambda _job, _stdin: None
    request = world.submit()
    world.advance(300)
    container = world.container_of(request)
    assert container["state"] == "Running"
    assert world.store is not None
    assert not list(world.store.iterdir()), "nothing is written where it should have been mounted"
    (world.store / container["uuid"] / "output").mkdir(parents=True)
    world.advance(120)
    done = world.container_of(request)
    assert done["state"] == "Complete"
    assert done["output"]


def test_a_log_that_stays_out_of_reach_keeps_nobody_from_the_end(world: Harness) -> None:
    put_output(world)
    world.site.scheduler.faults.upcoming[Fault.LOG] = 10_000
    request = world.submit()
    world.advance(1700)
    assert world.container_of(request)["state"] == "Running"
    world.advance(300)
    done = world.container_of(request)
    assert done["state"] == "Complete"
    assert "its log was not kept" in done["runtime_status"]["warning"]
    assert done["output"]


def test_a_job_that_will_never_start_is_given_up(world: Harness) -> None:
    world.site.cluster.set_drain("node1", "held for the test")
    request = world.submit()
    world.advance(10)
    name = world.container_of(request)["uuid"]
    world.site.cluster.hopeless[name] = "no such image"
    world.advance(10)
    first = world.attempts(request)[0]
    assert first["state"] == "TempFail"
    assert "no such image" in first["error"]


def test_a_cancelled_one_is_cancelled(world: Harness) -> None:
    world.program = lambda _record: Program(seconds=1000)
    request = world.submit()
    world.advance(10)
    world.cancel(request)
    world.advance(30)
    assert world.container_of(request)["state"] == "Cancelled"
    assert world.site.scheduler.poll().jobs == ()


@pytest.mark.parametrize("seed", range(10))
def test_a_daemon_that_is_killed_at_any_time_loses_nothing(
    make_world: Callable[..., Harness], seed: int
) -> None:
    world = make_world(seed=seed)
    put_output(world)
    world.program = lambda _record: Program(seconds=7)
    requests = [world.submit() for _ in range(6)]
    for step in range(12):
        world.advance(1.0 + (seed * 7 + step * 3) % 5)
        world.restart(world.site)
    world.advance(120)
    for request in requests:
        (attempt,) = world.attempts(request)
        assert attempt["state"] == "Complete"
        assert world.container_of(request)["output"]
    started = [uuid for uuid, _ in world.ledger]
    assert len(started) == len(set(started)) == 6


def test_why_it_waits_says_that_it_is_starting(world: Harness) -> None:
    world.site.cluster.set_drain("node1", "held for the test")
    request = world.submit()
    world.advance(10)
    (reason,) = world.reasons(request)
    assert reason.token is ReasonToken.SCHEDULER_WAIT
