"""What a core, a byte of RAM or scratch and a GPU are worth, given what waits and what nodes cost.

The least that nodes for a total demand can cost, if containers could be poured like water, is a small linear
program: buy fractions of sizes that together have the total, as cheaply as possible. Its dual has one unknown
per resource: prices at which no size holds more than it costs, and the total is worth the most. A container's
value at these prices says which are dear to place; a node whose containers are worth what it costs is a
bargain, whatever they are; and the value of all is a lower bound of the cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nodemanager.nodes.packing.kinds import Amounts, Waiting

Prices = tuple[float, float, float, float]
FREE: Prices = (0.0, 0.0, 0.0, 0.0)

_TINY = 1e-9
_LEAST_VALUE = 1e-9
"""Of what needs only what is to be had for nothing: it is placed last, but placed."""
_MOST_PIVOTS = 40


def worth(prices: Prices, need: Amounts) -> float:
    """What `need` costs at `prices`."""
    return prices[0] * need[0] + prices[1] * need[1] + prices[2] * need[2] + prices[3] * need[3]


class Market:
    """The sizes that some containers may choose from. It keeps its last prices and goes on from there: they
    change seldom while the total shrinks."""

    def __init__(self, offers: Iterable[tuple[Amounts, float]]) -> None:
        """`offers` are what nodes hold and what they cost, which is more than nothing."""
        rows = _best([tuple(has / cost for has in holds) for holds, cost in offers])
        self._scale = [max((row[r] for row in rows), default=0.0) for r in range(4)]
        # One row for each size: the prices that are not zero, in terms of those that are and of the slacks.
        self._rows = [
            [*(has / (scale or 1.0) for has, scale in zip(row, self._scale, strict=True)), 1.0]
            for row in rows
        ]
        self._row_of: dict[int, int] = {}
        """By resource whose price is not zero."""
        self._columns: list[int | None] = [0, 1, 2, 3]
        """The resource whose price is zero, or None for a slack."""

    def prices(self, total: Sequence[int]) -> Prices:
        """At which a demand of `total` is worth the most."""
        # What no size has is in rooms, if anywhere, and worth nothing here.
        wanted = [
            amount / scale if scale else 0.0
            for amount, scale in zip(total, self._scale, strict=True)
        ]
        most = max(wanted)
        if most > 0:
            self._climb([amount / most for amount in wanted])
        return self._price(0), self._price(1), self._price(2), self._price(3)

    def _price(self, resource: int) -> float:
        row = self._row_of.get(resource)
        return 0.0 if row is None else self._rows[row][4] / self._scale[resource]

    def _climb(self, wanted: list[float]) -> None:
        """The simplex method: as long as some column makes the total worth more, exchange it."""
        for _ in range(_MOST_PIVOTS):
            gains = [0.0 if r is None else wanted[r] for r in self._columns]
            for resource, at in self._row_of.items():
                row, amount = self._rows[at], wanted[resource]
                gains = [gain - amount * x for gain, x in zip(gains, row, strict=False)]
            column = max(range(4), key=gains.__getitem__)
            if gains[column] <= _TINY:
                return
            limits = [(r[4] / r[column], i) for i, r in enumerate(self._rows) if r[column] > _TINY]
            if not limits:
                return
            self._exchange(min(limits)[1], column)

    def _exchange(self, pivot: int, column: int) -> None:
        row = self._rows[pivot]
        divisor = row[column]
        row = [x / divisor for x in row]
        row[column] = 1 / divisor
        self._rows[pivot] = row
        for index, other in enumerate(self._rows):
            factor = other[column]
            if index != pivot and factor:
                changed = [x - factor * y for x, y in zip(other, row, strict=True)]
                changed[column] = -factor / divisor
                self._rows[index] = changed
        leaving = next((r for r, at in self._row_of.items() if at == pivot), None)
        if leaving is not None:
            del self._row_of[leaving]
        entering = self._columns[column]
        if entering is not None:
            self._row_of[entering] = pivot
        self._columns[column] = leaving


def _best(rows: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Without those that hold no more of anything, for the money, than another."""
    kept: list[tuple[float, ...]] = []
    for row in sorted(set(rows), reverse=True):
        if not any(all(x >= y for x, y in zip(k, row, strict=True)) for k in kept):
            kept.append(row)
    return kept


class Values:
    """What containers are worth by kind, each at the prices of the sizes it may choose from."""

    def __init__(
        self, waiting: Waiting, offers: Sequence[tuple[Amounts, tuple[bool, ...], float]]
    ) -> None:
        """`offers`: what nodes hold, which audiences they welcome, what they cost."""
        self._waiting = waiting
        choices: dict[tuple[int, ...], list[int]] = {}
        for audience in waiting.audiences:
            choice = tuple(i for i, (_, welcome, _) in enumerate(offers) if welcome[audience])
            choices.setdefault(choice, []).append(audience)
        self._market_of = [0] * len(waiting.audiences)
        self._markets: list[Market] = []
        for choice, audiences in choices.items():
            for audience in audiences:
                self._market_of[audience] = len(self._markets)
            self._markets.append(Market((offers[i][0], offers[i][2]) for i in choice))
        self._prices: list[Prices] = [FREE] * len(self._markets)
        self._dearest: dict[tuple[bool, ...], Prices] = {}
        """Of the markets of those who are welcome."""
        self.of: list[float] = [_LEAST_VALUE] * len(waiting)
        """By kind."""

    def update(self, counts: Sequence[int]) -> bool:
        """Reckon the prices for so many of each kind; returns whether they have changed."""
        totals = [[0, 0, 0, 0] for _ in self._markets]
        for count, need, audience in zip(
            counts, self._waiting.needs, self._waiting.audience, strict=True
        ):
            if count:
                total = totals[self._market_of[audience]]
                for resource in range(4):
                    total[resource] += count * need[resource]
        prices = [
            market.prices(total) if any(total) else old
            for market, total, old in zip(self._markets, totals, self._prices, strict=True)
        ]
        if prices == self._prices:
            return False
        self._prices = prices
        self._dearest = {}
        self.of = [
            worth(prices[self._market_of[audience]], need) or _LEAST_VALUE
            for need, audience in zip(self._waiting.needs, self._waiting.audience, strict=True)
        ]
        return True

    def most(self, room: Amounts, welcome: tuple[bool, ...]) -> float:
        """No containers in `room`, on a node that welcomes these audiences, are worth more than this."""
        prices = self._dearest.get(welcome)
        if prices is None:
            markets = {self._market_of[a] for a, may in enumerate(welcome) if may}
            each = [max((self._prices[m][r] for m in markets), default=0.0) for r in range(4)]
            prices = self._dearest[welcome] = (each[0], each[1], each[2], each[3])
        return worth(prices, room) or _LEAST_VALUE
