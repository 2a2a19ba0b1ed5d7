"""When a container has ended: whose request gets another attempt, and when.

Pure: the queue hands in what it read, and applies the answer in the transaction of the final write. The
rules are those of the design page, section 5, "Retry".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodemanager.model import ContainerState
from nodemanager.server.policy import Policy

REMARKABLE_TEMP_FAILS = 5
"""From so many TempFails in a row on, whoever waits is told that this is not normal."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A container that has just become final."""

    state: ContainerState
    temp_fails: int = 0
    """TempFails in a row before it."""
    given_back: bool = False
    """Handed back before it ran, for our reasons."""
    hold: bool = False
    """An operator interfered: the next attempt waits for a release."""
    lost: bool = False
    """Ended by the API because its dispatcher was lost."""
    dispatcher: str | None = None


@dataclass(frozen=True, slots=True)
class Wanting:
    """A Committed request that the container served."""

    uuid: str
    priority: int
    """0 also when the container that asked for it is over, or unwanted itself."""
    container_count: int
    container_count_max: int
    expired: bool = False

    @property
    def still_wanted(self) -> bool:
        """Whether its owner would have another attempt."""
        return self.priority > 0 and not self.expired


@dataclass(frozen=True, slots=True)
class Successor:
    """The next attempt, made at once and claimable `delay_seconds` from now (None: at once)."""

    temp_fails: int
    """TempFails in a row before it."""
    delay_seconds: float | None = None
    hold: bool = False
    avoid_dispatcher: str | None = None
    """Not offered to this one for `avoid_seconds`."""
    avoid_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the requests, by uuid; each is in exactly one of the three."""

    successor: Successor | None = None
    served: tuple[str, ...] = ()
    """These share the `successor`."""
    cancelled: tuple[str, ...] = ()
    """These would have had one, but nobody wants it any more: they end Cancelled, just as if their
    owner had cancelled the waiting retry."""
    counted: bool = False
    """The attempt after this one counts against `container_count_max`, made or cancelled."""
    finished: tuple[str, ...] = ()
    """These end with the container as it ended."""


def next_attempt(
    ended: Ended, requests: Sequence[Wanting], policy: Policy, jitter: float
) -> Decision:
    """Decide for all `requests` of a container that `ended`; `jitter` is random in [0, 1)."""
    entitled = [r for r in requests if _is_entitled(ended, r, policy)]
    finished = tuple(r.uuid for r in requests if r not in entitled)
    served = tuple(r.uuid for r in entitled if r.still_wanted)
    cancelled = tuple(r.uuid for r in entitled if not r.still_wanted)
    successor = _successor(ended, policy, jitter) if served else None
    counted = ended.state is ContainerState.PERMFAIL
    return Decision(successor, served, cancelled, counted, finished)


def backoff_seconds(temp_fails: int, policy: Policy, jitter: float) -> float:
    """How long to wait after `temp_fails` (1 or more) TempFails in a row.

    Doubles from `retry_backoff_min` up to `retry_backoff_max`, with up to a quarter added, so that
    containers which failed together do not come back together.
    """
    # Beyond 2^40 the limit has long been reached, and floats would overflow.
    grown = policy.retry_backoff_min * 2.0 ** min(temp_fails - 1, 40)
    limit = max(policy.retry_backoff_min, policy.retry_backoff_max / 1.25)
    return min(grown, limit) * (1 + jitter / 4)


def merged_scheduling(asked: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scheduling parameters under which the next attempt serves all of several requests.

    The rules of stock Arvados (container.rb, 880-900): any partition that one of them allows, none in
    particular if one does not mind; preemptible only if all agree; the longest run time, without a limit
    if one has none. Of `properties`, which are ours, those on which all agree.
    """
    if len(asked) == 1:
        return dict(asked[0])
    merged: dict[str, Any] = {key: value for each in asked for key, value in each.items()}
    if "partitions" in merged:
        lists = [each.get("partitions") or [] for each in asked]
        merged["partitions"] = sorted(set().union(*lists)) if all(lists) else []
    if "preemptible" in merged:
        merged["preemptible"] = all(each.get("preemptible") for each in asked)
    if "supervisor" in merged:
        merged["supervisor"] = any(each.get("supervisor") for each in asked)
    if "max_run_time" in merged:
        times = [each.get("max_run_time") or 0 for each in asked]
        merged["max_run_time"] = max(times) if all(times) else 0
    if "properties" in merged:
        given = [set((each.get("properties") or {}).items()) for each in asked]
        agreed = set.intersection(*given)
        merged["properties"] = dict(sorted(agreed))
    return merged


def _is_entitled(ended: Ended, request: Wanting, policy: Policy) -> bool:
    if ended.state is ContainerState.PERMFAIL:
        return request.container_count < request.container_count_max
    if ended.state is not ContainerState.TEMPFAIL:
        return False
    if ended.given_back:
        return True
    return policy.max_temp_fails == 0 or ended.temp_fails + 1 < policy.max_temp_fails


def _successor(ended: Ended, policy: Policy, jitter: float) -> Successor:
    if ended.state is ContainerState.PERMFAIL:
        return Successor(temp_fails=0)
    if ended.given_back:
        return Successor(
            temp_fails=ended.temp_fails,
            hold=ended.hold,
            avoid_dispatcher=ended.dispatcher,
            avoid_seconds=policy.given_back_pause,
        )
    temp_fails = ended.temp_fails + 1
    delay = backoff_seconds(temp_fails, policy, jitter)
    if ended.lost:
        delay = max(delay, policy.retry_backoff_lost)
    return Successor(temp_fails=temp_fails, delay_seconds=delay, hold=ended.hold)
