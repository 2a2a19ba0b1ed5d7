"""The command `arvados-node-manager`: the daemon, or a subcommand beside it.

Exit status: 0 when it ended as asked (with --run: all requests Complete); 1 when a request ended otherwise or
something failed; 2 for wrong usage or configuration.
"""

# What the daemon stands on is imported where it is started: a subcommand, and every Tab of a completion that
# asked it, would wait for that.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from nodemanager.cli import main as cli
from nodemanager.cli.parser import parse
from nodemanager.config import Config, load
from nodemanager.errors import ConfigError, NodeManagerError, RequestError

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    flags = parse(None if arguments is None else list(arguments))
    if flags.version:
        return _print_versions()
    if flags.command is not None or flags.shell is not None:
        return cli.run(flags)
    try:
        return _be_the_daemon(flags)
    except (ConfigError, RequestError) as error:
        _say(str(error))
        return USAGE_ERROR
    except NodeManagerError as error:
        _say(str(error))
        return 1


def _be_the_daemon(flags: argparse.Namespace) -> int:
    config = load(flags.config)
    for warning in config.warnings:
        _say(f"warning: {warning}")
    if flags.daemon_check:
        return _check(config, flags)
    if flags.daemon_plan:
        from nodemanager.dry_run import dry_run

        return dry_run(config, Console(highlight=False), as_json=flags.daemon_json)
    from nodemanager.serve import serve

    return serve(config, flags.daemon_run, resume=flags.daemon_resume)


def _check(config: Config, flags: argparse.Namespace) -> int:
    from nodemanager.check import check
    from nodemanager.probe.site import Visit, probe_site
    from nodemanager.serve import Signals

    console = Console(highlight=False)
    if not flags.daemon_probe:
        return check(config, console)

    def say(words: str) -> None:
        # A terminal that is gone is no reason to leave the job where it is.
        with contextlib.suppress(OSError):
            console.print(Text(f"...      probe: {words}"), soft_wrap=True)

    visit = Visit(Signals(signal.SIGHUP).stop, say, flags.probe_timeout)
    return check(config, console, lambda: probe_site(config, visit))


def _print_versions() -> int:
    from nodemanager.serve import versions

    sys.stdout.write(f"{versions()}\n")
    return 0


def _say(message: str) -> None:
    sys.stderr.write(f"arvados-node-manager: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
