"""SIGHUP: read the config file again, take up what can be, and say what cannot.

`nodemanager.config.reload` says what is taken up. A file that is bad, or that contradicts what only a restart would
change, changes nothing.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from urllib.parse import urlsplit

from nodemanager import logs
from nodemanager.config import Config, load
from nodemanager.config.reload import Change, changes, merge
from nodemanager.config.tree import secrets_of
from nodemanager.daemon import Daemon
from nodemanager.errors import ConfigError, NodeManagerError
from nodemanager.herald import Herald
from nodemanager.status.health import limits_from
from nodemanager.status.server import ManagementServer
from nodemanager.status.settings import settings_from

log = logging.getLogger(__name__)

MANAGEMENT_STOP_SECONDS = 2.0


class Reloader:
    """Owns what a reload may replace. Belongs to the main thread."""

    def __init__(self, config: Config, daemon: Daemon, herald: Herald) -> None:
        self._running = config
        self._daemon = daemon
        self._herald = herald
        self.management = ManagementServer(settings_from(config), daemon)

    def reload(self) -> str:
        """Read the file again, and say in a sentence what is wrong; empty when nothing is.

        Never raises: whatever is wrong is logged, and nothing is changed then.
        """
        try:
            read = load(self._running.path)
            # Before anything of it is shown.
            logs.mask_secrets(secrets_of(read))
            found = changes(self._running, read)
            self._take_up(merge(self._running, read))
        except NodeManagerError as error:
            for line in str(error).splitlines():
                log.error(  # noqa: TRY400 (the sentence says it all)
                    "the config file cannot be taken up, and all stays as it was: %s",
                    line,
                    extra={"action": "reload_refused"},
                )
        except Exception:
            log.exception(
                "the config file could not be read again", extra={"action": "reload_failed"}
            )
        else:
            # What is different still was not taken up, for whatever reason.
            _report(found, changes(self._running, read), read)
            return ""
        return "the config file was not taken up, see the log"

    def _take_up(self, config: Config) -> None:
        """Each step that may fail comes before those that cannot be taken back."""
        logs.set_up(config)
        try:
            self._daemon.reload(config)
        except NodeManagerError:
            logs.set_up(self._running)
            raise
        before, self._running = self._running, config
        self._herald.limits = limits_from(config)
        settings = settings_from(config)
        if settings.is_served_like(settings_from(before)):
            self.management.follow(settings)
        else:
            self._replace_management(before)

    def _replace_management(self, before: Config) -> None:
        """Another server on another place, or with another token; who is logged in has to do it again."""
        old, settings = self.management, settings_from(self._running)
        if old.url and settings.port == 0:
            # Which was any, and is known by now.
            settings = replace(settings, port=urlsplit(old.url).port or 0)
        old.stop(MANAGEMENT_STOP_SECONDS)
        self.management = ManagementServer(settings, self._daemon)
        self.management.go_on_from(old)
        try:
            self.management.start()
        except ConfigError as error:
            log.error(  # noqa: TRY400 (the sentence says it all)
                "%s; the management server goes on where it was",
                error,
                extra={"action": "manage_unchanged"},
            )
            self._running = replace(self._running, manage=before.manage)
            self.management = ManagementServer(settings_from(self._running), self._daemon)
            self.management.go_on_from(old)
            self.management.start()


def _report(found: list[Change], left: list[Change], read: Config) -> None:
    for change in found:
        is_taken = change not in left
        how = "taken up" if is_taken else "needs a restart of the daemon"
        log.log(
            logging.INFO if is_taken else logging.WARNING,
            "%s: %s",
            change,
            how,
            extra={
                "action": "option_changed",
                "section": change.section,
                "option": change.option,
                "before": change.before,
                "after": change.after,
                "taken_up": is_taken,
            },
        )
    for warning in read.warnings:
        log.warning("%s", warning, extra={"action": "config_warning"})
    log.info(
        "%s was read again: %d changes taken up, %d need a restart",
        read.path,
        len(found) - len(left),
        len(left),
        extra={"action": "reloaded", "taken": len(found) - len(left), "left": len(left)},
    )
