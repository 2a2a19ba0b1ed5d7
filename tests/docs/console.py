"""What a page tells people to type, typed; and what they are shown, compared.

A page has ``console`` blocks, in which lines after a command are what it prints. What is saved stands in a block below
a paragraph that ends with "as `NAME`:". A line of three dots stands for any lines, dots at the end of a line
for any rest. Blanks, times, ages and paths may differ. UUIDs and names of nodes are others in each run: the first time that
one is shown it stands for the one in its place, from then on it means that.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import Block, blocks_of

BOUND_SECONDS = 90.0
_PAUSE_SECONDS = 0.5
"""Between two looks: as people do, and so that what is looked at has the machine."""
_SAVED = re.compile(r" as `([\w.-]+)`:\s*\Z")
_NAME = r"zzzzz-[a-z0-9]{5}-[a-z0-9]{15}|compute-[a-z0-9]{8}-zzzzz"
_LOOSE = re.compile(
    rf"(?P<name>{_NAME})"
    r"|(?P<time>\b\d\d:\d\d:\d\d\b)|(?P<age>\b\d+(?:\.\d+)? (?:ms|s|min|h)\b)|(?P<blank>\s+)|(?P<other>.)"
)
_END = "----- that was it, with status"


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do: save a file, or type a command."""

    saved: str = ""
    """The name of the file."""
    text: str = ""
    """What it holds, or the command."""
    shown: tuple[str, ...] = ()
    """What the command prints."""


def steps_of(page: Path) -> Iterator[Step]:
    """Everything that the page tells to do, in order."""
    for block in blocks_of(page):
        if block.info == "console":
            yield from _commands(block)
        elif found := _SAVED.search(block.before):
            yield Step(saved=found[1], text=block.text)


def _commands(block: Block) -> Iterator[Step]:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield Step(text=command, shown=tuple(shown))


@dataclass
class Terminal:
    """A shell in which one command after the other is typed, as at a terminal that shows no colours."""

    directory: Path
    environment: Mapping[str, str]
    meanings: dict[str, str] = field(default_factory=dict)
    """What stands for the UUIDs and names of the page."""

    def __post_init__(self) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def do(self, step: Step, reading: tuple[str, ...]) -> None:
        """Do it. A command that begins with one of `reading` is typed until it shows what the page does."""
        if step.saved:
            (self.directory / step.saved).write_text(step.text)
            return
        command = re.sub(_NAME, lambda found: self.meanings.get(found[0], found[0]), step.text)
        end = time.monotonic() + BOUND_SECONDS
        while True:
            status, printed = self.type(command)
            meanings = match(step.shown, printed.splitlines(), self.meanings)
            if meanings is not None:
                self.meanings = meanings
                return
            if not command.startswith(reading) or time.monotonic() > end:
                shown = "\n".join(step.shown)
                raise AssertionError(
                    f"$ {command}\n{printed}\n(status {status}); it should be like\n{shown}"
                )
            time.sleep(_PAUSE_SECONDS)

    def type(self, command: str) -> tuple[int, str]:
        """The command's exit status, and what it prints."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command}\nended=$?; echo; echo '{_END}' $ended; pwd\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(_END):
                self.directory = Path(self._shell.stdout.readline().strip())
                return int(line.removeprefix(_END)), "".join(lines)
            lines.append(line)
        raise AssertionError(f"$ {command}\n{''.join(lines)}\n(and the shell is gone)")

    def close(self) -> None:
        """Close the terminal, whatever runs there."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write("kill $(jobs -p) 2>/dev/null; wait; exit\n")
        self._shell.stdin.close()
        self._shell.stdout.read()
        self._shell.stdout.close()
        self._shell.wait(timeout=BOUND_SECONDS)


def match(
    shown: tuple[str, ...], printed: list[str], meanings: Mapping[str, str]
) -> dict[str, str] | None:
    """What the names of the page stand for, if what was printed is like what is shown; else None."""
    known = dict(meanings)
    lines = iter([line for line in printed if line.strip()])
    is_free = False
    for wanted in (line for line in shown if line.strip()):
        if wanted == "...":
            is_free = True
            continue
        for line in lines:
            if (found := _like(wanted, line, known)) is not None:
                known |= found
                break
            if not is_free:
                return None
        else:
            return None
        is_free = False
    return known if is_free or not shown or next(lines, None) is None else None


def _like(wanted: str, line: str, known: Mapping[str, str]) -> dict[str, str] | None:
    names: list[str] = []
    pattern = ""
    for part in _LOOSE.finditer(wanted.strip().removesuffix("...").rstrip()):
        match part.lastgroup:
            case "name" if part[0] in known:
                pattern += re.escape(known[part[0]])
            case "name":
                names.append(part[0])
                pattern += f"({_NAME})"
            case "time":
                pattern += r"\d\d:\d\d:\d\d"
            case "age":
                pattern += r"\d+(?:\.\d+)? (?:ms|s|min|h)"
            case "blank":
                pattern += r"\s+"
            case _:
                pattern += re.escape(part[0])
    pattern += ".*" if wanted.endswith("...") else r"\s*"
    found = re.fullmatch(pattern, line.strip())
    return None if found is None else dict(zip(names, found.groups(), strict=True))
