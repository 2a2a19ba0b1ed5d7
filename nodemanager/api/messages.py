"""The messages between the API actors and those who need something of the API.

Requests carry `reply_to`, the actor the answer is told to; nobody waits for anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pykka

from nodemanager.api.base import Annotation, Description, Identity, Update, UpdateResult
from nodemanager.model import Capabilities, Container

Ref: TypeAlias = pykka.ActorRef[Any]


@dataclass(frozen=True, slots=True)
class Register:
    """To the lease actor: become a dispatcher, or take up the old record."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class PingEvery:
    """To the lease actor: ping so often from now on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class AskEvery:
    """To whoever asks the API for work and changes: so often from now on, where calls are not held open."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Turned:
    """To the lease actor: we have gone through our work; say so with the next ping. Reasons are as fresh as that."""


@dataclass(frozen=True, slots=True)
class Offer:
    """To the lease actor: what we can run has changed; say so with the next ping."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class Registered:
    """From the lease actor: we are `me`, until `lease_until` (elapsed seconds) at least."""

    me: Identity
    lease_until: float
    paused: str = ""
    """Why we may claim nothing; empty: we may."""


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """From the lease actor, after each ping."""

    lease_until: float
    paused: str = ""
    """As in `Registered`."""


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """From the lease actor: the API refuses us for good; all our containers are TempFail."""

    why: str


@dataclass(frozen=True, slots=True)
class Claim:
    """To the claim actor: claim up to `limit` containers as `me`, waiting for the first."""

    me: Identity
    limit: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """From the claim actor: these are ours (perhaps none). One answer per `Claim`."""

    me: Identity
    containers: tuple[Container, ...]
    paused: str = ""
    """As in `Registered`."""


@dataclass(frozen=True, slots=True)
class Follow:
    """To the change actor: tell whenever a container of `me` changes, from now on."""

    me: Identity


@dataclass(frozen=True, slots=True)
class Following:
    """From the change actor: whatever changes from now on will be told."""

    me: Identity


@dataclass(frozen=True, slots=True)
class Changed:
    """From the change actor."""

    me: Identity
    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class ListHeld:
    """To the reader: every Locked or Running container of `me`."""

    me: Identity
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Held:
    """Answer to `ListHeld`."""

    me: Identity
    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class ListWaiting:
    """To the reader: the most urgent queued containers."""

    limit: int
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Waiting:
    """Answer to `ListWaiting`."""

    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """To the reader: the current records of `uuids`."""

    uuids: Sequence[str]
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Records:
    """Answer to `Read`: those that exist."""

    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class Describe:
    """To the reader: what the command of one container of `me` is."""

    me: Identity
    uuid: str
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Described:
    """Answer to `Describe`; None when the container is not ours or not Locked any more."""

    uuid: str
    description: Description | None


@dataclass(frozen=True, slots=True)
class Write:
    """To the writer: one update; goes out with whatever else is waiting."""

    me: Identity
    update: Update
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Written:
    """Answer to `Write`."""

    result: UpdateResult


@dataclass(frozen=True, slots=True)
class GetToken:
    """To the writer: the runner's token of one container."""

    me: Identity
    uuid: str
    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Token:
    """Answer to `GetToken`; None when the container is not ours or not Locked any more."""

    uuid: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Annotate:
    """To the writer: reasons to show. Not answered."""

    me: Identity
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True)
class Flush:
    """To the writer: say `Flushed` once everything told before is written."""

    reply_to: Ref


@dataclass(frozen=True, slots=True)
class Flushed:
    """Answer to `Flush`."""
