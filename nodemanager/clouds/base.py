"""What a cloud must answer.

A driver holds the arguments, tags and error tables of one cloud. Polling, budgets, Retry-After, the search
after a doubtful create, timeouts of boots and every decision live once, above all drivers, in
`nodemanager.clouds.actor` and `nodemanager.nodes`. A driver object is used by one thread at a time; several
of them may work side by side.

A method that fails raises a `nodemanager.clouds.errors.CloudError`, never anything else on purpose.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from nodemanager.clouds.errors import CloudError
from nodemanager.model import Finding, NodeSize


class CloudState(StrEnum):
    """What a cloud says of a machine, in our words. A machine that is gone is not listed."""

    PENDING = "pending"
    """Being made; cannot work yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    """Will be gone without our doing anything: being destroyed, or taken away (spot)."""
    BROKEN = "broken"
    """The cloud itself says that it is of no use (ERROR, a failed creation); has to be destroyed."""
    UNKNOWN = "unknown"
    """A word we do not know: neither running nor gone."""


@dataclass(frozen=True, slots=True)
class CloudNode:
    """One machine of ours as the cloud lists it."""

    cloud_id: str
    """The cloud's own identifier, by which it is destroyed."""
    name: str
    """The `NodeOrder.name` it was created under."""
    instance_type: str
    state: CloudState
    tags: Mapping[str, str] = field(default_factory=dict)
    """What was given at creation (and set since), under the same keys."""
    created_at: float | None = None
    """Unix seconds, where the cloud tells."""
    addresses: tuple[str, ...] = ()
    """Private ones first."""
    fault: CloudError | None = field(default=None, compare=False)
    """Why it is BROKEN, where the cloud tells: of the sort that `create` would have raised."""


@dataclass(frozen=True, slots=True)
class CloudSize:
    """A kind of machine as the cloud's library lists it; None is what it does not know."""

    id: str
    name: str
    ram_bytes: int
    """As advertised; `[Daemon] node_mem_scaling` is applied by whoever makes a `NodeSize` of it."""
    disk_bytes: int = 0
    price: float | None = None
    cores: int | None = None
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class NodeOrder:
    """A machine to create."""

    name: str
    """Unique for ever, letters, digits and dashes, at most 63: how it is found after a doubtful create."""
    size: NodeSize
    tags: Mapping[str, str]
    """Must be on the machine from its first moment (an untagged one would be nobody's)."""
    user_data: str = field(default="", repr=False)
    """The boot script, ready to run; holds a ping secret."""


@dataclass(frozen=True, slots=True)
class CloudContext:
    """What a driver is given at construction; the mappings are the sections of the config file, as text."""

    cluster_id: str
    state_dir: Path
    """A directory of its own that outlives the daemon."""
    credentials: Mapping[str, str] = field(default_factory=dict)
    """`[Cloud Credentials]`"""
    list_options: Mapping[str, str] = field(default_factory=dict)
    """`[Cloud List]`"""
    create_options: Mapping[str, str] = field(default_factory=dict)
    """`[Cloud Create]`"""
    driver_class: str = ""
    """`[Cloud] driver_class`: another libcloud class to use instead of the driver's own."""
    timeout_seconds: float = 60.0
    """How long one call may take."""


class Cloud(abc.ABC):
    """One cloud account. Only machines that bear `CLUSTER_TAG` with our cluster id are ever listed or
    touched."""

    name: ClassVar[str]
    """The word in `[Cloud] provider`."""

    pings: ClassVar[bool] = True
    """Whether a machine announces itself at the API's `nodes` record (see the boot script)."""

    in_process: ClassVar[bool] = False
    """True when a call goes nowhere, and so needs no budget."""

    def __init__(self, context: CloudContext) -> None:
        self.context = context

    @abc.abstractmethod
    def check(self) -> Sequence[Finding]:
        """Look at credentials, image, networks and so on by harmless calls; change nothing."""

    @abc.abstractmethod
    def sizes(self) -> Sequence[CloudSize]:
        """The kinds of machine the cloud's library knows; may be slow, is called once."""

    @abc.abstractmethod
    def list(self) -> Sequence[CloudNode]:
        """Every machine of this cluster that is not gone, whoever created it."""

    def observe(self) -> Sequence[CloudNode]:
        """What `list` would tell, for somebody who only looks (`--dry-run`): nothing is changed by it. To be
        overridden where `list` does more than look."""
        return self.list()

    @abc.abstractmethod
    def create(self, order: NodeOrder) -> CloudNode:
        """Create a machine. One that is listed already under that name must not be created twice by a
        driver whose cloud can promise that (a client token); the caller looks for the name anyway."""

    @abc.abstractmethod
    def destroy(self, node: CloudNode) -> None:
        """Destroy it with everything that was created for it. One that is gone already is no error."""

    @abc.abstractmethod
    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        """Set these tags and leave the others."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Let go of connections; machines stay."""


CLUSTER_TAG = "arvados-cluster"
"""The cluster id: whose machine it is."""
DISPATCHER_TAG = "arvados-dispatcher"
"""The `[Dispatch] name` of the daemon that created it; another daemon leaves it alone."""
SIZE_TAG = "arvados-node-size"
"""The `NodeSize.name`."""
HOST_TAG = "arvados-host"
"""The name under which it joins the scheduler."""
BOOTED_TAG = "booted_at"
"""When it was ordered: Unix seconds, as text."""
RECORD_TAG = "arvados-node-record"
"""UUID of its record in the API's `nodes`, if it has one."""
BEHAVIOUR_TAG = "arvados-behaviour"
"""An operator's word: run, hold or drain."""
