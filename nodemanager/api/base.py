"""What the daemon says to an Arvados API: one small interface.

`nodemanager.api.client.ArvadosApi` speaks it through arvados-python-client, `nodemanager.testing` through
the server's own logic in memory. Calls block; they are made only from the API actors. Each raises
`ApiUnavailable` (the call may have happened; repeat it) or `ApiRefused` (401, 403, 404, 422).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nodemanager.model import Capabilities, Container, DispatcherState
from nodemanager.reason import Reason


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes: every write of a dispatcher carries both, and an older epoch is refused."""

    dispatcher: str
    epoch: int


@dataclass(frozen=True, slots=True)
class DispatcherRecord:
    """A dispatcher as the API has it."""

    uuid: str
    epoch: int
    state: DispatcherState
    lease_seconds: float
    """Time left until it is lost, counted at the API when it answered."""
    paused: str = ""
    """Who said that it shall claim nothing, and why; empty: nobody."""


@dataclass(frozen=True, slots=True)
class Update:
    """Attributes to write to one container."""

    uuid: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What became of one `Update`: `status` 200, or the refusal's status with its `error`."""

    uuid: str
    status: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Annotation:
    """The reason to show for one container; None takes it away."""

    uuid: str
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Description:
    """All of a container's record, for who runs its command."""

    record: Mapping[str, Any] = field(repr=False)
    secret_mounts: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a claim gave."""

    containers: tuple[Container, ...]
    """Most urgent first; perhaps none."""
    paused: str = ""
    """Who said that there shall be none, and why; empty: nobody."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Containers of a dispatcher that changed since `cursor` was handed out, and the next cursor."""

    containers: tuple[Container, ...]
    cursor: str


class Api(Protocol):
    """The calls of a dispatcher."""

    def register(self, name: str, scheduler: str, capabilities: Capabilities) -> DispatcherRecord:
        """Create the dispatcher, or take up the alive one of this token and name under a new epoch."""
        ...

    def ping(
        self, me: Identity, capabilities: Capabilities | None = None, *, turned: bool = False
    ) -> DispatcherRecord:
        """Renew the lease; new `capabilities` are stored when given. `turned`: we went through our work since the
        last time."""
        ...

    def claim(self, me: Identity, claim_id: str, limit: int, wait_seconds: float) -> Claims:
        """Claim up to `limit` containers; waits up to `wait_seconds` for one, or for the news that claims are paused.

        Repeating a `claim_id` returns the containers it claimed the first time.
        """
        ...

    def held(self, me: Identity) -> list[Container]:
        """Every container of this dispatcher that is Locked or Running."""
        ...

    def changes(self, me: Identity, cursor: str, wait_seconds: float) -> Changes:
        """What changed since `cursor` (empty: from now on); waits up to `wait_seconds` for something."""
        ...

    def containers(self, uuids: Sequence[str]) -> list[Container]:
        """The current records; an unknown uuid is absent."""
        ...

    def waiting(self, limit: int) -> list[Container]:
        """Queued containers with priority > 0, most urgent first, whether or not they may start yet."""
        ...

    def update(self, me: Identity, updates: Sequence[Update]) -> list[UpdateResult]:
        """Write to many containers; answers for each, in order."""
        ...

    def tokens(self, me: Identity, uuids: Sequence[str]) -> dict[str, str]:
        """A runner's token for each of our Locked containers; others are absent."""
        ...

    def describe(self, me: Identity, uuids: Sequence[str]) -> dict[str, Description]:
        """What the commands of our Locked containers are; others are absent."""
        ...

    def annotate(self, me: Identity, annotations: Sequence[Annotation]) -> None:
        """Say why containers wait. Unknown or started ones are passed over."""
        ...
