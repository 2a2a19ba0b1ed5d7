"""When in its life a node may be shut: the `shutdown_windows` of the old node manager.

Clouds that bill by the hour make it a waste to shut a node early in an hour that is paid for. The list says
for how many minutes from boot a node may not, may, may not, ... be shut; it repeats, and with an odd number of
entries the last and the first, both closed, run into each other (old node manager, `ShutdownTimer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

_MINUTE = 60.0


def is_open(windows: Sequence[float], age_seconds: float) -> bool:
    """Whether a node of that age may be shut. `windows` are minutes, closed first."""
    place = _place(windows, age_seconds)
    return place is not None and place[0] % 2 == 1


def until_open(windows: Sequence[float], age_seconds: float) -> float | None:
    """Seconds until the next moment at which it may be shut; 0 when it may now, None if it never may."""
    place = _place(windows, age_seconds)
    if place is None:
        return None
    index, left = place
    if index % 2 == 1:
        return 0.0
    for step in range(1, len(windows) + 1):
        following = (index + step) % len(windows)
        if following % 2 == 1 and windows[following] > 0:
            return left
        left += windows[following] * _MINUTE
    return None


def _place(windows: Sequence[float], age_seconds: float) -> tuple[int, float] | None:
    """Which window that age is in, and how many seconds of it are left; None when all have no length."""
    period = sum(windows) * _MINUTE
    if period <= 0:
        return None
    position = max(0.0, age_seconds) % period
    for index, end in enumerate(accumulate(length * _MINUTE for length in windows)):
        if position < end:
            return index, end - position
    # The sum of floats may fall short of its own remainder by a rounding error.
    return len(windows) - 1, 0.0
