"""Containers by the reason for which they wait: thousands of like ones in one group. Pure.

A group has an id that stays the same as long as its token and sentence do, so that a page can keep it open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from nodemanager.dispatch.messages import HeldContainer, QueuedContainer, Status
from nodemanager.model import Container, ContainerState, due_at, user_priority
from nodemanager.reason import Reason
from nodemanager.status.look import shown_time
from nodemanager.status.waits import UNEXPLAINED

MAX_GROUPS = 60
"""So many are shown; what is left of each token beyond them is one group."""
MAX_ROWS = 200
"""So many containers of a group are told at a time."""

RUNNING = "running"
"""Stands where a token would for what does not wait."""

OTHER_SENTENCES = "for other reasons of this kind"

Shown: TypeAlias = HeldContainer | QueuedContainer


@dataclass(frozen=True, slots=True)
class Group:
    """Containers with one token and sentence, most urgent first."""

    id: str
    token: str
    sentence: str
    members: tuple[Shown, ...]
    reason: Reason | None
    """That of the most urgent one."""


def group_containers(status: Status) -> tuple[Group, ...]:
    """All containers that the dispatcher holds or sees in the queue, the largest groups first, running ones last."""
    found: dict[tuple[str, str], list[Shown]] = {}
    everything: tuple[Shown, ...] = (*status.containers, *status.queued)
    for member in everything:
        found.setdefault(_key(member), []).append(member)
    keys = sorted(found, key=lambda key: (key[0] == RUNNING, -len(found[key]), key))
    gathered: dict[tuple[str, str], list[Shown]] = {}
    for number, key in enumerate(keys):
        own = number < MAX_GROUPS or key[0] in (RUNNING, UNEXPLAINED)
        gathered.setdefault(key if own else (key[0], OTHER_SENTENCES), []).extend(found[key])
    return tuple(_group(key, members) for key, members in gathered.items())


def group_document(group: Group, now: float) -> dict[str, Any]:
    """What is told of a whole group, at Unix time `now`."""
    upcoming = [m.reason.next_attempt_at for m in group.members if m.reason is not None]
    reason = group.reason
    return {
        "id": group.id,
        "token": group.token,
        "tier": "" if reason is None else reason.tier.name.lower(),
        "sentence": group.sentence,
        "advice": "" if reason is None else reason.advice,
        "knob": "" if reason is None else reason.knob.value,
        "facts": {} if reason is None else dict(reason.facts),
        "containers": len(group.members),
        "claimed": sum(isinstance(member, HeldContainer) for member in group.members),
        "oldest_at": shown_time(min(due_at(m.container) for m in group.members)),
        "next_attempt_at": _earliest([at for at in upcoming if at is not None and at > now]),
    }


def row_document(member: Shown) -> dict[str, Any]:
    """What is told of one container in a row of its group."""
    container, reason = member.container, member.reason
    held = member if isinstance(member, HeldContainer) else None
    return {
        "uuid": container.uuid,
        "state": container.state.value,
        "priority": user_priority(container.priority),
        "attempt": container.attempt,
        "cores": container.resources.cores,
        "ram_bytes": container.resources.ram_bytes,
        "gpus": container.resources.gpus,
        "created_at": shown_time(container.created_at),
        "next_attempt_at": _next_attempt(container, reason),
        "sentence": "" if reason is None else reason.sentence,
        "error": container.error,
        "node": "" if held is None else held.node,
        "scheduler": "" if held is None else held.scheduler,
    }


def _key(member: Shown) -> tuple[str, str]:
    if member.reason is not None:
        return member.reason.token.value, member.reason.sentence
    is_running = member.container.state is ContainerState.RUNNING
    return RUNNING if is_running else UNEXPLAINED, ""


def _group(key: tuple[str, str], members: Sequence[Shown]) -> Group:
    token, sentence = key
    urgent = sorted(members, key=lambda m: (-m.container.priority, m.container.created_at))
    name = hashlib.sha256(f"{token}\0{sentence}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Group(name, token, sentence, tuple(urgent), urgent[0].reason)


def _earliest(times: Sequence[float]) -> str | None:
    return shown_time(min(times)) if times else None


def _next_attempt(container: Container, reason: Reason | None) -> str | None:
    """When it may start at the earliest, if that is known."""
    at = container.run_after if reason is None else reason.next_attempt_at or container.run_after
    waits = container.state is not ContainerState.RUNNING
    return shown_time(at) if waits and at is not None else None
