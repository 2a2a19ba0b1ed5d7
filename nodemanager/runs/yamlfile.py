"""YAML text to values that remember their line, so that a mistake can be shown where it was made.

PyYAML's own loader forgets the lines and takes the last of two equal keys; everything else about YAML is
PyYAML's (its safe constructor, so no tag can make an object), but that a time stays the text it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

MOST_VALUES = 200_000
"""Aliases can make a small file expand without end; no honest file of requests comes near this."""

DEEPEST = 60

_MERGE_TAG = "tag:yaml.org,2002:merge"
_TIME_TAG = "tag:yaml.org,2002:timestamp"

# The parser in C reads a file of 5,000 requests in 0.8 s, the one in Python in 3.8 s; the nodes are the same.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong at a line (from 1) of a file."""

    line: int
    message: str


@dataclass
class Document:
    """One YAML document: its value, and the line of each part of it."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """The line of the part at `path`, or of the nearest part around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load_documents(text: str) -> tuple[list[Document], list[Mistake]]:
    """All documents of a file, and everything about it that is no YAML or says a thing twice."""
    mistakes: list[Mistake] = []
    documents: list[Document] = []
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return [], [Mistake(line, f"is not YAML: {error.reason}")]
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            reader = _Reader(loader, mistakes)
            documents.append(Document(reader.value(node, ()), reader.lines))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = " ".join(filter(None, (error.context, error.problem)))
        mistakes.append(Mistake(mark.line + 1 if mark else 1, words or "is not YAML"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mistakes.append(Mistake(1, f"is not YAML: {error}"))
    finally:
        loader.dispose()
    return documents, mistakes


class _Reader:
    """Turns the nodes of one document into values."""

    def __init__(self, loader: Any, mistakes: list[Mistake]) -> None:
        self._loader = loader
        self._mistakes = mistakes
        self._left = MOST_VALUES
        self.lines: dict[Path, int] = {}

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._left -= 1
        if self._left < 0 or len(path) > DEEPEST:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                "is too large or too deep once its aliases are written out",
                node.start_mark,
            )
        self.lines.setdefault(path, node.start_mark.line + 1)
        match node:
            case yaml.MappingNode():
                return dict(self._items(node, path))
            case yaml.SequenceNode():
                return [self.value(item, (*path, n)) for n, item in enumerate(node.value)]
            case _:
                return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag == _TIME_TAG:
            return node.value
        try:
            return self._loader.construct_object(node)
        except (ValueError, OverflowError) as error:
            self._mistakes.append(Mistake(node.start_mark.line + 1, f"is not YAML: {error}"))
            return None

    def _items(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                self._mistakes.append(Mistake(line, "a key must be text"))
                continue
            if key_node.tag == _MERGE_TAG:
                words = "<<: is not read here; put what requests share in defaults"
                self._mistakes.append(Mistake(line, words))
                continue
            if key in seen:
                self._mistakes.append(Mistake(line, f"{key}: is said twice"))
                continue
            seen.add(key)
            self.lines[(*path, key)] = line
            yield key, self.value(value_node, (*path, key))
