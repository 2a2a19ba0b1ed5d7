"""Where a command answers: lines, tables and JSON documents, on a terminal or into a pipe.

On a terminal columns keep their width, and the last one, which has the sentences, is broken into lines. In a
pipe every row is one line, whatever its length. No UUID is ever cut.
"""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from nodemanager.clock import Clock, SystemClock
from nodemanager.runs.view import printable

Cell: TypeAlias = str | Text

GAP = "  "
NARROWEST = 24
"""The last column is never narrower; a terminal that has no room for that breaks the lines itself."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    """Its cells, numbers for the most part, end below each other."""


class _Console(Console):
    """One that lets whoever started the command see that nobody reads any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Out:
    """Standard output and error of one command."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        file: IO[str] | None = None,
        errors: IO[str] | None = None,
        clock: Clock | None = None,
        width: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`file` and `errors` are standard output and error unless a test says otherwise.

        With a `width` the output is treated as a terminal of so many columns, without colours.
        """
        self.as_json = as_json
        self.clock = clock or SystemClock()
        terminal = None if width is None else True
        no_color = None if width is None else True
        self.console: Console = _Console(
            file=file, highlight=False, width=width, force_terminal=terminal, no_color=no_color
        )
        self._errors = errors
        self._sleep = sleep

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it."""
        return self.console.is_terminal

    @property
    def now(self) -> float:
        """Unix time."""
        return self.clock.wall()

    def say(self, text: Cell = "") -> None:
        """One line, as long as it is."""
        self.console.print(_clean(text), soft_wrap=True)

    def sentence(self, text: Cell, indent: str = "") -> None:
        """Words that are broken at the width of a terminal, each line behind `indent`."""
        cell = _clean(text)
        lines = [cell.plain]
        if self.is_terminal:
            room = max(NARROWEST, self.console.width - cell_len(indent))
            lines = textwrap.wrap(
                cell.plain, room, break_on_hyphens=False, break_long_words=False
            ) or [""]
        for line in lines:
            self.console.print(Text(indent + line, style=cell.style), soft_wrap=True)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        """A heading and one row each; nothing for no rows."""
        width = self.console.width if self.is_terminal else None
        for line in table_lines(columns, rows, width):
            self.console.print(line, soft_wrap=True)

    def document(self, value: Mapping[str, Any]) -> None:
        """The one JSON document of a reading command."""
        text = json.dumps(value, indent=1, ensure_ascii=False)
        self.console.file.write(text + "\n")

    def note(self, text: str) -> None:
        """A line for people on standard error, where it is in no script's way."""
        file = self._errors or sys.stderr
        file.write(f"{printable(text)}\n")
        file.flush()

    def raw(self, data: bytes) -> None:
        """What a program wrote. On a terminal nothing of it can do more than be read."""
        file = self.console.file
        if self.is_terminal or not hasattr(file, "buffer"):
            text = data.decode("utf-8", "replace")
            file.write("".join(c if c.isprintable() or c in "\n\t" else "?" for c in text))
        else:
            file.flush()
            file.buffer.write(data)

    def flush(self) -> None:
        """Let whoever reads see it now."""
        self.console.file.flush()

    def pause(self, seconds: float) -> None:
        """Wait before looking again."""
        self._sleep(seconds)

    def ask(self, question: str) -> bool:
        """Ask the person at the terminal; False when there is none, or another answer than yes."""
        if not (sys.stdin.isatty() and self.is_terminal):
            return False
        self.console.print(Text(f"{printable(question)} [y/N] "), end="", soft_wrap=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None
) -> Iterator[Text]:
    """The lines of a table `width` columns wide; None: each row is one line."""
    if not rows:
        return
    cells = [[_clean(cell, several=True) for cell in row] for row in rows]
    fixed = [
        max(cell_len(text) for text in (column.title, *(row[n].plain for row in cells)))
        for n, column in enumerate(columns[:-1])
    ]
    room = None if width is None else max(NARROWEST, width - sum(fixed) - len(GAP) * len(fixed))
    titles = [Text(column.title, style="bold") for column in columns]
    for row in (titles, *cells):
        # In a pipe what stands on lines of its own stands on one.
        last = row[-1].plain.split("\n")
        wrapped = ["; ".join(last)] if room is None else _wrapped(last, room)
        yield _row(columns, fixed, row, wrapped[0])
        for line in wrapped[1:]:
            indent = " " * (sum(fixed) + len(GAP) * len(fixed))
            yield Text(indent).append(line, style=row[-1].style or "")


def _row(columns: Sequence[Column], fixed: Sequence[int], row: Sequence[Text], last: str) -> Text:
    line = Text()
    for column, width, cell in zip(columns, fixed, row, strict=False):
        padding = " " * (width - cell_len(cell.plain))
        line.append(padding if column.right else "")
        line.append_text(cell)
        line.append(("" if column.right else padding) + GAP)
    line.append(last, style=row[-1].style or "")
    line.rstrip()
    return line


def _wrapped(lines: Iterable[str], room: int) -> list[str]:
    found: list[str] = []
    for line in lines:
        found += textwrap.wrap(line, room, break_on_hyphens=False, break_long_words=False) or [""]
    return found


def _clean(cell: Cell, *, several: bool = False) -> Text:
    """Without control characters: names and errors come from anybody. Line ends stay where there may be `several`."""
    text = cell if isinstance(cell, Text) else Text(cell)
    kept = "\n" if several else ""
    words = "".join(c if c.isprintable() or c in kept else "?" for c in text.plain)
    return text if words == text.plain else Text(words, style=text.style)
