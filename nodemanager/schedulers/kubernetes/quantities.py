"""How much a pod keeps of its node, reckoned as Kubernetes' own scheduler does; what its quantities are in our units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from nodemanager.errors import SchedulerError
from nodemanager.model import Resources

GPU_RESOURCES = ("nvidia.com/gpu",)
"""The names of what counts as a GPU, where the operator names no others."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """What pods ask for or a node has."""

    milli_cores: int = 0
    ram_bytes: int = 0
    scratch_bytes: int = 0
    gpus: int = 0
    pods: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.milli_cores + other.milli_cores,
            self.ram_bytes + other.ram_bytes,
            self.scratch_bytes + other.scratch_bytes,
            self.gpus + other.gpus,
            self.pods + other.pods,
        )

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.milli_cores - other.milli_cores,
            self.ram_bytes - other.ram_bytes,
            self.scratch_bytes - other.scratch_bytes,
            self.gpus - other.gpus,
            self.pods - other.pods,
        )

    def at_least(self, other: Amounts) -> Amounts:
        """The larger of the two, resource by resource."""
        return Amounts(
            max(self.milli_cores, other.milli_cores),
            max(self.ram_bytes, other.ram_bytes),
            max(self.scratch_bytes, other.scratch_bytes),
            max(self.gpus, other.gpus),
            max(self.pods, other.pods),
        )

    def as_resources(self) -> Resources:
        """In whole cores; nothing at all where there is no room for one more pod."""
        if self.pods <= 0:
            return Resources(0, 0)
        return Resources(
            max(0, self.milli_cores // 1000),
            max(0, self.ram_bytes),
            max(0, self.scratch_bytes),
            max(0, self.gpus),
        )


NOTHING = Amounts()


def amounts_of(quantities: Mapping[str, Any], gpu_resources: Iterable[str]) -> Amounts:
    """Of requests, limits, an overhead or what is allocatable: names of resources and their quantities."""
    return Amounts(
        in_thousandths(quantities.get("cpu", 0)),
        in_units(quantities.get("memory", 0)),
        in_units(quantities.get("ephemeral-storage", 0)),
        sum(in_units(quantities[name]) for name in gpu_resources if name in quantities),
        in_units(quantities.get("pods", 0)),
    )


def requests_of(spec: Mapping[str, Any], gpu_resources: Iterable[str]) -> Amounts:
    """What the spec of a pod makes its node set aside for it, and its own place among the node's pods.

    Its containers run together, and before them its init containers one after the other, each beside the sidecars (init
    containers that are always restarted) that were started before it.
    """
    names = tuple(gpu_resources)
    together, most, beside = NOTHING, NOTHING, NOTHING
    for container in spec.get("containers") or ():
        together += _requested(container, names)
    for container in spec.get("initContainers") or ():
        own = _requested(container, names)
        if container.get("restartPolicy") == "Always":
            beside += own
            together += own
            most = most.at_least(beside)
        else:
            most = most.at_least(own + beside)
    overhead = amounts_of(spec.get("overhead") or {}, names)
    return together.at_least(most) + overhead + Amounts(pods=1)


def in_units(quantity: str | float) -> int:
    """Bytes, or pieces, rounded up."""
    return _scaled(str(quantity), 1)


def in_thousandths(quantity: str | float) -> int:
    """A thousandth of a core is the least there is; rounded up."""
    return _scaled(str(quantity), 1000)


@lru_cache(maxsize=4096)
def _scaled(quantity: str, scale: int) -> int:
    # A cluster knows few different quantities, and asks for them again and again.
    try:
        number: Decimal = parse_quantity(quantity)
        return math.ceil(number * scale)
    except (ValueError, ArithmeticError) as error:
        raise SchedulerError(f"Kubernetes speaks of a quantity {quantity!r}") from error


def _requested(container: Mapping[str, Any], gpu_resources: tuple[str, ...]) -> Amounts:
    resources = container.get("resources") or {}
    # The API server fills in a request where only a limit was set.
    return amounts_of(resources.get("requests") or {}, gpu_resources)
