"""The arbiter's view of the world, for people: pure."""

from __future__ import annotations

from collections.abc import Mapping

from nodemanager.nodes.messages import Decision, NodesStatus, Wishlist
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.stock import Stock, bootable_cores


def status_of(
    stock: Stock,
    wishlist: Wishlist | None,
    policy: NodePolicy,
    *,
    outcomes: Mapping[str, int],
    history: tuple[Decision, ...],
) -> NodesStatus:
    """What `stock`, taken now, and the last `wishlist` amount to."""
    now, shortages, brake = stock.elapsed, stock.shortages, stock.brake
    return NodesStatus(
        nodes=stock.nodes,
        wishlist={} if wishlist is None else wishlist.sizes,
        waiting=0 if wishlist is None else sum(d.count for d in wishlist.demands),
        unplaced=0 if wishlist is None else sum(wishlist.packing.unplaced.values()),
        price=stock.price,
        quota=stock.quota.limit,
        unavailable={
            name: shortages.until(name) - now for name in sorted(shortages.unavailable(now))
        },
        brake=brake.last if brake.is_on(policy) else "",
        stale=stock.stale,
        outcomes=outcomes,
        history=history,
        idle_times={
            node.host: now - node.idle_since for node in stock.nodes if node.idle_since is not None
        },
        bootable_cores=bootable_cores(stock, policy),
        sizes=stock.sizes,
    )
