"""Hosts and their queues as nodes. Free of I/O.

A host has as many cores as its `slots` resource says, or as its queues have slots together; as much memory as its
consumable says (what is left counts, as for the scheduler), or as it reports where that is not a consumable there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nodemanager.model import Node, NodeState, Resources
from nodemanager.schedulers.sge.answers import HostRow, QueueRow, size
from nodemanager.schedulers.sge.options import SgeOptions
from nodemanager.schedulers.sge.states import QUEUE_LETTERS

_DISABLED = frozenset("dD")
_UNHEARD = frozenset("uN")
_BROKEN = frozenset("E")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What is known of a host beside its row."""

    defined: Mapping[str, float]
    """Its `complex_values`: how much of each consumable there is when it is empty."""
    drain_reason: str | None = None
    """Why we drain it; None when we do not."""
    admitted: bool = False


def as_node(row: HostRow, facts: HostFacts, options: SgeOptions) -> Node:
    """The node that a host is."""
    queues = _counted(row, options)
    state, reason = _state(row, queues, facts)
    total = _total(row, queues, facts, options)
    return Node(
        name=row.name,
        state=state,
        total=total,
        free=_free(row, queues, total, facts, options),
        partitions=tuple(queue.queue for queue in queues),
        reason=reason,
        preemptible=bool(queues)
        and all(queue.queue in options.preemptible_queues for queue in queues),
        admitted=facts.admitted,
    )


def is_unheard(row: HostRow) -> bool:
    """Its execd is silent: nothing is known of the jobs on it."""
    silent = row.values.get("load_avg", "-") == "-"
    return silent or any(_UNHEARD & set(queue.letters) for queue in row.queues)


def _counted(row: HostRow, options: SgeOptions) -> tuple[QueueRow, ...]:
    if not options.queues:
        return row.queues
    names = {*options.queues, *options.preemptible_queues}
    return tuple(queue for queue in row.queues if queue.queue in names)


def _state(row: HostRow, queues: tuple[QueueRow, ...], facts: HostFacts) -> tuple[NodeState, str]:
    used = any(queue.used for queue in queues)
    if is_unheard(row):
        return NodeState.DOWN, "its execd is not heard of"
    if not queues:
        return NodeState.DOWN, "it is in no queue that counts"
    is_disabled = [bool(_DISABLED & set(queue.letters)) for queue in queues]
    if all(is_disabled):
        state = NodeState.DRAINING if used else NodeState.DRAINED
        return state, facts.drain_reason or f"its queues are disabled ({_letters(queues)})"
    if all(_BROKEN & set(queue.letters) for queue in queues):
        return NodeState.DOWN, _explain(queues)
    if not any(_is_open(queue) for queue in queues):
        return NodeState.BUSY, _explain(queues)
    return (NodeState.BUSY if used else NodeState.IDLE), ""


def _is_open(queue: QueueRow) -> bool:
    return not queue.letters


def _letters(queues: tuple[QueueRow, ...]) -> str:
    return " ".join(f"{queue.queue}: {queue.letters}" for queue in queues)


def _explain(queues: tuple[QueueRow, ...]) -> str:
    """What the letters of queues that take no job mean."""
    said = [
        f"{queue.queue}: {', '.join(QUEUE_LETTERS.get(letter, letter) for letter in queue.letters)}"
        for queue in queues
        if queue.letters
    ]
    return "; ".join(said)


def _total(
    row: HostRow, queues: tuple[QueueRow, ...], facts: HostFacts, options: SgeOptions
) -> Resources:
    slots = sum(queue.slots for queue in queues)
    ram = facts.defined.get(options.memory_resource)
    if ram is None:
        ram = size(row.values.get("mem_total", "")) or 0.0
    scratch = float(options.scratch)
    if options.scratch_resource:
        scratch = facts.defined.get(options.scratch_resource, 0.0)
    return Resources(
        cores=int(min(slots, facts.defined.get("slots", slots))),
        # A job takes that much more than it asks for.
        ram_bytes=max(int(ram) - options.reserve_ram, 0),
        scratch_bytes=int(scratch),
        gpus=int(facts.defined.get(options.gpu_resource, 0)) if options.gpu_resource else 0,
    )


def _free(
    row: HostRow,
    queues: tuple[QueueRow, ...],
    total: Resources,
    facts: HostFacts,
    options: SgeOptions,
) -> Resources:
    open_slots = sum(
        max(queue.slots - queue.used - queue.reserved, 0) for queue in queues if _is_open(queue)
    )
    cores = int(min(total.cores, open_slots, row.resources.get("slots", total.cores)))
    if options.exclusive_resource in facts.defined and not row.resources.get(
        options.exclusive_resource, 1.0
    ):
        # Somebody has the host to himself: what is left nobody can have.
        cores = 0
    ram = row.resources.get(options.memory_resource) if options.memory_resource else None
    if ram is None:
        used = size(row.values.get("mem_used", "")) or 0.0
        ram = (size(row.values.get("mem_total", "")) or 0.0) - used
    left = Resources(
        cores=max(cores, 0),
        ram_bytes=_within(ram - options.reserve_ram, total.ram_bytes),
        scratch_bytes=_within(
            row.resources.get(options.scratch_resource, total.scratch_bytes), total.scratch_bytes
        ),
        gpus=_within(row.resources.get(options.gpu_resource, total.gpus), total.gpus),
    )
    return left if cores > 0 else Resources(0, left.ram_bytes, left.scratch_bytes, left.gpus)


def _within(amount: float, most: int) -> int:
    """What is left is printed rounded: never more than there is."""
    return max(0, min(int(amount), most))
