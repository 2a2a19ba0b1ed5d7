"""What counts of all that dispatchers say of one container."""

from __future__ import annotations

from collections.abc import Mapping

from nodemanager.model import ContainerState
from nodemanager.reason.tokens import ReasonToken
from nodemanager.reason.value import Reason

OF_QUEUED_ONES = frozenset(
    {
        ReasonToken.NO_PARTITION,
        ReasonToken.ON_HOLD,
        ReasonToken.CLAIMS_PAUSED,
        ReasonToken.CLAIM_LIMIT,
        ReasonToken.RUN_AFTER,
        ReasonToken.BACKOFF,
        ReasonToken.GIVEN_BACK,
        ReasonToken.NOT_SEEN,
    }
)
"""Why a container is not claimed: nothing of one that is."""


def what_counts(
    said: Mapping[str, Reason], state: ContainerState, dispatcher: str | None
) -> list[tuple[str, Reason]]:
    """Of what each dispatcher (by its UUID) says of a container in this state, what is so, mildest first.

    If one can run it, it fits; once one has claimed it, the others' words are of yesterday, and so are its own until it
    says, at its next turn, what the container waits for now. Of one that does not wait nothing is so.
    """
    if state is ContainerState.LOCKED:
        own = None if dispatcher is None else said.get(dispatcher)
        said = {} if own is None or own.token in OF_QUEUED_ONES else {str(dispatcher): own}
    elif state is not ContainerState.QUEUED:
        said = {}
    return sorted(said.items(), key=lambda item: (-item[1].tier.value, item[0]))
