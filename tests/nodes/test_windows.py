"""When a node may be shut; the cases named after the old node manager's are its `ShutdownTimer` tests."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.nodes.windows import is_open, until_open

MINUTE = 60.0

# Quarters of a minute and of a second: sums of them are exact, so that equality can be asked for.
quarters = st.integers(0, 240).map(lambda n: n / 4)
some_windows = st.lists(quarters, min_size=2, max_size=6)
ages = st.integers(0, 400_000).map(lambda n: n / 4)


def test_two_length_window() -> None:
    windows = (8, 2)
    assert not is_open(windows, 0)
    assert until_open(windows, 0) == 8 * MINUTE
    assert is_open(windows, 500)
    assert until_open(windows, 500) == 0
    assert not is_open(windows, 10 * MINUTE)
    assert until_open(windows, 10 * MINUTE) == 8 * MINUTE


def test_three_length_window() -> None:
    """The closed end of one round and the closed beginning of the next run into each other."""
    windows = (6, 3, 1)
    assert until_open(windows, 0) == 6 * MINUTE
    assert is_open(windows, 6 * MINUTE)
    assert not is_open(windows, 9 * MINUTE)
    assert until_open(windows, 9 * MINUTE) == 7 * MINUTE
    assert is_open(windows, 16 * MINUTE)


def test_billing_by_the_hour_leaves_five_minutes_in_each() -> None:
    windows = (54, 5, 1)
    opened = [minute for minute in range(180) if is_open(windows, minute * MINUTE)]
    assert opened == [*range(54, 59), *range(114, 119), *range(174, 179)]


def test_fractions_of_a_minute() -> None:
    assert until_open((0.05, 999999), 1) == pytest.approx(2)
    assert is_open((0.05, 999999), 3)


@pytest.mark.parametrize("windows", [(0, 0), (5, 0), (5, 0, 5)])
def test_windows_that_never_open(windows: Sequence[float]) -> None:
    assert until_open(windows, 17) is None
    assert not is_open(windows, 17)


def test_a_clock_that_was_set_back_leaves_the_node_at_its_beginning() -> None:
    assert until_open((8, 2), -100) == 8 * MINUTE


@given(some_windows, ages)
def test_the_wait_ends_exactly_where_the_window_opens(windows: list[float], age: float) -> None:
    wait = until_open(windows, age)
    assert is_open(windows, age) == (wait == 0)
    if wait is None:
        assert not any(windows[1::2])
    elif wait > 0:
        assert is_open(windows, age + wait)
        assert not is_open(windows, age + wait - 0.25)
        assert until_open(windows, age + wait / 2) == wait / 2


@given(some_windows, ages)
def test_it_repeats(windows: list[float], age: float) -> None:
    period = sum(windows) * MINUTE
    assert until_open(windows, age + period) == until_open(windows, age)
