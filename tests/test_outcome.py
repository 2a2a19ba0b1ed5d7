"""The table of the design page, section 5, row by row."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.model import ContainerState
from nodemanager.outcome import End, EndKind, judge, judge_job

EXITED, SIGNALLED = EndKind.EXITED, EndKind.SIGNALLED


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (End(EXITED, 0), "Complete"),
        (End(EXITED, 75), "TempFail"),
        (End(EXITED, 111), "TempFail"),
        (End(EXITED, 1), "PermFail"),
        (End(EXITED, 255), "PermFail"),
        *((End(SIGNALLED, n), "PermFail") for n in (11, 6, 8, 4, 7)),
        (End(SIGNALLED, signal.SIGKILL), "TempFail"),
        (End(SIGNALLED, signal.SIGTERM), "TempFail"),
        (End(EndKind.OUT_OF_MEMORY, asked=1 << 30, limit=1 << 30), "PermFail"),
        (End(EndKind.TIME_LIMIT, asked=60, limit=60), "PermFail"),
        (End(EndKind.NODE_LOST), "TempFail"),
        (End(EndKind.SCHEDULER_ERROR), "TempFail"),
        (End(EndKind.OPERATOR_DELETED), "TempFail"),
        (End(EndKind.VANISHED), "TempFail"),
        (End(EndKind.GIVEN_BACK), "TempFail"),
        (End(EndKind.CANCELLED), "Cancelled"),
    ],
)
def test_the_table(end: End, state: str) -> None:
    assert judge(end).state == state


def test_the_exits_that_ask_for_another_try_are_configurable() -> None:
    assert judge(End(EXITED, 3), frozenset({3})).state is ContainerState.TEMPFAIL
    assert judge(End(EXITED, 75), frozenset({3})).state is ContainerState.PERMFAIL


def test_limits_are_told_in_numbers() -> None:
    outcome = judge(End(EndKind.OUT_OF_MEMORY, asked=1 << 30, limit=1 << 30))
    assert "1 GiB" in outcome.error
    assert outcome.facts["ram_bytes"] == {"asked": 1 << 30, "limit": 1 << 30}
    outcome = judge(End(EndKind.TIME_LIMIT, asked=90, limit=90))
    assert "90 s" in outcome.error
    assert outcome.facts["run_seconds"] == {"asked": 90, "limit": 90}


def test_a_deleted_job_is_held() -> None:
    assert judge(End(EndKind.OPERATOR_DELETED)).as_attributes()["hold"] is True


def test_work_given_back_says_so() -> None:
    assert judge(End(EndKind.GIVEN_BACK)).as_attributes()["given_back"] is True


@given(
    st.builds(
        End,
        st.sampled_from(EndKind),
        st.integers(0, 255),
        st.integers(0),
        st.integers(0),
        st.text(),
    )
)
def test_every_end_has_a_final_state_and_words(end: End) -> None:
    for outcome in (judge(end), judge_job(end)):
        assert outcome.state.is_final
        assert outcome.error or outcome.state is ContainerState.COMPLETE
        assert outcome.as_attributes()["state"] == outcome.state.value


@given(st.integers(0, 255))
def test_a_runner_that_did_not_report_proves_nothing_about_the_program(code: int) -> None:
    assert judge_job(End(EXITED, code)).state is ContainerState.TEMPFAIL
    assert judge_job(End(SIGNALLED, code)).state is ContainerState.TEMPFAIL
