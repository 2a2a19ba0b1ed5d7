"""Does a container fit, and if not, why: one decision seen from two sides.

`fits` and `explain_misfit` are used by the dispatcher, the node-size arbiter and the API server. They
agree by construction: a container fits exactly when there is nothing to explain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from nodemanager.model import Capabilities, Container, Reason, ReasonToken, Resources, format_bytes

_NAMES = (
    ("cores", "cores", str),
    ("ram_bytes", "RAM", format_bytes),
    ("scratch_bytes", "scratch space", format_bytes),
    ("gpus", "GPUs", str),
)


def fits(needed: Resources, available: Resources) -> bool:
    """Whether `available` holds `needed` in every resource."""
    return (
        needed.cores <= available.cores
        and needed.ram_bytes <= available.ram_bytes
        and needed.scratch_bytes <= available.scratch_bytes
        and needed.gpus <= available.gpus
    )


def shares_partition(wanted: Collection[str], offered: Collection[str]) -> bool:
    """Whether who wants to run in one of these partitions may run on a node that is in those.

    Either may be empty: whoever wants none may run in any, and a node that names none is in every one.
    """
    return not wanted or not offered or not set(wanted).isdisjoint(offered)


def largest(nodes: Iterable[Resources]) -> tuple[Resources, ...]:
    """Those of `nodes` that no other one covers in every resource, largest first, without twins."""
    unique = sorted(set(nodes), key=_rank, reverse=True)
    kept: list[Resources] = []
    for candidate in unique:
        if not any(fits(candidate, other) for other in kept):
            kept.append(candidate)
    return tuple(kept)


def _rank(resources: Resources) -> tuple[int, int, int, int]:
    return resources.cores, resources.ram_bytes, resources.scratch_bytes, resources.gpus


def can_run(container: Container, capabilities: Capabilities) -> bool:
    """Whether the dispatcher could ever run the container, on an otherwise empty system."""
    return explain_misfit(container, capabilities, now=0.0) is None


def explain_misfit(container: Container, capabilities: Capabilities, now: float) -> Reason | None:
    """The reason why the dispatcher can never run the container, or None when it can.

    The facts name, per resource that is short, what was wanted and the best that any node has; when
    each resource alone is to be had but no node has all of them, the nearest node is named.
    """
    if not shares_partition(container.partitions, capabilities.partitions):
        return Reason(
            ReasonToken.NO_PARTITION,
            f"asks for partition {_either(container.partitions)}; "
            f"this dispatcher serves {_either(capabilities.partitions)}",
            facts={
                "wanted": list(container.partitions),
                "available": list(capabilities.partitions),
            },
            advice="change scheduling_parameters.partitions, or serve that partition",
            since=now,
        )
    if any(fits(container.resources, node) for node in capabilities.largest):
        return None
    takes_spot = any(fits(container.resources, node) for node in capabilities.preemptible)
    if takes_spot and container.preemptible:
        return None
    if takes_spot:
        return Reason(
            ReasonToken.NO_NODE_FITS,
            "only nodes that can be taken away at any time (preemptible) are large enough",
            facts={"wanted": container.resources.as_dict()},
            advice="set scheduling_parameters.preemptible if it bears that, or add a larger node that stays",
            since=now,
        )
    could = capabilities.largest + (capabilities.preemptible if container.preemptible else ())
    return _no_node(container.resources, could, now)


def _no_node(needed: Resources, nodes: tuple[Resources, ...], now: float) -> Reason:
    if not nodes:
        return Reason(
            ReasonToken.NO_NODE_FITS,
            "the scheduler has no node at all",
            advice="add a node, or configure node sizes that can be booted",
            since=now,
        )
    short = {}
    for attribute, label, show in _NAMES:
        wanted = int(getattr(needed, attribute))
        best = max(int(getattr(node, attribute)) for node in nodes)
        if wanted > best:
            short[attribute] = (label, show, wanted, best)
    if not short:
        # Every resource is to be had, but not together: compare with the node that misses least.
        nearest = min(nodes, key=lambda node: _missing(needed, node))
        for attribute, label, show in _NAMES:
            wanted, best = int(getattr(needed, attribute)), int(getattr(nearest, attribute))
            if wanted > best:
                short[attribute] = (label, show, wanted, best)
        where = "the nearest node"
    else:
        where = "the largest node"
    parts = [
        f"{label}: wants {show(wanted)}, {where} has {show(best)}"
        for label, show, wanted, best in short.values()
    ]
    knobs = ", ".join(
        f"at most {show(best)} of {label}"
        if attribute.endswith("bytes")
        else f"at most {best} {label}"
        for attribute, (label, show, _wanted, best) in short.items()
    )
    return Reason(
        ReasonToken.NO_NODE_FITS,
        "; ".join(parts),
        facts={a: {"wanted": w, "available": b} for a, (_l, _s, w, b) in short.items()},
        advice=f"ask for {knobs}, or add a larger node",
        since=now,
    )


def _missing(needed: Resources, node: Resources) -> float:
    """How far `node` is from holding `needed`: the sum of relative shortfalls."""
    total = 0.0
    for attribute, _label, _show in _NAMES:
        wanted, has = int(getattr(needed, attribute)), int(getattr(node, attribute))
        if wanted > has:
            total += (wanted - has) / wanted
    return total


def _either(words: Iterable[str]) -> str:
    return " or ".join(sorted(words))
