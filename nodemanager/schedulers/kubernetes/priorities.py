"""Which PriorityClass a container's pod gets: ascending ranges of the user's priority."""

# ruff: noqa: D102 -- what each method does is said once, in `Kind`

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.config.kinds import Integer, Kind, found
from nodemanager.schedulers.batches import MAX_CLASS, priority_class
from nodemanager.schedulers.kubernetes.syntax import is_object_name

_LEAST = Integer(1, MAX_CLASS)


@dataclass(frozen=True, slots=True)
class PriorityRange:
    """From `least` up to where the next range begins."""

    least: int
    """Of the user's priorities, 1 to 1000."""
    name: str
    """Of the PriorityClass."""


@dataclass(frozen=True)
class PriorityRanges(Kind):
    """``1 low, 500 normal, 900 high``; the value is a tuple of `PriorityRange`."""

    @property
    def word(self) -> str:
        return "priorities and PriorityClasses"

    def parse(self, text: str) -> tuple[PriorityRange, ...]:
        ranges: list[PriorityRange] = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            words = part.split()
            if len(words) != 2 or not is_object_name(words[1]):
                raise ValueError(
                    f"expected a priority and a PriorityClass, as in `500 normal`, found {found(part)}"
                )
            least = _LEAST.parse(words[0])
            if ranges and least <= ranges[-1].least:
                raise ValueError(
                    f"expected a priority above {ranges[-1].least}, found {found(part)}"
                )
            ranges.append(PriorityRange(least, words[1]))
        return tuple(ranges)

    def show(self, value: Any) -> str:
        return ", ".join(f"{each.least} {each.name}" for each in value)


def class_name(ranges: Sequence[PriorityRange], priority: int) -> str:
    """The PriorityClass for a container's priority; empty below the first range, where the cluster's default holds."""
    own = priority_class(priority)
    names = [each.name for each in ranges if each.least <= own]
    return names[-1] if names else ""
