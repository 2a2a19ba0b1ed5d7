"""Does a container fit, and if not, why: one decision seen from two sides.

`fits` and `explain_misfit` are used by the dispatcher, the node-size arbiter and the API server. They
agree by construction: a container fits exactly when there is nothing to explain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from nodemanager.model import (
    Capabilities,
    Node,
    NodeSize,
    NodeState,
    Resources,
    Route,
    Wanted,
    format_bytes,
)
from nodemanager.reason import Reason, ReasonToken
from nodemanager.rule import Rule, Span

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


_EXISTS = frozenset({NodeState.IDLE, NodeState.BUSY, NodeState.DRAINING, NodeState.DRAINED})


def capabilities_of(nodes: Iterable[Node], sizes: Iterable[NodeSize] = ()) -> Capabilities:
    """What could ever run on `nodes`, or on nodes of `sizes` that can be booted.

    Drained nodes are included: they may come back, a size that was never there may not.
    """
    present = [node for node in nodes if node.state in _EXISTS]
    could = [(node.total, node.partitions, node.preemptible) for node in present]
    could += [(size.resources, size.partitions, size.preemptible) for size in sizes]
    return Capabilities(
        largest=largest(resources for resources, _, preemptible in could if not preemptible),
        partitions=tuple(sorted({name for _, partitions, _ in could for name in partitions})),
        preemptible=largest(resources for resources, _, preemptible in could if preemptible),
    )


def capabilities_over(routes: Iterable[Route]) -> Capabilities:
    """What a dispatcher with several schedulers could ever run."""
    routes = tuple(routes)
    each = [route.capabilities for route in routes]
    return Capabilities(
        largest=largest(node for one in each for node in one.largest),
        partitions=tuple(sorted({name for one in each for name in one.partitions})),
        preemptible=largest(node for one in each for node in one.preemptible),
        routes=routes,
    )


def capabilities_with(
    nodes: Iterable[Node], sizes: Iterable[NodeSize], routes: Collection[Route]
) -> Capabilities:
    """What a dispatcher could ever run, with one scheduler that has `nodes` or, with `routes`, with several."""
    return capabilities_over(routes) if routes else capabilities_of(nodes, sizes)


def can_run(container: Wanted, capabilities: Capabilities) -> bool:
    """Whether the dispatcher could ever run the container, on an otherwise empty system."""
    return explain_misfit(container, capabilities, now=0.0) is None


def explain_misfit(container: Wanted, capabilities: Capabilities, now: float) -> Reason | None:
    """The reason why the dispatcher can never run the container, or None when it can.

    The facts name, per resource that is short, what was wanted and the best that any node has; when
    each resource alone is to be had but no node has all of them, the nearest node is named.
    """
    if capabilities.routes:
        return _explain_routes(container, capabilities.routes, now)
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


def explain_route(wanted: Wanted, route: Route) -> str:
    """Why this one of several schedulers does not take it; empty when it does."""
    if refusal := explain_refusal(wanted, route.rule):
        return refusal
    misfit = explain_misfit(wanted, route.capabilities, now=0.0)
    return "" if misfit is None else misfit.sentence


def no_route(tried: Mapping[str, str], now: float) -> Reason:
    """No scheduler takes it, each for the reason given under its name."""
    return Reason(
        ReasonToken.NO_SCHEDULER,
        f"no scheduler takes it: tried {listed(tried)}",
        facts={"tried": dict(tried)},
        advice="change what it asks for, or a rule (accept) in [Scheduler NAME], or add a larger node",
        since=now,
    )


def listed(tried: Mapping[str, str]) -> str:
    """Schedulers and why each does not take something, as part of a sentence."""
    return ", ".join(f"{name} ({why})" for name, why in tried.items())


def _explain_routes(wanted: Wanted, routes: Iterable[Route], now: float) -> Reason | None:
    tried = {}
    for route in routes:
        why = explain_route(wanted, route)
        if not why:
            return None
        tried[route.scheduler] = why
    return no_route(tried, now)


def explain_refusal(wanted: Wanted, rule: Rule) -> str:
    """What the rule asks for and this container is not; empty when the rule accepts it."""
    parts = []
    if rule.partitions and set(rule.partitions).isdisjoint(wanted.partitions):
        parts.append(f"partition {_either(rule.partitions)}")
    bounds = dict(rule.spans())
    for attribute, label, show in _NAMES:
        span = bounds.get(attribute)
        if span is not None and int(getattr(wanted.resources, attribute)) not in span:
            parts.append(_bounds(span, label, show))
    if rule.preemptible is not None and rule.preemptible is not wanted.preemptible:
        parts.append("preemptible containers" if rule.preemptible else "none that is preemptible")
    given = dict(wanted.properties)
    for key, values in rule.properties:
        if given.get(key) not in values:
            parts.append(f"property {key} = {_either(values)}")
    return f"its rule wants {' and '.join(parts)}" if parts else ""


def _bounds(span: Span, label: str, show: Callable[[int], str]) -> str:
    if span.most is None:
        return f"at least {show(span.least)} {label}"
    if span.most == 0:
        return f"no {label}"
    if span.least == 0:
        return f"at most {show(span.most)} {label}"
    if span.least == span.most:
        return f"exactly {show(span.least)} {label}"
    return f"{show(span.least)} to {show(span.most)} {label}"


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
