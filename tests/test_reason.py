"""Reasons as values."""

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.reason import Reason, ReasonToken


@given(
    st.builds(
        Reason,
        st.sampled_from(ReasonToken),
        st.text(),
        st.dictionaries(st.text(), st.integers()),
        st.text(),
        st.integers(0, 4_000_000_000).map(float),
        st.none() | st.integers(0, 4_000_000_000).map(float),
    )
)
def test_reasons_survive_the_round_trip(reason: Reason) -> None:
    assert Reason.from_dict(reason.as_dict()) == reason
