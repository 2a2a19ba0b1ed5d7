"""First fit: rooms in a fixed order, and whoever comes takes the first that holds him."""

from __future__ import annotations

from collections.abc import Iterator

from nodemanager.nodes.packing.draft import Task
from nodemanager.nodes.packing.kinds import Amounts, Waiting, copies, less

_FULL: Amounts = (-1, -1, -1, -1)


class FirstFit:
    """Rooms in the order in which they are filled. For each kind it is known which is the first that could hold
    it, so that a long line of groups costs little once the rooms are full."""

    def __init__(self, waiting: Waiting, *, alone: bool = False) -> None:
        """`alone`: a room takes one container."""
        self._waiting = waiting
        self._alone = alone
        self._rooms: list[Amounts] = []
        self._welcome: list[tuple[bool, ...]] = []
        self._first = [0] * len(waiting)

    def add(self, room: Amounts, welcome: tuple[bool, ...]) -> int:
        """Another room, the last; returns its index."""
        self._rooms.append(room)
        self._welcome.append(welcome)
        return len(self._rooms) - 1

    def change(self, index: int, room: Amounts, welcome: tuple[bool, ...]) -> None:
        """A room has become another."""
        self._rooms[index] = room
        self._welcome[index] = welcome
        self._first = [min(first, index) for first in self._first]

    def place(self, kind: int, count: int) -> Iterator[tuple[int, int]]:
        """Rooms for up to `count` of a kind, and how many go into each."""
        need, audience = self._waiting.needs[kind], self._waiting.audience[kind]
        for index in range(self._first[kind], len(self._rooms)):
            if not count:
                return
            self._first[kind] = index
            if self._welcome[index][audience]:
                number = copies(self._rooms[index], need, 1 if self._alone else count)
                if number:
                    left = less(self._rooms[index], need, number)
                    self._rooms[index] = _FULL if self._alone else left
                    count -= number
                    yield index, number
        if count:
            self._first[kind] = len(self._rooms)


def one_per_node(task: Task) -> bool:
    """Every container on a node of its own: an empty room, or a new one, the most urgent first. Returns whether time
    sufficed."""
    offers, allowance = task.offers, task.allowance
    empty = [vacancy for vacancy in task.vacant if vacancy.is_empty]
    rooms = FirstFit(task.waiting, alone=True)
    for vacancy in empty:
        rooms.add(vacancy.room, vacancy.welcome)
    prices = [0.0 if alone is None else offers.choices[alone].price for alone in offers.alone]
    for group in task.waiting.by_urgency(weight=prices):
        if task.is_over():
            return False
        count = group.count
        for index, number in rooms.place(group.kind, count):
            task.draft.put(empty[index], {group.kind: number})
            count -= number
        alone = offers.alone[group.kind]
        if alone is not None:
            count = int(min(count, allowance.most(prices[group.kind])))
            allowance.spend(count, count * prices[group.kind])
            task.draft.order(offers.choices[alone].size, {group.kind: 1}, count)
    return True
