"""A Sphinx extension: what makes plain Markdown pages a site that can be walked through, and readable manual pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_PAGE = re.compile(r"\]\(([\w/-]+)\.md\)")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx when it starts."""
    # Graphs of states, which tests compare with the code.
    app.add_lexer("states", TextLexer)
    app.connect("source-read", _add_contents)
    app.connect("doctree-resolved", _as_manual_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Make the navigation of what index.md links to below each heading; a code host would show a toctree as code.

    Pages of the same folder that it does not name come last.
    """
    if page != "index":
        return
    _, *sections = _HEADING.split(source[0])
    for heading, text in zip(sections[::2], sections[1::2], strict=True):
        pages = list(dict.fromkeys(_PAGE.findall(text)))
        folder = Path(pages[0]).parent
        others = [name for name in app.env.found_docs if Path(name).parent == folder]
        listed = "\n".join([*pages, *sorted(set(others) - set(pages))])
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{listed}\n```\n"


def _as_manual_page(app: Sphinx, document: nodes.document, _page: str) -> None:
    """Make it what readers of manual pages expect: no links that lead nowhere, and lists instead of tables."""
    if app.builder.name != "man":
        return
    for link in list(document.findall(nodes.reference)):
        link.replace_self(link.children)
    for table in list(document.findall(nodes.table)):
        table.replace_self(_list_of(table))
    _add_description(document)


def _list_of(table: nodes.table) -> nodes.definition_list:
    """Each row as an entry: the first cell, then the others, with what their column is called where that is needed."""
    (head,) = table.findall(nodes.thead)
    (body,) = table.findall(nodes.tbody)
    names = [cell.astext() for cell in head.findall(nodes.entry)]
    entries = nodes.definition_list()
    for row in body.findall(nodes.row):
        first, *others = row.findall(nodes.entry)
        term = nodes.term("", "", *_inline(first))
        # The last column says what it is; those between are short words that need their names.
        definition = nodes.definition("", nodes.paragraph("", "", *_inline(others[-1])))
        if short := [
            nodes.Text(f"{name}: {cell.astext()}")
            for name, cell in zip(names[1:-1], others[:-1], strict=True)
        ]:
            definition += nodes.paragraph("", "; ".join(short))
        entries += nodes.definition_list_item("", term, definition)
    return entries


def _inline(cell: nodes.entry) -> list[nodes.Node]:
    """What stands in the one paragraph of a cell."""
    return [child for paragraph in cell.children for child in paragraph.children]


def _add_description(document: nodes.document) -> None:
    """What stands before the first heading gets one."""
    (page,) = [child for child in document.children if isinstance(child, nodes.section)]
    title, *rest = page.children
    sections = [child for child in rest if isinstance(child, nodes.section)]
    before = [child for child in rest if child not in sections]
    description = nodes.section("", nodes.title("", "Description"), *before, ids=["description"])
    page.children = []
    page += [title, description, *sections]
