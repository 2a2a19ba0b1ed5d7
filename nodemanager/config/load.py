"""The config file -> `Config`, or one `ConfigError` that names everything that is wrong with it."""

from __future__ import annotations

import dataclasses
import math
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nodemanager.config import ini
from nodemanager.config.checks import contradictions, warnings_about
from nodemanager.config.kinds import nearest
from nodemanager.config.option import Option, Section, kind_of
from nodemanager.config.sections import Daemon
from nodemanager.config.sources import (
    MAX_FILE_BYTES,
    Address,
    Given,
    Problem,
    add_secret_files,
    find_section,
    from_document,
    from_environment,
    private_literals,
    reason_of,
)
from nodemanager.config.tree import SECTIONS, Config
from nodemanager.errors import ConfigError


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Config:
    """Read the config file at `path`; variables of `environ` stand above it.

    Raises `ConfigError`, with one line for each problem: file and line, section, option, what was expected
    and found, and the nearest known name. Nothing is created or changed.
    """
    text, is_private = _read(Path(path))
    return _build(text, Path(path), environ, is_private=is_private)


def parse(
    text: str, path: str | os.PathLike[str], environ: Mapping[str, str] | None = None
) -> Config:
    """Like `load`, for the text of a file that need not exist; `path` is what errors and paths refer to."""
    return _build(text, Path(path), environ or {}, is_private=True)


def _read(path: Path) -> tuple[str, bool]:
    """The text of the file, and whether only its owner can read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {reason_of(error)}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes: this is no config file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8; save the file in that encoding") from None
    return text, not stat.S_IMODE(mode) & 0o077


def _build(text: str, path: Path, environ: Mapping[str, str], *, is_private: bool) -> Config:
    problems: list[Problem] = []
    warnings: list[str] = []
    document = ini.parse(text)
    given = from_document(document, str(path), problems)
    given.update(from_environment(environ, problems, warnings))
    if not is_private:
        problems += [
            Problem(given[at].origin, f"others may read this secret; run: chmod 600 {path}", *at)
            for at in private_literals(given)
        ]
    add_secret_files(given, _directory_of(path), problems)
    sections = _Reader(given, path, problems).sections(document.headers)
    _complain(problems)
    origins = MappingProxyType({address: value.origin for address, value in given.items()})
    config = Config(path=_directory_of(path) / path.name, origins=origins, **sections)
    _complain(
        [
            Problem(origins.get(address, str(path)), sentence, *address)
            for address, sentence in contradictions(config)
        ]
    )
    return dataclasses.replace(config, warnings=(*warnings, *warnings_about(config)))


def _directory_of(path: Path) -> Path:
    """What relative paths in the file at `path` are relative to."""
    return Path(os.path.abspath(path)).parent  # noqa: PTH100 (resolve would follow links)


def _complain(problems: list[Problem]) -> None:
    """Raise all `problems` as one error, in the order of the file."""
    if problems:
        raise ConfigError("\n".join(str(problem) for problem in sorted(problems, key=_line)))


def _line(problem: Problem) -> float:
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isdecimal() else math.inf


class _Reader:
    """Turns given texts into the values of sections; what cannot be read becomes a problem.

    A section with a problem is None: nobody sees it, as the problems end the loading.
    """

    def __init__(self, given: Mapping[Address, Given], path: Path, problems: list[Problem]) -> None:
        self._given = given
        self._path = path
        self._directory = _directory_of(path)
        self._problems = problems
        self._words = {
            "<config_dir>": str(self._directory),
            "<host_name>": os.uname().nodename,
            "<python>": sys.executable,
        }

    def sections(self, headers: Sequence[ini.Header]) -> dict[str, Any]:
        """The value of every section, by attribute of `Config`."""
        values: dict[str, Any] = {}
        # Defaults of other sections lie in the state directory, so [Daemon] has to be known first.
        for part in sorted(SECTIONS, key=lambda part: part.name != "Daemon"):
            if part.many:
                values[part.attribute] = self._many(part, headers)
            else:
                values[part.attribute] = self._one(part, part.name)
            if isinstance(daemon := values[part.attribute], Daemon):
                self._words["<state_dir>"] = str(daemon.state_dir)
        return values

    def _many(self, part: Section, headers: Sequence[ini.Header]) -> Mapping[str, Any]:
        """Every `[NAME x]` of the file, by x."""
        found: dict[str, Any] = {}
        for header in headers:
            if find_section(header.section) is part:
                name = header.section.removeprefix(part.name).strip()
                found[name] = self._one(part, f"{part.name} {name}")
        return MappingProxyType(found)

    def _one(self, part: Section, name: str) -> Any:
        """The section called `name`."""
        before = len(self._problems)
        values: dict[str, Any] = {}
        for made in part.options():
            given = self._given.get((name, made.key))
            if given is not None:
                values[made.attribute] = self._value(made, (name, made.key), given)
            elif made.is_derived:
                values[made.attribute] = self._default(made)
        if free := part.free():
            values[free.attribute] = self._free(part, free, name)
        return None if len(self._problems) > before else part.cls(**values)

    def _free(self, part: Section, free: Option, name: str) -> Mapping[str, Any]:
        named = {made.key: made.name for made in part.options()}
        return MappingProxyType(
            {
                key: self._value(free, (section, key), given, nearest(key, named.values()))
                for (section, key), given in self._given.items()
                if section == name and key not in named
            }
        )

    def _value(self, made: Option, address: Address, given: Given, hint: str = "") -> Any:
        kind = kind_of(made, address[1])
        try:
            value = kind.parse(given.text)
            # Who removes the "#" before a default must get that default.
            value = self._fill(value) if made.is_derived else value
            return kind.anchor(value, self._directory)
        except ValueError as error:
            self._problems.append(Problem(given.origin, f"{error}{hint}", *address))
            return None

    def _default(self, made: Option) -> Any:
        """A default that depends on this machine and file."""
        value = self._fill(made.kind.parse(made.default))
        return made.kind.anchor(value, self._directory)

    def _fill(self, value: Any) -> Any:
        """Replace words such as <state_dir> in a text, path or tuple of texts."""
        if value is None:
            return None
        if isinstance(value, tuple):
            return tuple(self._fill(item) for item in value)
        text = str(value)
        for word, meaning in self._words.items():
            text = text.replace(word, meaning)
        return type(value)(text) if isinstance(value, str) else Path(text)
