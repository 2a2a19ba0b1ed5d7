"""How things were during the last day: samples in two rings, the newer ones closer together. Pure.

Nothing is kept on disk: after a restart it begins anew, and whoever looks is told since when.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

FINE_SECONDS = 10.0
"""Between two samples, for `FINE_SPAN_SECONDS`."""
FINE_SPAN_SECONDS = 3600.0
COARSE_SECONDS = 120.0
"""So much time is one sample, for `COARSE_SPAN_SECONDS`."""
COARSE_SPAN_SECONDS = 86400.0
MEMORY_BYTES = 400 * 1024
"""What a full history takes, at most."""

_FINE = round(FINE_SPAN_SECONDS / FINE_SECONDS)
_COARSE = round(COARSE_SPAN_SECONDS / COARSE_SECONDS)


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at one moment, or on average over `COARSE_SECONDS`."""

    at: float
    """Elapsed seconds."""
    queued: float = 0.0
    """Containers that nobody has claimed, as far as the dispatcher looks."""
    waiting: float = 0.0
    """Claimed, and not running."""
    running: float = 0.0
    nodes: float = 0.0
    """In the scheduler."""
    booting: float = 0.0
    price: float = 0.0
    """Per hour, of all nodes."""
    started: float = 0.0
    """Containers, since the start of the process."""
    ended: float = 0.0


COLUMNS = tuple(field.name for field in fields(Sample) if field.name != "at")
_COUNTERS = ("started", "ended")
_GAUGES = tuple(name for name in COLUMNS if name not in _COUNTERS)


@dataclass(frozen=True, slots=True)
class History:
    """Both rings, each oldest first."""

    fine: tuple[Sample, ...] = ()
    coarse: tuple[Sample, ...] = ()

    def with_sample(self, sample: Sample) -> History:
        """The history and one more; one that is not later than the last is passed over."""
        if self.fine and sample.at <= self.fine[-1].at:
            return self
        coarse = self.coarse
        if self.fine and _bucket(self.fine[-1]) != _bucket(sample):
            coarse = (*coarse, self._thinned())
        return History(
            fine=_since((*self.fine, sample), sample.at - FINE_SPAN_SECONDS)[-_FINE:],
            coarse=_since(coarse, sample.at - COARSE_SPAN_SECONDS)[-_COARSE:],
        )

    def flow(self, seconds: float) -> Flow:
        """What was started and ended during the last `seconds`, as far as there are samples."""
        if not self.fine:
            return Flow()
        first = max(0, bisect_left(self.fine, self.fine[-1].at - seconds, key=_at) - 1)
        recent = self.fine[first:]
        return Flow(
            seconds=recent[-1].at - recent[0].at,
            started=round(sum(increases(recent, "started"))),
            ended=round(sum(increases(recent, "ended"))),
        )

    def _thinned(self) -> Sample:
        """The last bucket's samples as one, at the time of the last."""
        last = self.fine[-1]
        same = [sample for sample in self.fine if _bucket(sample) == _bucket(last)]
        means = {name: math.fsum(getattr(s, name) for s in same) / len(same) for name in _GAUGES}
        return replace(last, **means)


@dataclass(frozen=True, slots=True)
class Flow:
    """How much work went through."""

    seconds: float = 0.0
    """Over how long that was counted."""
    started: int = 0
    ended: int = 0


def increases(samples: Sequence[Sample], counter: str) -> list[float]:
    """By how much `counter` grew from each sample to the next; one that became smaller began anew at 0."""
    values = [float(getattr(sample, counter)) for sample in samples]
    return [now - before if now >= before else now for before, now in pairwise(values)]


def columns(samples: Sequence[Sample], now: float, wall: float) -> dict[str, Any]:
    """For JSON: a list for each column, and the times as Unix seconds; it is `now` elapsed and `wall` there."""
    shown: dict[str, Any] = {"at": [round(wall - (now - sample.at), 1) for sample in samples]}
    for name in _GAUGES:
        shown[name] = [round(getattr(sample, name), 4) for sample in samples]
    for name in _COUNTERS:
        # How many since the sample before; nobody knows that of the first.
        shown[name] = [0.0, *increases(samples, name)][: len(samples)]
    return shown


def _at(sample: Sample) -> float:
    return sample.at


def _bucket(sample: Sample) -> float:
    return sample.at // COARSE_SECONDS


def _since(samples: tuple[Sample, ...], at: float) -> tuple[Sample, ...]:
    return samples[bisect_left(samples, at, key=_at) :]
