"""OpenStack: the machines of one project in one region.

Our tags are the server's metadata. The requests that create a server and change its metadata are ours: libcloud's
``create_node`` asks a second question whose failure looks like that of the creation, and its ``ex_set_metadata``
drops what it does not set.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
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
from nodemanager.clouds.errors import Denied, Gone, NoCapacity, QuotaExceeded, RateLimited
from nodemanager.clouds.libcloud import LibcloudCloud
from nodemanager.clouds.openstack_body import OPTIONS, room_bytes, server_body
from nodemanager.clouds.options import CREATE, CREDENTIALS, LIST, public_key, read_given
from nodemanager.clouds.sorting import Rule, sort_error
from nodemanager.config.kinds import Choice, Kind, Pattern, SecretText
from nodemanager.model import Finding

AUTH_VERSIONS = (
    "3.x_password",
    "3.x_appcred",
    "3.0",
    "2.0",
    "2.0_password",
    "2.0_apikey",
)


class OpenStack(LibcloudCloud):
    """One project of one user or application credential."""

    name = "openstack"
    libcloud_class = "libcloud.compute.drivers.openstack:OpenStack_2_NodeDriver"
    credential_options: ClassVar[Mapping[str, Kind]] = {
        "key": Kind(),
        "secret": SecretText(),
        "region": Kind(),
        "api_version": Choice(("2.0", "2.1", "2.2")),
        "ex_force_auth_url": Pattern(r"https?://.+", "a URL such as https://keystone:5000/v3"),
        "ex_force_auth_version": Choice(AUTH_VERSIONS),
        "ex_token_scope": Choice(("project", "domain", "unscoped")),
        **dict.fromkeys(
            (
                "ex_tenant_name",
                "ex_tenant_domain_id",
                "ex_domain_name",
                "ex_force_service_type",
                "ex_force_service_name",
                "ex_force_base_url",
                "ex_force_image_url",
                "ex_force_network_url",
                "ex_force_microversion",
            ),
            Kind(),
        ),
    }
    error_table = (
        Rule(
            QuotaExceeded,
            texts=(
                "quota exceeded",
                "exceeded for quota",
                "maximum number of ports",
                "maximum number of fixed ips",
                "no more ip addresses",
            ),
        ),
        Rule(NoCapacity, texts=("no valid host", "exhausted all hosts")),
        Rule(RateLimited, statuses=(413, 429)),
        Rule(Gone, statuses=(404,)),
        Rule(Denied, texts=("matching endpoint", "specified endpoint"), statuses=(400,)),
    )

    def __init__(self, context: CloudContext) -> None:
        super().__init__(context)
        credentials = self.credentials.named
        refuse(CREDENTIALS, credentials, _USELESS)
        demand(CREDENTIALS, credentials, _NEEDED)
        if _needs_project(credentials):
            demand(CREDENTIALS, credentials, {"ex_tenant_name": "the name of the project"})
        self.filter_tags = read_given(LIST, self.owner, context.list_options, {}).tags
        created = read_given(CREATE, self.owner, context.create_options, OPTIONS)
        self.tags = {**created.tags, **self.filter_tags}
        self.options = created.named
        demand(CREATE, self.options, {"image": "its id or its name"})
        key_file = self.options.get("ssh_key")
        self.ssh_key = public_key(key_file) if key_file else ""
        self.boot_volume_gb: int | None = self.options.get("boot_volume_size")
        self._flavors: Mapping[str, Any] = {}
        self._common: Mapping[str, Any] = {}

    def constructor_arguments(self) -> dict[str, Any]:
        """The region under libcloud's name for it; the newest API, which libcloud has to be told; and the address
        of Keystone without the version, which libcloud adds."""
        arguments = {"api_version": "2.2", **super().constructor_arguments()}
        arguments["ex_force_auth_url"] = re.sub(
            r"/v[23](\.0)?/?$", "", arguments["ex_force_auth_url"]
        )
        if "region" in arguments:
            arguments["ex_force_service_region"] = arguments.pop("region")
        return arguments

    def prepare(self, driver: Any) -> None:
        """Find services by type, whatever they are called, and in any region if none was named (if there are
        several, that is an error): libcloud would look for those of a fresh development installation."""
        from libcloud.pricing import PRICING_DATA  # noqa: PLC0415 (slow to import)

        super().prepare(driver)
        # It has none, and would read its file of all prices once more for each flavor.
        PRICING_DATA["compute"].setdefault("openstack", {})
        for connection in _connections(driver):
            connection.service_name = None
            connection.service_region = None

    def close(self) -> None:
        """Let go of all connections; there is one per service."""
        driver = self._driver
        super().close()
        for connection in _connections(driver):
            with suppress(AttributeError):
                connection.connection.session.close()

    def check(self) -> Sequence[Finding]:
        """Sign in, and look at our machines, the image and the networks."""
        return (
            self.finding("machines", lambda: f"{len(self.list())} of {self.context.cluster_id}"),
            self.finding("image", lambda: self._image(self.options["image"])),
            *(
                self.finding(f"network {name}", partial(self._network, name))
                for name in self.options.get("networks", ())
            ),
        )

    def sizes(self) -> Sequence[CloudSize]:
        """The flavors, with the room that their disks have for scratch."""
        with all_there(), self.talking("listing sizes"):
            flavors = self.driver.list_sizes()
            return tuple(
                replace(
                    self._cloud_size(flavor), disk_bytes=room_bytes(flavor, self.boot_volume_gb)
                )
                for flavor in flavors
            )

    def cores_of(self, size: Any) -> int | None:
        """The flavor's number of virtual CPUs."""
        cores: int | None = size.vcpus
        return cores

    def tags_of(self, node: Any) -> Mapping[str, str]:
        """The server's metadata."""
        tags: Mapping[str, str] = node.extra["metadata"]
        return tags

    def is_ours(self, node: Any) -> bool:
        """Whether a server belongs to this cluster."""
        wanted = {**self.filter_tags, CLUSTER_TAG: self.context.cluster_id}
        return wanted.items() <= self.tags_of(node).items()

    def state_of(self, node: Any) -> CloudState | None:
        """Libcloud's word, but that of a server that is on its way out."""
        if node.extra["task_state"] == "deleting":
            return CloudState.STOPPING
        return super().state_of(node)

    def instance_type_of(self, node: Any) -> str:
        """The name of the flavor; its id if there is no such flavor any more."""
        details = node.extra["flavor_details"] or {}
        if "original_name" in details:
            return str(details["original_name"])
        flavor_id = str(details.get("id", ""))
        flavor = (self._flavors or self._load_flavors()).get(flavor_id)
        return str(flavor.name) if flavor else flavor_id

    def cloud_node(self, node: Any) -> CloudNode:
        """A server in our words; a broken one with OpenStack's reason."""
        made = super().cloud_node(node)
        fault = node.extra["fault"] or {}
        words = " ".join(str(fault[word]) for word in ("message", "details") if fault.get(word))
        if made.state is not CloudState.BROKEN or not words:
            return made
        where = f"{self.name}: {made.name} failed"
        error = sort_error(Exception(words), self.error_table, where, self.clock.wall())
        return replace(made, fault=error)

    def create(self, order: NodeOrder) -> CloudNode:
        """Have OpenStack accept the creation. Whether it comes to anything, listings tell (see `fault`)."""
        if order.size.preemptible:
            raise Denied(
                f"{self.name}: size {order.size.name} is preemptible; OpenStack has no such machines"
            )
        tags = {**self.tags, **order.tags}
        try:
            with all_there(), self.talking(f"creating {order.name}"):
                flavor = self._flavor(order.size.cloud_name)
                server = server_body(order, flavor, self._parts(), tags, self.boot_volume_gb)
                answer = self.driver.connection.request(
                    "/servers", method="POST", data={"server": server}
                )
                cloud_id = answer.object["server"]["id"]
        except Denied:
            self._common = {}  # perhaps the image was replaced by another of that name
            raise
        return CloudNode(
            cloud_id=cloud_id,
            name=order.name,
            instance_type=order.size.cloud_name,
            state=CloudState.PENDING,
            tags=tags,
        )

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        """Set these items of the metadata and leave the others."""
        with self.about(node, "tagging"):
            path = f"/servers/{node.cloud_id}/metadata"
            self.driver.connection.request(path, method="POST", data={"metadata": dict(tags)})

    def _parts(self) -> Mapping[str, Any]:
        """What all servers have in common; names are looked up once."""
        if not self._common:
            options = self.options
            parts: dict[str, Any] = {"imageRef": self._image(options["image"])}
            if "networks" in options:
                parts["networks"] = [{"uuid": self._network(n)} for n in options["networks"]]
            if "security_groups" in options:
                parts["security_groups"] = [{"name": name} for name in options["security_groups"]]
            if key := options.get("ex_keyname") or self._key():
                parts["key_name"] = key
            if options.get("ex_config_drive"):
                parts["config_drive"] = True
            if "ex_availability_zone" in options:
                parts["availability_zone"] = options["ex_availability_zone"]
            self._common = parts
        return self._common

    def _flavor(self, name_or_id: str) -> Any:
        """Libcloud's size of that name or id."""
        flavor = self._flavors.get(name_or_id) or self._load_flavors().get(name_or_id)
        if flavor is None:
            raise Denied(f"{self.name}: there is no flavor {name_or_id!r}")
        return flavor

    def _load_flavors(self) -> Mapping[str, Any]:
        """Libcloud's sizes by name and by id."""
        flavors = self.driver.list_sizes()
        by_id = {str(flavor.id): flavor for flavor in flavors}
        self._flavors = {**by_id, **{flavor.name: flavor for flavor in flavors}}
        return self._flavors

    def _image(self, name_or_id: str) -> str:
        """The id of the image; of several that have the name, the newest."""
        if _is_uuid(name_or_id):
            return name_or_id
        params = {"name": name_or_id, "status": "active", "sort": "created_at:desc"}
        found = self.driver.image_connection.request("/v2/images", params=params).object["images"]
        if not found:
            raise Denied(f"{self.name}: [{CREATE}] image: there is no active image {name_or_id!r}")
        return str(found[0]["id"])

    def _network(self, name_or_id: str) -> str:
        """The id of the network."""
        if _is_uuid(name_or_id):
            return name_or_id
        named = [n.id for n in self.driver.ex_list_networks() if n.name == name_or_id]
        if len(named) != 1:
            many = "is no network" if not named else f"are {len(named)} networks"
            raise Denied(f"{self.name}: [{CREATE}] networks: there {many} {name_or_id!r}")
        return str(named[0])

    def _key(self) -> str:
        """A key pair for `ssh_key`, under a name that tells the key; made if there is none yet."""
        if not self.ssh_key:
            return ""
        from libcloud.compute.types import KeyPairDoesNotExistError  # noqa: PLC0415 (slow to import)

        name = f"arvados-{hashlib.sha256(self.ssh_key.encode()).hexdigest()[:16]}"
        try:
            self.driver.get_key_pair(name)
        except KeyPairDoesNotExistError:
            self.driver.import_key_pair_from_string(name, self.ssh_key)
        return name


def _connections(driver: Any) -> Sequence[Any]:
    """The connections to compute, images and networks."""
    if driver is None:
        return ()
    return (driver.connection, driver.image_connection, driver.network_connection)


def _needs_project(credentials: Mapping[str, Any]) -> bool:
    """An application credential knows its project, and a token may be for something else."""
    return (
        credentials.get("ex_force_auth_version") != "3.x_appcred"
        and credentials.get("ex_token_scope", "project") == "project"
    )


def _is_uuid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", text) is not None


_USELESS = dict.fromkeys(
    ("host", "port", "secure"), "say ex_force_auth_url; the other addresses are in its answer"
)
_NEEDED = {
    "key": "the user's name, or the id of an application credential",
    "secret": "the password, or the credential's secret",
    "ex_force_auth_url": "the address of Keystone, such as https://keystone.example:5000",
}
