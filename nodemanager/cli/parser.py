"""The command line: the daemon's flags, and the subcommands as their table has them."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from nodemanager.cli.command import PROG, Command, CommandGroup, complete_files, duration
from nodemanager.cli.commands import COMMANDS
from nodemanager.cli.completion import PLACES, SHELLS
from nodemanager.cli.site import CONFIG_VARIABLE, DEFAULT_CONFIG
from nodemanager.config.kinds import Seconds
from nodemanager.probe import PROBE_SECONDS

COMPLETION = "completion"
HELP_COLUMNS = 80

_DAEMON_FLAGS = {
    "check": "--check",
    "probe": "--probe",
    "run": "--run",
    "resume": "--resume",
    "plan": "--dry-run",
    "json": "--json",
}
"""What only the daemon takes; of each the name in the namespace."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; ends the process with status 2 and a word when it makes no sense.

    In the namespace `command` is the `Command` that was asked for; None: the daemon, or (`shell` is set)
    a completion.
    """
    parser = make_parser()
    flags = parser.parse_args(arguments)
    flags.parser = parser
    if flags.version:
        return flags
    if flags.command is not None or flags.shell is not None:
        for name, flag in _DAEMON_FLAGS.items():
            if getattr(flags, f"daemon_{name}"):
                where = "; --json stands behind it" if flag == "--json" else ""
                parser.error(f"{flag} is the daemon's and goes before no subcommand{where}")
        return flags
    _judge_daemon_flags(parser, flags)
    return flags


def _judge_daemon_flags(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    if flags.config is None:
        parser.error(f"--config FILE is missing (or a subcommand: {PROG} --help lists them)")
    if flags.daemon_resume and flags.daemon_run is None:
        parser.error("--resume goes with --run")
    if flags.daemon_probe and not flags.daemon_check:
        parser.error("--probe goes with --check")
    if flags.daemon_json and not flags.daemon_plan:
        parser.error("--json goes with --dry-run, or behind a subcommand")
    chosen = [
        flag
        for name, flag in _DAEMON_FLAGS.items()
        if flag in ("--check", "--run", "--dry-run") and getattr(flags, f"daemon_{name}")
    ]
    if len(chosen) > 1:
        parser.error(f"{' and '.join(chosen)} exclude each other")


def make_parser() -> argparse.ArgumentParser:
    """The whole command line, for reading it and for all that is made from it."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Takes queued containers from an Arvados API and runs them on a batch scheduler. "
        "Without a subcommand it is the daemon, and serves until SIGTERM.",
        epilog=f"{PROG} SUBCOMMAND --help tells more of one. Exit status: 0 as asked, 1 something failed, 2 wrong "
        "usage or configuration.",
    )
    parser.set_defaults(command=None, shell=None)
    parser.add_argument(
        "--version", action="store_true", help="print the versions of what it stands on"
    )
    _config(parser, default=None)
    _add_daemon_flags(parser)
    subparsers = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND")
    for entry in COMMANDS:
        if isinstance(entry, CommandGroup):
            _add_group(subparsers, entry)
        else:
            _add_command(subparsers, entry.name, entry)
    _add_completion(subparsers)
    return parser


def _config(parser: argparse.ArgumentParser, default: Any) -> None:
    action = parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=default,
        help=f"the config file; subcommands otherwise take that of {CONFIG_VARIABLE}, else {DEFAULT_CONFIG}",
    )
    complete_files(action)


def _add_daemon_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the daemon's flags")
    group.add_argument(
        "--check",
        dest="daemon_check",
        action="store_true",
        help="validate the file and everything it names, print what is in effect, change nothing",
    )
    group.add_argument(
        "--probe",
        dest="daemon_probe",
        action="store_true",
        help="with --check: submit one real job, which looks whether runner, certificate, token, store and "
        "so on work on a node; the daemon must not be running",
    )
    group.add_argument(
        "--probe-timeout",
        metavar="TIME",
        type=duration,
        default=PROBE_SECONDS,
        help="with --probe: how long the job may take to start and end, such as 90 s or 2 h; "
        f"{Seconds().show(PROBE_SECONDS)} by default",
    )
    group.add_argument(
        "--dry-run",
        dest="daemon_plan",
        action="store_true",
        help="print what would be claimed and booted now, and for what price; claim and boot nothing, and exit",
    )
    group.add_argument(
        "--json",
        dest="daemon_json",
        action="store_true",
        help="with --dry-run: one JSON document, for scripts",
    )
    path = group.add_argument(
        "--run",
        dest="daemon_run",
        metavar="PATH",
        type=Path,
        help="submit the container requests of a YAML file or of all those in a folder, follow them "
        "until every one is final, and exit",
    )
    complete_files(path)
    group.add_argument(
        "--resume",
        dest="daemon_resume",
        action="store_true",
        help="with --run: go on with the last run of PATH that did not end, submitting nothing twice",
    )


def _add_group(subparsers: Any, group: CommandGroup) -> None:
    first = group.commands[0]
    parser = subparsers.add_parser(group.name, help=group.summary, description=f"{group.summary}.")
    # The word alone means the first of them, which takes no more than its common flags.
    _add_common(parser, first)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for command in group.commands:
        _add_command(verbs, command.name.rpartition(" ")[2], command)


def _add_command(subparsers: Any, word: str, command: Command) -> None:
    parser = subparsers.add_parser(
        word,
        help=command.summary,
        description=_described(command),
        epilog=_epilog(command),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.arguments(parser)
    _add_common(parser, command)


def _add_common(parser: argparse.ArgumentParser, command: Command) -> None:
    parser.set_defaults(command=command)
    _config(parser, default=argparse.SUPPRESS)
    if command.has_json:
        parser.add_argument(
            "--json", dest="as_json", action="store_true", help="one JSON document, for scripts"
        )


def _add_completion(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        COMPLETION,
        help="print what makes a shell complete these words",
        description="Print a completion for a shell. To install it:",
        epilog="\n".join(f"  {place}" for place in PLACES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def _described(command: Command) -> str:
    """Wrapped here, since the formatter that leaves examples alone wraps nothing."""
    words = f"{command.summary[0].upper()}{command.summary[1:]}. {command.description}"
    return textwrap.fill(words.strip(), HELP_COLUMNS, break_on_hyphens=False)


def _epilog(command: Command) -> str:
    lines = [f"  {PROG} {example}" for example in command.examples]
    noun = "example" if len(lines) == 1 else "examples"
    parts = ["\n".join([f"{noun}:", *lines])] if lines else []
    if command.statuses:
        statuses = [f"  {number}  {words}" for number, words in command.statuses.items()]
        parts.append("\n".join(["exit status:", *statuses, "  2  wrong usage or configuration"]))
    return "\n\n".join(parts)
