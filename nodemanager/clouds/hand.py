"""The actors that make the calls of a cloud: each holds a driver of its own and may block.

A hand does one thing at a time and answers to the desk (`nodemanager.clouds.actor`), which never blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from nodemanager import metrics
from nodemanager.actors.actor import Actor, tell_if_alive
from nodemanager.clouds.base import Cloud, CloudNode
from nodemanager.clouds.errors import (
    CERTAIN,
    CloudError,
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.clouds.messages import CreateNode, DestroyNode, Ref, TagNode

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListNodes:
    """List all machines."""


Task: TypeAlias = ListNodes | CreateNode | DestroyNode | TagNode

OPERATIONS: Mapping[type[Task], str] = {
    ListNodes: "list",
    CreateNode: "create",
    DestroyNode: "destroy",
    TagNode: "tag",
}
"""What the metrics call them."""
_SORTS: Sequence[tuple[type[CloudError], str]] = (
    (QuotaExceeded, "quota-exceeded"),
    (NoCapacity, "no-capacity"),
    (RateLimited, "rate-limited"),
    (Denied, "denied"),
    (Gone, "gone"),
)


@dataclass(frozen=True, slots=True)
class Do:
    """To a hand: do this."""

    task: Task


@dataclass(frozen=True, slots=True)
class Done:
    """From a hand: what came of it. `result` is a list of machines, a machine, or nothing."""

    hand: Ref
    task: Task
    result: tuple[CloudNode, ...] = ()
    error: CloudError | None = None


class CloudHand(Actor):
    """See the module's docstring."""

    kind = "io"

    def __init__(
        self, connect: Callable[[], Cloud], desk: Ref, longest_call_seconds: float
    ) -> None:
        super().__init__()
        self._connect = connect
        self._desk = desk
        self._longest_call_seconds = longest_call_seconds
        self._cloud: Cloud | None = None

    @property
    def answers_within(self) -> float:
        """See `PooledActor.answers_within`: a create may be followed by a list, and each by a second try
        of the library's transport."""
        return 4 * self._longest_call_seconds

    def on_receive(self, message: Any) -> None:
        """Do what the desk says."""
        match message:
            case Do(task):
                tell_if_alive(self._desk, self._do(task))
            case _:
                super().on_receive(message)

    def on_stop(self) -> None:
        """Let go of the driver; machines stay."""
        if self._cloud is not None:
            self._cloud.close()

    def _do(self, task: Task) -> Done:
        me = self.actor_ref
        try:
            with metrics.timing(partial(_count, task)):
                return Done(me, task, self._call(task))
        except CloudError as error:
            return Done(me, task, error=error)
        except Exception as error:
            # A driver that raises what it should not is no reason to lose all the others.
            log.exception("the cloud driver failed", extra={"action": "cloud_driver_failed"})
            return Done(me, task, error=CloudError(f"the cloud driver failed: {error!r}"))

    def _call(self, task: Task) -> tuple[CloudNode, ...]:
        if self._cloud is None:
            self._cloud = self._connect()
        match task:
            case ListNodes():
                return tuple(self._cloud.list())
            case CreateNode():
                return (self._create(self._cloud, task),)
            case DestroyNode(node):
                self._cloud.destroy(node)
            case TagNode(node, tags):
                self._cloud.set_tags(node, tags)
        return ()

    @staticmethod
    def _create(cloud: Cloud, task: CreateNode) -> CloudNode:
        """Create; after a doubtful failure look whether it is there all the same (old node manager, bug
        6702: creates that timed out and had succeeded)."""
        name = task.order.name
        try:
            return cloud.create(task.order)
        except CERTAIN:
            raise
        except Exception as error:
            log.warning(
                "creating %s: %s; looking whether it is there",
                name,
                error,
                extra={"action": "create_doubtful", "node": name},
            )
            found = _find(cloud, name)
            if found is None:
                raise
            return found


def _count(task: Task, error: BaseException | None, seconds: float) -> None:
    operation = OPERATIONS[type(task)]
    outcome = (
        "ok" if error is None else next((w for t, w in _SORTS if isinstance(error, t)), "error")
    )
    metrics.CLOUD_REQUESTS.labels(operation, outcome).inc()
    metrics.CLOUD_REQUEST_SECONDS.labels(operation).observe(seconds)


def _find(cloud: Cloud, name: str) -> CloudNode | None:
    """The machine of that name; None also when the list does not come: the failure before it is the one to
    tell, since whoever is told that a list came too often would ask for the machine once more."""
    try:
        return next((node for node in cloud.list() if node.name == name), None)
    except CloudError as error:
        log.warning(
            "looking for %s: %s", name, error, extra={"action": "create_doubtful", "node": name}
        )
        return None
