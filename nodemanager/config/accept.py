"""The kind of `accept` in `[Scheduler NAME]`: which containers a scheduler takes.

Conditions, all of which have to hold, joined by ``and`` or one a line::

    partition = long, highmem and cores <= 16 and ram <= 64 GiB and gpus = 0
    property.project = exome, genome
    preemptible = yes

A word with a space, a comma or an operator in it, and the word ``and``, stand in double quotes. There is no
semicolon between conditions: after a space it would begin a comment.
"""

# ruff: noqa: D102 -- what each method does is said once, in `Kind`

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nodemanager.config.kinds import Bool, Bytes, Integer, Kind, found, nearest
from nodemanager.rule import Rule, Span

_PROPERTY = "property."
_AMOUNTS: Mapping[str, tuple[str, Kind]] = {
    "cores": ("cores", Integer(0)),
    "ram": ("ram_bytes", Bytes()),
    "scratch": ("scratch_bytes", Bytes()),
    "gpus": ("gpus", Integer(0)),
}
_KNOWN = ("partition", *_AMOUNTS, "preemptible", f"{_PROPERTY}KEY")
_AND = "and"
_OPERATORS = ("<=", ">=", "=")

_TOKEN = re.compile(
    r"""[^\S\n]*(?P<token> \n | <= | >= | [=<>!~]+ | , | (?: [^\s,"=<>!~;] | "(?:[^"\\\n]|\\.)*" )+ )""",
    re.VERBOSE,
)
_BARE = re.compile(r"""[^\s,"=<>!~;\\]+""")


@dataclass(frozen=True)
class Accept(Kind):
    """See the module's docstring. The value is a `Rule`; the empty text accepts everything."""

    @property
    def word(self) -> str:
        return "conditions"

    def parse(self, text: str) -> Rule:
        rule = Rule()
        for condition in _conditions(text):
            rule = _add(rule, condition)
        return rule

    def show(self, value: Any) -> str:
        return f" {_AND} ".join(_shown(value))


@dataclass(frozen=True, slots=True)
class _Condition:
    """What stands between two ``and``: a word, an operator, and what follows."""

    word: str
    operator: str
    rest: tuple[str, ...]


def _conditions(text: str) -> Iterator[_Condition]:
    tokens: list[str] = []
    for token in (*_tokens(text), "\n"):
        if token not in (_AND, "\n"):
            tokens.append(token)
        elif tokens:
            yield _condition(tokens)
            tokens = []
        elif token == _AND:
            raise ValueError("expected a condition before `and`, found nothing")


def _tokens(text: str) -> Iterator[str]:
    at = 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"expected conditions joined by `and`, found {found(text[at:])}")
        yield match["token"]
        at = match.end()


def _condition(tokens: list[str]) -> _Condition:
    word, operator, *rest = (*tokens, "", "")[: max(3, len(tokens))]
    whole = " ".join(tokens)
    key = _PROPERTY if word.startswith(_PROPERTY) else word
    if key not in (_PROPERTY, "partition", "preemptible", *_AMOUNTS):
        raise ValueError(
            f"expected one of {', '.join(_KNOWN)}, found {found(word)}{nearest(word, _KNOWN)}"
        )
    allowed = _OPERATORS if key in _AMOUNTS else ("=",)
    if operator not in allowed:
        raise ValueError(f"expected {' or '.join(allowed)} after {word}, found {found(operator)}")
    if not any(rest):
        raise ValueError(f"expected a value after {found(whole)}, found nothing")
    return _Condition(word, operator, tuple(rest))


def _add(rule: Rule, condition: _Condition) -> Rule:
    """`rule`, and this besides; `ValueError` when the same was said before, or nothing could be both."""
    word = condition.word
    if word in _AMOUNTS:
        return _add_bound(rule, condition)
    if word == "preemptible":
        if rule.preemptible is not None:
            raise _twice(word)
        value = Bool().parse(" ".join(condition.rest))
        return dataclasses.replace(rule, preemptible=value)
    values = _values(condition)
    if word == "partition":
        if rule.partitions:
            raise _twice(word)
        return dataclasses.replace(rule, partitions=values)
    key = _unquoted(word.removeprefix(_PROPERTY))
    if not key:
        raise ValueError("expected the key of a property after `property.`, found nothing")
    if key in dict(rule.properties):
        raise _twice(word)
    return dataclasses.replace(rule, properties=(*rule.properties, (key, values)))


def _add_bound(rule: Rule, condition: _Condition) -> Rule:
    word, operator = condition.word, condition.operator
    attribute, kind = _AMOUNTS[word]
    amount = kind.parse(" ".join(condition.rest))
    before: Span = getattr(rule, attribute)
    least, most = before.least, before.most
    if operator in (">=", "="):
        if least:
            raise _twice(f"{word} >=")
        least = amount
    if operator in ("<=", "="):
        if most is not None:
            raise _twice(f"{word} <=")
        most = amount
    if most is not None and least > most:
        raise ValueError(
            f"no container has both {word} >= {kind.show(least)} and {word} <= {kind.show(most)}"
        )
    changed: dict[str, Any] = {attribute: Span(least, most)}
    return dataclasses.replace(rule, **changed)


def _twice(what: str) -> ValueError:
    return ValueError(f"expected each condition once, found {what} twice")


def _values(condition: _Condition) -> tuple[str, ...]:
    """Words with commas between them."""
    rest = condition.rest
    words, commas = rest[::2], rest[1::2]
    if len(rest) % 2 == 0 or "," in words or any(comma != "," for comma in commas):
        whole = " ".join(rest)
        raise ValueError(
            f"expected values with commas between them after {condition.word} =, found {found(whole)}"
        )
    return tuple(_unquoted(word) for word in words)


def _unquoted(word: str) -> str:
    if '"' not in word:
        return word
    try:
        value = json.loads(word)
    except ValueError:
        raise ValueError(
            f"expected one word, or text in double quotes, found {found(word)}"
        ) from None
    return str(value)


def _quoted(word: str) -> str:
    return word if _BARE.fullmatch(word) and word != _AND else json.dumps(word)


def _shown(rule: Rule) -> Iterator[str]:
    if rule.partitions:
        yield f"partition = {', '.join(map(_quoted, rule.partitions))}"
    for word, (attribute, kind) in _AMOUNTS.items():
        span: Span = getattr(rule, attribute)
        if span.most == span.least:
            yield f"{word} = {kind.show(span.least)}"
            continue
        if span.least:
            yield f"{word} >= {kind.show(span.least)}"
        if span.most is not None:
            yield f"{word} <= {kind.show(span.most)}"
    if rule.preemptible is not None:
        yield f"preemptible = {Bool().show(rule.preemptible)}"
    for key, values in rule.properties:
        yield f"{_PROPERTY}{_quoted(key)} = {', '.join(map(_quoted, values))}"
