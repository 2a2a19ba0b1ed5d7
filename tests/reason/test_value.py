"""Reasons as values."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.reason import Knob, Reason, ReasonToken

reasons = st.builds(
    Reason,
    st.sampled_from(ReasonToken),
    st.text(),
    st.dictionaries(st.text(), st.integers()),
    st.text(),
    st.integers(0, 4_000_000_000).map(float),
    st.none() | st.integers(0, 4_000_000_000).map(float),
    st.none() | st.sampled_from(Knob),
)


@given(reasons)
def test_reasons_survive_the_round_trip(reason: Reason) -> None:
    assert Reason.from_dict(reason.as_dict()) == reason


@given(reasons)
def test_links_of_older_versions_are_read(reason: Reason) -> None:
    written = replace(reason, whose=None).as_dict()
    del written["knob"]
    assert Reason.from_dict(written) == replace(reason, whose=None, advice=written["advice"])


@given(st.sampled_from(ReasonToken))
def test_there_is_advice_where_somebody_can_do_something(token: ReasonToken) -> None:
    reason = Reason(token, "it waits")
    assert reason.advice or reason.knob is Knob.NOBODY
    assert reason.knob is token.knob
    assert Reason(token, "it waits", advice="do this").advice == "do this"


def test_a_reason_may_know_better_whose_knob_it_is() -> None:
    reason = Reason(ReasonToken.SCHEDULER_WAIT, "its partition is down", whose=Knob.OPERATOR)
    assert reason.as_dict()["knob"] == "operator"
    patience = Reason(ReasonToken.SCHEDULER_WAIT, "it was put off", whose=Knob.NOBODY)
    assert patience.advice == ""
