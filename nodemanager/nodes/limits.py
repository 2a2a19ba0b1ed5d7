"""What experience has taught about the cloud: a quota, sizes that cannot be had, boots that come to nothing.

Values that are replaced by their successors; the arbiter holds one of each. Times are elapsed seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nodemanager.clouds.errors import NoCapacity
from nodemanager.nodes.policy import NodePolicy


class NoPlace(NoCapacity):
    """The scheduler has no place for another machine of this size, so the cloud was not asked."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many nodes the account may have, as learnt from refusals; None as long as nothing was refused.

    Quotas may be counted in cores, addresses or disks and may be raised at any time, so what was learnt is
    never taken for final: after a pause one node more is asked for, and each success moves the limit up
    (old node manager, bug 10312).
    """

    limit: int | None = None
    probe_at: float = 0.0

    def refused(self, nodes: int, policy: NodePolicy, now: float) -> Quota:
        """With `nodes` there already, another was refused."""
        return Quota(nodes, now + policy.quota_pause)

    def created(self, nodes: int) -> Quota:
        """There are `nodes` now, one of them created just now."""
        if self.limit is None or nodes < self.limit:
            return self
        return replace(self, limit=nodes + 1)

    def allowed(self, nodes: int, now: float) -> int | None:
        """The most nodes to have, with `nodes` there now, not counting those that are only asked for; None
        means no limit is known."""
        if self.limit is None:
            return None
        if now >= self.probe_at:
            return max(self.limit, nodes + 1)
        return self.limit


FAILED_CREATE_SECONDS = 5.0
"""The first pause of a size after a create that failed for a reason of no sort of its own, or when the scheduler
has no place: there the next node that goes makes one."""


def first_pause(error: Exception | None, policy: NodePolicy) -> float:
    """How long a size is left alone after the first of several refusals in a row."""
    if isinstance(error, NoCapacity) and not isinstance(error, NoPlace):
        return policy.capacity_pause
    return min(FAILED_CREATE_SECONDS, policy.capacity_pause)


@dataclass(frozen=True, slots=True)
class Pause:
    """A size is not asked for `until` (elapsed seconds), `seconds` in all, because of `words`."""

    until: float
    seconds: float
    words: str
    by_scheduler: bool = False
    """It is the scheduler that has no place, not the cloud."""


@dataclass(frozen=True, slots=True)
class Shortages:
    """Sizes that could not be had, each with a pause that doubles as long as that goes on."""

    pauses: Mapping[str, Pause] = field(default_factory=dict)

    def short(
        self, size: str, words: str, error: Exception | None, policy: NodePolicy, now: float
    ) -> Shortages:
        """A node of `size` was refused, in these words and because of `error`."""
        before = self.pauses.get(size)
        if before is not None and now < before.until:
            # Another order of the same moment; one shortage.
            return self
        seconds = first = first_pause(error, policy)
        if before is not None and now - before.until <= policy.capacity_pause_max:
            seconds = min(max(first, 2 * before.seconds), policy.capacity_pause_max)
        pause = Pause(now + seconds, seconds, words, isinstance(error, NoPlace))
        return Shortages({**self.pauses, size: pause})

    def had(self, size: str) -> Shortages:
        """A node of `size` was created."""
        if size not in self.pauses:
            return self
        return Shortages({name: p for name, p in self.pauses.items() if name != size})

    def unavailable(self, now: float) -> frozenset[str]:
        """Sizes not to ask for now."""
        return frozenset(name for name, pause in self.pauses.items() if now < pause.until)

    def until(self, size: str) -> float:
        """When `size` is asked for again."""
        return self.pauses[size].until


@dataclass(frozen=True, slots=True)
class Brake:
    """Against a cluster whose every new node comes to nothing: a wrong image, a network without a way out, a
    scheduler that does not let them in.

    After `[Cloud] max_boot_failures` in a row no more is booted; every `brake_time` one node is tried, and when
    one proves itself the brake is off. An operator can take it off by hand.
    """

    failures: int = 0
    """In a row."""
    last: str = ""
    """What became of the last one, in words."""
    try_at: float = 0.0

    def failed(self, words: str, policy: NodePolicy, now: float) -> Brake:
        """A node never joined, or broke before it had done anything."""
        return Brake(self.failures + 1, words, now + policy.brake_time)

    def proved(self) -> Brake:
        """A node has proved to be of use."""
        return Brake()

    def is_on(self, policy: NodePolicy) -> bool:
        """Whether it is on."""
        return self.failures >= policy.max_boot_failures

    def allowed(self, on_trial: int, policy: NodePolicy, now: float) -> int | None:
        """How many nodes may be ordered now, with `on_trial` of them neither proved nor failed; None is no
        limit, and less than 0 says how many are too many.

        While failures mount up, no more nodes are on trial at a time than failures are left until the brake
        goes on, so that the bound is not overrun by those under way.
        """
        if self.failures == 0:
            return None
        if not self.is_on(policy):
            return policy.max_boot_failures - self.failures - on_trial
        if on_trial == 0:
            return 1 if now >= self.try_at else 0
        return 1 - on_trial
