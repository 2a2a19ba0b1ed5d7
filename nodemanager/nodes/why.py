"""Why does each waiting container still wait, as far as nodes are concerned: the wishlist put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

from nodemanager.fit import capabilities_of, explain_misfit
from nodemanager.model import format_seconds
from nodemanager.nodes.demand import NewNodes, Offer, Packing, Shape
from nodemanager.nodes.messages import NodeStanding, Wishlist
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.stock import COMING, Limit, Stock, offer_of, tightest
from nodemanager.reason import Knob, Reason, ReasonToken

MOST_NAMES = 5
"""So many sizes are named in a sentence."""

Line = tuple[tuple[int, Reason], ...]
"""For one shape, most urgent first: so many containers wait for this reason."""


class _Place(IntEnum):
    """What kind of place it has, in the order of the time it takes."""

    HERE = 0
    STAYS = 1
    COMING = 2
    ORDERED = 3


def reasons_of(stock: Stock, wishlist: Wishlist, policy: NodePolicy) -> Mapping[Shape, Line]:
    """The reason of everything that waits.

    What has a room on a node that is here comes first in its line, with the scheduler's own token: the scheduler
    will start it, and says itself what it waits for.
    """
    lines: dict[Shape, list[tuple[int, Reason]]] = {}
    packing, words = wishlist.packing, _Words(stock, policy, wishlist.packing.new)
    placed = _placed(stock, packing, words)
    for index, demand in enumerate(wishlist.demands):
        line = lines.setdefault(demand.shape, [])
        line += placed.get(index, ())
        if count := packing.unplaced.get(index, 0):
            line.append((count, words.held(demand.shape)))
        if count := packing.unfit.get(index, 0):
            line.append((count, words.unfit(demand.shape)))
    return {shape: tuple(line) for shape, line in lines.items() if line}


def held_by(stock: Stock, policy: NodePolicy) -> Reason | None:
    """Why no node at all is booted now; None when some may be."""
    return None if tightest(stock, policy).nodes > 0 else _Words(stock, policy).limit()


def _placed(
    stock: Stock, packing: Packing, words: _Words
) -> Mapping[int, list[tuple[int, Reason]]]:
    """For each demand: those that have a place, by `_Place`."""
    nodes = {node.host: node for node in stock.nodes}
    counts: dict[int, dict[tuple[_Place, str], int]] = {}
    oldest: dict[str, NodeStanding] = {}
    for host, load in packing.rooms.items():
        place = _place_of(nodes.get(host))
        node = nodes.get(host)
        if place[1] and node is not None:
            first = oldest.setdefault(place[1], node)
            oldest[place[1]] = min(first, node, key=lambda n: n.ordered_at)
        for index, count in load.counts.items():
            by_place = counts.setdefault(index, {})
            by_place[place] = by_place.get(place, 0) + count
    for new in packing.new:
        for index, count in new.load.counts.items():
            by_place = counts.setdefault(index, {})
            place = (_Place.ORDERED, new.size.name)
            by_place[place] = by_place.get(place, 0) + count * new.count
    return {
        index: [(count, words.placed(*place, oldest)) for place, count in sorted(by_place.items())]
        for index, by_place in counts.items()
    }


def _place_of(node: NodeStanding | None) -> tuple[_Place, str]:
    """What kind of place a room is, and of which size where that matters."""
    if node is not None and node.phase in COMING and node.size is not None:
        return _Place.COMING, node.size.name
    return (_Place.STAYS if node is not None and node.leaving else _Place.HERE), ""


class _Words:
    """The sentences, each made once for a decision."""

    def __init__(self, stock: Stock, policy: NodePolicy, new: Sequence[NewNodes] = ()) -> None:
        """`new` are the nodes that others get: they use up what the limits leave."""
        self._stock = stock
        self._policy = policy
        self._offer: Offer = offer_of(stock, policy)
        self._limit: Limit = tightest(stock, policy)
        seen = [node.node for node in stock.nodes if node.node is not None]
        self._could = capabilities_of([*seen, *stock.others], self._offer.sizes)
        """Whatever is here, empty or not, and whatever may be booted."""
        self._nodes_left = self._limit.nodes - sum(part.count for part in new)
        self._spent = sum(part.count * part.size.price for part in new)

    def placed(self, place: _Place, size: str, oldest: Mapping[str, NodeStanding]) -> Reason:
        """It has a place."""
        since = self._stock.wall
        match place:
            case _Place.HERE:
                return Reason(ReasonToken.SCHEDULER_WAIT, "there is room for it", since=since)
            case _Place.STAYS:
                sentence, facts = "a node that was to leave stays for it", {}
            case _Place.COMING:
                waited = format_seconds(since - oldest[size].ordered_at)
                sentence = f"waits for a node of size {size} that is booting"
                facts = {"size": size, "node": oldest[size].name, "ordered": waited}
            case _Place.ORDERED:
                sentence = f"a node of size {size} is being ordered for it"
                facts = {"size": size}
        return Reason(ReasonToken.NODE_BOOTING, sentence, facts, since=since)

    def held(self, shape: Shape) -> Reason:
        """No node is booted for it: its sizes cannot be had, or a limit is reached."""
        offer = self._offer
        fitting = [size for size in offer.sizes if shape.fits_size(size)]
        missing = [size.name for size in fitting if size.name in offer.unavailable]
        if fitting and len(missing) == len(fitting):
            return self._none_to_be_had(missing)
        cheapest = min((size.price for size in fitting), default=0.0)
        most = offer.max_price
        if self._nodes_left > 0 and most is not None and cheapest > most - self._spent:
            return self._too_dear()
        if self._nodes_left > 0 and missing:
            pauses = self._stock.shortages.pauses
            full = all(pauses[name].by_scheduler for name in missing)
            who = "the scheduler has no place for" if full else "the cloud gives none of"
            return Reason(
                ReasonToken.NO_CAPACITY,
                f"{who} the cheaper sizes, and the others cost too much for it",
                facts={"unavailable": missing},
                advice="[Cloud] max_price_factor says how much more a node may cost",
                since=self._stock.wall,
            )
        return self.limit()

    def limit(self) -> Reason:
        """The limit that leaves the least."""
        limit = self._limit
        return Reason(
            limit.token,
            limit.sentence,
            facts={"nodes": len(self._stock.nodes), "max_nodes": self._policy.max_nodes},
            since=self._stock.wall,
            next_attempt_at=self._in(limit.next_attempt_in),
        )

    def _none_to_be_had(self, names: list[str]) -> Reason:
        shortages, now = self._stock.shortages, self._stock.elapsed
        first = min(names, key=shortages.until)
        pause, sizes = shortages.pauses[first], " or ".join(names[:MOST_NAMES])
        sentence = f"the cloud gives no {sizes}: {pause.words}"
        advice, whose = "", None
        if pause.by_scheduler:
            sentence = f"the scheduler has no place for another {sizes}: {pause.words}"
            advice, whose = "let the scheduler's administrators define more such nodes", Knob.SITE
        return Reason(
            ReasonToken.NO_CAPACITY,
            sentence,
            facts={"sizes": names},
            advice=advice,
            since=self._stock.wall,
            next_attempt_at=self._in(shortages.until(first) - now),
            whose=whose,
        )

    def _too_dear(self) -> Reason:
        most = self._policy.max_total_price
        return Reason(
            ReasonToken.NODE_LIMIT,
            f"max_total_price ({most:.4g} per hour) is reached",
            facts={"price": self._stock.price, "max_total_price": most},
            advice="it is booted for when other nodes have gone; [Daemon] max_total_price is the knob",
            since=self._stock.wall,
        )

    def unfit(self, shape: Shape) -> Reason:
        """It fits no room and no size: for ever, or until a node that is full or takes no work now does."""
        misfit = explain_misfit(shape, self._could, self._stock.wall)
        if misfit is not None:
            return misfit
        return Reason(
            ReasonToken.SCHEDULER_WAIT,
            "only nodes that are full, or take no work now, could hold it, and none of its size is booted",
            since=self._stock.wall,
        )

    def _in(self, seconds: float | None) -> float | None:
        """That long from now, as a whole second: the same moment must not look like another at each turn."""
        return None if seconds is None else float(round(self._stock.wall + seconds))
