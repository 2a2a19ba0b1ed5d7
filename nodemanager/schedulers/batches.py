"""Which jobs can be one array: those that are equal but for their names and what they read.

Free of I/O. A scheduler takes an array of a thousand in the time of one job.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nodemanager.model import PRIORITY_STEP, Properties
from nodemanager.schedulers.base import JobSpec

MAX_CLASS = 1000


def priority_class(priority: int) -> int:
    """The user's own priority, 0 to 1000, in a container's priority.

    Numbers up to 1000 stand for themselves. Within a class jobs start in the order of their submission, which
    is that of urgency: so few numbers have to be told to a scheduler, and few change.
    """
    if priority > MAX_CLASS:
        priority = -(-priority // PRIORITY_STEP)
    return max(0, min(MAX_CLASS, priority))


def kind_of(spec: JobSpec, properties: Properties = ()) -> JobSpec:
    """What a job has in common with those it can share an array with; its properties only if they are given."""
    priority = priority_class(spec.priority)
    return replace(spec, name="", stdin=b"", priority=priority, properties=properties, work=None)


def batches(specs: Iterable[JobSpec], limit: int) -> list[list[JobSpec]]:
    """The jobs in groups of one kind each, none larger than `limit`; a group comes where its first job came."""
    groups: dict[JobSpec, list[JobSpec]] = {}
    for spec in specs:
        groups.setdefault(kind_of(spec), []).append(spec)
    return [
        group[start : start + limit]
        for group in groups.values()
        for start in range(0, len(group), limit)
    ]
