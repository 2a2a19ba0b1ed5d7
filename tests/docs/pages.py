"""The pages of the documentation, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(
    r"^(?P<marks>```+)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=marks)\n", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    page: Path
    before: str
    """The text of the page up to it."""
    info: str
    """What stands beside the fence: the language, and perhaps more."""
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.before.count(chr(10)) + 1}"


def name_of(page: Path) -> str:
    """Its path, as people say it."""
    return str(page.relative_to(REPOSITORY))


def blocks(info: str, pages: list[Path] = PAGES) -> list[Block]:
    """All blocks of a language."""
    return [block for page in pages for block in blocks_of(page) if block.info == info]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(page, text[: found.start()], found["info"].strip(), found["text"])
        for found in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def links(page: Path) -> list[str]:
    """What the page links to within the repository."""
    return [link for link in _LINK.findall(prose(page)) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """The names by which code hosts link to its headings."""
    return {_anchor(heading) for heading in _HEADING.findall(prose(page))}


def _anchor(heading: str) -> str:
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def graph(block: Block) -> dict[str, set[str]]:
    """A graph of states: what may follow each; final ones are left out."""
    found: dict[str, set[str]] = {}
    for line in block.text.splitlines():
        before, _, after = line.partition("->")
        found[before.strip()] = {word.strip() for word in after.split(",")}
    return found


def table(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, _, below = page.read_text().partition(f"# {heading}\n")
    rows: list[list[str]] = []
    for line in below.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
        elif rows:
            break
    return rows[2:]
