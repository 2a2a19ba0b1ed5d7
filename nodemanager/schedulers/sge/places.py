"""Where jobs are in Grid Engine, and how commands are told of them. Free of I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nodemanager.schedulers.sge.states import JobLetters


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is in Grid Engine."""

    number: int
    task: int = 0
    """0 for a job that is no array."""

    @property
    def job_id(self) -> str:
        """As qdel and people write it."""
        return f"{self.number}.{self.task}" if self.task else str(self.number)


@dataclass(frozen=True, slots=True)
class Live:
    """A job that is in the queue."""

    place: Place
    letters: JobLetters
    host: str = ""


def job_words(lives: Iterable[Live]) -> list[str]:
    """The jobs as qdel is told of them: 7, 8.2-4."""
    tasks: dict[int, list[int]] = {}
    for live in lives:
        tasks.setdefault(live.place.number, []).append(live.place.task)
    words = []
    for number, mine in tasks.items():
        for first, last in _spans(sorted(mine)):
            span = str(first) if first == last else f"{first}-{last}"
            words.append(f"{number}.{span}" if first else str(number))
    return words


def _spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of numbers that follow each other."""
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1] = spans[-1][0], number
        else:
            spans.append((number, number))
    return spans
