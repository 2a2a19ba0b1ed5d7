"""Thousands of waiting containers as a few lines: those that wait for the same thing together. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
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


def groups_of(found: Iterable[Listed]) -> list[Group]:
    """The waiting ones among `found` by reason: those that need somebody first, larger groups before smaller."""
    by_token: dict[ReasonToken, dict[tuple[str, str], list[Listed]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for item in found:
        if item.reason is not None:
            said = item.reason.sentence, item.reason.advice
            by_token[item.reason.token][said].append(item)
    groups = [
        group
        for token, sentences in by_token.items()
        for group in _groups_of_token(token, sorted(sentences.values(), key=len, reverse=True))
    ]
    return sorted(groups, key=lambda group: (group.tier.value, -group.count, group.sentence))


def _groups_of_token(token: ReasonToken, alike: Sequence[Sequence[Listed]]) -> list[Group]:
    if len(alike) <= MOST_SENTENCES + 1:
        return [_group(token, members) for members in alike]
    shown = [_group(token, members) for members in alike[:MOST_SENTENCES]]
    rest = [item for members in alike[MOST_SENTENCES:] for item in members]
    sentences = len(alike) - MOST_SENTENCES
    first = _group(token, rest)
    words = f"{sentences} more sentences of this kind, such as: {first.sentence}"
    return [*shown, _group(token, rest, words)]


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
