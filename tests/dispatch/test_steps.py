"""Every situation has one next step, and no step leads nowhere."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.dispatch.steps import (
    JobPhase,
    Situation,
    Step,
    next_step,
    outcome,
    wait_reason,
)
from nodemanager.model import Container, ContainerState, JobState, Resources
from nodemanager.outcome import DEFAULT_TEMPFAIL_EXITS, End, EndKind
from nodemanager.reason import Reason, ReasonToken
from nodemanager.schedulers.jobs import JobReport

UUID = "zzzzz-dz642-000000000000001"
LOCKED = Container(UUID, ContainerState.LOCKED, 5, Resources(1, 1), 0.0)

situations = st.builds(
    Situation,
    container=st.builds(
        Container,
        uuid=st.just(UUID),
        state=st.sampled_from([s for s in ContainerState if s is not ContainerState.QUEUED]),
        priority=st.integers(0, 2),
        resources=st.just(Resources(1, 1)),
        created_at=st.just(0.0),
    ),
    phase=st.sampled_from(JobPhase),
    end=st.none() | st.builds(End, st.sampled_from(EndKind)),
    read_after_end=st.booleans(),
    has_token=st.booleans(),
    abandoned=st.booleans(),
    linger_over=st.booleans(),
    needs_work=st.booleans(),
    has_work=st.booleans(),
    fault=st.sampled_from(("", "no such mount")),
    runner_id=st.sampled_from(("", "pod-1")),
    hopeless=st.sampled_from(("", "no such image")),
    collected=st.booleans(),
)


def step(phase: JobPhase, state: str = "Locked", priority: int = 5, **more: Any) -> Step:
    container = replace(LOCKED, state=ContainerState(state), priority=priority)
    return next_step(Situation(container, phase, **more))


def test_the_way_of_a_container_that_was_claimed() -> None:
    assert step(JobPhase.NONE) is Step.GET_TOKEN
    assert step(JobPhase.NONE, has_token=True) is Step.SUBMIT
    for phase in (JobPhase.SUBMITTING, JobPhase.WAITING, JobPhase.RUNNING):
        assert step(phase) is Step.WAIT
    assert step(JobPhase.RUNNING, "Complete") is Step.WAIT
    assert step(JobPhase.ENDED, "Complete") is Step.LET_GO


def test_the_way_of_a_job_that_is_the_command_itself() -> None:
    runs: dict[str, Any] = {"has_token": True, "needs_work": True}
    assert step(JobPhase.NONE, **runs) is Step.GET_WORK
    assert step(JobPhase.NONE, **runs, has_work=True) is Step.SUBMIT
    assert step(JobPhase.RUNNING, **runs) is Step.WAIT, "it has a node, and has not started"
    started: dict[str, Any] = {**runs, "runner_id": "pod-1"}
    assert step(JobPhase.RUNNING, **started) is Step.CONFIRM
    assert step(JobPhase.RUNNING, "Running", **started) is Step.WAIT
    assert step(JobPhase.ENDED, "Locked", **started) is Step.CONFIRM, "seen when it was over"
    late = {**started, "collected": True}
    assert step(JobPhase.ENDED, "Locked", **late) is Step.CONFIRM, "its priority was 0 meanwhile"
    assert step(JobPhase.ENDED, "Running", **started) is Step.COLLECT
    assert step(JobPhase.ENDED, "Running", **started, collected=True) is Step.READ
    done: dict[str, Any] = {**started, "collected": True, "read_after_end": True}
    assert step(JobPhase.ENDED, "Running", **done) is Step.WRITE


def test_a_job_that_never_started_leaves_nothing_to_collect() -> None:
    assert step(JobPhase.ENDED, needs_work=True, read_after_end=True) is Step.WRITE


def test_a_hopeless_job_is_cancelled_and_says_why() -> None:
    assert step(JobPhase.WAITING, hopeless="no such image") is Step.CANCEL_JOB
    ended = Situation(LOCKED, JobPhase.ENDED, End(EndKind.CANCELLED), hopeless="no such image")
    final = outcome(ended, DEFAULT_TEMPFAIL_EXITS)
    assert final.state is ContainerState.TEMPFAIL
    assert "no such image" in final.error


def test_a_request_at_fault_is_never_submitted() -> None:
    assert step(JobPhase.NONE, has_token=True, needs_work=True, fault="bad mount") is Step.WRITE
    final = outcome(Situation(LOCKED, JobPhase.NONE, fault="bad mount"), DEFAULT_TEMPFAIL_EXITS)
    assert final.state is ContainerState.PERMFAIL
    assert "bad mount" in final.error


def test_a_job_that_ended_without_a_word() -> None:
    assert step(JobPhase.ENDED, "Running") is Step.READ
    assert step(JobPhase.ENDED, "Running", read_after_end=True) is Step.WRITE


def test_a_running_container_whose_job_is_not_there_is_never_submitted() -> None:
    assert step(JobPhase.NONE, "Running", has_token=True) is Step.READ
    assert step(JobPhase.NONE, "Running", read_after_end=True) is Step.WRITE


def test_an_adopted_container_is_looked_for_first() -> None:
    for state in ("Locked", "Running"):
        assert step(JobPhase.UNKNOWN, state) is Step.LOOK


def test_priority_0_cancels() -> None:
    assert step(JobPhase.RUNNING, priority=0) is Step.CANCEL_JOB
    assert step(JobPhase.NONE, priority=0) is Step.WRITE
    cancelled = Situation(replace(LOCKED, priority=0), JobPhase.ENDED, End(EndKind.EXITED, 1))
    assert outcome(cancelled, DEFAULT_TEMPFAIL_EXITS).state is ContainerState.CANCELLED


def test_a_job_that_outlives_its_container_is_cancelled_in_time() -> None:
    assert step(JobPhase.RUNNING, "TempFail", linger_over=True) is Step.CANCEL_JOB
    assert step(JobPhase.RUNNING, "Cancelled") is Step.CANCEL_JOB


@given(situations)
def test_nothing_is_submitted_that_may_run_already(situation: Situation) -> None:
    if next_step(situation) is Step.SUBMIT:
        assert situation.phase is JobPhase.NONE
        assert situation.container.state is ContainerState.LOCKED
        assert situation.container.priority > 0
        assert not situation.abandoned


@given(situations)
def test_nothing_is_let_go_with_a_job_or_without_an_end(situation: Situation) -> None:
    if next_step(situation) is Step.LET_GO:
        assert not situation.has_job
        assert situation.abandoned or situation.container.state.is_final


@given(situations)
def test_an_abandoned_container_is_never_written(situation: Situation) -> None:
    abandoned = replace(situation, abandoned=True)
    allowed = (Step.LOOK, Step.CANCEL_JOB, Step.LET_GO)
    assert next_step(abandoned) in allowed


@given(situations)
def test_a_final_container_is_never_written(situation: Situation) -> None:
    if situation.container.state.is_final:
        assert next_step(situation) not in (Step.WRITE, Step.SUBMIT, Step.GET_TOKEN)


@given(situations)
def test_whatever_is_written_is_final_and_allowed(situation: Situation) -> None:
    if next_step(situation) is Step.WRITE:
        state = outcome(situation, DEFAULT_TEMPFAIL_EXITS).state
        assert state.is_final
        if state is ContainerState.COMPLETE:
            # Only the end of the command itself says so, and its output has been seen to.
            assert situation.end == End(EndKind.EXITED, 0)
            assert situation.runner_id
            assert situation.collected


def waiting(words: str = "Resources", waits_for: Reason | None = None) -> JobReport:
    return JobReport(UUID, JobState.WAITING, words=words, waits_for=waits_for)


@given(situations, st.none() | st.just(waiting()))
def test_whoever_is_claimed_and_does_not_run_has_a_reason(
    situation: Situation, report: JobReport | None
) -> None:
    reason = wait_reason(situation, report, 1.0)
    assert (reason is None) is (
        situation.container.state.is_final or situation.container.state is ContainerState.RUNNING
    )
    assert reason is None or reason.since == 1.0


def test_the_schedulers_words_are_in_the_reason() -> None:
    reason = wait_reason(Situation(LOCKED, JobPhase.WAITING), waiting(), 1.0)
    assert reason is not None
    assert reason.token is ReasonToken.SCHEDULER_WAIT
    assert "Resources" in reason.sentence


def test_what_a_module_makes_of_its_words_is_the_reason() -> None:
    known = Reason(ReasonToken.SCHEDULER_HOLD, "held by an administrator", {"word": "JobHeldAdmin"})
    reason = wait_reason(Situation(LOCKED, JobPhase.WAITING), waiting(waits_for=known), 1.0)
    assert reason == replace(known, since=1.0)


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        (Situation(LOCKED, JobPhase.UNKNOWN), "looked for"),
        (Situation(LOCKED, JobPhase.NONE), "token"),
        (Situation(LOCKED, JobPhase.NONE, has_token=True, needs_work=True), "command"),
        (Situation(LOCKED, JobPhase.NONE, has_token=True), "being submitted"),
        (Situation(LOCKED, JobPhase.SUBMITTING), "being submitted"),
    ],
)
def test_on_its_way_to_the_scheduler_it_says_how_far_it_is(
    situation: Situation, words: str
) -> None:
    reason = wait_reason(situation, None, 1.0)
    assert reason is not None
    assert reason.token is ReasonToken.SUBMITTING
    assert words in reason.sentence
