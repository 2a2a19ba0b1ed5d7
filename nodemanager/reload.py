"""SIGHUP: read the config file again, take up what can be, and say what cannot.

`nodemanager.config.reload` says what is taken up. A file that is bad, or that contradicts what only a restart would
change, changes nothing.
"""

from __future__ import annotations

import contextlib
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
from nodemanager.status.settings import ManageSettings, settings_from

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

        Never raises: whatever is wrong is logged. Nothing is changed then, unless all but the place of the
        management server could be taken up.
        """
        try:
            read = load(self._running.path)
            # Before anything of it is shown.
            logs.mask_secrets(secrets_of(read))
            found = changes(self._running, read)
            problem = self._take_up(merge(self._running, read))
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
            return problem
        return "the config file was not taken up, see the log"

    def _take_up(self, config: Config) -> str:
        """Each step that leaves all as it was when it fails comes before those that cannot be taken back.

        The answer says what is wrong with the last one, the management server; empty when nothing is.
        """
        logs.set_up(config)
        try:
            self._daemon.reload(config)
        except NodeManagerError:
            logs.set_up(self._running)
            raise
        before, self._running = self._running, config
        self._herald.limits = limits_from(config)
        wanted, had = settings_from(config), settings_from(before)
        if self.management.is_in_order and wanted.is_served_like(had):
            self.management.follow(wanted)
            return ""
        problem = self._replace_management(wanted, had)
        if problem:
            # The next reload finds the difference again.
            self._running = replace(config, manage=before.manage)
            self.management.follow(settings_from(self._running))
        return problem

    def _replace_management(self, wanted: ManageSettings, had: ManageSettings) -> str:
        """Another server on another place, or with another token; who is logged in has to do it again.

        The old one goes on if that cannot be, and the answer says what came of it.
        """
        old = self.management
        port = urlsplit(old.url).port
        if port is not None and wanted.port == 0:
            # Which was any, and is known by now.
            wanted = replace(wanted, port=port)
        # No two listen on one port; everywhere else the new one comes before the old one goes.
        is_in_the_way = wanted.port == port
        if is_in_the_way:
            old.stop(MANAGEMENT_STOP_SECONDS)
        try:
            self.management = self._started(wanted, old)
        except ConfigError as error:
            if port is not None and is_in_the_way:
                with contextlib.suppress(ConfigError):
                    self.management = self._started(replace(had, port=port), old)
            return _not_replaced(error, is_there=self.management.is_in_order)
        if not is_in_the_way:
            old.stop(MANAGEMENT_STOP_SECONDS)
        return ""

    def _started(self, settings: ManageSettings, old: ManagementServer) -> ManagementServer:
        made = ManagementServer(settings, self._daemon)
        if old.url:
            made.go_on_from(old)
        made.start()
        return made


def _not_replaced(error: ConfigError, *, is_there: bool) -> str:
    if is_there:
        log.error(
            "%s; the management server goes on as it was",
            error,
            extra={"action": "manage_unchanged"},
        )
        return "the management server goes on as it was, see the log"
    log.error(
        "%s; there is no management server now, the next reload tries again to start it",
        error,
        extra={"action": "manage_missing"},
    )
    return "there is no management server, see the log"


def _report(found: list[Change], left: list[Change], read: Config) -> None:
    for change in found:
        is_taken = change not in left
        how = "not taken up" if change.is_live else "needs a restart of the daemon"
        log.log(
            logging.INFO if is_taken else logging.WARNING,
            "%s: %s",
            change,
            "taken up" if is_taken else how,
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
        "%s was read again: %d changes taken up, %d not",
        read.path,
        len(found) - len(left),
        len(left),
        extra={"action": "reloaded", "taken": len(found) - len(left), "left": len(left)},
    )
