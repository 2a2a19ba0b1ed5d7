"""docs/reference/command-line.md, made from the parser: ``python -m nodemanager.cli.reference``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from nodemanager.cli.command import PROG, Command, CommandGroup
from nodemanager.cli.commands import COMMANDS
from nodemanager.cli.completion import PLACES
from nodemanager.cli.parser import COMPLETION, make_parser
from nodemanager.cli.site import CONFIG_VARIABLE, DEFAULT_CONFIG

_HEAD = f"""\
# The command line

Made by `make docs` from `nodemanager/cli/`; `{PROG} --help`, and `--help` of each subcommand, say the same.

    {PROG} --config FILE                         the daemon
    {PROG} [--config FILE] SUBCOMMAND ...        a subcommand beside it

The daemon needs `--config`. A subcommand takes the file that the variable `{CONFIG_VARIABLE}` names, or else
`{DEFAULT_CONFIG}`; with `ARVADOS_API_HOST` and `ARVADOS_API_TOKEN` it needs none.

## Whom a subcommand asks

- **The API**, for all that it knows: of every dispatcher, and also while the daemon is down. Which one, and as whom:
  `ARVADOS_API_HOST` and `ARVADOS_API_TOKEN` of the environment (with `ARVADOS_API_HOST_INSECURE=1` any certificate
  will do; `ARVADOS_API_TOKEN` alone is used with the host of the config file); else `[Arvados] host` and `token`;
  else the embedded API, with its root token, which only the user can read as whom the daemon runs.
- **The management server** of the daemon, for its nodes and what they cost: `[Manage] address` and `port`, with
  `ManagementToken`.
- **The store**, `[Runner] store`, for logs, when that directory is here; otherwise the API.

What a token may see is what its user owns; an administrator's sees everything, and operators' verbs need one.

## What comes out

On a terminal columns keep their places, long sentences are broken, and colours are used unless `NO_COLOR` is set. In
a pipe every row is one line. UUIDs are never cut. Errors are on standard error.

`--json` prints one JSON document; times in it are those of the API (`2026-01-31T12:00:00.123456000Z`). The keys of
each are listed below, and are kept; new ones may be added.

| exit status | means |
|---|---|
| 0 | it ended as asked |
| 1 | something failed or was refused; what each subcommand means by it is said below |
| 2 | wrong usage, an invalid config file, a UUID of something else |
| 130 | Ctrl-C |
| 141 | nobody read the output any more, as with `{PROG} queue --all \\| head` |
"""


def page() -> str:
    """The whole page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    parser = make_parser()
    yield _HEAD
    yield "## The daemon's flags"
    yield ""
    yield from _flags(_group_of(parser, "the daemon's flags"))
    yield "\n`--version` prints the versions of what it stands on.\n"
    yield "## Subcommands"
    yield ""
    words = _subparsers(parser)
    for entry in COMMANDS:
        if isinstance(entry, CommandGroup):
            verbs = _subparsers(words[entry.name])
            for command in entry.commands:
                yield from _command(command, verbs[command.name.rpartition(" ")[2]])
        else:
            yield from _command(entry, words[entry.name])
    yield from _completion()


def _command(command: Command, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"### {command.name}"
    yield ""
    yield f"{command.summary[0].upper()}{command.summary[1:]}. {command.description}".strip()
    yield ""
    yield f"    {_usage(command, parser)}"
    yield ""
    actions = [action for action in _own_actions(parser) if action.help]
    if actions:
        yield from _flags(actions)
        yield ""
    for example in command.examples:
        yield f"    {PROG} {example}"
    if command.examples:
        yield ""
    if command.keys:
        yield "| key of the JSON document | |"
        yield "|---|---|"
        for key, words in command.keys.items():
            yield f"| {', '.join(f'`{part}`' for part in key.split(', '))} | {words} |"
        yield ""
    if command.statuses:
        statuses = (f"{number}: {words}" for number, words in command.statuses.items())
        yield f"Exit status {'. '.join(statuses)}."
        yield ""


def _completion() -> Iterator[str]:
    yield f"### {COMPLETION}"
    yield ""
    yield f"Print what makes a shell complete these words: `{PROG} {COMPLETION} SHELL`, for {', '.join(PLACES)}."
    yield ""
    for place in PLACES.values():
        yield f"    {place}"
    yield ""


def _usage(command: Command, parser: argparse.ArgumentParser) -> str:
    parts = [PROG, command.name]
    for action in _own_actions(parser):
        name = action.option_strings[-1] if action.option_strings else ""
        value = "" if action.nargs == 0 else str(action.metavar or action.dest)
        part = " ".join(filter(None, (name, value)))
        if action.nargs in ("+", "*"):
            part += "..."
        parts.append(part if action.required and action.nargs != "*" else f"[{part}]")
    return " ".join(parts)


def _flags(actions: list[argparse.Action]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for action in actions:
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest}"
        names = ", ".join(f"`{name}{value}`" for name in action.option_strings)
        yield f"| {names or f'`{action.metavar}`'} | {action.help} |"


def _own_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All but those that every subcommand has; positional ones last."""
    common = {"help", "config"}
    own = [
        action
        for action in parser._actions  # noqa: SLF001 (argparse tells in no other way)
        if action.dest not in common and not isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    ]
    return sorted(own, key=lambda action: not action.option_strings)


def _group_of(parser: argparse.ArgumentParser, title: str) -> list[argparse.Action]:
    groups = parser._action_groups  # noqa: SLF001
    return next(list(group._group_actions) for group in groups if group.title == title)  # noqa: SLF001


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


if __name__ == "__main__":
    sys.stdout.write(page())
