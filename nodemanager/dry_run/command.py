"""The command itself: look, think, tell."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from rich.console import Console

from nodemanager.clock import Clock, SystemClock
from nodemanager.config import Config
from nodemanager.dry_run.document import document
from nodemanager.dry_run.forecast import forecast
from nodemanager.dry_run.look import look
from nodemanager.dry_run.report import report

_ENDED_BY_SIGNAL = 128
_PACKING_SECONDS = 60.0
"""More than the daemon has: it goes on in its next turn, and here there is no next one."""


def dry_run(config: Config, console: Console, *, as_json: bool = False) -> int:
    """Say what the daemon would do now, and do nothing; with `as_json` as one document.

    Returns the exit status: 0, or 1 when something could not be found out, so that the plan has gaps. Raises
    `ConfigError`.
    """
    clock = SystemClock()
    with _orderly_end():
        sight, told = look(config, clock)
    made = forecast(sight, partial(_patience, clock))
    if as_json:
        text = json.dumps(document(config, sight, told, made), indent=1, ensure_ascii=False)
        console.file.write(f"{text}\n")
    else:
        for line in report(config, sight, told, made, console.width if console.is_terminal else 0):
            console.print(line, soft_wrap=True)
    return 1 if any(finding.problem for finding in told) or not made.is_packed else 0


def _patience(clock: Clock) -> Callable[[], bool]:
    began = clock.elapsed()
    return lambda: clock.elapsed() - began > _PACKING_SECONDS


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Whoever ends the command finds no copy of a database left behind."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(_ENDED_BY_SIGNAL + number)

    before = {each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
