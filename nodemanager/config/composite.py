"""The kinds of option that hold paths, or several things at once: files, lists, commands."""

# ruff: noqa: D102 -- what each method does is said once, in `Kind`

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodemanager.config.kinds import Kind, found


@dataclass(frozen=True)
class PathKind(Kind):
    """A file or directory. The value is None for the empty text, if that is allowed, and for the word `alias`.

    A relative path is relative to the directory of the config file; `~` is the home directory.
    """

    may_be_empty: bool = False
    alias: str = ""

    @property
    def word(self) -> str:
        return f"path, or {self.alias}" if self.alias else "path"

    def parse(self, text: str) -> Path | None:
        if (self.may_be_empty and not text) or (self.alias and text == self.alias):
            return None
        if not text or not text.isprintable():
            raise ValueError(f"expected a path, found {found(text)}")
        return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises without a home)

    def show(self, value: Any) -> str:
        if value is None:
            return self.alias
        return str(value)

    def anchor(self, value: Any, directory: Path) -> Any:
        # Path("/a") / "/b" is "/b": an absolute path stays.
        return None if value is None else Path(os.path.normpath(directory / value))


@dataclass(frozen=True)
class ListOf(Kind):
    """Items separated by commas or line ends; the value is a tuple."""

    item: Kind = field(default_factory=Kind)
    minimum: int = 0

    @property
    def word(self) -> str:
        return f"list: {self.item.word}"

    def parse(self, text: str) -> tuple[Any, ...]:
        items = [piece.strip() for piece in re.split(r"[,\n]", text)]
        values = tuple(self.item.parse(piece) for piece in items if piece)
        if len(values) < self.minimum:
            raise ValueError(f"expected at least {self.minimum} items, found {found(text)}")
        return values

    def show(self, value: Any) -> str:
        return ", ".join(self.item.show(item) for item in value)

    def anchor(self, value: Any, directory: Path) -> Any:
        return tuple(self.item.anchor(item, directory) for item in value)


@dataclass(frozen=True)
class TagList(Kind):
    """Items such as `project=genomes`, separated by commas or line ends; the value is a tuple of pairs."""

    @property
    def word(self) -> str:
        return "list: key=value"

    def parse(self, text: str) -> tuple[tuple[str, str], ...]:
        pairs: dict[str, str] = {}
        for item in ListOf().parse(text):
            key, equals, value = (piece.strip() for piece in item.partition("="))
            if not key or not equals:
                raise ValueError(f"expected key=value, found {found(item)}")
            if key in pairs:
                raise ValueError(f"expected each key once, found {found(key)} twice")
            pairs[key] = value
        return tuple(pairs.items())

    def show(self, value: Any) -> str:
        return ", ".join(f"{key}={item}" for key, item in value)


@dataclass(frozen=True)
class Command(Kind):
    """A program and its arguments, split as a shell would split them; no shell ever sees them."""

    @property
    def word(self) -> str:
        return "command"

    def parse(self, text: str) -> tuple[str, ...]:
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise ValueError(f"expected a command: {str(error).lower()}") from None
        if not words or not words[0]:
            raise ValueError("expected a command, found nothing")
        return words

    def show(self, value: Any) -> str:
        return shlex.join(value)
