"""Which of the arbiter's reasons belongs to which waiting container.

The arbiter reckons with shapes and counts: of five containers that are alike, two may wait for a node that boots
and three for a limit. The more urgent ones come first, as they do when nodes are packed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nodemanager.dispatch.children import Child
from nodemanager.nodes.demand import Shape
from nodemanager.nodes.why import Line
from nodemanager.reason import Reason, ReasonToken


def waits_for_room(reason: Reason | None) -> bool:
    """Whether it waits for whatever the scheduler gives it in its turn: one that is held, refused, or has a node in
    trouble waits for something that no node brings."""
    return reason is not None and reason.token in (
        ReasonToken.SCHEDULER_WAIT,
        ReasonToken.WAITING_FOR_RESOURCES,
    )


def foresee(waiting: Iterable[Child], lines: Mapping[Shape, Line]) -> dict[str, Reason]:
    """The arbiter's reason for each of the `waiting` whose job waits in the scheduler, by UUID.

    Absent are those that have room on a node that is here: there the scheduler's own words say more.
    """
    by_shape: dict[Shape, list[Child]] = {}
    for child in waiting:
        by_shape.setdefault(Shape.of(child.container), []).append(child)
    found: dict[str, Reason] = {}
    for shape, children in by_shape.items():
        children.sort(key=lambda c: (-c.container.priority, c.container.created_at))
        reasons = (reason for count, reason in lines.get(shape, ()) for _ in range(count))
        for child, reason in zip(children, reasons, strict=False):
            if waits_for_room(child.reason) and reason.token is not ReasonToken.SCHEDULER_WAIT:
                found[child.container.uuid] = reason
    return found
