"""Rooms in a fixed order."""

from nodemanager.model import Resources
from nodemanager.nodes.demand import Demand, Shape
from nodemanager.nodes.packing.firstfit import FirstFit
from nodemanager.nodes.packing.kinds import Waiting

ALL = (True,)
WAITING = Waiting([Demand(Shape(Resources(1, 0)), 9), Demand(Shape(Resources(4, 0)), 9)])
ONE_CORE, FOUR_CORES = 0, 1


def rooms(*cores: int, alone: bool = False) -> FirstFit:
    found = FirstFit(WAITING, alone=alone)
    for each in cores:
        found.add((each, 0, 0, 0), ALL)
    return found


def test_the_first_rooms_that_hold_them_are_taken_and_filled() -> None:
    fit = rooms(3, 5, 9)
    assert list(fit.place(FOUR_CORES, 2)) == [(1, 1), (2, 1)]
    assert list(fit.place(ONE_CORE, 6)) == [(0, 3), (1, 1), (2, 2)]
    assert list(fit.place(ONE_CORE, 6)) == [(2, 3)]
    assert list(fit.place(ONE_CORE, 1)) == []


def test_a_room_that_is_added_later_is_found() -> None:
    fit = rooms(3)
    assert list(fit.place(FOUR_CORES, 1)) == []
    assert fit.add((4, 0, 0, 0), ALL) == 1
    assert list(fit.place(FOUR_CORES, 2)) == [(1, 1)]


def test_a_room_that_has_grown_is_found_again() -> None:
    fit = rooms(3, 3)
    assert list(fit.place(FOUR_CORES, 1)) == []
    fit.change(0, (8, 0, 0, 0), ALL)
    assert list(fit.place(FOUR_CORES, 3)) == [(0, 2)]


def test_who_is_not_welcome_goes_on() -> None:
    fit = rooms()
    fit.add((9, 0, 0, 0), (False,))
    fit.add((9, 0, 0, 0), ALL)
    assert list(fit.place(ONE_CORE, 1)) == [(1, 1)]


def test_a_room_may_be_for_one() -> None:
    assert list(rooms(9, 2, 9, alone=True).place(ONE_CORE, 2)) == [(0, 1), (1, 1)]
