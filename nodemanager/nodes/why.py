"""Why does each waiting container still wait, as far as nodes are concerned: the wishlist put into words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from nodemanager.model import Reason, ReasonToken, Resources, format_bytes, format_seconds
from nodemanager.nodes.demand import Offer, Shape
from nodemanager.nodes.messages import NodeStanding, Wishlist
from nodemanager.nodes.policy import NodePolicy
from nodemanager.nodes.stock import COMING, Stock, offer_of, tightest

MOST_NAMES = 5
"""So many sizes are named in a sentence."""

_ADVICE = {
    ReasonToken.NODE_LIMIT: "it is booted for when other nodes have gone; [Daemon] max_nodes is the knob",
    ReasonToken.CLOUD_QUOTA: "ask the cloud's operator for a higher quota",
    ReasonToken.BOOT_BRAKE: "look at the nodes that failed, then release the brake",
    ReasonToken.NODES_UNKNOWN: "",
}

Line = tuple[tuple[int, Reason], ...]
"""For one shape, most urgent first: so many containers wait for this reason."""


def reasons_of(stock: Stock, wishlist: Wishlist, policy: NodePolicy) -> Mapping[Shape, Line]:
    """The reasons of all that wait, but for those that have a room on a node that is here: their scheduler
    will start them, and says itself what they wait for. Those come first in their line, with no reason."""
    packing = wishlist.packing
    coming = {node.host: node for node in stock.nodes if node.phase in COMING}
    leaving = {node.host for node in stock.nodes if node.leaving}
    offer = offer_of(stock, policy)
    lines: dict[Shape, list[tuple[int, Reason]]] = {}
    for index, demand in enumerate(wishlist.demands):
        line = lines.setdefault(demand.shape, [])
        line += _on_the_way(stock, wishlist, index, coming, leaving)
        if count := packing.unplaced.get(index, 0):
            line.append((count, _held(demand.shape, stock, offer, policy)))
        if count := packing.unfit.get(index, 0):
            line.append((count, _unfit(demand.shape, stock)))
    return {shape: tuple(line) for shape, line in lines.items() if line}


def _on_the_way(
    stock: Stock,
    wishlist: Wishlist,
    index: int,
    coming: Mapping[str, NodeStanding],
    leaving: set[str],
) -> Iterator[tuple[int, Reason]]:
    """Those that have a place on a node that is coming, that stays, or that is about to be ordered."""
    by_size: Counter[str] = Counter()
    oldest: dict[str, NodeStanding] = {}
    kept = here = 0
    for host, load in wishlist.packing.rooms.items():
        count = load.counts.get(index, 0)
        node = coming.get(host)
        if not count:
            continue
        if host in leaving:
            kept += count
        elif node is not None and node.size is not None:
            by_size[node.size.name] += count
            first = oldest.setdefault(node.size.name, node)
            if node.ordered_at < first.ordered_at:
                oldest[node.size.name] = node
        else:
            here += count
    if here:
        yield here, Reason(ReasonToken.SCHEDULER_WAIT, "there is room for it", since=stock.wall)
    if kept:
        yield (
            kept,
            Reason(
                ReasonToken.NODE_BOOTING,
                "a node that was to leave stays for it",
                since=stock.wall,
            ),
        )
    for size, count in by_size.items():
        waited = format_seconds(stock.wall - oldest[size].ordered_at)
        yield (
            count,
            Reason(
                ReasonToken.NODE_BOOTING,
                f"waits for a node of size {size} that is booting",
                facts={"size": size, "node": oldest[size].name, "ordered": waited},
                since=stock.wall,
            ),
        )
    for new in wishlist.packing.new:
        if count := new.load.counts.get(index, 0) * new.count:
            sentence = f"a node of size {new.size.name} is being ordered for it"
            facts = {"size": new.size.name}
            yield count, Reason(ReasonToken.NODE_BOOTING, sentence, facts, since=stock.wall)


def _held(shape: Shape, stock: Stock, offer: Offer, policy: NodePolicy) -> Reason:
    """Why no node is booted for a container of that shape: a size that cannot be had, or a limit."""
    now = stock.elapsed
    fitting = [size for size in offer.sizes if shape.fits_size(size)]
    if fitting and all(size.name in offer.unavailable for size in fitting):
        again = min(stock.shortages.until(size.name) for size in fitting) - now
        names = " or ".join(size.name for size in fitting[:MOST_NAMES])
        words = stock.shortages.pauses[fitting[0].name].words
        return Reason(
            ReasonToken.NO_CAPACITY,
            f"the cloud gives no {names}: {words}",
            facts={"sizes": [size.name for size in fitting]},
            advice="more sizes, or a higher [Cloud] max_price_factor, would give it a choice",
            since=stock.wall,
            next_attempt_at=_moment(stock.wall + again),
        )
    limit = tightest(stock, policy)
    cheapest = min((size.price for size in fitting), default=0.0)
    if limit.nodes > 0 and offer.max_price is not None and cheapest > offer.max_price:
        return Reason(
            ReasonToken.NODE_LIMIT,
            f"max_total_price ({policy.max_total_price:.4g} per hour) is reached",
            facts={"price": stock.price, "max_total_price": policy.max_total_price},
            advice="it is booted for when other nodes have gone; [Daemon] max_total_price is the knob",
            since=stock.wall,
        )
    if limit.nodes > 0 and not offer.unavailable.isdisjoint(size.name for size in fitting):
        return Reason(
            ReasonToken.NO_CAPACITY,
            "the cloud gives none of the cheaper sizes, and the others cost too much for it",
            facts={"unavailable": sorted(offer.unavailable)},
            advice="[Cloud] max_price_factor says how much more a node may cost",
            since=stock.wall,
        )
    wait = limit.next_attempt_in
    return Reason(
        limit.token,
        limit.sentence,
        facts={"nodes": len(stock.nodes), "max_nodes": policy.max_nodes},
        advice=_ADVICE.get(limit.token, ""),
        since=stock.wall,
        next_attempt_at=None if wait is None else _moment(stock.wall + wait),
    )


def _moment(wall: float) -> float:
    """A whole second: the same moment must not look like another at every turn."""
    return float(round(wall))


def _unfit(shape: Shape, stock: Stock) -> Reason:
    wanted = _words(shape.resources)
    where = f" in partition {' or '.join(shape.partitions)}" if shape.partitions else ""
    kind = "" if shape.preemptible else " that is not preemptible"
    return Reason(
        ReasonToken.NO_NODE_FITS,
        f"no node, and no configured size{kind}{where}, has {wanted}",
        facts={"wanted": shape.resources.as_dict()},
        advice="ask for less, or add a [Size] section with more",
        since=stock.wall,
    )


def _words(resources: Resources) -> str:
    words = [f"{resources.cores} cores", f"{format_bytes(resources.ram_bytes)} of RAM"]
    if resources.scratch_bytes:
        words.append(f"{format_bytes(resources.scratch_bytes)} of scratch space")
    if resources.gpus:
        words.append(f"{resources.gpus} GPUs")
    return ", ".join(words)
