"""What experience with the cloud has taught so far, as one value that each experience replaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nodemanager.clouds.errors import QuotaExceeded
from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.limits import Brake, Quota, Shortages
from nodemanager.nodes.messages import Booted, BootOutcome
from nodemanager.nodes.policy import NodePolicy


@dataclass(frozen=True, slots=True)
class Lessons:
    """See the module's docstring. `now` is elapsed seconds throughout."""

    quota: Quota = field(default_factory=Quota)
    shortages: Shortages = field(default_factory=Shortages)
    brake: Brake = field(default_factory=Brake)
    measured: Mapping[str, Resources] = field(default_factory=dict)
    """By size: what such nodes turned out to have, where that is less than was configured."""

    def created(self, size: NodeSize, existing: int) -> Lessons:
        """The cloud has made a node of `size`; there are `existing` now."""
        return replace(
            self, quota=self.quota.created(existing), shortages=self.shortages.had(size.name)
        )

    def came_out(self, booted: Booted, existing: int, policy: NodePolicy, now: float) -> Lessons:
        """A boot came out so, with `existing` machines there."""
        match booted.outcome:
            case BootOutcome.REFUSED if isinstance(booted.error, QuotaExceeded):
                return replace(self, quota=self.quota.refused(existing, policy, now))
            case BootOutcome.REFUSED if booted.size is not None:
                name, words = booted.size.name, booted.words
                short = self.shortages.short(name, words, booted.error, policy, now)
                return replace(self, shortages=short)
            case BootOutcome.FAILED | BootOutcome.DISAPPEARED if not booted.proved:
                words = f"{booted.name}: {booted.words}"
                return replace(self, brake=self.brake.failed(words, policy, now))
            case BootOutcome.PROVED:
                return replace(self, brake=self.brake.proved())
            case _:
                return self

    def measure(self, size: NodeSize, found: Resources) -> Lessons:
        """A node of `size` has joined and has only so much; others of that size will, too.

        What a system keeps for itself never reaches containers; without this their jobs would wait for ever on
        ever more such nodes (old node manager, ticket 11139).
        """
        promised = self.measured.get(size.name, size.resources)
        least = Resources(
            min(promised.cores, found.cores),
            min(promised.ram_bytes, found.ram_bytes),
            min(promised.scratch_bytes, found.scratch_bytes),
            min(promised.gpus, found.gpus),
        )
        if least == promised:
            return self
        return replace(self, measured={**self.measured, size.name: least})
