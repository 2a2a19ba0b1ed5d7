"""What the daemon would do, on given sights."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.clouds.base import BEHAVIOUR_TAG
from nodemanager.dry_run.forecast import forecast
from nodemanager.dry_run.outcome import Boot, ChangeKind, Forecast
from nodemanager.dry_run.sight import QueueSight, Sight
from nodemanager.model import ContainerState, JobState, NodeState
from nodemanager.nodes.states import DRAIN_PREFIX
from nodemanager.reason import ReasonToken
from nodemanager.rule import Rule, Span
from tests.dry_run.sights import (
    DISPATCHER,
    LARGE,
    NOW,
    SMALL,
    cloud,
    container,
    job,
    locked,
    machine,
    node,
    scheduler,
    sight,
)


def left(made: Forecast) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for group in made.unclaimed:
        counts[group.reason.token.value] += group.count
    return dict(counts)


def changes(made: Forecast) -> dict[str, ChangeKind]:
    return {change.node: change.kind for change in made.changes}


def reached(made: Forecast) -> list[str]:
    return [limit.words.partition(":")[0] for limit in made.limits if limit.binds]


class TestClaims:
    def test_as_many_as_could_start_and_a_few_ahead(self) -> None:
        seen = sight(*(container() for _ in range(100)), schedulers=(scheduler(node("n1")),))
        made = forecast(seen)
        assert (made.queued, made.claimed, left(made)) == (100, 6, {"claim-limit": 94})
        assert reached(made) == ["claims"]

    def test_the_most_urgent_first(self) -> None:
        queue = sorted((container(priority=p) for p in (1, 9, 5)), key=lambda each: -each.priority)
        made = forecast(sight(*queue, schedulers=(scheduler(node("n1", cores=1)),)))
        [work] = made.works
        assert (work.claimed, work.example) == (2, queue[0].uuid)
        assert made.unclaimed[0].example == queue[2].uuid

    def test_in_more_than_one_batch_with_max_claimed(self) -> None:
        queue = [container() for _ in range(3000)]
        made = forecast(sight(*queue, max_claimed=2500, schedulers=(scheduler(node("n1")),)))
        assert (made.claimed, left(made)) == (2500, {"claim-limit": 500})
        assert reached(made) == ["[Dispatch] max_claimed = 2500"]
        [work] = made.works
        assert [(lot.count, lot.nodes) for lot in work.lots] == [(4, ("n1",)), (2496, ())]

    def test_what_is_held_counts(self) -> None:
        held = tuple(locked() for _ in range(4))
        jobs = tuple(job(each, JobState.RUNNING, "n1") for each in held)
        made = forecast(
            sight(
                *(container() for _ in range(9)),
                held=held,
                schedulers=(scheduler(node("n1", used=4), jobs=jobs),),
            )
        )
        assert (made.claimed, made.running) == (2, 4)

    def test_why_others_are_left(self) -> None:
        queue = [
            container(64),
            container(64),
            container(hold=True),
            container(run_after=NOW + 60),
            container(run_after=NOW + 30),
            container(run_after=NOW + 90, error="node lost", temp_fails=2),
            container(avoid=DISPATCHER, avoid_until=NOW + 5),
            container(),
        ]
        made = forecast(sight(*queue, schedulers=(scheduler(node("n1")),)))
        assert left(made) == {
            "no-node-fits": 2, "on-hold": 1, "run-after": 2, "backoff": 1, "given-back": 1
        }  # fmt: skip
        assert made.claimed == 1
        [worst, *_] = made.unclaimed
        assert "ask for at most 4 cores" in worst.reason.advice
        [waits] = [g for g in made.unclaimed if g.reason.token is ReasonToken.RUN_AFTER]
        assert waits.reason.next_attempt_at == NOW + 30

    def test_nothing_while_claims_are_paused(self) -> None:
        queue = QueueSight((container(),), dispatcher=DISPATCHER, paused="root: a backup")
        made = forecast(sight(queue=queue, schedulers=(scheduler(node("n1")),)))
        assert (made.claimed, left(made)) == (0, {"claims-paused": 1})

    def test_nothing_while_the_api_is_silent(self) -> None:
        made = forecast(
            sight(queue=None, cloud=cloud(machine("a")), schedulers=(scheduler(node("a")),))
        )
        assert (made.claimed, made.boots, made.changes) == (0, (), ())
        assert made.stale == "there is no news of the API yet"


class TestSchedulers:
    def test_nothing_while_the_only_one_is_silent(self) -> None:
        made = forecast(sight(container(), schedulers=(scheduler(error="timed out"),)))
        assert (made.claimed, left(made)) == (0, {"scheduler-down": 1})

    def test_jobs_of_a_silent_one_are_left_alone(self) -> None:
        made = forecast(sight(held=(locked(),), schedulers=(scheduler(error="timed out"),)))
        assert (made.unknown, made.works) == (1, ())

    def test_a_job_that_a_partial_list_lacks_is_not_submitted_again(self) -> None:
        made = forecast(
            sight(held=(locked(),), schedulers=(scheduler(node("n1"), complete=False),))
        )
        assert (made.unknown, made.works) == (1, ())

    def test_each_gets_what_its_rule_takes(self) -> None:
        several = (
            scheduler(node("n1"), name="a", title="a", rule=Rule(cores=Span(1, 1))),
            scheduler(node("n2"), name="b", title="b"),
        )
        made = forecast(sight(container(1), container(2), container(8), schedulers=several))
        assert {(w.scheduler, w.shape.resources.cores) for w in made.works} == {("a", 1), ("b", 2)}
        assert left(made) == {"no-scheduler": 1}

    def test_another_gets_the_work_of_a_silent_one(self) -> None:
        several = (
            scheduler(name="a", title="a", error="timed out"),
            scheduler(node("n2"), name="b", title="b"),
        )
        made = forecast(sight(container(), schedulers=several))
        assert [work.scheduler for work in made.works] == ["b"]


class TestJobs:
    def test_what_has_no_job_is_submitted(self) -> None:
        held = locked()
        made = forecast(sight(held=(held,), schedulers=(scheduler(node("n1")),)))
        [work] = made.works
        assert (work.claimed, work.resubmitted, work.waiting) == (0, 1, 0)

    def test_what_waits_is_packed_with_the_others(self) -> None:
        held = locked(2)
        made = forecast(
            sight(
                container(2),
                held=(held,),
                schedulers=(scheduler(jobs=(job(held),)),),
                cloud=cloud(),
            )
        )
        [work] = made.works
        assert (work.claimed, work.resubmitted, work.waiting) == (1, 0, 1)
        assert made.boots == (Boot(SMALL, 2),)

    def test_what_nobody_wants_is_cancelled(self) -> None:
        held = locked(priority=0)
        queue = QueueSight((), (held,), DISPATCHER, finished_jobs=("zzzzz-dz642-999999999999999",))
        made = forecast(sight(queue=queue, schedulers=(scheduler(jobs=(job(held),)),)))
        assert made.cancelled == (held.uuid, "zzzzz-dz642-999999999999999")
        assert made.works == ()

    def test_a_command_that_is_the_job_itself_runs_before_it_is_confirmed(self) -> None:
        held = locked()
        jobs = (replace(job(held, JobState.RUNNING, "n1"), runner_id="pod-1"),)
        made = forecast(sight(held=(held,), schedulers=(scheduler(node("n1"), jobs=jobs),)))
        assert (made.running, made.ending) == (1, 0)

    @pytest.mark.parametrize("state", [ContainerState.LOCKED, ContainerState.RUNNING])
    def test_what_has_ended_is_written_down(self, state: ContainerState) -> None:
        held = replace(locked(), state=state)
        jobs = (job(held, JobState.ENDED),)
        made = forecast(sight(held=(held,), schedulers=(scheduler(node("n1"), jobs=jobs),)))
        assert (made.ending, made.running, made.works) == (1, 0, ())


class TestNodes:
    def test_are_booted_for_what_is_claimed(self) -> None:
        made = forecast(sight(*(container(2) for _ in range(3)), cloud=cloud()))
        assert made.boots == (Boot(SMALL, 3),)
        assert (made.price_now, round(made.price_then, 6)) == (0, 0.3)
        assert reached(made) == []
        [lot] = made.works[0].lots
        assert (lot.count, lot.reason.token) == (3, ReasonToken.NODE_BOOTING)

    def test_all_of_them_however_many_go_in_a_turn(self) -> None:
        made = forecast(
            sight(
                *(container(2) for _ in range(9)), cloud=cloud(one_per_node=True, boots_per_turn=2)
            )
        )
        assert made.boots == (Boot(SMALL, 9),)
        assert made.boots_per_turn == 2

    def test_it_is_said_when_there_was_no_time_to_pack_all(self) -> None:
        seen = sight(*(container(2) for _ in range(3)), cloud=cloud())
        assert forecast(seen).is_packed
        assert not forecast(seen, lambda: lambda: True).is_packed

    def test_no_more_than_max_nodes(self) -> None:
        made = forecast(sight(*(container(8) for _ in range(3)), cloud=cloud(max_nodes=2)))
        assert made.boots == (Boot(LARGE, 2),)
        assert "[Daemon] max_nodes = 2" in reached(made)
        tokens = {lot.reason.token: lot.count for lot in made.works[0].lots}
        assert tokens == {ReasonToken.NODE_BOOTING: 2, ReasonToken.NODE_LIMIT: 1}

    def test_no_more_than_the_price(self) -> None:
        made = forecast(sight(*(container(8) for _ in range(3)), cloud=cloud(max_total_price=0.8)))
        assert made.boots == (Boot(LARGE, 2),)
        assert reached(made) == ["[Daemon] max_total_price = 0.8 per hour"]
        assert made.price_then <= 0.8

    def test_none_while_the_cloud_is_silent(self) -> None:
        silent = replace(cloud(), machines=None)
        made = forecast(sight(container(), schedulers=(scheduler(node("n1")),), cloud=silent))
        assert (made.boots, made.claimed) == ((), 1)
        assert made.stale == "there is no news of the cloud yet"
        [lot] = made.works[0].lots
        assert lot.nodes == ("n1",)

    def test_room_on_those_that_are_here_is_used_first(self) -> None:
        made = forecast(
            sight(container(), cloud=cloud(machine("a")), schedulers=(scheduler(node("a", 2)),))
        )
        assert (made.boots, made.changes) == ((), ())
        assert made.works[0].lots[0].nodes == ("a",)
        assert made.phases == {"idle": 1}

    def test_one_that_nothing_waits_for_is_shut_when_it_has_been_idle(self) -> None:
        seen = sight(
            cloud=cloud(machine("a"), machine("b"), min_nodes=1, idle_time=300.0),
            schedulers=(scheduler(node("a", 2), node("b", 2)),),
        )
        made = forecast(seen)
        assert changes(made) == {"a": ChangeKind.SHUT}
        assert (made.price_now, made.price_then) == (0.2, 0.1)

    def test_one_outside_its_shutdown_window_stays(self) -> None:
        closed = cloud(machine("a", age=60.0), shutdown_windows=(50.0, 999999.0))
        assert forecast(sight(cloud=closed, schedulers=(scheduler(node("a", 2)),))).changes == ()

    def test_one_that_never_joined_is_destroyed(self) -> None:
        made = forecast(sight(cloud=cloud(machine("a"))))
        assert changes(made) == {"a": ChangeKind.DESTROY}
        assert made.changes[0].why == "it never joined the scheduler"

    def test_one_that_boots_is_waited_for(self) -> None:
        made = forecast(sight(container(2), cloud=cloud(machine("a", age=10.0))))
        assert (made.phases, made.boots, made.changes) == ({"booting": 1}, (), ())
        assert made.works[0].lots[0].reason.facts["size"] == "small"

    def test_one_that_a_former_process_drained_is_used_again(self) -> None:
        drained = replace(
            node("a", 2, state=NodeState.DRAINED), reason=f"{DRAIN_PREFIX}idle, and nothing waits"
        )
        made = forecast(
            sight(container(2), cloud=cloud(machine("a")), schedulers=(scheduler(drained),))
        )
        assert changes(made) == {"a": ChangeKind.RESUME}
        assert made.boots == ()

    def test_one_that_an_operator_holds_is_left_alone(self) -> None:
        held = replace(machine("a"), tags={**machine("a").tags, BEHAVIOUR_TAG: "hold"})
        made = forecast(sight(cloud=cloud(held), schedulers=(scheduler(node("a", 2)),)))
        assert changes(made) == {"a": ChangeKind.DRAIN}

    def test_nothing_happens_to_nodes_that_the_scheduler_does_not_tell_of(self) -> None:
        made = forecast(sight(cloud=cloud(machine("a")), schedulers=(scheduler(error="down"),)))
        assert (made.changes, made.stale) == ((), "there is no news of the scheduler yet")


@st.composite
def sights(draw: st.DrawFn) -> Sight:
    """Anything that can be seen."""
    cores = st.sampled_from([1, 2, 4, 8, 32])
    queue = [
        container(n, hold=hold, run_after=after, priority=priority)
        for n, hold, after, priority in draw(
            st.lists(
                st.tuples(
                    cores, st.booleans(), st.sampled_from([None, NOW + 60]), st.integers(1, 3)
                ),
                max_size=30,
            )
        )
    ]
    held, jobs = [], []
    for n, state in draw(
        st.lists(st.tuples(cores, st.sampled_from([None, *JobState])), max_size=6)
    ):
        held.append(locked(n))
        if state is not None:
            jobs.append(job(held[-1], state, "n1"))
    nodes = [
        node(f"n{number}", total, min(total, used))
        for number, (total, used) in enumerate(
            draw(st.lists(st.tuples(cores, cores), max_size=4)), start=1
        )
    ]
    machines = [machine(each.name) for each in nodes if draw(st.booleans())]
    account = cloud(
        *machines,
        max_nodes=draw(st.integers(0, 6)),
        min_nodes=draw(st.integers(0, 2)),
        max_total_price=draw(st.sampled_from([0.0, 0.5, 2.0])),
        one_per_node=draw(st.booleans()),
    )
    return sight(
        *sorted(queue, key=lambda c: (-c.priority, c.created_at)),
        held=tuple(held),
        max_claimed=draw(st.sampled_from([0, 5])),
        schedulers=(scheduler(*nodes, jobs=tuple(jobs)),),
        cloud=draw(st.sampled_from([None, account])),
    )


@given(sights())
def test_every_container_is_told_of_once(seen: Sight) -> None:
    made = forecast(seen)
    assert seen.queue is not None
    assert made.claimed + sum(group.count for group in made.unclaimed) == len(seen.queue.queued)
    submitted = sum(work.resubmitted + work.waiting for work in made.works)
    assert submitted + made.running + made.ending + made.unknown + len(made.cancelled) == len(
        seen.queue.held
    )
    for work in made.works:
        assert sum(lot.count for lot in work.lots) == work.claimed + work.resubmitted + work.waiting


@given(sights())
def test_no_limit_is_passed(seen: Sight) -> None:
    made = forecast(seen)
    if seen.cloud is None:
        assert made.boots == ()
        return
    policy = seen.cloud.policy
    here = len(seen.cloud.machines or ())
    assert here + sum(boot.count for boot in made.boots) <= max(here, policy.max_nodes)
    if policy.max_total_price and made.boots:
        ordered = sum(boot.count * boot.size.price for boot in made.boots)
        assert made.price_now + ordered <= policy.max_total_price + 1e-9


def test_thousands_of_like_containers_are_one_line() -> None:
    like = [container(1) for _ in range(5000)]
    huge = [container(999) for _ in range(5000)]
    made = forecast(sight(*like, *huge, max_claimed=5000, schedulers=(scheduler(node("n1")),)))
    assert [(work.claimed, len(work.lots)) for work in made.works] == [(5000, 2)]
    assert [group.count for group in made.unclaimed] == [5000]
