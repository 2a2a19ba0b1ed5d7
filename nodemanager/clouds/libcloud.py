"""The common ground of the drivers that stand on libcloud.

A driver of ours is a subclass of `LibcloudCloud` which says, as data: the libcloud class, the options it
knows, and what the cloud's errors mean. Here it gets

- its options read (`read`), under the names that the old node manager (1.4.3) gave them;
- the libcloud driver (`driver`), made at the first call that needs it, because making one may call the cloud
  and fail for a moment (the old manager's bug 8206), with libcloud's own retries off;
- errors in our sorts (`talking`);
- `list`, `destroy` and `sizes` as far as they are the same everywhere, in terms of small methods to override.

Everything that libcloud takes and gives is untyped, so it is `Any` here.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nodemanager.clouds.base import (
    CLUSTER_TAG,
    Cloud,
    CloudContext,
    CloudNode,
    CloudSize,
    CloudState,
)
from nodemanager.clouds.errors import CloudError, Denied, Gone
from nodemanager.clouds.sorting import Rule, sort_error
from nodemanager.config.kinds import Bool, Float, Integer, Kind, Seconds, SecretText
from nodemanager.config.module_options import read_options
from nodemanager.config.option import looks_secret
from nodemanager.errors import ConfigError, NodeManagerError
from nodemanager.plugins import load

CREDENTIALS = "Cloud Credentials"
LIST = "Cloud List"
CREATE = "Cloud Create"

TAG_PREFIX = "tag_"
"""`tag_x = y` is a tag x, as in the old node manager."""

CONNECTION: Mapping[str, Kind] = {
    "timeout": Seconds(1),
    "host": Kind(),
    "port": Integer(1, 65535),
    "secure": Bool(),
    "proxy_url": Kind(),
}
"""`[Cloud Credentials]` that every libcloud driver takes."""

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


@dataclass(frozen=True, slots=True)
class Given:
    """One section, read."""

    named: Mapping[str, Any] = field(default_factory=dict)
    """The options that the driver knows, parsed."""
    passed: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the libcloud method, to be handed to it as they are."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What was written as `tag_x = y`, by x."""


class LibcloudCloud(Cloud):
    """One account at a cloud, through one libcloud driver."""

    libcloud_class: ClassVar[str]
    """The libcloud driver, ``package.module:Class``; `[Cloud] driver_class` puts another in its place."""

    credential_options: ClassVar[Mapping[str, Kind]] = {}
    """What `[Cloud Credentials]` may say besides `CONNECTION` and the named arguments of the libcloud
    driver's constructor (those it takes as ``**kwargs`` cannot be seen)."""

    error_table: ClassVar[Sequence[Rule]] = ()
    """What this cloud's errors mean; the first rule that matches decides."""

    def __init__(self, context: CloudContext) -> None:
        """Read `[Cloud Credentials]`; nothing is called yet. `ConfigError` if they cannot be used."""
        super().__init__(context)
        path = context.driver_class or self.libcloud_class
        found = load("[Cloud] driver_class", path)
        if not isinstance(found, type):
            raise ConfigError(f"[Cloud] driver_class: {path!r} is {found!r}, not a class")
        self.driver_type: Any = found
        """The libcloud class; its methods' signatures tell what may be passed on (see `read`)."""
        self.credentials = self.read(
            CREDENTIALS,
            context.credentials,
            {**CONNECTION, **self.credential_options},
            passed_to=found,
            prefix="",
        )
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
            with self.talking(f"destroying {node.name} ({node.cloud_id})"):
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
            raise sort_error(error, self.error_table, where, time.time()) from error

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

    def read(
        self,
        section: str,
        given: Mapping[str, str],
        known: Mapping[str, Kind],
        *,
        passed_to: Callable[..., object] | None = None,
        prefix: str = "ex_",
    ) -> Given:
        """Read one section. `known` are the driver's own options.

        Arguments of the libcloud class or method `passed_to` whose names begin with `prefix` are allowed too, unless
        `known` has them; their kind is that of their default. `ConfigError` for anything else.
        """
        tags = {
            key[len(TAG_PREFIX) :]: value
            for key, value in given.items()
            if key.lower().startswith(TAG_PREFIX)
        }
        further = _arguments(passed_to, prefix) if passed_to is not None else {}
        values = read_options(
            section,
            f"the {self.name} driver",
            {key: text for key, text in given.items() if key[len(TAG_PREFIX) :] not in tags},
            {**further, **known},
        )
        return Given(
            named={name: value for name, value in values.items() if name in known},
            passed={name: value for name, value in values.items() if name not in known},
            tags=tags,
        )

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


def _arguments(method: Callable[..., object], prefix: str) -> dict[str, Kind]:
    """What may be passed to `method` by name, with the kind of its default."""
    return {
        name: _kind(name, parameter.default)
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name.startswith(prefix)
    }


def _kind(name: str, default: object) -> Kind:
    if looks_secret(name):
        return SecretText()
    if isinstance(default, bool):
        return Bool()
    if isinstance(default, int):
        return Integer()
    return Float() if isinstance(default, float) else Kind()
