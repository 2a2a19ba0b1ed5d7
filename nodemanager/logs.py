"""Where log lines go and what they look like: one event one line, a sentence, an `action` and fields."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nodemanager.config import Config
from nodemanager.errors import ConfigError

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes every record has; whatever else it has was given as a field."""

_CHATTY = ("googleapiclient", "arvados", "pykka", "httplib2")
"""Libraries whose warnings repeat what we log ourselves; an option of their name in [Logging] stands
above this."""


def set_up(config: Config, file: Path | None = None) -> None:
    """Send all log lines where `[Logging]` says, or to `file` when given.

    Raises `ConfigError` when the file cannot be written.
    """
    target = file or config.logging.file
    handler: logging.Handler
    try:
        handler = logging.StreamHandler(sys.stderr) if target is None else _file_handler(target)
    except OSError as error:
        raise ConfigError(f"{config.path}: [Logging] file: {target}: {error.strerror}") from error
    handler.setFormatter(_Json() if config.logging.format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.logging.level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name, level in config.logging.levels.items():
        logging.getLogger(name).setLevel(level)


def _file_handler(target: Path) -> logging.Handler:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return logging.FileHandler(target, encoding="utf-8")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _Text(logging.Formatter):
    """For people: ``2026-01-31 12:00:00,123 INFO dispatcher: sentence``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on lines of its own."""
        text = super().format(record)
        return text.replace(" nodemanager.", " ", 1)


class _Json(logging.Formatter):
    """For machines: one object a line, with the fields of the event beside its sentence."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
