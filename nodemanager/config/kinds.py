"""What kinds of value an option can have: how each is read, written, checked and described.

A kind turns the text of the file into a value (`parse`) and back (`show`); `parse(show(v)) == v` for every
value a kind can hold. `parse` raises `ValueError` whose message says what was expected and what was found; the
message of a secret kind never repeats the text.
"""

# ruff: noqa: D102 -- what each method does is said once, in `Kind`

from __future__ import annotations

import math
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Secret(str):
    """A string that shows itself as ``***``, so that it can be used but not logged by accident.

    It is a `str` in every other way; `str(secret)` is the plain text.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


def found(text: str) -> str:
    """The offending text for an error message: quoted, on one line, not endless."""
    if not text:
        return "nothing"
    return ascii(text if len(text) <= 60 else text[:57] + "...")


@dataclass(frozen=True)
class Kind:
    """The base of all kinds, and the kind of plain text."""

    @property
    def word(self) -> str:
        """The type's name in the reference page, with its range."""
        return "text"

    @property
    def is_secret(self) -> bool:
        """Whether values must be masked and the file that holds them kept private."""
        return False

    def parse(self, text: str) -> Any:
        """The value `text` stands for, or `ValueError`."""
        return text

    def show(self, value: Any) -> str:
        """The text that stands for `value`."""
        return str(value)

    def anchor(self, value: Any, directory: Path) -> Any:
        """Make relative paths in `value` relative to `directory`."""
        del directory
        return value


@dataclass(frozen=True)
class Pattern(Kind):
    """Text that must look like something, such as a cluster id. `expected` describes it."""

    pattern: str
    expected: str

    @property
    def word(self) -> str:
        return self.expected

    def parse(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text, re.ASCII):
            raise ValueError(f"expected {self.expected}, found {found(text)}")
        return text


@dataclass(frozen=True)
class SecretText(Kind):
    """A token or password: masked wherever it is shown."""

    @property
    def word(self) -> str:
        return "secret"

    @property
    def is_secret(self) -> bool:
        return True

    def parse(self, text: str) -> Secret:
        if not text.isprintable():
            raise ValueError("a secret is one line of printable characters")
        return Secret(text)


@dataclass(frozen=True)
class Bool(Kind):
    """`yes` or `no`, and the other words configparser knows."""

    @property
    def word(self) -> str:
        return "yes or no"

    def parse(self, text: str) -> bool:
        word = text.lower()
        if word in ("yes", "true", "on", "1"):
            return True
        if word in ("no", "false", "off", "0"):
            return False
        raise ValueError(f"expected yes or no, found {found(text)}")

    def show(self, value: Any) -> str:
        return "yes" if value else "no"


@dataclass(frozen=True)
class Choice(Kind):
    """One word of a fixed list; upper and lower case are the same. The value is spelt as in the list."""

    choices: tuple[str, ...]

    @property
    def word(self) -> str:
        return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"

    def parse(self, text: str) -> str:
        for choice in self.choices:
            if choice.lower() == text.lower():
                return choice
        raise ValueError(f"expected {self.word}, found {found(text)}")


@dataclass(frozen=True)
class LogLevel(Choice):
    """The name of a level of the `logging` module."""

    choices: tuple[str, ...] = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Number(Kind):
    """What the kinds of number share: a smallest and a largest value, both allowed themselves."""

    minimum: float | None = None
    maximum: float | None = None

    @property
    def noun(self) -> str:
        """What is expected, without the range."""
        raise NotImplementedError

    @property
    def word(self) -> str:
        if self.minimum is not None and self.maximum is not None:
            return f"{self.noun} from {self.show(self.minimum)} to {self.show(self.maximum)}"
        if self.minimum is not None:
            return f"{self.noun}, at least {self.show(self.minimum)}"
        return self.noun

    def parse(self, text: str) -> Any:
        value = self.convert(text)
        low = self.minimum is not None and value is not None and value < self.minimum
        high = self.maximum is not None and value is not None and value > self.maximum
        if value is None or low or high:
            raise ValueError(f"expected {self.word}, found {found(text)}")
        return value

    def convert(self, text: str) -> Any:
        """The number, or None when `text` is not one; the range is not looked at."""
        raise NotImplementedError


@dataclass(frozen=True)
class Integer(Number):
    """A whole number."""

    @property
    def noun(self) -> str:
        return "a whole number"

    def convert(self, text: str) -> int | None:
        # Nineteen digits hold any 64-bit number; longer ones only serve to make int() slow.
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,19}", text) else None


@dataclass(frozen=True)
class Float(Number):
    """A number with or without a fraction; never infinite."""

    @property
    def noun(self) -> str:
        return "a number"

    def convert(self, text: str) -> float | None:
        match = re.fullmatch(_NUMBER, text)
        value = float(text) if match else math.inf
        return value if math.isfinite(value) else None

    def show(self, value: Any) -> str:
        return _plain(value)


@dataclass(frozen=True)
class Seconds(Number):
    """A duration: `15`, `15 s`, `10 min`, `1 h`, `2 d`, `500 ms`. The value is seconds (float).

    No duration may be longer than ten years, which every timeout of the operating system can hold.
    """

    minimum: float | None = 0.0
    maximum: float | None = None

    @property
    def noun(self) -> str:
        return "a duration such as 15 s, 10 min or 1 h"

    @property
    def word(self) -> str:
        if self.minimum and self.maximum is not None:
            return f"duration from {self.show(self.minimum)} to {self.show(self.maximum)}"
        if self.maximum is not None:
            return f"duration, at most {self.show(self.maximum)}"
        return f"duration, at least {self.show(self.minimum)}" if self.minimum else "duration"

    def parse(self, text: str) -> float:
        value = self.convert(text)
        if value is None or value < 0:
            raise ValueError(f"expected {self.noun}, found {found(text)}")
        longest = _TEN_YEARS if self.maximum is None else self.maximum
        if value < (self.minimum or 0) or value > longest:
            low, high = self.show(self.minimum or 0), self.show(longest)
            raise ValueError(f"expected from {low} to {high}, found {found(text)}")
        return value

    def convert(self, text: str) -> float | None:
        return _with_unit(text, _SECONDS)

    def show(self, value: Any) -> str:
        for unit in ("d", "h", "min"):
            if value and value % _SECONDS[unit] == 0:
                return f"{int(value / _SECONDS[unit])} {unit}"
        return f"{_plain(value)} s"


@dataclass(frozen=True)
class Bytes(Number):
    """An amount of memory or disk: `512 MiB`, `4 GiB`, `20 GB`, or a plain number of bytes."""

    minimum: float | None = 0
    maximum: float | None = 2**63 - 1

    @property
    def noun(self) -> str:
        return "an amount such as 512 MiB or 4 GiB"

    @property
    def word(self) -> str:
        return f"bytes, at least {self.show(self.minimum)}" if self.minimum else "bytes"

    def parse(self, text: str) -> int:
        value = self.convert(text)
        if value is None or not 0 <= value <= 2**63 - 1:
            raise ValueError(f"expected {self.noun}, found {found(text)}")
        if value < (self.minimum or 0):
            raise ValueError(f"expected at least {self.show(self.minimum)}, found {found(text)}")
        return value

    def convert(self, text: str) -> int | None:
        if re.fullmatch(r"[0-9]{1,19}", text):
            return int(text)
        value = _with_unit(text, _BYTES)
        return int(value) if value is not None and value == math.floor(value) else None

    def show(self, value: Any) -> str:
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            # Above 2**53 a float cannot hold every count of units, so those are written out.
            if value and value % _BYTES[unit] == 0 and value < 2**53:
                return f"{value // _BYTES[unit]} {unit}"
        return str(value)


@dataclass(frozen=True)
class PathKind(Kind):
    """A file or directory; `empty` says what the empty text (value None) means, if it may be empty.

    A relative path is relative to the directory of the config file; `~` is the home directory. The words in
    `aliases` stand for the empty text too.
    """

    empty: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        return f"path, or {self.aliases[0]}" if self.aliases else "path"

    def parse(self, text: str) -> Path | None:
        if (not text or text in self.aliases) and self.empty:
            return None
        if not text or not text.isprintable():
            raise ValueError(f"expected a path, found {found(text)}")
        return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises without a home)

    def show(self, value: Any) -> str:
        if value is None:
            return self.aliases[0] if self.aliases else ""
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


_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_TEN_YEARS = 3650 * 86400.0
_SECONDS: dict[str, float] = {
    "": 1,
    "ms": 0.001,
    "s": 1,
    "sec": 1,
    "min": 60,
    "h": 3600,
    "d": 86400,
}
_BYTES = {
    "": 1,
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}


def _with_unit(text: str, units: dict[str, Any]) -> float | None:
    """The number in `text` times its unit; None if either cannot be read."""
    match = re.fullmatch(rf"({_NUMBER})[ \t]*([A-Za-z]*)", text)
    if not match or match[2] not in units:
        return None
    value = float(match[1]) * units[match[2]]
    return value if math.isfinite(value) else None


def _plain(value: float) -> str:
    """A number without a needless ``.0``."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
