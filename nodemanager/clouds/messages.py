"""The messages to and from the cloud actor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pykka

from nodemanager.clouds.base import CloudNode, NodeOrder
from nodemanager.clouds.errors import CloudError

Ref: TypeAlias = pykka.ActorRef[Any]


@dataclass(frozen=True, slots=True)
class FollowCloud:
    """Begin: list the machines, and tell `subscriber` a `CloudView` after each list."""

    subscriber: Ref


@dataclass(frozen=True, slots=True)
class CreateNode:
    """Create this machine; `Created`, `CreateFailed` or `Forgone` goes to `reply_to`."""

    order: NodeOrder
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Forgo:
    """Do not create the machine of that name if that has not begun; then `Forgone` is the answer to its
    `CreateNode`. Otherwise nothing happens."""

    name: str


@dataclass(frozen=True, slots=True)
class DestroyNode:
    """Destroy this machine; `Destroyed` or `DestroyFailed` goes to `reply_to`."""

    node: CloudNode
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class TagNode:
    """Set these tags; tried again until it works or the machine is gone. There is no answer."""

    node: CloudNode
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Created:
    """The machine exists."""

    node: CloudNode


@dataclass(frozen=True, slots=True)
class CreateFailed:
    """The machine was not created; if the error is of no sort of its own, it may turn up in a later list."""

    name: str
    error: CloudError


@dataclass(frozen=True, slots=True)
class Forgone:
    """The machine was never asked for."""

    name: str


@dataclass(frozen=True, slots=True)
class Destroyed:
    """The cloud has accepted that the machine goes; it may be listed for a while."""

    cloud_id: str


@dataclass(frozen=True, slots=True)
class DestroyFailed:
    """The cloud has not accepted that."""

    cloud_id: str
    error: CloudError


@dataclass(frozen=True, slots=True)
class CloudView:
    """To the subscriber, after each list: every machine of this cluster."""

    nodes: tuple[CloudNode, ...]
    asked_at: float
    """Elapsed seconds when the list was asked for."""


@dataclass(frozen=True, slots=True)
class CloudSilent:
    """To the subscriber: the cloud did not answer a list."""

    error: CloudError
    since: float


@dataclass(frozen=True, slots=True)
class GetCloudCounts:
    """Ask the cloud actor for its `CloudCounts`."""


@dataclass(frozen=True, slots=True)
class CloudCounts:
    """What was asked of the cloud since the start, and how much of it failed; names of the old node manager's
    status page."""

    list_calls: int = 0
    list_errors: int = 0
    create_calls: int = 0
    create_errors: int = 0
    destroy_calls: int = 0
    destroy_errors: int = 0
