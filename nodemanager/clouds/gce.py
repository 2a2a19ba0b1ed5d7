"""Google Compute Engine: one zone of one project.

Our tags are kept in the instances' metadata, as the old node manager did: labels take only lower case and 63
characters. So machines are filtered here, not by Google.

libcloud signs in, sends, follows pages, waits for operations and reads errors. The requests are ours: its
``create_node`` knows no Spot machines and asks six questions before it creates one, and its ``list_nodes`` fetches
every disk of the project each time, and leaves out a machine whose disk it does not find.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, ClassVar

from nodemanager.clouds.base import (
    CLUSTER_TAG,
    CloudContext,
    CloudNode,
    CloudSize,
    CloudState,
    NodeOrder,
)
from nodemanager.clouds.demands import all_there, demand, refuse
from nodemanager.clouds.errors import (
    CloudError,
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.clouds.gce_body import KEYS, OPTIONS, SCRIPT, Plan, instance_body, metadata_items
from nodemanager.clouds.libcloud import LibcloudCloud
from nodemanager.clouds.options import CREATE, CREDENTIALS, LIST, public_key, read_given
from nodemanager.clouds.sorting import Rule
from nodemanager.config.composite import ListOf, PathKind
from nodemanager.config.kinds import Choice, Kind
from nodemanager.model import Finding, parse_time

STATES = {
    "PROVISIONING": CloudState.PENDING,
    "STAGING": CloudState.PENDING,
    "RUNNING": CloudState.RUNNING,
    "PENDING_STOP": CloudState.STOPPING,
    "STOPPING": CloudState.STOPPING,
    "DEPROVISIONING": CloudState.STOPPING,
    "SUSPENDING": CloudState.BROKEN,
    "SUSPENDED": CloudState.BROKEN,
    "TERMINATED": CloudState.BROKEN,
}
"""TERMINATED means stopped: it stays, and its disk costs, until somebody deletes it."""


class AlreadyThere(CloudError):
    """There is a machine of that name in the zone."""


class Outdated(CloudError):
    """Somebody changed the machine's metadata since we read it."""


class Gce(LibcloudCloud):
    """One zone of a project."""

    name = "gce"
    libcloud_class = "libcloud.compute.drivers.gce:GCENodeDriver"
    credential_options: ClassVar[Mapping[str, Kind]] = {
        "auth_type": Choice(("SA", "GCE")),
        "scopes": ListOf(),
        "credential_file": PathKind(),
    }
    error_table = (
        Rule(
            RateLimited,
            codes=(
                "rateLimitExceeded",
                "userRateLimitExceeded",
                "RATE_LIMIT_EXCEEDED",
                "RESOURCE_OPERATION_RATE_EXCEEDED",
            ),
            statuses=(429,),
        ),
        Rule(
            NoCapacity,
            codes=("ZONE_RESOURCE_POOL_EXHAUSTED*", "RESOURCE_POOL_EXHAUSTED*", "STOCKOUT"),
        ),
        Rule(QuotaExceeded, codes=("QUOTA_EXCEEDED", "quotaExceeded", "IP_SPACE_EXHAUSTED*")),
        Rule(AlreadyThere, codes=("RESOURCE_ALREADY_EXISTS", "alreadyExists")),
        Rule(Outdated, codes=("conditionNotMet",), statuses=(412,)),
        Rule(Gone, codes=("RESOURCE_NOT_FOUND", "ResourceNotFoundError"), statuses=(404,)),
        Rule(
            Denied,
            codes=("GoogleAuthError", "INVALID_FIELD_VALUE", "INVALID_USAGE"),
            statuses=(400,),
        ),
    )

    def __init__(self, context: CloudContext) -> None:
        super().__init__(context)
        credentials = {**self.credentials.passed, **self.credentials.named}
        refuse(CREDENTIALS, credentials, _USELESS)
        demand(CREDENTIALS, credentials, _NEEDED)
        if credentials.get("auth_type") != "GCE":
            demand(CREDENTIALS, credentials, {"key": "the file of the account's key"})
        self.zone: str = credentials["datacenter"]
        listed = read_given(LIST, self.owner, context.list_options, {"tags": ListOf()})
        self.network_tags: tuple[str, ...] = listed.named.get("tags", ())
        self.filter_tags = listed.tags
        created = read_given(CREATE, self.owner, context.create_options, OPTIONS)
        self.tags = {**created.tags, **listed.tags}
        self.options = created.named
        demand(CREATE, self.options, {"image": "a name or its beginning, or a path with slashes"})
        key_file = self.options.get("ssh_key")
        self.ssh_key = public_key(key_file) if key_file else ""
        self._image = ""

    def constructor_arguments(self) -> dict[str, Any]:
        """Say what libcloud would guess: it asks for the metadata server, then for a browser, and keeps its
        token in the home directory."""
        arguments = super().constructor_arguments()
        arguments.setdefault("auth_type", "SA")
        arguments["scopes"] = [*arguments.get("scopes", ())] or None
        whose = repr([arguments.get(name) for name in ("user_id", "project", "scopes")])
        token = f"google-token-{hashlib.sha256(whose.encode()).hexdigest()[:16]}.json"
        file = arguments.get("credential_file") or self.context.state_dir / token
        return {**arguments, "credential_file": str(file)}

    def prepare(self, driver: Any) -> None:
        """Libcloud takes a zone that does not exist for none at all."""
        super().prepare(driver)
        if driver.zone is None:
            raise Denied(
                f"{self.name}: [{CREDENTIALS}] datacenter: project {driver.project} has no zone"
                f" {self.zone!r}"
            )

    def check(self) -> Sequence[Finding]:
        """Sign in, and look at the zone, its machines and the image."""
        return (
            self.finding("zone", lambda: f"{self.zone} ({self.driver.zone.status})"),
            self.finding("machines", lambda: f"{len(self.list())} of {self.context.cluster_id}"),
            self.finding("image", self._look_at_image),
        )

    def sizes(self) -> Sequence[CloudSize]:
        """The zone's machine types. None has a disk of its own; what libcloud takes for one is the image's."""
        with all_there():
            return tuple(replace(size, disk_bytes=0) for size in super().sizes())

    def cores_of(self, size: Any) -> int | None:
        """Google's number of virtual CPUs."""
        cores: int | None = size.extra.get("guestCpus")
        return cores

    def gpus_of(self, size: Any) -> int:
        """The accelerators that are part of the machine type."""
        parts = size.extra.get("accelerators") or ()
        return sum(int(part.get("guestAcceleratorCount", 0)) for part in parts)

    def list(self) -> Sequence[CloudNode]:
        """All of ours in the zone that have the network tags of `[Cloud List]`."""
        with all_there(), self.talking("listing nodes"):
            answer = self.driver.connection.request_aggregated_items("instances", self.driver.zone)
            instances = [i for items in answer["items"].values() for i in items["instances"]]
            return tuple(node_of(instance) for instance in instances if self.is_ours(instance))

    def is_ours(self, node: Any) -> bool:
        """Whether an instance, as Google describes it, belongs to this cluster."""
        network_tags = (node.get("tags") or {}).get("items") or ()
        wanted = {**self.filter_tags, CLUSTER_TAG: self.context.cluster_id}
        return wanted.items() <= tags_of(node).items() and {*self.network_tags} <= {*network_tags}

    def create(self, order: NodeOrder) -> CloudNode:
        """Create it, and wait until Google has made it or said why not.

        Names are unique in a zone, so a second attempt finds what the first one made.
        """
        doing = f"creating {order.name}"
        try:
            with all_there(), self.talking(doing):
                operation = self._insert(instance_body(order, self._plan()), doing)
        except AlreadyThere as error:
            with self.talking(doing):
                instance = self.driver.connection.request(self._path(order.name)).object
            if not self.is_ours(instance):
                raise Denied(f"{error}; it is not of cluster {self.context.cluster_id}") from error
            return node_of(instance)
        return CloudNode(
            cloud_id=str(operation.get("targetId") or order.name),
            name=order.name,
            instance_type=order.size.cloud_name,
            state=CloudState.PENDING,
            tags={**self.tags, **order.tags},
        )

    def destroy(self, node: CloudNode) -> None:
        """Delete it; its disks go with it. Nobody waits for it: listings tell."""
        try:
            with self.about(node, "destroying"):
                self.driver.connection.request(self._path(node.name), method="DELETE")
        except Gone:
            return

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        """Change these items of the metadata; once more if somebody else's change came between."""
        try:
            self._set_metadata(node, tags)
        except Outdated:
            self._set_metadata(node, tags)

    @contextmanager
    def talking(self, doing: str) -> Iterator[None]:
        """Libcloud's errors for Google lack the headers, and so Retry-After: the last response has them."""
        with super().talking(doing):
            try:
                yield
            except Exception as error:
                raw: Any = error
                if hasattr(raw, "http_code") and self._driver is not None:
                    response = self._driver.connection.connection.response
                    raw.headers = getattr(response, "headers", None)
                raise

    def _insert(self, body: Mapping[str, Any], doing: str) -> Mapping[str, Any]:
        """Ask for the machine and wait for the operation, which is returned.

        Once Google has accepted it, only the operation itself (an answer with status 200) can say that nothing
        was made: that we may not ask after it now proves nothing.
        """
        connection = self.driver.connection
        try:
            answer = connection.async_request(self._path(), method="POST", data=body)
        except Exception as error:
            accepted = connection.method == "GET"
            if accepted and getattr(error, "http_code", None) != HTTPStatus.OK:
                raise CloudError(
                    f"{self.name}: {doing}: accepted, but not seen to end: {error}"
                ) from error
            raise
        operation: Mapping[str, Any] = answer.object
        return operation

    def _look_at_image(self) -> str:
        path = self._image_path()
        if path.startswith("projects/"):
            path = f"https://www.googleapis.com/compute/v1/{path}"
        self.driver.connection.request(path if path.startswith("https://") else f"/{path}")
        return path

    def _image_path(self) -> str:
        """The image's path. A bare name libcloud looks for once, in the project, then in the public ones."""
        if not self._image:
            image: str = self.options["image"]
            bare = "/" not in image
            self._image = self.driver.ex_get_image(image).extra["selfLink"] if bare else image
        return self._image

    def _plan(self) -> Plan:
        tags = (*self.network_tags, *self.options.get("tags", ()))
        keys = {KEYS: f"root:{self.ssh_key}"} if self.ssh_key else {}
        return Plan(
            zone=self.zone,
            image=self._image_path(),
            options=self.options,
            network_tags=tuple(dict.fromkeys(tags)),
            metadata={**self.tags, **keys},
            scopes=self.driver.SA_SCOPES_MAP,
        )

    def _set_metadata(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        with self.about(node, "tagging"):
            path = self._path(node.name)
            metadata = self.driver.connection.request(path).object["metadata"]
            items = {i["key"]: i.get("value", "") for i in metadata.get("items") or ()}
            self.driver.connection.async_request(
                f"{path}/setMetadata",
                method="POST",
                data={
                    "fingerprint": metadata["fingerprint"],
                    "items": metadata_items({**items, **tags}),
                },
            )

    def _path(self, name: str = "") -> str:
        return f"/zones/{self.zone}/instances" + (f"/{name}" if name else "")


_USELESS = dict.fromkeys(("host", "port", "secure"), "libcloud's driver for Google knows its host")
_NEEDED = {
    "user_id": "the e-mail address of the service account",
    "project": "the project's id",
    "datacenter": "the zone, such as us-central1-a",
}


def tags_of(instance: Mapping[str, Any]) -> dict[str, str]:
    """Our tags: the instance's metadata without the boot script and keys."""
    items = (instance.get("metadata") or {}).get("items") or ()
    return {
        item["key"]: item.get("value", "") for item in items if item["key"] not in (SCRIPT, KEYS)
    }


def node_of(instance: Mapping[str, Any]) -> CloudNode:
    """An instance, as Google describes it, in our words."""
    interfaces = instance.get("networkInterfaces") or ()
    configs = [config for face in interfaces for config in face.get("accessConfigs") or ()]
    addresses = [face.get("networkIP") for face in interfaces] + [c.get("natIP") for c in configs]
    created = instance.get("creationTimestamp")
    return CloudNode(
        cloud_id=str(instance["id"]),
        name=instance["name"],
        instance_type=instance.get("machineType", "").rpartition("/")[2],
        state=STATES.get(instance.get("status", ""), CloudState.UNKNOWN),
        tags=tags_of(instance),
        created_at=parse_time(created) if created else None,
        addresses=tuple(address for address in addresses if address),
    )
