"""A reason as a value: one token, one sentence, the numbers and the knob."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodemanager.model import format_seconds, format_time, parse_time
from nodemanager.reason.tokens import Knob, ReasonToken, Tier


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a container is not running: one token, one sentence, the numbers and the knob.

    `facts` maps a resource or limit to ``{"wanted": n, "available": n}`` or to a plain number. `since`
    is when this reason began; a reason is written to the API only when `same_as` the last one fails.
    """

    token: ReasonToken
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    advice: str = ""
    """What to do; the token's own where nothing better is known, empty where only time helps."""
    since: float = 0.0
    next_attempt_at: float | None = None
    whose: Knob | None = None
    """Who can end the wait, where that is not who the token says."""

    def __post_init__(self) -> None:
        """No reason is without advice where somebody can do something."""
        if not self.advice and self.whose is not Knob.NOBODY:
            object.__setattr__(self, "advice", self.token.advice)
        if self.whose is self.token.knob:
            object.__setattr__(self, "whose", None)

    @property
    def knob(self) -> Knob:
        """Who can end the wait."""
        return self.token.knob if self.whose is None else self.whose

    @property
    def tier(self) -> Tier:
        """How bad it is."""
        return self.token.tier

    def same_as(self, other: Reason | None) -> bool:
        """Equal in everything a reader would notice; `since` is not."""
        return other is not None and (
            (self.token, self.sentence, self.advice, self.next_attempt_at)
            == (other.token, other.sentence, other.advice, other.next_attempt_at)
        )

    def line(self, now: float) -> str:
        """For people, at Unix time `now`: the sentence, and how long it still takes where known."""
        if self.next_attempt_at is None or self.next_attempt_at <= now:
            return self.sentence
        return f"{self.sentence} (in {format_seconds(self.next_attempt_at - now)})"

    def as_dict(self) -> dict[str, Any]:
        """The `properties` of a dispatch link, and the form in `status.json`."""
        return {
            "token": self.token.value,
            "tier": self.tier.name.lower(),
            "sentence": self.sentence,
            "facts": dict(self.facts),
            "advice": self.advice,
            "knob": self.knob.value,
            "since": format_time(self.since),
            "next_attempt_at": (
                None if self.next_attempt_at is None else format_time(self.next_attempt_at)
            ),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Reason:
        """The inverse of `as_dict`; of a reason that an older version wrote the knob is its token's."""
        upcoming, knob = value.get("next_attempt_at"), value.get("knob")
        return cls(
            token=ReasonToken(value["token"]),
            sentence=value["sentence"],
            facts=value.get("facts") or {},
            advice=value.get("advice") or "",
            since=parse_time(value["since"]),
            next_attempt_at=parse_time(upcoming) if upcoming else None,
            whose=Knob(knob) if knob else None,
        )
