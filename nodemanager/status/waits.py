"""How many containers wait for what, and for how long: one pass over all that a dispatcher knows of. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from nodemanager.dispatch.messages import Status
from nodemanager.model import ContainerState, due_at
from nodemanager.reason import Reason, ReasonToken

UNEXPLAINED = "none"
"""In place of a token, for a queued container that is about to be claimed."""

TOKENS = (*(token.value for token in ReasonToken), UNEXPLAINED)


@dataclass(frozen=True, slots=True)
class Waits:
    """All that wait, by what they wait for: a reason's token, or `UNEXPLAINED`."""

    states: Mapping[ContainerState, int]
    """All containers, those that do not wait too; of the Queued ones those that the dispatcher looks at."""
    claimed: Mapping[str, int]
    """Those it has claimed."""
    queued: Mapping[str, int]
    """Those it sees in the queue."""
    too_dear: int
    """Those, claimed or not, that `[Daemon] max_total_price` keeps from getting a node."""
    longest_seconds: Mapping[str, float]
    """Since the container that has waited longest could have run; for tokens that somebody waits for."""


def waits_of(status: Status, now: float) -> Waits:
    """`now` is Unix time."""
    states: Counter[ContainerState] = Counter()
    claimed: Counter[str] = Counter()
    queued: Counter[str] = Counter()
    oldest: dict[str, float] = {}
    too_dear = 0
    for held in status.containers:
        container, reason = held.container, held.reason
        states[container.state] += 1
        if reason is None:
            continue
        token = reason.token.value
        claimed[token] += 1
        too_dear += _is_too_dear(reason)
        at = due_at(container)
        if at < oldest.get(token, now):
            oldest[token] = at
    for seen in status.queued:
        states[ContainerState.QUEUED] += 1
        token = _token(seen.reason)
        queued[token] += 1
        too_dear += seen.reason is not None and _is_too_dear(seen.reason)
        at = due_at(seen.container)
        if at < oldest.get(token, now):
            oldest[token] = at
    longest = {token: now - oldest.get(token, now) for token in (*claimed, *queued)}
    return Waits(states, claimed, queued, too_dear, longest)


def _is_too_dear(reason: Reason) -> bool:
    return reason.token is ReasonToken.NODE_LIMIT and "max_total_price" in reason.facts


def _token(reason: Reason | None) -> str:
    return UNEXPLAINED if reason is None else reason.token.value
