"""What systemd and operators ask of the server's process: that it says when it is ready and alive, and reads the log's
options again on SIGHUP."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from nodemanager import logs
from nodemanager.config import Config, load
from nodemanager.config.reload import changes
from nodemanager.errors import NodeManagerError
from nodemanager.notify import Notifier

log = logging.getLogger(__name__)

FEEDS = 3
"""So often within the time that systemd waits it is told that the event loop goes round."""
_OURS = ("Api", "Arvados", "Logging")
"""The sections that a server on its own reads."""


class Upkeep:
    """Belongs to the event loop's thread, once that runs."""

    def __init__(self, config: Config, notifier: Notifier) -> None:
        self._config = config
        self._notifier = notifier
        self._doing = ""
        self._feeding: asyncio.Task[None] | None = None

    def ready(self, url: str) -> None:
        """It listens."""
        self._doing = f"serving {url}"
        self._notifier.ready(self._doing)
        if self._notifier.watchdog_seconds:
            self._feeding = asyncio.create_task(self._feed(self._notifier.watchdog_seconds / FEEDS))

    def stopping(self) -> None:
        """It answers what it has taken on, and no more."""
        self._notifier.stopping("answering the last calls")
        if self._feeding is not None:
            self._feeding.cancel()

    async def _feed(self, seconds: float) -> None:
        while True:
            self._notifier.alive()
            await asyncio.sleep(seconds)

    def reload(self) -> None:
        """Read the options of `[Logging]` again, and say which others need a restart. Never raises."""
        self._notifier.reloading()
        words = self._doing
        try:
            read = load(self._config.path)
            merged = replace(self._config, logging=read.logging)
            logs.set_up(merged)
        except NodeManagerError as error:
            words = "the config file was not taken up, see the log"
            for line in str(error).splitlines():
                log.error(  # noqa: TRY400 (the sentence says it all)
                    "the config file cannot be taken up, and all stays as it was: %s",
                    line,
                    extra={"action": "reload_refused"},
                )
        else:
            for change in changes(merged, read):
                if change.section in _OURS:
                    log.warning(
                        "%s: needs a restart of this server",
                        change,
                        extra={
                            "action": "option_changed",
                            "section": change.section,
                            "option": change.option,
                            "before": change.before,
                            "after": change.after,
                            "taken_up": False,
                        },
                    )
            self._config = merged
            log.info(
                "the options of [Logging] in %s are in effect",
                read.path,
                extra={"action": "reloaded"},
            )
        self._notifier.ready(words)
