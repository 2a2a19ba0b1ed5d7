"""Thousands of waiting containers as a few lines: those that wait for the same thing together. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.cli.waiting import Listed
from nodemanager.model import format_time
from nodemanager.reason import ReasonToken, Tier

MOST_SENTENCES = 4
"""So many different sentences of one token are shown; the rest of them is one line."""


@dataclass(frozen=True, slots=True)
class Group:
    """Containers that wait for the same reason."""

    token: ReasonToken
    sentence: str
    advice: str
    count: int
    oldest: str
    """UUID of the one that has waited longest."""
    oldest_since: float
    """Since when that one waits."""
    next_attempt_at: float | None
    """The earliest time at which one of them goes on, where it waits for a time."""

    @property
    def tier(self) -> Tier:
        """How bad it is."""
        return self.token.tier

    def as_dict(self) -> dict[str, Any]:
        """The row of a JSON document."""
        upcoming = self.next_attempt_at
        return {
            "token": self.token.value,
            "tier": self.tier.name.lower(),
            "sentence": self.sentence,
            "advice": self.advice,
            "containers": self.count,
            "oldest": self.oldest,
            "oldest_since": format_time(self.oldest_since),
            "next_attempt_at": None if upcoming is None else format_time(upcoming),
        }


def groups_of(found: Iterable[Listed], most_sentences: int = MOST_SENTENCES) -> list[Group]:
    """The waiting ones among `found` by reason: those that need somebody first, larger groups before smaller.

    Of a token with more than `most_sentences` different sentences the rarest are one group together.
    """
    by_token: dict[ReasonToken, dict[tuple[str, str], list[Listed]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for item in found:
        if item.reason is not None:
            said = item.reason.sentence, item.reason.advice
            by_token[item.reason.token][said].append(item)
    numbers = {token: sum(map(len, said.values())) for token, said in by_token.items()}
    return [
        group
        for token in sorted(numbers, key=lambda token: (token.tier.value, -numbers[token], token))
        for group in _groups_of_token(token, by_token[token], most_sentences)
    ]


def _groups_of_token(
    token: ReasonToken, said: Mapping[tuple[str, str], Sequence[Listed]], most: int
) -> list[Group]:
    """The most frequent sentences first, and in the end those that have no group of their own."""
    alike = sorted(said, key=lambda key: (-len(said[key]), key))
    if len(alike) <= most + 1:
        return [_group(token, said[key]) for key in alike]
    rest = [item for key in alike[most:] for item in said[key]]
    others = len(alike) - most - 1
    words = f"{alike[most][0]} (and {others} other {'sentence' if others == 1 else 'sentences'})"
    return [*(_group(token, said[key]) for key in alike[:most]), _group(token, rest, words)]


def _group(token: ReasonToken, members: Sequence[Listed], words: str = "") -> Group:
    oldest = min(members, key=lambda item: (item.since, item.container.uuid))
    reason = oldest.reason
    times = [
        item.reason.next_attempt_at
        for item in members
        if item.reason is not None and item.reason.next_attempt_at is not None
    ]
    return Group(
        token=token,
        sentence=words or ("" if reason is None else reason.sentence),
        advice="" if reason is None or words else reason.advice,
        count=len(members),
        oldest=oldest.container.uuid,
        oldest_since=oldest.since,
        next_attempt_at=min(times, default=None),
    )
