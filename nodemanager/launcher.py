"""The command `arvados-node-manager`: reads flags and config, and does what they say.

Exit status: 0 when it ended as asked (with --run: all requests Complete); 1 when a request ended otherwise or
something failed; 2 for wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nodemanager.check import check
from nodemanager.config import Config, load
from nodemanager.config.kinds import Seconds
from nodemanager.errors import ConfigError, NodeManagerError, RequestError
from nodemanager.probe import PROBE_SECONDS, Visit, probe_site
from nodemanager.serve import Signals, serve, versions

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    flags = _parse(arguments)
    try:
        config = load(flags.config)
        for warning in config.warnings:
            _say(f"warning: {warning}")
        if flags.check:
            return _check(config, flags)
        return serve(config, flags.run, resume=flags.resume)
    except (ConfigError, RequestError) as error:
        _say(str(error))
        return USAGE_ERROR
    except NodeManagerError as error:
        _say(str(error))
        return 1


def _check(config: Config, flags: argparse.Namespace) -> int:
    console = Console(highlight=False)
    if not flags.probe:
        return check(config, console)

    def say(words: str) -> None:
        # A terminal that is gone is no reason to leave the job where it is.
        with contextlib.suppress(OSError):
            console.print(Text(f"...      probe: {words}"), soft_wrap=True)

    visit = Visit(Signals(signal.SIGHUP).stop, say, flags.probe_timeout)
    return check(config, console, lambda: probe_site(config, visit))


def _say(message: str) -> None:
    sys.stderr.write(f"arvados-node-manager: {message}\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="arvados-node-manager",
        description="Takes queued containers from an Arvados API and runs them on a batch scheduler. "
        "Without --run or --check it serves until SIGTERM.",
    )
    parser.add_argument("--version", action="version", version=versions())
    parser.add_argument(
        "--config", metavar="FILE", type=Path, required=True, help="the config file"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="validate the file and everything it names, print what is in effect, change nothing",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="with --check: submit one real job, which looks whether runner, certificate, token, store and "
        "so on work on a node; the daemon must not be running",
    )
    parser.add_argument(
        "--probe-timeout",
        metavar="TIME",
        type=_seconds,
        default=PROBE_SECONDS,
        help="with --probe: how long the job may take to start and end, such as 90 s or 2 h; "
        f"{Seconds().show(PROBE_SECONDS)} by default",
    )
    parser.add_argument(
        "--run",
        metavar="PATH",
        type=Path,
        help="submit the container requests of a YAML file or of all those in a folder, follow them "
        "until every one is final, and exit",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="with --run: go on with the last run of PATH that did not end, submitting nothing twice",
    )
    flags = parser.parse_args(arguments)
    if flags.resume and flags.run is None:
        parser.error("--resume goes with --run")
    if flags.probe and not flags.check:
        parser.error("--probe goes with --check")
    if flags.check and flags.run is not None:
        parser.error("--check and --run exclude each other")
    return flags


def _seconds(text: str) -> float:
    try:
        return float(Seconds(1).parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
