"""The last nodes of a packing hold what was left over, often not well: put together what is cheaper together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from nodemanager.nodes.packing.patterns import Pattern

MOST = 24
"""So many nodes are tried with each other: those that are worth the least for their cost."""

Carry = Callable[[Mapping[int, int], float], tuple[int, float] | None]
"""The cheapest choice for a load, and its cost, if that is less than so much."""

_Node = tuple[int, float, Counter[int]]
"""A choice, its cost, and a load by kind."""


def merge(
    patterns: Sequence[Pattern], costs: Sequence[float], worths: Sequence[float], carry: Carry
) -> list[Pattern]:
    """The same containers for less. `costs` are of one node of each pattern, `worths` of its load."""
    rest: list[Pattern] = []
    tail: list[_Node] = []
    for index in sorted(range(len(patterns)), key=lambda i: worths[i] / costs[i]):
        pattern = patterns[index]
        some = min(pattern.count, MOST - len(tail))
        tail += [(pattern.bin, costs[index], Counter(pattern.load))] * some
        if some < pattern.count:
            rest.append(Pattern(pattern.bin, pattern.load, pattern.count - some))
    return rest + [Pattern(choice, load, 1) for choice, _, load in _merged(tail, carry)]


def _merged(nodes: list[_Node], carry: Carry) -> list[_Node]:
    """As long as two of them are cheaper together, those that save the most."""
    gains: dict[tuple[int, int], tuple[float, _Node]] = {}
    alive: list[int] = []
    for number in range(len(nodes)):
        gains |= _gains(nodes, alive, number, carry)
        alive.append(number)
    while gains:
        pair = max(gains, key=lambda pair: (gains[pair][0], pair))
        nodes.append(gains[pair][1])
        alive = [number for number in alive if number not in pair]
        gains = {key: gain for key, gain in gains.items() if not set(pair) & set(key)}
        gains |= _gains(nodes, alive, len(nodes) - 1, carry)
        alive.append(len(nodes) - 1)
    return [nodes[number] for number in alive]


def _gains(
    nodes: Sequence[_Node], others: Sequence[int], number: int, carry: Carry
) -> dict[tuple[int, int], tuple[float, _Node]]:
    """What is saved by putting a node together with each of the others, where something is."""
    gains = {}
    for other in others:
        (_, cost, load), (_, other_cost, other_load) = nodes[number], nodes[other]
        both = load + other_load
        found = carry(both, cost + other_cost)
        if found is not None:
            gains[other, number] = cost + other_cost - found[1], (*found, both)
    return gains
