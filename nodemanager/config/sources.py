"""Where values come from: the file, the environment, and files that hold one secret each.

Each source yields `Given` texts by section and option; later sources stand above earlier ones. What is wrong
is added to a list of `Problem`, so that an operator sees everything at once.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nodemanager.config import ini
from nodemanager.config.kinds import Secret, found, nearest
from nodemanager.config.option import Option, Section, kind_of
from nodemanager.config.tree import SECTIONS

ENVIRONMENT_PREFIX = "NODE_MANAGER_"
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_SECRET_BYTES = 64 * 1024

Address = tuple[str, str]
"""Section as in the file and option in lower case."""


@dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody wrote it."""

    text: str = field(repr=False)
    origin: str
    from_file: bool = True
    """Written in the config file itself."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    where: str
    sentence: str
    section: str = ""
    option: str = ""

    def __str__(self) -> str:
        place = f"[{self.section}] {self.option}".rstrip() + ": " if self.section else ""
        return f"{self.where}: {place}{self.sentence}"


def find_section(name: str) -> Section | None:
    """The section that `[name]` is: `Size small` belongs to `Size`."""
    for part in SECTIONS:
        if part.is_called(name):
            return part
    return None


def find_option(part: Section, key: str) -> Option | None:
    """The option that `key` is in this section, a free one included."""
    return next((o for o in part.options() if o.key == key), part.free())


def from_document(
    document: ini.Document, name: str, problems: list[Problem]
) -> dict[Address, Given]:
    """What the config file says. Unknown sections and options are problems."""
    problems += [Problem(at(name, f.line), f.sentence, f.section, f.option) for f in document.flaws]
    for header in document.headers:
        if find_section(header.section) is None:
            hint = nearest(header.section, (part.title for part in SECTIONS), "[{}]")
            where = at(name, header.line)
            problems.append(Problem(where, f"unknown section {found(header.section)}{hint}"))
    aliases = {o.alias: (p.name, o.key) for p in SECTIONS for o in p.options() if o.alias}
    given: dict[Address, Given] = {}
    for entry in document.entries:
        part = find_section(entry.section)
        if part is None:
            continue
        where = at(name, entry.line)
        written = _canonical(entry.section, part), entry.option
        address = aliases.get(written, written)
        if address == written and find_option(part, entry.option) is None:
            hint = nearest(entry.option, [o.name for o in part.options()])
            problems.append(Problem(where, f"unknown option{hint}", *written))
        elif earlier := given.get(address):
            sentence = f"means the same as {earlier.origin}; keep one of them"
            problems.append(Problem(where, sentence, *written))
        else:
            given[address] = Given(entry.value, where)
    return given


def from_environment(
    environ: Mapping[str, str], problems: list[Problem], warnings: list[str]
) -> dict[Address, Given]:
    """Values of variables such as NODE_MANAGER_ARVADOS_TOKEN; an empty variable counts as unset.

    An unknown option of a known section is a problem. Any other variable with our prefix earns a warning,
    except those that Kubernetes makes for a service called node-manager.
    """
    given: dict[Address, Given] = {}
    parts = {_variable(part.name): part for part in SECTIONS if not part.many}
    for variable, text in sorted(environ.items()):
        rest = variable.removeprefix(ENVIRONMENT_PREFIX)
        if rest == variable or not text or _is_service_link(rest, text):
            continue
        prefixes = [prefix for prefix in parts if rest.startswith(prefix + "_")]
        part = parts[max(prefixes, key=len)] if prefixes else None
        where = f"environment variable {ascii(variable)[1:-1]}"
        if part is None:
            warnings.append(f"{where}: names no section of the config file and is not used")
            continue
        key = rest[len(_variable(part.name)) + 1 :].lower()
        if not key or find_option(part, key) is None:
            hint = nearest(key, [o.name for o in part.options()])
            problems.append(Problem(where, f"unknown option {found(key)}{hint}", part.name))
        elif not text.replace("\n", "").isprintable():
            problems.append(Problem(where, "there are control characters in it", part.name, key))
        else:
            given[part.name, key] = Given(text.strip(), where, from_file=False)
    return given


def add_secret_files(given: dict[Address, Given], directory: Path, problems: list[Problem]) -> None:
    """Where `x_file` is given for a secret `x`, read it and add its content as `x`.

    The environment stands above the config file: `x` from there wins over `x_file` from the file, and the
    other way round. Both from the same source contradict each other.
    """
    for part in SECTIONS:
        for made in part.options():
            address, file_address = (part.name, made.key), (part.name, f"{made.key}_file")
            pointer, literal = given.get(file_address), given.get(address)
            if pointer is None or not kind_of(made, made.key).is_secret or not pointer.text:
                continue
            if literal is not None and literal.from_file == pointer.from_file:
                sentence = f"give either {made.name} or {made.name}_file"
                problems.append(Problem(pointer.origin, sentence, *file_address))
            elif literal is None or literal.from_file:
                path = directory / os.path.expanduser(pointer.text)  # noqa: PTH111 (never raises)
                try:
                    given[address] = Given(read_secret(path), f"file {path}", from_file=False)
                except ValueError as error:
                    problems.append(Problem(pointer.origin, str(error), *file_address))


def read_secret(path: Path) -> Secret:
    """The one line in a file that only its owner may read; `ValueError` with a sentence otherwise."""
    try:
        # A pipe must not make us wait for a writer; for regular files the flag means nothing.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {reason_of(error)}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not a regular file")
        if status.st_mode & 0o077:
            raise ValueError(f"others may read or write {path}; run: chmod 600 {path}")
        content = file.read(MAX_SECRET_BYTES + 1)
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = "\n"
    if not text:
        raise ValueError(f"{path} is empty; it must hold the secret and nothing else")
    if not text.isprintable() or len(content) > MAX_SECRET_BYTES:
        raise ValueError(f"{path} must hold the secret and nothing else, in one line")
    return Secret(text)


def private_literals(given: Mapping[Address, Given]) -> list[Address]:
    """The secrets that are written in the config file itself."""
    secrets = []
    for (name, key), value in given.items():
        part = find_section(name)
        made = find_option(part, key) if part else None
        if made and value.from_file and value.text and kind_of(made, key).is_secret:
            secrets.append((name, key))
    return secrets


def at(name: str | Path, line: int) -> str:
    """A place in a file, as in ``FILE:LINE``; line 0 is the file as a whole."""
    return f"{name}:{line}" if line else str(name)


def reason_of(error: Exception) -> str:
    """The operating system's words for an error, without number and file name."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _canonical(name: str, part: Section) -> str:
    """`Size  small` is `Size small`."""
    return f"{part.name} {name[len(part.name) :].strip()}" if part.many else name


def _variable(name: str) -> str:
    return name.upper().replace(" ", "_")


def _is_service_link(rest: str, text: str) -> bool:
    """Kubernetes gives every pod such variables for every service, ours included."""
    ports = re.search(r"(^|_)(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_\w+)$", rest)
    return ports is not None or re.match(r"(tcp|udp|sctp)://", text) is not None
