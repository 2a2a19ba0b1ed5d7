"""Sessions of browsers, and what guessing costs."""

from __future__ import annotations

from nodemanager.clock import ManualClock
from nodemanager.status.sessions import (
    FREE_TRIES,
    LONGEST_PAUSE_SECONDS,
    MAX_ADDRESSES,
    MAX_SESSIONS,
    SESSION_SECONDS,
    Sessions,
    Tries,
)


def test_a_session_is_known_until_it_ends() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    first, second = sessions.open(), sessions.open()
    assert first != second
    assert not sessions.holds("")
    assert not sessions.holds(first[:-1])
    clock.advance(SESSION_SECONDS - 1)
    assert sessions.holds(first)
    clock.advance(1)
    assert not sessions.holds(first)


def test_a_session_can_be_closed_and_closed_again() -> None:
    sessions = Sessions(ManualClock())
    first, second = sessions.open(), sessions.open()
    sessions.close(first)
    sessions.close(first)
    assert not sessions.holds(first)
    assert sessions.holds(second)


def test_there_are_never_too_many_sessions_and_the_oldest_goes() -> None:
    sessions = Sessions(ManualClock())
    opened = [sessions.open() for _ in range(MAX_SESSIONS + 1)]
    assert [sessions.holds(session) for session in opened] == [False, *[True] * MAX_SESSIONS]


def test_an_id_may_be_any_text() -> None:
    assert not Sessions(ManualClock()).holds("\udcff\x00g\xe4nse")


def test_who_guesses_waits_longer_each_time_and_not_for_ever() -> None:
    clock = ManualClock()
    tries = Tries(clock)
    pauses = []
    for _ in range(FREE_TRIES + 8):
        tries.failed("here")
        pauses.append(tries.pause_seconds("here"))
        clock.advance(pauses[-1])
        assert tries.pause_seconds("here") == 0
    assert pauses == [0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert LONGEST_PAUSE_SECONDS == 30
    assert tries.pause_seconds("there") == 0


def test_who_was_right_begins_anew() -> None:
    tries = Tries(ManualClock())
    for _ in range(FREE_TRIES + 1):
        tries.failed("here")
    assert tries.pause_seconds("here") > 0
    tries.succeeded("here")
    assert tries.pause_seconds("here") == 0


def test_addresses_are_remembered_up_to_a_limit() -> None:
    tries = Tries(ManualClock())
    for _ in range(FREE_TRIES + 1):
        tries.failed("first")
    for number in range(MAX_ADDRESSES - 1):
        tries.failed(str(number))
    assert tries.pause_seconds("first") > 0
    tries.failed("one more")
    assert tries.pause_seconds("first") == 0
