"""The least that new nodes can cost, by a linear program that only scipy can solve in a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from nodemanager.model import NodeSize, Resources
from nodemanager.nodes.demand import Demand

RESOURCES = 4


def lower_bound(demands: Sequence[Demand], sizes: Sequence[NodeSize]) -> float:
    """No new nodes for `demands` cost less.

    The program buys fractions of nodes, x[s] of size s, and assigns fractions of containers, y[k, s] of shape k to
    size s if one such container fits one such node:

        minimise    sum over s of price[s] * x[s]
        such that   sum over s of y[k, s] = count[k]                            for every shape k
                    sum over k of need[k, r] * y[k, s] <= has[s, r] * x[s]      for every size s and resource r

    So nothing is lost at the edges of nodes, which makes it a bound; but a container is not assigned to a size
    that is too small for it or does not suit it. Sizes than which another has no less of anything, neither in all
    nor for its price, are left out: they would not be bought.
    """
    counts: Counter[int] = Counter()
    shapes = list({demand.shape: None for demand in demands})
    number = {shape: index for index, shape in enumerate(shapes)}
    for demand in demands:
        counts[number[demand.shape]] += demand.count
    kept = [size for size in sizes if not any(_replaces(other, size) for other in sizes)]
    pairs = [
        (k, s)
        for k, shape in enumerate(shapes)
        for s, size in enumerate(kept)
        if shape.fits_size(size)
    ]
    rows, columns, values = [], [], []
    for s, size in enumerate(kept):
        for r, has in enumerate(_vector(size.resources)):
            rows.append(RESOURCES * s + r)
            columns.append(s)
            values.append(-1.0 if has else 0.0)
    for column, (k, s) in enumerate(pairs, len(kept)):
        room = _vector(kept[s].resources)
        for r, need in enumerate(_vector(shapes[k].resources)):
            if need:
                rows.append(RESOURCES * s + r)
                columns.append(column)
                values.append(need / room[r])
    width = len(kept) + len(pairs)
    shape_rows = [k for k, _ in pairs]
    pair_columns = range(len(kept), width)
    answer = linprog(
        np.array([size.price for size in kept] + [0.0] * len(pairs)),
        A_ub=csr_matrix((values, (rows, columns)), shape=(RESOURCES * len(kept), width)),
        b_ub=np.zeros(RESOURCES * len(kept)),
        A_eq=csr_matrix(
            (np.ones(len(pairs)), (shape_rows, pair_columns)), shape=(len(shapes), width)
        ),
        b_eq=np.array([float(counts[k]) for k in range(len(shapes))]),
        method="highs",
    )
    if not answer.success:
        raise ValueError(answer.message)
    return float(answer.fun)


def _vector(resources: Resources) -> tuple[int, int, int, int]:
    return resources.cores, resources.ram_bytes, resources.scratch_bytes, resources.gpus


def _replaces(other: NodeSize, size: NodeSize) -> bool:
    """Whether `other` is as good as `size` in all, and the better or the first of two that are equal."""
    if (other.preemptible, other.partitions) != (size.preemptible, size.partitions):
        return False
    pairs = list(zip(_vector(other.resources), _vector(size.resources), strict=True))
    if not all(a >= b and a * size.price >= b * other.price for a, b in pairs):
        return False
    equal = all(a == b for a, b in pairs) and other.price == size.price
    return not equal or other.name < size.name
