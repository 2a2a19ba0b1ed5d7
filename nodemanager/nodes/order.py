"""From a size to the machine that is ordered: name, tags, boot script."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nodemanager.clouds.base import (
    BEHAVIOUR_TAG,
    BOOTED_TAG,
    CLUSTER_TAG,
    DISPATCHER_TAG,
    HOST_TAG,
    RECORD_TAG,
    SIZE_TAG,
    CloudNode,
    NodeOrder,
)
from nodemanager.model import NodeSize
from nodemanager.nodes.states import Behaviour

CLOCKS_DIFFER_SECONDS = 3600.0
_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Ping:
    """Where a machine announces itself, and as what."""

    record_uuid: str
    secret: str = field(repr=False)


Script = Callable[[str, NodeSize, Ping | None], str]
"""Renders the boot script of a machine that is to join under a host name."""


def no_script(_host: str, _size: NodeSize, _ping: Ping | None) -> str:
    """For clouds whose machines run no boot script."""
    return ""


def _random_tail() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


@dataclass(frozen=True, slots=True)
class OrderTemplate:
    """What all orders of a daemon share."""

    cluster_id: str
    dispatcher: str
    """`[Dispatch] name`: the daemon whose nodes they are."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """`[Cloud] tags`: put on every machine."""
    script: Script = no_script
    new_tail: Callable[[], str] = _random_tail
    """Something that was in no machine's name before."""

    def new_name(self) -> str:
        """A name that no machine ever had, as short as that allows: people have to read it."""
        return f"compute-{self.new_tail()}-{self.cluster_id}"

    def order(
        self, name: str, host: str, size: NodeSize, ordered_at: float, ping: Ping | None = None
    ) -> NodeOrder:
        """The machine `name`, which joins the scheduler as `host`. `ordered_at` is wall clock."""
        tags = {
            **self.tags,
            CLUSTER_TAG: self.cluster_id,
            DISPATCHER_TAG: self.dispatcher,
            SIZE_TAG: size.name,
            HOST_TAG: host,
            BOOTED_TAG: f"{ordered_at:.0f}",
        }
        if ping is not None:
            tags[RECORD_TAG] = ping.record_uuid
        return NodeOrder(name, size, tags, self.script(host, size, ping))

    def is_ours(self, node: CloudNode) -> bool:
        """Whether this daemon created it; others' machines are left alone."""
        tags = node.tags
        return (tags.get(CLUSTER_TAG), tags.get(DISPATCHER_TAG)) == (
            self.cluster_id,
            self.dispatcher,
        )


def host_of(node: CloudNode) -> str:
    """The name under which it joins the scheduler."""
    return node.tags.get(HOST_TAG) or node.name


def record_of(node: CloudNode) -> str:
    """The UUID of its record in the API's `nodes`; empty when it has none."""
    return node.tags.get(RECORD_TAG, "")


def ordered_at_of(node: CloudNode, otherwise: float) -> float:
    """When it was ordered, by its tag, the cloud, or `otherwise`; wall clock.

    Anybody may have edited the tag: a time to come, beyond what clocks differ by, would keep the node from ever
    being old enough.
    """
    try:
        tagged = float(node.tags[BOOTED_TAG])
    except (KeyError, ValueError):
        tagged = -1.0
    if 0 <= tagged <= otherwise + CLOCKS_DIFFER_SECONDS:
        return tagged
    return otherwise if node.created_at is None else node.created_at


def behaviour_of(node: CloudNode) -> Behaviour:
    """What an operator has said about it."""
    word = node.tags.get(BEHAVIOUR_TAG, Behaviour.RUN.value)
    return Behaviour(word) if word in set(Behaviour) else Behaviour.RUN
