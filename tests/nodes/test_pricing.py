"""What resources are worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from nodemanager.nodes.packing.kinds import Amounts
from nodemanager.nodes.packing.pricing import Market, worth

rooms = st.tuples(
    st.integers(0, 64),
    st.integers(0, 64).map(lambda gib: gib << 30),
    st.sampled_from([0, 0, 1 << 40]),
    st.integers(0, 4),
)
offers = st.lists(st.tuples(rooms, st.floats(0.01, 10)), max_size=12)
totals = st.tuples(
    st.integers(0, 10**6),
    st.integers(0, 10**6).map(lambda gib: gib << 30),
    st.sampled_from([0, 1 << 50]),
    st.integers(0, 1000),
)


@given(offers, st.lists(totals, min_size=1, max_size=4))
def test_no_prices_make_the_total_worth_more_and_no_size_worth_more_than_it_costs(
    offers: list[tuple[Amounts, float]], totals: list[Amounts]
) -> None:
    market = Market(offers)
    for total in totals:
        prices = market.prices(total)
        assert all(price >= -1e-12 for price in prices)
        for room, cost in offers:
            assert worth(prices, room) <= cost * (1 + 1e-9)
        assert worth(prices, total) == pytest.approx(_best_by_scipy(offers, total), rel=1e-6)


def _best_by_scipy(offers: list[tuple[Amounts, float]], total: Amounts) -> float:
    if not offers:
        return 0.0
    scale = np.array([1.0, 1 << 30, 1 << 30, 1.0])
    had = np.array([room for room, _ in offers]) / scale
    # What no size has is worth nothing here: it would be worth anything.
    gain = np.where(had.max(axis=0) > 0, np.array(total) / scale, 0.0)
    answer = linprog(-gain, A_ub=had, b_ub=[cost for _, cost in offers], method="highs")
    return float(-answer.fun)


def test_prices_change_only_when_another_size_becomes_worth_buying() -> None:
    market = Market([((1, 2, 0, 0), 2.0), ((1, 8, 0, 0), 5.0)])
    mixed = market.prices((10, 50, 0, 0))
    assert mixed == pytest.approx((1.0, 0.5, 0.0, 0.0))
    assert market.prices((10, 40, 0, 0)) == mixed
    assert market.prices((10, 10, 0, 0)) == pytest.approx((2.0, 0.0, 0.0, 0.0))
    assert market.prices((10, 100, 0, 0)) == pytest.approx((0.0, 0.625, 0.0, 0.0))
    assert market.prices((10, 50, 0, 0)) == pytest.approx(mixed)
