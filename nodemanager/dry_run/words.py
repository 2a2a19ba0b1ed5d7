"""How counts, resources and shapes are said in the report."""

from __future__ import annotations

from nodemanager.model import Resources, format_bytes
from nodemanager.nodes.demand import Shape


def counted(number: int, noun: str) -> str:
    """``1 node``, ``2,300 nodes``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def amounts(resources: Resources) -> str:
    """``2 cores, 4 GiB RAM``; what there is none of is not named."""
    parts = [counted(resources.cores, "core"), f"{format_bytes(resources.ram_bytes)} RAM"]
    if resources.scratch_bytes:
        parts.append(f"{format_bytes(resources.scratch_bytes)} scratch")
    if resources.gpus:
        parts.append(counted(resources.gpus, "GPU"))
    return ", ".join(parts)


def shape_words(shape: Shape) -> str:
    """What a container of that shape asks for."""
    parts = [amounts(shape.resources)]
    if shape.partitions:
        parts.append(f"partition {' or '.join(shape.partitions)}")
    if shape.preemptible:
        parts.append("preemptible")
    return ", ".join(parts)


def price(value: float) -> str:
    """Per hour, in whatever currency the config file has."""
    return f"{value:.4g} per hour"
