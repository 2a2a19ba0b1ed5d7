"""What kinds of value an option can have: how each is read, written, checked and described.

A kind turns the text of the file into a value (`parse`) and back (`show`); `parse(show(v)) == v` for every
value a kind can hold. `parse` raises `ValueError` whose message says what was expected and what was found; the
message of a secret kind never repeats the text.
"""

# ruff: noqa: D102 -- what each method does is said once, in `Kind`

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


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


def nearest(name: str, known: Iterable[str], form: str = "{}") -> str:
    """A hint that names the known word most like `name`, in the given form; or the empty text."""
    import difflib  # noqa: PLC0415 (only needed when something is wrong; loading must be quick)

    by_key = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), by_key, n=1, cutoff=0.6)
    return f"; did you mean {form.format(by_key[close[0]])}?" if close else ""


@dataclass(frozen=True)
class Kind:
    """The base of all kinds, and the kind of plain text."""

    @property
    def word(self) -> str:
        """The type's name in the reference page, with its range."""
        return "text"

    @property
    def limits(self) -> str:
        """The choices, or the range if it has two ends; otherwise empty."""
        return ""

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
class Host(Pattern):
    """A host name or address, with or without a port."""

    pattern: str = (
        r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
    )
    expected: str = "host or host:port, without https://"

    @property
    def word(self) -> str:
        return "host or host:port"

    def parse(self, text: str) -> str:
        super().parse(text)
        match = re.fullmatch(self.pattern, text)
        if match and match["port"] and not 1 <= int(match["port"]) <= 65535:
            raise ValueError(f"expected a port from 1 to 65535, found {found(text)}")
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

    @property
    def limits(self) -> str:
        return self.word

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

    noun: ClassVar[str] = "number"
    expected: ClassVar[str] = "a number"
    largest: ClassVar[float] = sys.float_info.max
    """What the kind can hold at all, whatever the option's own range."""

    @property
    def word(self) -> str:
        if self.limits:
            return f"{self.noun} {self.limits}"
        return f"{self.noun}, {self.show(self.minimum)} or more" if self.minimum else self.noun

    @property
    def limits(self) -> str:
        if self.minimum is None or self.maximum is None:
            return ""
        return f"from {self.show(self.minimum)} to {self.show(self.maximum)}"

    def parse(self, text: str) -> Any:
        value = self.convert(text)
        if value is None:
            raise ValueError(f"expected {self.expected}, found {found(text)}")
        low = -self.largest if self.minimum is None else self.minimum
        high = self.largest if self.maximum is None else self.maximum
        if not low <= value <= high:
            limits = f"at most {self.show(high)}" if value > high else f"at least {self.show(low)}"
            raise ValueError(f"expected {self.expected}, {limits}, found {found(text)}")
        return value

    def convert(self, text: str) -> int | float | None:
        """The number, or None when `text` is not one; the range is not looked at."""
        raise NotImplementedError

    def show(self, value: Any) -> str:
        whole = value == int(value) and abs(value) < 1e15
        return str(int(value)) if whole else repr(value)


@dataclass(frozen=True)
class Integer(Number):
    """A whole number."""

    noun: ClassVar[str] = "whole number"
    expected: ClassVar[str] = "a whole number"
    largest: ClassVar[float] = 2**63 - 1

    def convert(self, text: str) -> int | None:
        # More digits are out of range anyway, and int() is slow with very many.
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,25}", text) else None


@dataclass(frozen=True)
class Float(Number):
    """A number with or without a fraction; never infinite."""

    def convert(self, text: str) -> float | None:
        return _with_unit(text, {"": 1})


@dataclass(frozen=True)
class Seconds(Number):
    """A duration: `15`, `15 s`, `10 min`, `1 h`, `2 d`, `500 ms`. The value is seconds (float).

    None is longer than ten years, which every timeout of the operating system can hold.
    """

    minimum: float | None = 0

    noun: ClassVar[str] = "duration"
    expected: ClassVar[str] = "a duration such as 15 s, 10 min or 1 h"
    largest: ClassVar[float] = 3650 * 86400

    def convert(self, text: str) -> float | None:
        return _with_unit(text, _SECONDS)

    def show(self, value: Any) -> str:
        for unit in ("d", "h", "min"):
            if value and value % _SECONDS[unit] == 0:
                return f"{super().show(value / _SECONDS[unit])} {unit}"
        return f"{super().show(value)} s"


@dataclass(frozen=True)
class Bytes(Number):
    """An amount of memory or disk: `512 MiB`, `4 GiB`, `20 GB`, or a plain number of bytes."""

    minimum: float | None = 0

    noun: ClassVar[str] = "bytes"
    expected: ClassVar[str] = "a number of bytes such as 512 MiB or 4 GiB"
    largest: ClassVar[float] = 2**63 - 1

    def convert(self, text: str) -> int | None:
        if re.fullmatch(r"[+-]?[0-9]{1,25}", text):
            return int(text)
        value = _with_unit(text, _BYTES)
        return int(value) if value is not None and value == math.floor(value) else None

    def show(self, value: Any) -> str:
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            if value and value % _BYTES[unit] == 0:
                return f"{value // _BYTES[unit]} {unit}"
        return str(value)


_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_SECONDS: Mapping[str, float] = {
    "": 1,
    "ms": 0.001,
    "s": 1,
    "sec": 1,
    "min": 60,
    "h": 3600,
    "d": 86400,
}
_BYTES: Mapping[str, int] = {
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


def _with_unit(text: str, units: Mapping[str, float]) -> float | None:
    """The number in `text` times its unit; None if either cannot be read or it is infinite."""
    match = re.fullmatch(rf"({_NUMBER})[ \t]*([A-Za-z]*)", text)
    if not match or match[2] not in units:
        return None
    value = float(match[1]) * units[match[2]]
    return value if math.isfinite(value) else None
