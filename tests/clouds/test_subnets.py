"""In which subnet a node is created."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.clouds.subnets import MOST_DOUBTS, Subnets

IDS = ["a", "b", "c"]


def test_all_are_tried_the_first_first() -> None:
    assert Subnets(IDS).to_try("n", "large") == ("a", "b", "c")
    assert Subnets([]).to_try("n", "large") == ("",)


def test_what_went_well_goes_first_for_that_kind() -> None:
    subnets = Subnets(IDS)
    subnets.worked("n", "large", "b")
    assert subnets.to_try("m", "large") == ("b", "c", "a")
    assert subnets.to_try("m", "small") == ("a", "b", "c")


def test_where_it_may_be_already_goes_before_that() -> None:
    subnets = Subnets(IDS)
    subnets.doubted("n", "c")
    subnets.worked("m", "large", "b")
    assert subnets.to_try("n", "large") == ("c", "a", "b")
    subnets.refused("n", "a")
    assert subnets.to_try("n", "large")[0] == "c"
    subnets.refused("n", "c")
    assert subnets.to_try("n", "large")[0] == "b"


def test_doubts_are_not_kept_for_ever() -> None:
    subnets = Subnets(IDS)
    for number in range(MOST_DOUBTS + 1):
        subnets.doubted(str(number), "b")
    assert subnets.to_try("0", "large")[0] == "a"
    assert subnets.to_try("1", "large")[0] == "b"


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["worked", "refused", "doubted"]),
            st.sampled_from("nm"),
            st.sampled_from(IDS),
        )
    )
)
def test_whatever_happened_each_is_tried_once(steps: list[tuple[str, str, str]]) -> None:
    subnets = Subnets(IDS)
    for what, name, subnet in steps:
        if what == "worked":
            subnets.worked(name, "large", subnet)
        elif what == "refused":
            subnets.refused(name, subnet)
        else:
            subnets.doubted(name, subnet)
    assert sorted(subnets.to_try("n", "large")) == IDS
