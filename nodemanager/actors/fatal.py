"""How the process ends when it cannot go on: logged first, then out, non-zero, so that systemd restarts it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

Exit = Callable[[int], object]
"""Ends the process with an exit status; in tests it only remembers it."""


def end_process(why: str, error: BaseException | None = None) -> None:
    """Log `why` and end the process with EX_SOFTWARE (70), whatever its threads are doing."""
    log.critical("%s; the process ends", why, exc_info=error, extra={"action": "end_process"})
    _exit(os.EX_SOFTWARE)


def is_fatal(error: BaseException | None) -> bool:
    """The process is short of memory or threads: no actor can be trusted to go on.

    The rule is the old node manager's (baseactor.py); it sent SIGKILL to itself.
    """
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and "can't start new thread" in str(error))
    )


@contextlib.contextmanager
def use_exit(function: Exit) -> Iterator[None]:
    """Call `function` instead of ending the process."""
    global _exit  # noqa: PLW0603 (one process, one way out)
    before, _exit = _exit, function
    try:
        yield
    finally:
        _exit = before


def _leave(status: int) -> None:
    logging.shutdown()
    # Not sys.exit: that would only end the calling thread, or wait for one that hangs.
    os._exit(status)


_exit: Exit = _leave
