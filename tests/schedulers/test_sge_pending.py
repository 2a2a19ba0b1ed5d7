"""What Grid Engine says of a job that waits, summed up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.reason import Knob, ReasonToken
from nodemanager.schedulers.sge.pending import OBSTACLES, reason_of
from nodemanager.schedulers.sge.states import JobLetters

QUEUED = JobLetters("qw")

EXAMPLES = {
    "held": ["Job is in hold state"],
    "limit": [
        "job dropped because of user limitations",
        'cannot run because it exceeds limit "ada/////" in rule "max_slots/1"',
        'Job cannot run in queue instance "all.q@n1" because it exceeds limit in rule 1',
    ],
    "lacking": [
        '(-l h_vmem=64G) cannot run at host "n1" because it offers only hc:h_vmem=16.000G',
        "(-l gpu=1) cannot run globally because it offers only gc:gpu=0",
        '(-l h_rt=9000) cannot run in queue "n1" because it offers only qf:h_rt=01:00:00',
    ],
    "slots": [
        'cannot run in PE "smp" because it only offers 0 slots',
        "cannot run because resources requested are not available for parallel job",
    ],
    "all full": ["All queues dropped because of overload or full"],
    "full": ['queue instance "all.q@n1" dropped because it is full'],
    "overloaded": [
        'queue instance "all.q@n1" dropped because it is overloaded: np_load_avg=2.0 >= 1.75'
    ],
    "unavailable": ['queue instance "all.q@n1" dropped because it is temporarily not available'],
    "disabled": ['queue instance "all.q@n1" dropped because it is disabled'],
    "suspended": ['queue instance "all.q@n1" dropped because it is suspended'],
    "too long": [
        'cannot run in queue instance "short.q@n1" because the job runtime of 9000 sec. is too long'
    ],
    "not allowed": [
        'has no permission for cluster queue "private.q"',
        "Job 7 has no permission for host n1",
        'cannot run because no access to PE "smp"',
    ],
    "dependency": ["job dropped because of job dependencies"],
    "time": ["jobs dropped because execution time not reached: "],
    "not in its list": [
        'cannot run in queue "large.q" because it is not contained in its hard queue list (-q)'
    ],
    "not suitable": [
        'cannot run in queue "large.q" because PE "smp" is not in PE list',
        'cannot run in queue instance "all.q@n1" because the job is not parallel',
        'cannot run in queue instance "all.q@n1" because it is not of type batch',
    ],
}


@pytest.mark.parametrize(
    ("name", "message"), [(name, m) for name, messages in EXAMPLES.items() for m in messages]
)
def test_each_message_is_known(name: str, message: str) -> None:
    reason = reason_of((message,), QUEUED)
    obstacle = OBSTACLES[name]
    assert reason.facts["nodes"] == {name: 1}
    assert reason.token is obstacle.token
    assert obstacle.sentence.split("{n}")[-1].split()[-1] in reason.sentence
    assert reason.advice or reason.knob is Knob.NOBODY


def test_every_obstacle_has_an_example() -> None:
    assert EXAMPLES.keys() == OBSTACLES.keys()


def test_many_are_summed_up() -> None:
    full = tuple(f'queue instance "all.q@n{n}" dropped because it is full' for n in range(200))
    other = tuple(EXAMPLES["disabled"] + EXAMPLES["not in its list"])
    reason = reason_of(full + other, QUEUED)
    assert reason.token is ReasonToken.WAITING_FOR_RESOURCES
    assert reason.sentence == (
        "its job waits in the queue: 200 queue instances are full; 1 queue instance is disabled"
    )
    assert reason.facts["nodes"] == {"full": 200, "disabled": 1, "not in its list": 1}


def test_what_it_asks_for_stands_against_what_there_is() -> None:
    reason = reason_of(tuple(EXAMPLES["lacking"][:1]), QUEUED)
    assert reason.sentence == (
        "its job waits in the queue: 1 host or queue has less free than it asks for "
        "(h_vmem=64G; for example hc:h_vmem=16.000G)"
    )
    assert reason.facts["asked"] == ["h_vmem=64G"]
    assert reason.facts["offered"] == ["hc:h_vmem=16.000G"]
    assert "ask for less" in reason.advice


def test_a_limit_says_more_than_full_queues() -> None:
    reason = reason_of(tuple(EXAMPLES["full"] + EXAMPLES["limit"]), QUEUED)
    assert (reason.token, reason.knob) == (ReasonToken.SCHEDULER_LIMIT, Knob.SITE)


def test_a_held_job_is_on_hold_whatever_else_is_said() -> None:
    reason = reason_of(tuple(EXAMPLES["full"]), JobLetters("hqw"))
    assert reason.token is ReasonToken.SCHEDULER_HOLD
    assert "hqw" in reason.sentence
    assert "qrls" in reason.advice


def test_without_a_message_its_letters_are_shown() -> None:
    reason = reason_of((), QUEUED)
    assert reason.token is ReasonToken.SCHEDULER_WAIT
    assert reason.sentence == "its job waits in the queue: queued, waiting (qw)"
    assert "qstat -j" in reason.advice


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=9, unique=True))
def test_what_is_not_known_is_shown_as_it_is(messages: list[str]) -> None:
    unknown = [message for message in messages if "full" not in message]
    reason = reason_of(tuple(unknown), QUEUED)
    assert all(message in reason.sentence for message in unknown[:3])
    assert ("more" in reason.sentence.split("; ")[-1]) >= (len(unknown) > 3)


def test_jobs_of_which_nothing_is_said_share_one_reason() -> None:
    assert reason_of((), QUEUED) is reason_of((), JobLetters("qw"))
