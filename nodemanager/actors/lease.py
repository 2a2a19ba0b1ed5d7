"""The lease: until when a dispatcher may act on the world."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ActUntil:
    """To whoever acts for a dispatcher: after `lease_until` (elapsed seconds) nothing is submitted,
    cancelled, booted or shut. A later one replaces an earlier one."""

    lease_until: float
