"""What a subcommand is: its words, its flags, and the function that does it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import shtab

from nodemanager.cli.out import Out
from nodemanager.cli.site import Site, UsageError
from nodemanager.config.kinds import Seconds
from nodemanager.errors import NodeManagerError

PROG = "arvados-node-manager"

SUCCEEDED = 0
FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
"""As a shell reports the death of a program by Ctrl-C."""
NOBODY_READS = 141
"""As a shell reports the death of a program whose output is closed."""

Flags: TypeAlias = argparse.Namespace
Run: TypeAlias = Callable[[Site, Flags, Out], int]
AddArguments: TypeAlias = Callable[[argparse.ArgumentParser], None]


def _nothing(_parser: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True)
class Command:
    """One subcommand. Everything but `run` is what `--help`, the completion and the reference page say."""

    name: str
    """Its words, such as ``status`` or ``nodes hold``."""
    summary: str
    """One line, in the list of all."""
    run: Run
    description: str = ""
    """What more there is to say."""
    arguments: AddArguments = _nothing
    examples: tuple[str, ...] = ()
    """What follows ``arvados-node-manager``."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """What its JSON document has; empty when it has none."""
    statuses: Mapping[int, str] = field(default_factory=dict)
    """What its exit statuses mean, besides 2 for wrong usage."""

    @property
    def has_json(self) -> bool:
        """Whether it takes ``--json``."""
        return bool(self.keys)


@dataclass(frozen=True)
class CommandGroup:
    """Commands behind one word, such as ``nodes``; the first is what the word alone means."""

    name: str
    summary: str
    commands: tuple[Command, ...]


def each(names: Iterable[str], out: Out, do: Callable[[str], None]) -> int:
    """Do it to each; what fails for one is told, and the others are done. The exit status."""
    status = SUCCEEDED
    for name in names:
        try:
            do(name)
        except UsageError as error:
            out.note(str(error))
            status = WRONG_USAGE
        except NodeManagerError as error:
            words = str(error)
            out.note(words if words.startswith(name) else f"{name}: {words}")
            status = max(status, FAILED)
    return status


def uuids(parser: argparse.ArgumentParser) -> None:
    """UUIDs of requests or containers."""
    parser.add_argument(
        "uuids", metavar="UUID", nargs="+", help="of a container request, or of a container"
    )


def complete_files(action: Any) -> None:
    """A shell completes the names of files here."""
    # So shtab finds it; argparse itself has no word for that.
    action.complete = shtab.FILE


def with_reason(parser: argparse.ArgumentParser, whom: str) -> None:
    """``--reason``."""
    parser.add_argument("--reason", metavar="TEXT", default="", help=f"why, for {whom}")


def duration(text: str) -> float:
    """A duration on the command line, in seconds."""
    try:
        return float(Seconds(1).parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
