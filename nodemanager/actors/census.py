"""How the actors of this process are, by class: counted from outside, so that a stuck one is counted like any other.

No actor is asked anything: what is told here was read off their mailboxes, and the numbers of two of them may be of
slightly different moments.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pykka

from nodemanager.actors.actor import failure_counts
from nodemanager.actors.mailbox import Mailbox
from nodemanager.actors.pool import ActorPool, PoolStatistics, current_pool


@dataclass(slots=True)
class ClassCount:
    """All living actors of one class together."""

    actors: int = 0
    messages: int = 0
    """In all their mailboxes."""
    longest_mailbox: int = 0
    longest_work_seconds: float = 0.0
    """For so long the slowest of them has been doing what it does now; 0 when all are idle."""


@dataclass(frozen=True, slots=True)
class Census:
    """Everything that can be told without asking an actor."""

    classes: Mapping[str, ClassCount] = field(default_factory=dict)
    """By the name of the class."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """How many have crashed since the start, by the name of the class."""
    pool: PoolStatistics | None = None
    """None when the actors run on another pool than the daemon's."""


def take_census() -> Census:
    """As they are now. May be called from any thread."""
    pool = current_pool()
    return Census(
        count_actors(pykka.ActorRegistry.get_all(), time.monotonic()),
        failure_counts(),
        pool.statistics() if isinstance(pool, ActorPool) else None,
    )


def count_actors(refs: Iterable[pykka.ActorRef[Any]], now: float) -> Mapping[str, ClassCount]:
    """The living ones by class; `now` is `time.monotonic()`."""
    classes: dict[str, ClassCount] = {}
    for ref in refs:
        inbox = ref.actor_inbox
        if not isinstance(inbox, Mailbox):
            continue
        name = ref.actor_class.__name__
        count = classes.get(name)
        if count is None:
            count = classes[name] = ClassCount()
        count.actors += 1
        length, since = inbox.length, inbox.busy_since
        if length:
            count.messages += length
            count.longest_mailbox = max(count.longest_mailbox, length)
        if since is not None:
            count.longest_work_seconds = max(count.longest_work_seconds, now - since)
    return classes
