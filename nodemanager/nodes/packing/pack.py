"""`pack`: the one function of this package that others call; the package's docstring says how it is divided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nodemanager.nodes.demand import Demand, Offer, Packing, Room
from nodemanager.nodes.packing.allowance import Allowance, bears, must_exceed
from nodemanager.nodes.packing.draft import Draft, Task, vacancies
from nodemanager.nodes.packing.firstfit import FirstFit, one_per_node
from nodemanager.nodes.packing.kinds import Amounts, Waiting, less
from nodemanager.nodes.packing.offers import Offers
from nodemanager.nodes.packing.ordering import Costs, Ordering
from nodemanager.nodes.packing.patterns import GOOD_ENOUGH, Bin, Filler, Pattern, most_urgent_first
from nodemanager.nodes.packing.rationing import Rationing

FEW = 64
"""Up to so many rooms and new nodes are filled in two ways, and the cheaper is taken: that is quickly done, and
among few a node more costs the most."""
MOST_KINDS = 2000
"""When there are more, containers are packed in portions of about so many kinds, the most urgent first, so that
these have a place when time runs out."""


def pack(
    demands: Sequence[Demand],
    rooms: Sequence[Room],
    offer: Offer,
    is_over: Callable[[], bool] = lambda: False,
) -> Packing:
    """Find a place for every container of `demands`.

    `is_over` is asked now and then whether time is up; then what was found so far is the answer.
    """
    waiting = Waiting(demands)
    offers = Offers(waiting, offer)
    draft = Draft(waiting)
    vacant, allowance = vacancies(waiting, rooms), Allowance.of(offer)
    task = Task(waiting, vacant, offers, allowance, is_over, draft)
    if offer.one_per_node:
        complete = one_per_node(task)
        return draft.finish(offers.fits, rooms, complete=complete)
    if not must_exceed(allowance, waiting, [vacancy.room for vacancy in vacant], offers):
        answers, complete = _Cheapest(task).answers()
        new = [pattern for answer in answers for pattern in answer.new]
        if bears(allowance, new, offers):
            _write(answers, task)
            return draft.finish(offers.fits, rooms, complete=complete)
        if is_over():
            _write(answers, task)
            return draft.finish(offers.fits, rooms, complete=False, within=allowance)
    complete = Rationing(task).run()
    return draft.finish(offers.fits, rooms, complete=complete)


_Place = tuple[int, Mapping[int, int]]
"""A vacancy, by index, and what goes there, by kind."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """Where a portion could go."""

    rooms: Sequence[_Place]
    new: Sequence[Pattern]
    """Of `Offers.choices`."""
    badness: tuple[int, float]
    """How many find no place, and what the new nodes cost."""


class _Cheapest:
    """All limits aside."""

    def __init__(self, task: Task) -> None:
        self._costs = Costs.plain(task.offers)
        self._waiting = task.waiting
        self._vacant = task.vacant
        self._offers = task.offers
        self._is_over = task.is_over
        self._ordering = Ordering(task.waiting, task.offers, self._costs, task.is_over)
        self._free = [vacancy.room for vacancy in task.vacant]
        self._complete = True

    def answers(self) -> tuple[list[_Answer], bool]:
        """For each portion, and whether time sufficed."""
        answers: list[_Answer] = []
        for portion in self._waiting.portions(MOST_KINDS):
            answer = self._answer(portion, biggest_first=False)
            nodes = sum(pattern.count for pattern in answer.new)
            if self._complete and 0 < nodes <= FEW - len(answer.rooms):
                other = self._answer(portion, biggest_first=True)
                if self._complete and other.badness < answer.badness:
                    answer = other
            for index, load in answer.rooms:
                for kind, count in load.items():
                    need = self._waiting.needs[kind]
                    self._free[index] = less(self._free[index], need, count)
            answers.append(answer)
            if not self._complete:
                break
        return answers, self._complete

    def _answer(self, portion: Sequence[int], *, biggest_first: bool) -> _Answer:
        counts, free = list(portion), list(self._free)
        rooms = self._seat(counts, free)
        for stage in sorted({vacancy.stage for vacancy in self._vacant}):
            rooms += self._fill(stage, counts, free, biggest_first=biggest_first)
        new = self._ordering.patterns(counts, biggest_first=biggest_first)
        self._complete &= self._ordering.complete
        left = sum(counts) - sum(p.count * sum(p.load.values()) for p in new)
        return _Answer(rooms, new, (left, self._ordering.cost(new)))

    def _seat(self, counts: list[int], free: list[Amounts]) -> list[_Place]:
        """Rooms for those that would get no node of their own, before all others, which would."""
        places: list[_Place] = []
        kinds = [k for k, alone in enumerate(self._offers.alone) if alone is None and counts[k]]
        first_fit = FirstFit(self._waiting)
        for vacancy, room in zip(self._vacant, free, strict=True):
            first_fit.add(room, vacancy.welcome)
        for group in self._waiting.by_urgency(kinds):
            count = min(group.count, counts[group.kind])
            for index, number in first_fit.place(group.kind, count):
                places.append((index, {group.kind: number}))
                counts[group.kind] -= number
                free[index] = less(free[index], self._waiting.needs[group.kind], number)
        return places

    def _fill(
        self,
        stage: tuple[int, bool],
        counts: list[int],
        free: list[Amounts],
        *,
        biggest_first: bool,
    ) -> list[_Place]:
        """Fill the rooms of a stage, and take what goes there from `counts`."""
        alike: dict[tuple[Amounts, tuple[bool, ...]], list[int]] = {}
        for index, vacancy in enumerate(self._vacant):
            if vacancy.stage == stage:
                alike.setdefault((free[index], vacancy.welcome), []).append(index)
        bins = []
        for (room, welcome), indexes in alike.items():
            # A room as large as a node that can be ordered is filled as that would be: what was ordered
            # a while ago, and boots now, is to hold what it was ordered for.
            price = self._offers.price(room, welcome)
            cost = None if price is None else self._costs.of(price)
            bins.append((Bin(room, welcome, cost, len(indexes)), indexes))
        bins.sort(key=lambda pair: -(pair[0].cost or 0.0))
        filler = Filler(
            self._waiting,
            counts,
            self._ordering.values,
            [each for each, _ in bins],
            self._is_over,
            slack=GOOD_ENOUGH,
            biggest_first=biggest_first,
        )
        filled = []
        for pattern in filler.run():
            indexes = bins[pattern.bin][1]
            filled += [(index, pattern.load) for index in indexes[: pattern.count]]
            del indexes[: pattern.count]
        self._complete &= filler.complete
        return filled


def _write(answers: Sequence[_Answer], task: Task) -> None:
    """Put the containers where the answers say, the most urgent into the first of them."""
    for answer in answers:
        for index, load in answer.rooms:
            task.draft.put(task.vacant[index], load)
        for pattern in most_urgent_first(answer.new, task.waiting):
            size = task.offers.choices[pattern.bin].size
            task.draft.order(size, pattern.load, pattern.count)
