"""The common ground of the drivers that stand on libcloud.

A driver of ours is a subclass of `LibcloudCloud` which says, as data: the libcloud class, the options it
knows, and what the cloud's errors mean. Here it gets

- its credentials read (`credentials`); it reads its other options with `nodemanager.clouds.options`;
- the libcloud driver (`driver`), made at the first call that needs it, because making one may call the cloud
  and fail for a moment (the old manager's bug 8206), with libcloud's own retries off;
- errors in our sorts (`talking`, and `about` where one node is meant);
- `list`, `destroy` and `sizes` as far as they are the same everywhere, in terms of small methods to override.

Everything that libcloud takes and gives is untyped, so it is `Any` here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from nodemanager.clock import Clock, SystemClock
from nodemanager.clouds.base import (
    CLUSTER_TAG,
    Cloud,
    CloudContext,
    CloudNode,
    CloudSize,
    CloudState,
)
from nodemanager.clouds.errors import CloudError, Denied, Gone
from nodemanager.clouds.options import CONNECTION, CREDENTIALS, read_given
from nodemanager.clouds.sorting import Rule, sort_error
from nodemanager.config.kinds import Kind
from nodemanager.errors import ConfigError, NodeManagerError
from nodemanager.model import Finding
from nodemanager.plugins import load

STATES: Mapping[str, CloudState | None] = {
    "running": CloudState.RUNNING,
    "rebooting": CloudState.RUNNING,
    "reconfiguring": CloudState.RUNNING,
    "updating": CloudState.RUNNING,
    "migrating": CloudState.RUNNING,
    "normal": CloudState.RUNNING,
    "pending": CloudState.PENDING,
    "starting": CloudState.PENDING,
    "stopping": CloudState.STOPPING,
    "terminated": None,
    "stopped": CloudState.BROKEN,
    "suspended": CloudState.BROKEN,
    "paused": CloudState.BROKEN,
    "error": CloudState.BROKEN,
}
"""libcloud's `NodeState` in our words; None is gone. A stopped node costs and does not come back."""


class LibcloudCloud(Cloud):
    """One account at a cloud, through one libcloud driver."""

    libcloud_class: ClassVar[str]
    """The libcloud driver, ``package.module:Class``; `[Cloud] driver_class` puts another in its place."""

    credential_options: ClassVar[Mapping[str, Kind]] = {}
    """What `[Cloud Credentials]` may say besides `CONNECTION` and the named arguments of the libcloud
    driver's constructor (those it takes as ``**kwargs`` cannot be seen)."""

    error_table: ClassVar[Sequence[Rule]] = ()
    """What this cloud's errors mean; the first rule that matches decides."""

    late_seconds: ClassVar[float] = 0.0
    """For so long after its creation the cloud may say of a node that there is none (eventual consistency):
    it proves nothing."""

    def __init__(self, context: CloudContext) -> None:
        """Read `[Cloud Credentials]`; nothing is called yet. `ConfigError` if they cannot be used."""
        super().__init__(context)
        path = context.driver_class or self.libcloud_class
        found = load("[Cloud] driver_class", path)
        if not isinstance(found, type):
            raise ConfigError(f"[Cloud] driver_class: {path!r} is {found!r}, not a class")
        self.driver_type: Any = found
        """The libcloud class; its methods' signatures tell what options may be passed on."""
        self.credentials = read_given(
            CREDENTIALS,
            self.owner,
            context.credentials,
            {**CONNECTION, **self.credential_options},
            passed_to=found,
            prefix="",
        )
        self.clock: Clock = SystemClock()
        self._driver: Any = None
        self._listed: dict[str, Any] = {}

    # What a driver overrides.

    def constructor_arguments(self) -> dict[str, Any]:
        """The keyword arguments for the libcloud class, from `self.credentials`."""
        named = dict(self.credentials.named)
        named.setdefault("timeout", self.context.timeout_seconds)
        return {**self.credentials.passed, **named}

    def list_arguments(self) -> dict[str, Any]:
        """The keyword arguments for ``list_nodes``, such as filters."""
        return {}

    def tags_of(self, node: Any) -> Mapping[str, str]:
        """The tags of a libcloud node."""
        tags: Mapping[str, str] = node.extra.get("tags") or {}
        return tags

    def state_of(self, node: Any) -> CloudState | None:
        """The state of a libcloud node; None when it is gone."""
        return STATES.get(str(node.state), CloudState.UNKNOWN)

    def instance_type_of(self, node: Any) -> str:
        """The cloud's name for the node's size."""
        return str(node.size.id) if node.size is not None else ""

    def is_ours(self, node: Any) -> bool:
        """Whether a libcloud node belongs to this cluster. No other is ever listed or touched."""
        return self.tags_of(node).get(CLUSTER_TAG) == self.context.cluster_id

    def cores_of(self, size: Any) -> int | None:
        """How many cores a libcloud size has, which each driver keeps elsewhere."""
        del size
        return None

    def gpus_of(self, size: Any) -> int:
        """How many GPUs a libcloud size has."""
        del size
        return 0

    # What is the same everywhere.

    def list(self) -> Sequence[CloudNode]:
        """Every node of this cluster that is not gone."""
        with self.talking("listing nodes"):
            nodes = list(self.driver.list_nodes(**self.list_arguments()))
            ours = [node for node in nodes if self.is_ours(node) and self.state_of(node)]
            answer = tuple(self.cloud_node(node) for node in ours)
        self._listed = {str(node.id): node for node in ours}
        return answer

    def destroy(self, node: CloudNode) -> None:
        """Destroy it; one that is gone already is no error."""
        try:
            with self.about(node, "destroying"):
                done = self.driver.destroy_node(self.libcloud_node(node))
        except Gone:
            return
        if done is False:
            raise CloudError(
                f"{self.name}: destroying {node.name} ({node.cloud_id}): the cloud did not do it"
            )

    def sizes(self) -> Sequence[CloudSize]:
        """The sizes that libcloud lists."""
        with self.talking("listing sizes"):
            return tuple(self._cloud_size(size) for size in self.driver.list_sizes())

    def close(self) -> None:
        """Let go of the connections; the next call makes new ones."""
        driver, self._driver = self._driver, None
        self._listed = {}
        with suppress(AttributeError):  # one that has none, such as libcloud's dummy
            driver.connection.connection.session.close()

    @property
    def driver(self) -> Any:
        """The libcloud driver. Making it may call the cloud: only `with self.talking(...)`."""
        if self._driver is None:
            try:
                driver = self.driver_type(**self.constructor_arguments())
            except TypeError as error:
                raise Denied(
                    f"{self.name}: {self.driver_type.__name__} does not take what [{CREDENTIALS}] "
                    f"says: {error}"
                ) from error
            self.prepare(driver)
            self._driver = driver
        return self._driver

    def prepare(self, driver: Any) -> None:
        """Once, right after the libcloud driver was made: switch its own retries off."""
        if hasattr(driver, "connection"):
            driver.connection.retryCls = _Once

    @property
    def owner(self) -> str:
        """Whose options they are, for `read_given`."""
        return f"the {self.name} driver"

    @contextmanager
    def talking(self, doing: str) -> Iterator[None]:
        """Around every use of libcloud: whatever it raises becomes a `CloudError` of the right sort.

        `doing` says what is tried, for the message. Our own errors pass.
        """
        try:
            yield
        except NodeManagerError:
            raise
        except Exception as error:
            where = f"{self.name}: {doing}"
            raise sort_error(error, self.error_table, where, self.clock.wall()) from error

    @contextmanager
    def about(self, node: CloudNode, doing: str) -> Iterator[None]:
        """`talking` about one node. `Gone` comes out only where the cloud can already know the node."""
        try:
            with self.talking(f"{doing} {node.name} ({node.cloud_id})"):
                yield
        except Gone as error:
            if node.created_at is None or self.clock.wall() - node.created_at >= self.late_seconds:
                raise
            raise CloudError(
                f"{error}; it is so new that it may not show yet: try again"
            ) from error

    def finding(self, subject: str, look: Callable[[], str]) -> Finding:
        """A line of `--check`: what `look` returns, or the error that it raises."""
        try:
            with self.talking(f"looking at {subject}"):
                return Finding(subject, look())
        except NodeManagerError as error:
            return Finding(subject, problem=str(error))

    def cloud_node(self, node: Any) -> CloudNode:
        """A libcloud node in our words."""
        return CloudNode(
            cloud_id=str(node.id),
            name=str(node.name),
            instance_type=self.instance_type_of(node),
            state=self.state_of(node) or CloudState.STOPPING,
            tags=dict(self.tags_of(node)),
            created_at=node.created_at.timestamp() if node.created_at is not None else None,
            addresses=(*node.private_ips, *node.public_ips),
        )

    def remember(self, node: Any) -> CloudNode:
        """Keep a libcloud node that was just created, so that `libcloud_node` finds it; in our words."""
        self._listed[str(node.id)] = node
        return self.cloud_node(node)

    def libcloud_node(self, node: CloudNode) -> Any:
        """The libcloud node for one of ours: as it was listed last, or one that has only its id and name.

        A driver whose operations need more than the id overrides this.
        """
        known = self._listed.get(node.cloud_id)
        if known is not None:
            return known
        from libcloud.compute.base import Node  # noqa: PLC0415 (slow to import)
        from libcloud.compute.types import NodeState  # noqa: PLC0415

        return Node(node.cloud_id, node.name, NodeState.UNKNOWN, [], [], self.driver)

    def _cloud_size(self, size: Any) -> CloudSize:
        return CloudSize(
            id=str(size.id),
            name=str(size.name),
            ram_bytes=int(size.ram or 0) << 20,
            disk_bytes=int(size.disk or 0) * 10**9,
            price=float(size.price) if size.price else None,
            cores=self.cores_of(size),
            gpus=self.gpus_of(size),
        )


class _Once:
    """In place of libcloud's retries, which an environment variable could switch on: ours are above."""

    def __init__(self, **_: object) -> None:
        pass

    def __call__(self, request: Callable[..., Any]) -> Callable[..., Any]:
        return request
