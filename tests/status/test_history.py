"""The rings of samples: bounded, in order, thinned without losing what was counted."""

from __future__ import annotations

import sys
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodemanager.status.history import (
    COARSE_SECONDS,
    COARSE_SPAN_SECONDS,
    COLUMNS,
    FINE_SECONDS,
    FINE_SPAN_SECONDS,
    MEMORY_BYTES,
    Flow,
    History,
    Sample,
    columns,
)

STEPS = st.lists(
    st.tuples(
        st.one_of(st.floats(0.5, 30), st.floats(30, 5000), st.floats(-20, 0)),
        st.integers(0, 1000),
        st.integers(0, 50),
    ),
    max_size=120,
)


def recorded(steps: list[tuple[float, int, int]]) -> tuple[History, list[Sample]]:
    """The history of samples that are so far apart, with so many running and so many more started."""
    history, taken, at, started = History(), [], 0.0, 0
    for step, running, more in steps:
        at, started = at + step, started + more
        sample = Sample(at=at, running=float(running), started=float(started))
        taken.append(sample)
        history = history.with_sample(sample)
    return history, taken


def regular(seconds: float) -> History:
    history = History()
    for number in range(round(seconds / FINE_SECONDS)):
        at = number * FINE_SECONDS
        history = history.with_sample(Sample(at=at, running=float(number), started=2.0 * number))
    return history


@given(STEPS)
def test_times_only_grow_and_nothing_is_kept_for_too_long(
    steps: list[tuple[float, int, int]],
) -> None:
    history, _ = recorded(steps)
    for ring, span, most in (
        (history.fine, FINE_SPAN_SECONDS, FINE_SPAN_SECONDS / FINE_SECONDS),
        (history.coarse, COARSE_SPAN_SECONDS, COARSE_SPAN_SECONDS / COARSE_SECONDS),
    ):
        times = [sample.at for sample in ring]
        assert times == sorted(set(times))
        assert len(ring) <= most
        if ring and history.fine:
            assert ring[0].at >= history.fine[-1].at - span


@given(STEPS)
def test_every_sample_of_the_last_hour_is_there_unless_time_went_back(
    steps: list[tuple[float, int, int]],
) -> None:
    history, taken = recorded(steps)
    latest, forward = float("-inf"), []
    for sample in taken:
        if sample.at > latest:
            forward.append(sample)
            latest = sample.at
    assert list(history.fine) == [s for s in forward if s.at >= latest - FINE_SPAN_SECONDS]


@given(STEPS)
def test_a_thinned_sample_lies_between_those_it_stands_for(
    steps: list[tuple[float, int, int]],
) -> None:
    history, taken = recorded(steps)
    for thin in history.coarse:
        same = [s for s in taken if s.at // COARSE_SECONDS == thin.at // COARSE_SECONDS]
        assert min(s.running for s in same) <= thin.running <= max(s.running for s in same)
        assert thin.started in {s.started for s in same}


@given(STEPS)
def test_no_more_is_started_than_was_counted(steps: list[tuple[float, int, int]]) -> None:
    history, taken = recorded(steps)
    flow = history.flow(300.0)
    assert 0 <= flow.started <= max((s.started for s in taken), default=0)
    shown = columns(history.fine, 0.0, 0.0)
    assert len({len(column) for column in shown.values()}) == 1
    assert set(shown) == {"at", *COLUMNS}


def test_a_day_is_an_hour_of_fine_samples_and_a_day_of_coarse_ones() -> None:
    history = regular(2 * COARSE_SPAN_SECONDS)
    assert (len(history.fine), len(history.coarse)) == (360, 720)
    last, before = history.coarse[-1], history.coarse[-2]
    assert last.at - before.at == COARSE_SECONDS
    assert last.running - before.running == COARSE_SECONDS / FINE_SECONDS


def test_what_it_takes_in_memory_is_as_said() -> None:
    history = regular(2 * COARSE_SPAN_SECONDS)
    samples = {id(sample): sample for sample in (*history.fine, *history.coarse)}.values()
    values = {id(v): v for s in samples for v in (getattr(s, f.name) for f in fields(s))}
    size = sum(map(sys.getsizeof, [*samples, *values.values(), history.fine, history.coarse]))
    assert MEMORY_BYTES / 2 < size < MEMORY_BYTES


def test_flow_is_what_happened_lately() -> None:
    assert regular(600).flow(300.0) == Flow(seconds=310.0, started=62, ended=0)
    assert regular(100).flow(300.0) == Flow(seconds=90.0, started=18, ended=0)
    assert History().flow(300.0) == Flow()


def test_a_counter_that_began_anew_counts_from_nothing() -> None:
    history = History()
    for at, started in ((0.0, 100.0), (10.0, 103.0), (20.0, 2.0), (30.0, 6.0)):
        history = history.with_sample(Sample(at=at, started=started))
    assert history.flow(300.0).started == 3 + 2 + 4


@pytest.mark.parametrize("wall", [1_800_000_000.0, 0.0])
def test_times_are_shown_by_the_wall_clock_of_now(wall: float) -> None:
    shown = columns(regular(30).fine, now=50.0, wall=wall)
    assert shown["at"] == [wall - 50, wall - 40, wall - 30]
    assert shown["started"] == [0, 2, 2]
