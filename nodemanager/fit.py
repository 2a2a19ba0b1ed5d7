"""Does a container fit, and if not, why: one decision seen from two sides.

`fits` and `explain_misfit` are used by the dispatcher, the node-size arbiter and the API server. They
agree by construction: a container fits exactly when there is nothing to explain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nodemanager.model import (
    Capabilities,
    Node,
    NodeSize,
    NodeState,
    PartitionNodes,
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
    could = [_Place(node.total, node.partitions, node.preemptible) for node in present]
    could += [_Place(size.resources, size.partitions, size.preemptible) for size in sizes]
    names = sorted({name for place in could for name in place.partitions})
    unnamed = [""] if names and not all(place.partitions for place in could) else []
    everything = _in_partition("", [replace(place, partitions=()) for place in could])
    return Capabilities(
        largest=everything.largest,
        partitions=tuple(names),
        preemptible=everything.preemptible,
        by_partition=tuple(_in_partition(name, could) for name in [*unnamed, *names]),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A node that is there, or one that could be booted."""

    resources: Resources
    partitions: tuple[str, ...]
    preemptible: bool


def _in_partition(name: str, could: Iterable[_Place]) -> PartitionNodes:
    """What is there for whoever wants partition `name`; of no name: for whoever wants one that no node names."""
    inside = [p for p in could if not p.partitions or name in p.partitions]
    return PartitionNodes(
        name,
        largest(place.resources for place in inside if not place.preemptible),
        largest(place.resources for place in inside if place.preemptible),
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
    inside = _open_to(container.partitions, capabilities)
    if inside is None:
        return Reason(
            ReasonToken.NO_PARTITION,
            f"asks for partition {_either(container.partitions)}; "
            f"this dispatcher serves {_either(capabilities.partitions)}",
            facts={
                "wanted": list(container.partitions),
                "available": list(capabilities.partitions),
            },
            advice=f"ask for one of {', '.join(capabilities.partitions)} "
            "(scheduling_parameters.partitions), or serve that partition",
            since=now,
        )
    stays, spot = inside.largest, inside.preemptible
    could = stays + spot if container.preemptible else stays
    if any(fits(container.resources, node) for node in could):
        return None
    where = f" in partition {_either(container.partitions)}" if container.partitions else ""
    if any(fits(container.resources, node) for node in spot):
        return Reason(
            ReasonToken.NO_NODE_FITS,
            "only nodes that can be taken away at any time (preemptible) are large enough"
            f"{where}{_compared(container.resources, stays)}",
            facts=_facts(_shortage(container.resources, stays)),
            advice="set scheduling_parameters.preemptible if it bears that, or add a larger node that stays",
            since=now,
        )
    return _no_node(container.resources, could or spot, where, now)


def _open_to(wanted: Collection[str], capabilities: Capabilities) -> PartitionNodes | None:
    """The nodes that whoever wants to run in these partitions may run on; None when these are served by none."""
    if not wanted or not capabilities.by_partition:
        if not shares_partition(wanted, capabilities.partitions):
            return None
        return PartitionNodes("", capabilities.largest, capabilities.preemptible)
    named = {each.name: each for each in capabilities.by_partition}
    nowhere = PartitionNodes("", ())
    found = [named.get(name) or named.get("", nowhere) for name in set(wanted)]
    inside = PartitionNodes(
        "",
        largest(node for each in found for node in each.largest),
        largest(node for each in found for node in each.preemptible),
    )
    return inside if inside.largest or inside.preemptible else None


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


@dataclass(frozen=True, slots=True)
class _Short:
    """A resource of which too little is to be had."""

    attribute: str
    wanted: int
    best: int
    where: str
    """Which node it is compared with, in words."""

    @property
    def _label(self) -> str:
        return next(label for attribute, label, _ in _NAMES if attribute == self.attribute)

    def _show(self, amount: int) -> str:
        return next(show(amount) for attribute, _, show in _NAMES if attribute == self.attribute)

    @property
    def words(self) -> str:
        return f"{self._label}: wants {self._show(self.wanted)}, {self.where} has {self._show(self.best)}"

    @property
    def knob(self) -> str:
        if not self.best:
            return f"no {self._label}"
        of = " of " if self.attribute.endswith("bytes") else " "
        label = self._label.removesuffix("s") if self.best == 1 else self._label
        return f"at most {self._show(self.best)}{of}{label}"


def _shortage(needed: Resources, nodes: Sequence[Resources]) -> list[_Short]:
    """What none of `nodes` has enough of; where each resource alone is to be had, what the nearest node lacks."""
    if not nodes:
        return []
    best = Resources(*(max(_rank(node)[i] for node in nodes) for i in range(4)))
    if short := _lacks(needed, best, "the largest node"):
        return short
    return _lacks(needed, min(nodes, key=lambda node: _missing(needed, node)), "the nearest node")


def _lacks(needed: Resources, has: Resources, where: str) -> list[_Short]:
    found = []
    for attribute, _label, _show in _NAMES:
        wanted, there = int(getattr(needed, attribute)), int(getattr(has, attribute))
        if wanted > there:
            found.append(_Short(attribute, wanted, there, where))
    return found


def _facts(short: Iterable[_Short]) -> dict[str, Any]:
    return {each.attribute: {"wanted": each.wanted, "available": each.best} for each in short}


def _compared(needed: Resources, nodes: Sequence[Resources]) -> str:
    words = "; ".join(short.words for short in _shortage(needed, nodes))
    return f" ({words})" if words else ""


def _no_node(needed: Resources, nodes: Sequence[Resources], where: str, now: float) -> Reason:
    if not nodes:
        kind = f"there is no node at all{where}" if where else "the scheduler has no node at all"
        return Reason(
            ReasonToken.NO_NODE_FITS,
            kind,
            advice="add a node, or a [Size NAME] section for nodes that can be booted",
            since=now,
        )
    short = _shortage(needed, nodes)
    return Reason(
        ReasonToken.NO_NODE_FITS,
        "; ".join(each.words for each in short) + where,
        facts=_facts(short),
        advice=f"ask for {', '.join(each.knob for each in short)}; "
        "or add a larger node, or a [Size NAME] section with more",
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
