"""Why a queued container is not claimed, as far as its own record tells: dispatchers and readers say it in one voice."""

from __future__ import annotations

from nodemanager.reason.tokens import ReasonToken
from nodemanager.reason.value import Reason

EXPLAINED = 1000
"""Queued containers of which each dispatcher says at every turn why it does not claim them: the most urgent ones."""


def on_hold(error: str, now: float) -> Reason:
    """It waits for a release; `error` says how the attempt before it ended, if that is why."""
    why = f": {error}" if error else ""
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


def unseen(dispatchers: int, now: float) -> Reason:
    """None of the `dispatchers` that are alive has said anything of it."""
    facts = {"dispatchers": dispatchers, "looked_at": EXPLAINED}
    if not dispatchers:
        return Reason(
            ReasonToken.NOT_SEEN,
            "no dispatcher is alive, so nobody claims anything",
            facts=facts,
            advice="start arvados-node-manager; if it runs, its log says why it does not reach the API",
            since=now,
        )
    who = "the dispatcher has" if dispatchers == 1 else f"none of {dispatchers} dispatchers has"
    no = " not" if dispatchers == 1 else ""
    return Reason(
        ReasonToken.NOT_SEEN,
        f"{who}{no} said anything of it yet: it is about to be claimed, or more than {EXPLAINED:,} more urgent "
        "containers are before it",
        facts=facts,
        since=now,
    )
