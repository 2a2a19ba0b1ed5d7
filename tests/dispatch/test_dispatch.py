"""Whole dispatches: real actors, the API server's own logic, the fake scheduler, a clock driven by hand."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pykka
import pytest

from nodemanager.api.feed import ChangeActor, ClaimActor
from nodemanager.api.lease import LeaseActor
from nodemanager.api.readwrite import ReaderActor, WriterActor
from nodemanager.dispatch.container import ContainerActor
from nodemanager.dispatch.dispatcher import DispatcherActor
from nodemanager.model import Node, NodeState, Resources
from nodemanager.outcome import End, EndKind
from nodemanager.reason import ReasonToken, Tier
from nodemanager.schedulers.actor import SchedulerActor
from nodemanager.schedulers.base import JobSpec
from nodemanager.schedulers.fake import Fault, Script
from nodemanager.testing import GIB, Harness, Program

SMALL = {"vcpus": 1, "ram": GIB}


@pytest.fixture
def world() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


def states(world: Harness, request: str) -> list[str]:
    return [attempt["state"] for attempt in world.attempts(request)]


def by_name(programs: Mapping[str, Program]) -> Callable[[Mapping[str, Any]], Program]:
    """The program of a container by the first word of its command."""
    return lambda record: programs.get(record["command"][0], Program())


def assert_each_attempt_ran_at_most_once(world: Harness) -> None:
    started = [uuid for uuid, _runner in world.ledger]
    assert len(started) == len(set(started))


class TestTheMainLine:
    def test_a_request_becomes_complete(self, world: Harness) -> None:
        request = world.submit()
        world.advance(10)
        assert states(world, request) == ["Complete"]
        assert world.request(request)["state"] == "Final"
        assert world.status().containers == ()

    def test_more_than_fit_wait_their_turn(self, world: Harness) -> None:
        requests = [world.submit() for _ in range(20)]
        world.advance(2)
        live = len(world.status().containers)
        assert 4 <= live <= 7, "no more is claimed than can be used soon"
        world.advance(120)
        assert all(states(world, request) == ["Complete"] for request in requests)
        assert_each_attempt_ran_at_most_once(world)

    def test_the_most_urgent_is_claimed_first(self, world: Harness) -> None:
        world.site.cluster.set_drain("node1", "held for the test")
        world.advance(10)
        low = world.submit(priority=1)
        high = world.submit(priority=900)
        world.site.cluster.set_drain("node1", None)
        world.advance(60)
        order = [uuid for uuid, _ in world.ledger]
        assert order == [world.container_of(high)["uuid"], world.container_of(low)["uuid"]]

    def test_nothing_of_a_finished_container_is_kept(self, world: Harness) -> None:
        world.submit()
        world.advance(60)
        assert world.site.scheduler.poll().jobs == ()
        assert world.reasons(world.submit(priority=1)) == []


class TestEnds:
    @pytest.mark.parametrize(
        ("program", "state"),
        [
            (Program(end=End(EndKind.EXITED, 3)), "PermFail"),
            (Program(end=End(EndKind.SIGNALLED, 11)), "PermFail"),
            (Program(end=End(EndKind.EXITED, 0), reports=False), "TempFail"),
            (Program(end=End(EndKind.OUT_OF_MEMORY, asked=GIB, limit=GIB)), "PermFail"),
            (Program(end=End(EndKind.TIME_LIMIT, asked=60, limit=60)), "PermFail"),
            (Program(end=End(EndKind.NODE_LOST, detail="NODE_FAIL")), "TempFail"),
            (Program(end=End(EndKind.EXITED, 1), confirms=False), "TempFail"),
        ],
    )
    def test_each_end_has_its_state(self, world: Harness, program: Program, state: str) -> None:
        world.program = lambda _record: program
        request = world.submit()
        world.advance(8)
        assert states(world, request)[0] == state
        assert world.attempts(request)[0]["error"]

    def test_a_tempfail_is_tried_again_after_a_growing_pause(self, world: Harness) -> None:
        world.program = lambda record: Program(
            end=End(EndKind.EXITED, 75 if record["attempt"] < 3 else 0)
        )
        request = world.submit()
        world.advance(8)
        assert states(world, request) == ["TempFail", "Queued"]
        [reason] = world.reasons(request)
        assert reason.token is ReasonToken.BACKOFF
        assert "75" in reason.sentence
        world.advance(300)
        assert states(world, request) == ["TempFail", "TempFail", "Complete"]

    def test_a_permfail_is_not_tried_again_by_default(self, world: Harness) -> None:
        world.program = lambda _record: Program(end=End(EndKind.EXITED, 3))
        request = world.submit()
        world.advance(600)
        assert states(world, request) == ["PermFail"]
        assert world.request(request)["state"] == "Final"

    def test_a_permfail_is_tried_as_often_as_asked(self, world: Harness) -> None:
        world.program = lambda _record: Program(end=End(EndKind.EXITED, 3))
        request = world.submit(container_count_max=2)
        world.advance(600)
        assert states(world, request) == ["PermFail", "PermFail"]

    def test_a_job_that_an_operator_deleted_is_held(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=None)
        request = world.submit()
        world.advance(3)
        world.site.cluster.delete(world.container_of(request)["uuid"])
        world.advance(600)
        assert states(world, request) == ["TempFail", "Queued"]
        assert world.container_of(request)["hold"] is True
        [reason] = world.reasons(request)
        assert reason.token is ReasonToken.ON_HOLD
        world.program = lambda _record: Program()
        uuid = world.container_of(request)["uuid"]
        world.call("containers", "update", uuid=uuid, body={"container": {"hold": False}})
        world.advance(30)
        assert states(world, request) == ["TempFail", "Complete"]

    def test_a_job_that_vanished(self, world: Harness) -> None:
        world.program = lambda record: Program(seconds=None if record["attempt"] == 1 else 1)
        request = world.submit()
        world.advance(3)
        world.site.cluster.lose(world.container_of(request)["uuid"])
        world.advance(120)
        assert states(world, request) == ["TempFail", "Complete"]


class TestWaiting:
    def test_what_no_node_can_hold_is_told_and_waits(self, world: Harness) -> None:
        request = world.submit(runtime_constraints={"vcpus": 1, "ram": 40 * GIB})
        world.advance(10)
        [reason] = world.reasons(request)
        assert reason.token is ReasonToken.NO_NODE_FITS
        assert reason.tier is Tier.NEVER
        assert "wants 40 GiB, the largest node has 8 GiB" in reason.sentence
        world.advance(3600)
        assert states(world, request) == ["Queued"]

    def test_it_runs_when_a_large_enough_node_comes(self, world: Harness) -> None:
        request = world.submit(runtime_constraints={"vcpus": 1, "ram": 40 * GIB})
        world.advance(10)
        big = Resources(8, 64 * GIB, 100 * GIB)
        world.site.cluster.add_node(Node("big", NodeState.IDLE, big, big))
        world.advance(60)
        assert states(world, request) == ["Complete"]

    def test_misfits_do_not_hold_up_the_rest(self, world: Harness) -> None:
        for _ in range(30):
            world.submit(runtime_constraints={"vcpus": 64, "ram": GIB}, priority=900)
        request = world.submit(priority=1)
        world.advance(10)
        assert states(world, request) == ["Complete"]

    def test_run_after(self, world: Harness) -> None:
        at = world.call("containers", "list", limit=0)  # the API answers
        assert at["items"] == []
        request = world.submit(run_after="2027-01-15T08:05:00Z")
        world.advance(290)
        assert states(world, request) == ["Queued"]
        [reason] = world.reasons(request)
        assert reason.token is ReasonToken.RUN_AFTER
        world.advance(20)
        assert states(world, request) == ["Complete"]

    def test_a_claimed_container_says_why_it_waits(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=100)
        requests = [world.submit() for _ in range(6)]
        world.advance(20)
        tokens = [reason.token for request in requests for reason in world.reasons(request)]
        assert tokens == [ReasonToken.SCHEDULER_WAIT] * 2

    def test_one_that_is_not_claimed_says_why(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=100)
        requests = [world.submit() for _ in range(8)]
        world.advance(20)
        [reason] = world.reasons(requests[-1])
        assert reason.token is ReasonToken.CLAIM_LIMIT

    def test_the_reason_is_gone_when_it_runs(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=20)
        requests = [world.submit() for _ in range(6)]
        world.advance(30)
        assert all(world.container_of(r)["state"] in ("Running", "Complete") for r in requests)
        assert [world.reasons(request) for request in requests] == [[]] * 6


class TestCancelling:
    @pytest.mark.parametrize("moment", [0.0, 1.0, 2.5, 10.0])
    def test_at_any_moment(self, world: Harness, moment: float) -> None:
        world.program = lambda _record: Program(seconds=None)
        request = world.submit()
        world.advance(moment)
        world.cancel(request)
        world.advance(30)
        assert states(world, request) == ["Cancelled"]
        assert world.request(request)["state"] == "Final"
        assert world.status().containers == ()
        assert world.site.cluster.live_count == 0

    def test_while_it_waits_in_the_scheduler(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=100)
        requests = [world.submit() for _ in range(6)]
        world.advance(5)
        world.cancel(requests[-1])
        world.advance(10)
        assert states(world, requests[-1]) == ["Cancelled"]
        assert world.container_of(requests[-1])["uuid"] not in dict(world.ledger)

    def test_a_program_that_ignores_term_is_killed(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=None)
        request = world.submit()
        world.advance(5)
        world.cancel(request)
        world.advance(60)
        assert states(world, request) == ["Cancelled"]

    def test_a_new_priority_reaches_the_scheduler(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=100)
        requests = [world.submit() for _ in range(6)]
        world.advance(5)
        world.set_priority(requests[5], 999)
        world.advance(5)
        assert world.site.scheduler.calls("prioritise")


class TestRestart:
    @pytest.mark.parametrize("moment", [0.0, 0.5, 1.0, 1.5, 3.0, 10.0, 11.0])
    def test_kill_at_any_moment_and_start_again(self, world: Harness, moment: float) -> None:
        world.program = lambda _record: Program(seconds=10)
        requests = [world.submit() for _ in range(5)]
        world.advance(moment)
        world.restart(world.site)
        world.advance(120)
        assert [states(world, request) for request in requests] == [["Complete"]] * 5
        assert_each_attempt_ran_at_most_once(world)

    def test_jobs_that_ended_while_nobody_looked(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=10, reports=False)
        request = world.submit()
        world.advance(3)
        world.kill(world.site)
        world.advance(60)
        world.start(world.site)
        world.advance(5)
        assert states(world, request)[0] == "TempFail"

    def test_it_goes_on_under_its_old_uuid(self, world: Harness) -> None:
        before = world.status().me
        world.restart(world.site)
        after = world.status().me
        assert before is not None
        assert after is not None
        assert after.dispatcher == before.dispatcher
        assert after.epoch == before.epoch + 1

    def test_cancelled_while_nobody_looked(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=None)
        request = world.submit()
        world.advance(3)
        world.kill(world.site)
        world.cancel(request)
        world.advance(30)
        world.start(world.site)
        world.advance(30)
        assert states(world, request) == ["Cancelled"]
        assert world.site.cluster.live_count == 0


class TestStrangers:
    """Jobs of this cluster that no actor knows: what the container's record says decides."""

    def test_the_job_of_a_final_container_is_cancelled_and_forgotten(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=None)
        request = world.submit()
        world.advance(3)
        world.kill(world.site)
        world.cancel(request)
        world.advance(700)
        assert world.site.cluster.live_count == 1, "lost, but its job runs on"
        world.start(world.site)
        world.advance(60)
        assert states(world, request)[-1] == "Cancelled"
        assert world.site.cluster.live_count == 0
        world.advance(60)
        assert world.site.scheduler.poll().jobs == ()

    def test_a_job_whose_container_is_unknown_is_left_alone(self, world: Harness) -> None:
        world.site.cluster.script = lambda _spec: Script(seconds=None)
        world.site.cluster.on_start = None
        spec = JobSpec("zzzzz-dz642-000000000000000", ("true",), Resources(1, 1))
        world.site.scheduler.submit([spec])
        world.advance(120)
        assert world.site.cluster.live_count == 1


class TestCrashes:
    """An actor that fails (here: over a message nobody understands) takes nothing with it."""

    def test_of_a_container_actor(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=30)
        request = world.submit()
        world.advance(5)
        [actor] = pykka.ActorRegistry.get_by_class(ContainerActor)
        actor.tell("nonsense")
        world.advance(120)
        assert not actor.is_alive()
        assert states(world, request) == ["Complete"]
        assert_each_attempt_ran_at_most_once(world)

    @pytest.mark.parametrize(
        "kind",
        [
            DispatcherActor,
            SchedulerActor,
            LeaseActor,
            ClaimActor,
            ChangeActor,
            ReaderActor,
            WriterActor,
        ],
    )
    def test_of_one_that_all_need(self, world: Harness, kind: type[pykka.Actor]) -> None:
        world.program = lambda _record: Program(seconds=30)
        requests = [world.submit() for _ in range(6)]
        world.advance(5)
        [actor] = pykka.ActorRegistry.get_by_class(kind)
        actor.tell("nonsense")
        world.advance(10)
        [again] = pykka.ActorRegistry.get_by_class(kind)
        assert again != actor
        world.advance(200)
        assert [states(world, request) for request in requests] == [["Complete"]] * 6
        assert_each_attempt_ran_at_most_once(world)


class TestApiTrouble:
    def test_the_api_is_away_for_a_while(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=30)
        requests = [world.submit() for _ in range(8)]
        world.advance(5)
        world.site.wire.down = True
        world.advance(120)
        world.site.wire.down = False
        world.advance(180)
        assert [states(world, request) for request in requests] == [["Complete"]] * 8
        assert_each_attempt_ran_at_most_once(world)

    @pytest.mark.parametrize("lost", range(1, 9))
    def test_answers_that_are_lost(self, world: Harness, lost: int) -> None:
        requests = [world.submit() for _ in range(3)]
        world.site.wire.lost_answers = lost
        world.advance(240)
        assert [states(world, request) for request in requests] == [["Complete"]] * 3
        assert_each_attempt_ran_at_most_once(world)

    def test_cut_off_beyond_the_lease_it_acts_no_more_and_comes_back(self, world: Harness) -> None:
        world.program = lambda record: Program(seconds=None if record["attempt"] == 1 else 1)
        request = world.submit()
        world.advance(5)
        first = world.status().me
        world.site.wire.down = True
        world.advance(700)
        assert states(world, request)[0] == "TempFail"
        calls = len(world.site.scheduler.calls("cancel"))
        assert calls == 0, "past its lease it cancels nothing"
        world.site.wire.down = False
        world.advance(300)
        second = world.status().me
        assert first is not None
        assert second is not None
        assert second.dispatcher != first.dispatcher
        assert states(world, request) == ["TempFail", "Complete"]
        assert world.site.cluster.live_count == 0
        assert_each_attempt_ran_at_most_once(world)


class TestSchedulerTrouble:
    @pytest.mark.parametrize("fault", [f for f in Fault if f is not Fault.LOSS])
    @pytest.mark.parametrize("times", [1, 5])
    def test_each_fault_is_waited_out(self, world: Harness, fault: Fault, times: int) -> None:
        world.program = lambda _record: Program(seconds=3)
        world.site.scheduler.faults.upcoming[fault] = times
        requests = [world.submit() for _ in range(4)]
        world.advance(1)
        world.cancel(requests[3])
        world.advance(600)
        assert [states(world, request) for request in requests[:3]] == [["Complete"]] * 3
        assert states(world, requests[3])[-1] in ("Cancelled", "Complete")
        assert max(world.site.cluster.starts.values()) == 1

    def test_a_limit_of_the_site_is_a_reason_and_no_failure(self, world: Harness) -> None:
        world.site.scheduler.faults.max_jobs = 1
        world.program = lambda _record: Program(seconds=20)
        requests = [world.submit() for _ in range(3)]
        world.advance(15)
        tokens = {reason.token for request in requests for reason in world.reasons(request)}
        assert tokens == {ReasonToken.SCHEDULER_LIMIT}
        world.advance(200)
        assert [states(world, request) for request in requests] == [["Complete"]] * 3

    def test_a_job_refused_for_good_is_a_tempfail_with_the_schedulers_words(
        self, world: Harness
    ) -> None:
        request = world.submit()
        uuid = world.container_of(request)["uuid"]
        world.site.scheduler.faults.refused = {uuid: "invalid account"}
        world.advance(5)
        assert states(world, request)[0] == "TempFail"
        assert "invalid account" in world.attempts(request)[0]["error"]


class TestSeveralDispatchers:
    def test_no_container_is_held_by_two(self, world: Harness) -> None:
        world.add_site("site2")
        world.program = lambda _record: Program(seconds=5)
        requests = [world.submit() for _ in range(30)]
        world.advance(120)
        assert [states(world, request) for request in requests] == [["Complete"]] * 30
        assert_each_attempt_ran_at_most_once(world)
        holders = {world.container_of(request)["dispatcher"] for request in requests}
        assert len(holders) == 2

    def test_the_work_of_a_dead_one_goes_to_the_other(self, world: Harness) -> None:
        world.program = lambda _record: Program(seconds=50)
        requests = [world.submit() for _ in range(3)]
        world.advance(5)
        world.kill(world.site)
        world.site.cluster.set_drain("node1", "dead host")
        world.add_site("site2")
        world.advance(2000)
        assert all(states(world, request)[-1] == "Complete" for request in requests)
        assert_each_attempt_ran_at_most_once(world)

    def test_what_fits_only_one_goes_there(self, world: Harness) -> None:
        big = Resources(32, 64 * GIB, 100 * GIB)
        world.add_site("big", [Node("big", NodeState.IDLE, big, big)])
        request = world.submit(runtime_constraints={"vcpus": 16, "ram": GIB})
        world.advance(30)
        assert states(world, request) == ["Complete"]


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_the_actors_leads_to_the_same_end(seed: int) -> None:
    """Faults, a restart and a cancellation, with the actors' turns in a random order."""
    with Harness(seed=seed) as world:
        world.program = by_name(
            {
                "slow": Program(seconds=40),
                "again": Program(end=End(EndKind.EXITED, 75)),
                "fail": Program(end=End(EndKind.EXITED, 3)),
            }
        )
        world.add_site("site2")
        faults = world.site.scheduler.faults.upcoming
        faults[Fault.SUBMIT_AFTER] = faults[Fault.PARTIAL_POLL] = faults[Fault.SUBMIT_HALFWAY] = 1
        requests = [
            world.submit(command=[word])
            for word in ("true", "slow", "fail", "true", "slow", "true", "again", "true")
        ]
        world.site.wire.lost_answers = 3
        world.advance(4 + seed)
        world.cancel(requests[6])
        world.restart(world.site)
        world.advance(400)
        ends = [states(world, request)[-1] for request in requests]
        assert ends[2] == "PermFail"
        assert ends[6] in ("Cancelled", "TempFail")
        assert {ends[n] for n in (0, 1, 3, 4, 5, 7)} == {"Complete"}
        assert all(world.request(request)["state"] == "Final" for request in requests)
        assert_each_attempt_ran_at_most_once(world)
