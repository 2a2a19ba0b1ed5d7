"""Why a container does not run: the fixed list of tokens, and a reason with its sentence, numbers and advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from nodemanager.model import format_seconds, format_time, parse_time


class Tier(Enum):
    """How bad a reason is, mildest last; of several dispatchers' reasons the mildest is shown.

    The order is Kueue's (KEP-10852): who can end the wait, and how soon.
    """

    NEVER = 1
    """The request can never fit: only its owner or a new node size ends this wait."""
    HOLD = 2
    """An operator holds it."""
    LIMIT = 3
    """A limit (quota, budget, max_claimed) is reached."""
    WAITING = 4
    """Waiting for something named: a time, a node, a job to end."""
    UNSEEN = 5
    """Nobody has looked at it yet."""


class ReasonToken(StrEnum):
    """The fixed list of reasons why a container does not run; stable names for links and metrics."""

    NO_NODE_FITS = "no-node-fits"
    NO_PARTITION = "no-partition"
    NO_SCHEDULER = "no-scheduler"
    ON_HOLD = "on-hold"
    CLAIM_LIMIT = "claim-limit"
    SCHEDULER_LIMIT = "scheduler-limit"
    RUN_AFTER = "run-after"
    BACKOFF = "backoff"
    SUBMITTING = "submitting"
    SCHEDULER_DOWN = "scheduler-down"
    WAITING_FOR_RESOURCES = "waiting-for-resources"
    SCHEDULER_WAIT = "scheduler-wait"
    STARTING = "starting"
    CANCELLING = "cancelling"
    NODE_BOOTING = "node-booting"
    NODE_LIMIT = "node-limit"
    CLOUD_QUOTA = "cloud-quota"
    NO_CAPACITY = "no-capacity"
    BOOT_BRAKE = "boot-brake"
    NODES_UNKNOWN = "nodes-unknown"
    NOT_SEEN = "not-seen"

    @property
    def tier(self) -> Tier:
        """The tier is a property of the token, so that nobody can disagree about it."""
        return _TIERS[self]


_TIERS = {
    ReasonToken.NO_NODE_FITS: Tier.NEVER,
    ReasonToken.NO_PARTITION: Tier.NEVER,
    ReasonToken.NO_SCHEDULER: Tier.NEVER,
    ReasonToken.ON_HOLD: Tier.HOLD,
    ReasonToken.CLAIM_LIMIT: Tier.LIMIT,
    ReasonToken.SCHEDULER_LIMIT: Tier.LIMIT,
    ReasonToken.RUN_AFTER: Tier.WAITING,
    ReasonToken.BACKOFF: Tier.WAITING,
    ReasonToken.SUBMITTING: Tier.WAITING,
    ReasonToken.SCHEDULER_DOWN: Tier.WAITING,
    ReasonToken.WAITING_FOR_RESOURCES: Tier.WAITING,
    ReasonToken.SCHEDULER_WAIT: Tier.WAITING,
    ReasonToken.STARTING: Tier.WAITING,
    ReasonToken.CANCELLING: Tier.WAITING,
    ReasonToken.NODE_BOOTING: Tier.WAITING,
    ReasonToken.NODE_LIMIT: Tier.LIMIT,
    ReasonToken.CLOUD_QUOTA: Tier.LIMIT,
    ReasonToken.NO_CAPACITY: Tier.LIMIT,
    ReasonToken.BOOT_BRAKE: Tier.LIMIT,
    ReasonToken.NODES_UNKNOWN: Tier.WAITING,
    ReasonToken.NOT_SEEN: Tier.UNSEEN,
}


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
    since: float = 0.0
    next_attempt_at: float | None = None

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
            "since": format_time(self.since),
            "next_attempt_at": (
                None if self.next_attempt_at is None else format_time(self.next_attempt_at)
            ),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Reason:
        """The inverse of `as_dict`."""
        upcoming = value.get("next_attempt_at")
        return cls(
            token=ReasonToken(value["token"]),
            sentence=value["sentence"],
            facts=value.get("facts") or {},
            advice=value.get("advice") or "",
            since=parse_time(value["since"]),
            next_attempt_at=parse_time(upcoming) if upcoming else None,
        )
