"""Which waiting job starts next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodemanager.fit import fits
from nodemanager.model import Resources
from nodemanager.schedulers.slots import Line, shortage

PATIENCE = 60.0


def cores(number: int) -> Resources:
    return Resources(number, 0)


def test_the_most_urgent_comes_first_then_the_oldest() -> None:
    line = Line(PATIENCE)
    line.add("a", 1, 5, cores(1))
    line.add("b", 2, 9, cores(1))
    line.add("c", 3, 9, cores(1))
    chosen = []
    while (name := line.choose(cores(4), 0)) is not None:
        chosen.append(name)
        line.remove(name)
    assert chosen == ["b", "c", "a"]
    assert len(line) == 0


def test_a_new_priority_is_a_new_place() -> None:
    line = Line(PATIENCE)
    line.add("a", 1, 5, cores(1))
    line.add("b", 2, 5, cores(1))
    line.prioritise("b", 6)
    assert line.choose(cores(1), 0) == "b"
    line.prioritise("b", 4)
    assert line.choose(cores(1), 0) == "a"


def test_small_jobs_pass_a_large_one_only_for_a_while() -> None:
    line = Line(PATIENCE)
    line.add("large", 1, 0, cores(4))
    line.add("small", 2, 0, cores(1))
    assert line.choose(cores(2), 100) == "small"
    assert line.choose(cores(2), 100 + PATIENCE - 1) == "small"
    assert line.choose(cores(2), 100 + PATIENCE) is None
    assert line.choose(cores(4), 100 + PATIENCE) == "large"


def test_a_more_urgent_job_is_not_held_up_by_a_large_one() -> None:
    line = Line(PATIENCE)
    line.add("large", 1, 0, cores(4))
    assert line.choose(cores(2), 0) is None
    line.add("urgent", 2, 1, cores(1))
    assert line.choose(cores(2), PATIENCE + 1) == "urgent"


def test_a_shortage_names_each_resource_with_numbers() -> None:
    assert shortage(cores(1), cores(1)) == ""
    words = shortage(Resources(4, 2 << 30, gpus=1), Resources(-1, 1 << 30))
    assert words == "cores: wants 4 of 0, RAM: wants 2 GiB of 1 GiB, GPUs: wants 1 of 0"


@given(
    jobs=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=30),
    seconds=st.integers(1, 50),
)
def test_everything_starts_in_the_end_and_nothing_is_overbooked(
    jobs: list[tuple[int, int]], seconds: int
) -> None:
    line = Line(PATIENCE)
    sizes = {}
    for number, (size, priority) in enumerate(jobs):
        sizes[str(number)] = size
        line.add(str(number), number, priority, cores(size))
    running: list[tuple[float, str]] = []
    started = []
    now = 0.0
    while len(line):
        free = 4 - sum(sizes[name] for _, name in running)
        name = line.choose(cores(free), now)
        if name is None:
            assert running, "nothing runs, and nothing is started"
            now, ended = min(running)
            running.remove((now, ended))
        else:
            assert fits(cores(sizes[name]), cores(free))
            line.remove(name)
            started.append(name)
            running.append((now + seconds, name))
    assert sorted(started) == sorted(sizes)
