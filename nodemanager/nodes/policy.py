"""What the operator has decided about nodes: the options that the arbiter and the nodes read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePolicy:
    """Options of `[Daemon]` and `[Cloud]`; times are seconds, prices per hour. See the configuration's
    reference for what each means."""

    min_nodes: int = 0
    max_nodes: int = 1
    max_total_price: float = 0.0
    """0 means no limit."""
    poll_stale_after: float = 600.0
    boot_fail_after: float = 1800.0
    consecutive_idle_count: int = 2
    idle_time: float = 0.0
    shutdown_windows: tuple[float, ...] = (20.0, 999999.0)
    """Minutes."""
    one_per_node: bool = False
    max_price_factor: float = 1.5
    boots_per_turn: int = 10
    turn_time: float = 1.0
    record_poll_time: float = 60.0
    max_boot_failures: int = 5
    brake_time: float = 600.0
    capacity_pause: float = 60.0
    capacity_pause_max: float = 1800.0
    quota_pause: float = 60.0
