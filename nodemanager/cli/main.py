"""Runs one subcommand: finds its site, and turns whatever comes of it into words and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from nodemanager.cli.command import (
    FAILED,
    INTERRUPTED,
    NOBODY_READS,
    SUCCEEDED,
    WRONG_USAGE,
    Command,
)
from nodemanager.cli.completion import script
from nodemanager.cli.out import Out
from nodemanager.cli.site import CONFIG_VARIABLE, DEFAULT_CONFIG, Site, UsageError, site_of
from nodemanager.config import Config, load
from nodemanager.errors import ConfigError, NodeManagerError, RequestError


def run(flags: argparse.Namespace) -> int:
    """Do what `parser.parse` read; the exit status."""
    out = Out(as_json=getattr(flags, "as_json", False))
    try:
        status = _run(flags, out)
        out.flush()
    except (ConfigError, RequestError, UsageError) as error:
        _say(str(error))
        return WRONG_USAGE
    except NodeManagerError as error:
        _say(str(error))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    return status


def _run(flags: argparse.Namespace, out: Out) -> int:
    if flags.shell is not None:
        out.console.file.write(script(flags.parser, flags.shell))
        return SUCCEEDED
    command: Command = flags.command
    site = find_site(flags.config)
    try:
        return command.run(site, flags, out)
    finally:
        site.close()


def find_site(named: Path | None) -> Site:
    """The site of the config file that was named, or that is found where they are."""
    return site_of(_config(named))


def _config(named: Path | None) -> Config | None:
    chosen = named or os.environ.get(CONFIG_VARIABLE)
    if chosen:
        return load(chosen)
    return load(DEFAULT_CONFIG) if DEFAULT_CONFIG.exists() else None


def _say(message: str) -> None:
    for line in message.splitlines():
        sys.stderr.write(f"arvados-node-manager: {line}\n")
