"""The text of an INI file -> its entries with line numbers, and everything that is wrong with it.

The rules are configparser's (a test compares the two), with what we need besides: the line of every
value, and all problems instead of the first. Comments are whole lines that begin with ``#`` or ``;``, or
follow a value after white space. A line indented deeper than its option continues the value, until a
blank line; comments in between do not end it (as in the configparser of the old node manager). There is
no interpolation and no [DEFAULT]. The text of a line that cannot be read is never repeated: it may be
half a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Entry:
    """One option as written. `option` is in lower case; `value` has no comments and no outer space."""

    section: str
    option: str
    value: str = field(repr=False)
    line: int


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a section."""

    section: str
    line: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong with the text; line 0 is the text as a whole."""

    line: int
    sentence: str
    section: str = ""
    option: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What `parse` makes of a text."""

    headers: tuple[Header, ...]
    entries: tuple[Entry, ...]
    flaws: tuple[Flaw, ...]


def parse(text: str) -> Document:
    """Read `text`; never raises."""
    reader = _Reader()
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        reader.read(number, line)
    reader.finish()
    return Document(
        tuple(reader.headers.values()), tuple(reader.entries.values()), tuple(reader.flaws)
    )


_COMMENT = re.compile(r"(?:^|\s)[#;].*")
_HEADER = re.compile(r"\[(?P<name>.+)\]")
_ENTRY = re.compile(r"(?P<option>[^=:]*?)\s*[=:]\s*(?P<value>.*)")
_OPTION = re.compile(r"[A-Za-z0-9_./-]{1,100}")


class _Reader:
    """Where we are in the text, and what was found so far."""

    def __init__(self) -> None:
        self.headers: dict[str, Header] = {}
        self.entries: dict[tuple[str, str], Entry] = {}
        self.flaws: list[Flaw] = []
        self._section: str | None = None
        self._open: Entry | None = None
        """The option whose value the next line may continue."""
        self._indent = 0
        self._skipping = False
        """The last line could not be used, so neither can those that would continue it."""
        self._bad_section = False
        """The header could not be read: what follows belongs to nothing, and one complaint is enough."""

    def read(self, number: int, line: str) -> None:
        """Take the next line."""
        if not (line.isprintable() or line.replace("\t", "").isprintable()):
            self.finish()
            self.flaws.append(Flaw(number, "there are control characters in this line"))
            return
        content = _COMMENT.sub("", line, count=1).strip()
        if not content:
            if not line.strip():
                self.finish()
            return
        indent = len(line) - len(line.lstrip())
        if indent > self._indent and (self._open is not None or self._skipping):
            self._continue(content)
            return
        self.finish()
        self._indent = indent
        if header := _HEADER.fullmatch(content):
            self._begin_section(number, header["name"].strip())
        else:
            self._begin_entry(number, content)
            self._skipping = self._open is None

    def finish(self) -> None:
        """The open option, if any, has all its lines."""
        if self._open is not None:
            self.entries[self._open.section, self._open.option] = self._open
            self._open = None
        self._skipping = False

    def _continue(self, content: str) -> None:
        if self._open is not None:
            whole = f"{self._open.value}\n{content}".strip()
            self._open = Entry(self._open.section, self._open.option, whole, self._open.line)

    def _begin_section(self, number: int, name: str) -> None:
        self._section = name
        self._bad_section = False
        if earlier := self.headers.get(name):
            sentence = f"the section is already there in line {earlier.line}; join the two"
            self.flaws.append(Flaw(number, sentence, name))
            self._bad_section = True
        else:
            self.headers[name] = Header(name, number)

    def _begin_entry(self, number: int, content: str) -> None:
        match = _ENTRY.fullmatch(content)
        if content.startswith("["):
            self.flaws.append(Flaw(number, "a section's name ends with ]; this line has none"))
            self._bad_section = True
        elif match is None or not _OPTION.fullmatch(match["option"]):
            sentence = (
                "expected [Section], or option = value with a name of letters, digits, _ . - /"
            )
            self.flaws.append(Flaw(number, sentence, self._section or ""))
        elif self._section is None:
            if not self._bad_section:
                self.flaws.append(Flaw(number, "there is an option before the first [Section]"))
            self._bad_section = True
        else:
            self._keep(Entry(self._section, match["option"].lower(), match["value"], number))

    def _keep(self, entry: Entry) -> None:
        if self._bad_section:
            return
        earlier = self.entries.get((entry.section, entry.option))
        if earlier is None:
            self._open = entry
            return
        sentence = f"the option is already there in line {earlier.line}; keep one of them"
        self.flaws.append(Flaw(entry.line, sentence, entry.section, entry.option))
