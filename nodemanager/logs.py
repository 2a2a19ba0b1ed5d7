"""Where log lines go and what they look like: one event one line, a sentence, an `action` and fields.

Every line passes through one handler, ours and those of libraries, so secrets are masked here and nowhere else,
tracebacks and fields included. docs/reference/events.md lists the actions.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import math
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from nodemanager.config import Config
from nodemanager.config.tree import secrets_of
from nodemanager.errors import ConfigError
from nodemanager.masking import Mask, one_line

log = logging.getLogger(__name__)

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName"),
    # uvicorn's own sentence once more, for terminals.
    "color_message",
}
"""Attributes every record has; whatever else it has was given as a field."""

_CHATTY = {
    # Their warnings repeat what we log ourselves.
    **dict.fromkeys(("googleapiclient", "arvados", "pykka", "httplib2"), "ERROR"),
    # So does what these say of their starting and ending.
    **dict.fromkeys(("uvicorn.error", "alembic.runtime.plugins"), "WARNING"),
}
"""Levels of libraries; an option of their name in [Logging] stands above this."""

_CONTINUED = "  | "
"""Before each line of a traceback, so that none passes for a line of its own."""

_mask = Mask()
_levelled: set[str] = set()
"""Loggers that were given a level of their own."""


def set_up(config: Config, file: Path | None = None) -> None:
    """Send all log lines where `[Logging]` says, or to `file` when given; may be called again.

    Raises `ConfigError` when the file cannot be written, and changes nothing then.
    """
    target = file or config.logging.file
    handler: logging.Handler
    try:
        handler = logging.StreamHandler(sys.stderr) if target is None else _file_handler(target)
    except OSError as error:
        raise ConfigError(f"{config.path}: [Logging] file: {target}: {error.strerror}") from error
    mask_secrets(secrets_of(config))
    form: _Json | _Text = _Json() if config.logging.format == "json" else _Text()
    handler.setFormatter(_ForJournal(form) if target is None and _is_journal(sys.stderr) else form)
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [handler]
    for old in before:
        if isinstance(old.formatter, _Text | _Json | _ForJournal):
            old.close()
    root.setLevel(config.logging.level)
    _set_levels({**_CHATTY, **config.logging.levels})


def mask_secrets(secrets: Iterable[str]) -> None:
    """Mask these, too, in every line from now on: tokens that are not in the config file."""
    _mask.learn(secrets)


def log_strays() -> None:
    """Log what nobody caught, and warnings of libraries, instead of writing them past the log."""

    def uncaught(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None, where: str
    ) -> None:
        log.critical(
            "an error that nobody caught, in %s: %s",
            where,
            error,
            exc_info=(kind, error, traceback),
            extra={"action": "uncaught"},
        )

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if issubclass(arguments.exc_type, SystemExit):
            return
        error = arguments.exc_value or arguments.exc_type()
        name = "a thread" if arguments.thread is None else f"thread {arguments.thread.name}"
        uncaught(arguments.exc_type, error, arguments.exc_traceback, name)

    def in_main(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        uncaught(kind, error, traceback, "the main thread")

    sys.excepthook = in_main
    threading.excepthook = in_thread
    logging.captureWarnings(True)


def _set_levels(levels: Mapping[str, str]) -> None:
    for name in _levelled - levels.keys():
        logging.getLogger(name).setLevel(logging.NOTSET)
    _levelled.clear()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
        _levelled.add(name)


def _file_handler(target: Path) -> logging.Handler:
    """Looks before each line whether the file is still the one of that name, so that logrotate needs to tell
    nobody."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return logging.handlers.WatchedFileHandler(target, encoding="utf-8")


def _is_journal(stream: Any) -> bool:
    """Whether systemd's journal reads `stream`; see systemd.exec(5) on JOURNAL_STREAM."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _sentence(record: logging.LogRecord) -> str:
    try:
        return _mask(record.getMessage())
    except Exception:
        # A mistake in our own code, or in a library's: logging would print the arguments unmasked.
        return _mask(f"{record.msg!r} % {record.args!r}")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: _masked(value) for name, value in vars(record).items() if name not in _STANDARD}


def _masked(value: Any) -> Any:
    """As JSON knows it, without secrets."""
    match value:
        case float() if not math.isfinite(value):
            # JSON has no word for it.
            return str(value)
        case None | bool() | int() | float():
            return value
        case str():
            return _mask(value)
        case Mapping():
            return {str(_masked(key)): _masked(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_masked(item) for item in value]
    return _mask(str(value))


def _traceback(record: logging.LogRecord) -> str:
    """What was raised, and the stack if one was asked for; empty when there is neither."""
    parts = []
    if record.exc_info:
        parts.append(logging.Formatter().formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return _mask("\n".join(parts))


class _Text(logging.Formatter):
    """For people: ``2026-01-31 12:00:00,123 INFO dispatch.dispatcher: sentence [action=... field=...]``."""

    def __init__(self, head: str = "%(asctime)s %(levelname)s") -> None:
        super().__init__(head)

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on lines that begin with `_CONTINUED`."""
        if self.usesTime():
            record.asctime = self.formatTime(record)
        name = record.name.removeprefix("nodemanager.")
        line = f"{self.formatMessage(record)} {name}: {_sentence(record)}"
        if fields := _fields(record):
            pairs = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
            line = f"{line} [{pairs}]"
        lines = [line, *(f"{_CONTINUED}{more}" for more in _traceback(record).splitlines())]
        return "\n".join(one_line(each) for each in lines)


_PLAIN = re.compile(r"[^\s\"=\[\]]+")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class _Json(logging.Formatter):
    """For machines: one object a line, with the fields of the event beside its sentence."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _sentence(record),
            **_fields(record),
        }
        if traceback := _traceback(record):
            entry["traceback"] = traceback
        return json.dumps(entry, default=str)


class _ForJournal(logging.Formatter):
    """What the journal is told: each line's priority before it, and no time, which the journal has itself."""

    _PRIORITIES = (
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
    )

    def __init__(self, form: _Text | _Json) -> None:
        super().__init__()
        self._form = form if isinstance(form, _Json) else _Text("%(levelname)s")

    def format(self, record: logging.LogRecord) -> str:
        """See sd-daemon(3)."""
        at_least = (number for level, number in self._PRIORITIES if record.levelno >= level)
        priority = next(at_least, 7)
        lines = self._form.format(record).splitlines()
        return "\n".join(f"<{priority}>{line}" for line in lines)
