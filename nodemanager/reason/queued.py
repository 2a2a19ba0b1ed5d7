"""Why a queued container is not claimed, as far as its own record tells: dispatchers and readers say it in one voice."""

from __future__ import annotations

from nodemanager.model import Container, ContainerState
from nodemanager.reason.tokens import ReasonToken
from nodemanager.reason.value import Reason

EXPLAINED = 1000
"""Queued containers of which each dispatcher says at every turn why it does not claim them: the most urgent ones."""


def on_hold(container: Container, now: float) -> Reason:
    """It waits for a release: in the words of who holds it, or how the attempt before it ended, if that is why."""
    words = container.hold_reason or container.error
    why = f": {words}" if words else ""
    return Reason(ReasonToken.ON_HOLD, f"it is on hold{why}", since=now)


def delayed(error: str, temp_fails: int, run_after: float, now: float) -> Reason:
    """It waits until `run_after`: a backoff if the attempt before it ended with `error` (after `temp_fails` in a row),
    otherwise its own wish."""
    if error:
        in_a_row = f" ({temp_fails} in a row)" if temp_fails > 1 else ""
        return Reason(
            ReasonToken.BACKOFF,
            f"{error}{in_a_row}; the next try waits",
            facts={"temp_fails": temp_fails},
            since=now,
            next_attempt_at=run_after,
        )
    return Reason(
        ReasonToken.RUN_AFTER,
        "it asked not to start before its run_after",
        since=now,
        next_attempt_at=run_after,
    )


def outrun(now: float) -> Reason:
    """It was looked at before, and now has too many before it for that."""
    return Reason(
        ReasonToken.NOT_SEEN,
        f"more than {EXPLAINED:,} more urgent containers are before it; it is looked at when its turn comes nearer",
        facts={"looked_at": EXPLAINED},
        advice="a higher priority of the request lets it pass others; more nodes shorten the queue",
        since=now,
    )


def unsaid(container: Container, now: float, dispatchers: int | None = None) -> Reason:
    """What readers say of a container that waits and of which no dispatcher has said anything (yet): what its record
    tells. `dispatchers` is how many are alive, where the reader knows."""
    since = container.modified_at
    if container.state is ContainerState.LOCKED:
        return Reason(ReasonToken.SUBMITTING, "it is claimed, and on its way", since=since)
    if container.hold:
        return on_hold(container, since)
    if container.run_after is not None and container.run_after > now:
        return delayed(container.error, container.temp_fails, container.run_after, since)
    return _not_seen(dispatchers, since)


def _not_seen(dispatchers: int | None, since: float) -> Reason:
    words = "no dispatcher has said anything of it yet"
    facts = {"looked_at": EXPLAINED}
    advice = ""
    if dispatchers is not None:
        facts["dispatchers"] = dispatchers
    if dispatchers == 0:
        words = "no dispatcher is alive, so nobody claims anything"
        advice = (
            "start arvados-node-manager; if it runs, its log says why it does not reach the API"
        )
    return Reason(ReasonToken.NOT_SEEN, words, facts, advice, since)
