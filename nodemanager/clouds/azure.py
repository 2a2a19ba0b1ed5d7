"""Microsoft Azure (Resource Manager): the machines of one resource group.

A machine's network interface is made before it, with the same tags, and Azure deletes it and the disks together with
the machine. An interface whose machine could not be made is deleted at once where Azure allows it; it reserves it
for three minutes, so what is left is found when machines are listed, and deleted then.

libcloud signs in, sends and reads errors. The requests are ours: its ``create_node`` knows neither Spot machines
nor managed images nor deletion together with the machine (and cannot send custom data: bytes are no JSON), its
``destroy_node`` sleeps for minutes, and its ``list_nodes`` asks for every interface one by one.
"""

from __future__ import annotations

import logging
import secrets
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from nodemanager.clouds.azure_body import OPTIONS, Plan, machine_body, nic_body
from nodemanager.clouds.azure_nics import (
    Orphans,
    addresses_by_machine,
    machine_of,
    private_addresses,
)
from nodemanager.clouds.base import CLUSTER_TAG, CloudContext, CloudNode, CloudState, NodeOrder
from nodemanager.clouds.demands import all_there, demand, refuse
from nodemanager.clouds.errors import (
    CloudError,
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
)
from nodemanager.clouds.libcloud import LibcloudCloud
from nodemanager.clouds.options import CREATE, CREDENTIALS, LIST, public_key, read_given
from nodemanager.clouds.sorting import Rule, sort_error
from nodemanager.config.kinds import Choice, Kind
from nodemanager.errors import ConfigError
from nodemanager.model import Finding, NodeSize, parse_time

log = logging.getLogger(__name__)

MACHINES, INTERFACES = "Microsoft.Compute/virtualMachines", "Microsoft.Network/networkInterfaces"
API_VERSIONS = {"Microsoft.Compute": "2021-11-01", "Microsoft.Network": "2018-06-01"}
GALLERY = {"api-version": "2022-03-03"}
"""Shared image galleries have versions of their own."""

STATES = {
    "creating": CloudState.PENDING,
    "updating": CloudState.RUNNING,
    "succeeded": CloudState.RUNNING,
    "deleting": CloudState.STOPPING,
    "failed": CloudState.BROKEN,
    "canceled": CloudState.BROKEN,
}
"""Of Azure's provisioningState."""

ORPHANS_AT_ONCE = 10
"""The most that are deleted in one listing."""
PAGES = 1000
"""More of them are a loop."""


class Azure(LibcloudCloud):
    """One resource group of a subscription."""

    name = "azure"
    libcloud_class = "libcloud.compute.drivers.azure_arm:AzureNodeDriver"
    credential_options: ClassVar[Mapping[str, Kind]] = {
        "cloud_environment": Choice(
            ("default", "AzureChinaCloud", "AzureUSGovernment", "AzureGermanCloud")
        )
    }
    error_table = (
        Rule(
            RateLimited, codes=("TooManyRequests", "SubscriptionRequestsThrottled"), statuses=(429,)
        ),
        Rule(
            NoCapacity,
            codes=(
                "SkuNotAvailable",
                "AllocationFailed",
                "ZonalAllocationFailed",
                "OverconstrainedAllocationRequest",
                "OverconstrainedZonalAllocationRequest",
            ),
        ),
        Rule(
            QuotaExceeded,
            codes=("QuotaExceeded", "ResourceQuotaExceeded", "SubnetIsFull"),
            texts=("exceeding approved",),
        ),
        Rule(Gone, statuses=(204, 404)),
        Rule(Denied, statuses=(400,)),
    )

    def __init__(self, context: CloudContext) -> None:
        super().__init__(context)
        credentials = {**self.credentials.passed, **self.credentials.named}
        refuse(CREDENTIALS, credentials, _USELESS)
        demand(CREDENTIALS, credentials, _CREDENTIALS)
        self.subscription: str = credentials["subscription_id"]
        listed = read_given(LIST, self.owner, context.list_options, {"ex_resource_group": Kind()})
        demand(LIST, listed.named, {"ex_resource_group": "the resource group of all our machines"})
        self.group: str = listed.named["ex_resource_group"]
        self.filter_tags = listed.tags
        created = read_given(CREATE, self.owner, context.create_options, OPTIONS)
        self.tags = {**created.tags, **listed.tags}
        self.options = created.named
        demand(CREATE, self.options, _CREATE)
        if self.options.get("ex_use_managed_disks") is False:
            raise ConfigError(
                f"[{CREATE}] ex_use_managed_disks: Azure retired all disks that are not managed"
            )
        self.plan = self._plan(credentials["region"])
        self._temporary: Mapping[str, int] = {}
        self._orphans = Orphans()

    def check(self) -> Sequence[Finding]:
        """Sign in, and look at our machines, the subnet and the image."""
        found = [
            self.finding("machines", lambda: f"{len(self.list())} of {self.context.cluster_id}"),
            self.finding("subnet", self._look_at_subnet),
            self.finding("image", self._look_at_image),
        ]
        if "ex_storage_account" in self.options:
            found.append(
                Finding(
                    f"[{CREATE}] ex_storage_account", "has no effect: Azure manages all disks now"
                )
            )
        return found

    def cores_of(self, size: Any) -> int | None:
        """Azure's number of cores."""
        cores: int | None = size.extra.get("numberOfCores")
        return cores

    def list(self) -> Sequence[CloudNode]:
        """All of ours; interfaces of ours that have lost their machine are deleted on the way."""
        with all_there(), self.talking("listing nodes"):
            machines = [m for m in self._pages(self._path(MACHINES)) if self.is_ours(m)]
            interfaces = [*self._pages(self._path(INTERFACES))]
            addresses = addresses_by_machine(interfaces)
            nodes = tuple(
                self._node(machine, addresses.get(machine["id"].lower(), ()))
                for machine in machines
            )
        self._sweep(interfaces)
        return nodes

    def is_ours(self, node: Any) -> bool:
        """Whether a machine or an interface, as Azure describes it, belongs to this cluster."""
        tags = node.get("tags") or {}
        wanted = {**self.filter_tags, CLUSTER_TAG: self.context.cluster_id}
        return wanted.items() <= tags.items()

    def create(self, order: NodeOrder) -> CloudNode:
        """Create the interface, then the machine. Asked for again, both are what they were: a PUT by name.

        A refusal takes the interface with it; after a doubtful failure there may be a machine that has it.
        """
        tags = {**self.tags, **order.tags}
        with all_there(), self.talking(f"creating {order.name}"):
            temporary = self._temporary_disk(order.size)
            nic_path = self._path(INTERFACES, f"{order.name}-nic")
            # Before anything is made: it may find that the order cannot be filled.
            body = machine_body(order, tags, self.plan, nic_path, temporary)
            nic = self._request("PUT", nic_path, nic_body(tags, self.plan))
        try:
            with all_there(), self.talking(f"creating {order.name}"):
                machine = self._request("PUT", self._path(MACHINES, order.name), body)
                return self._node(machine, tuple(private_addresses(nic)))
        except (Denied, NoCapacity, QuotaExceeded, RateLimited):
            self._delete_interface(nic_path)
            raise

    def destroy(self, node: CloudNode) -> None:
        """Delete it, and with it what was made for it. Nobody waits for it: listings tell."""
        try:
            with self.about(node, "destroying"):
                self._request("DELETE", node.cloud_id)
        except Gone:
            return

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        """Set these tags and leave the others."""
        with self.about(node, "tagging"):
            self.driver.ex_create_tags(node.cloud_id, dict(tags))

    def _node(self, machine: Mapping[str, Any], addresses: tuple[str, ...]) -> CloudNode:
        """A machine, as Azure describes it, in our words."""
        properties = machine["properties"]
        created = properties.get("timeCreated")
        state = STATES.get(str(properties.get("provisioningState")).lower(), CloudState.UNKNOWN)
        fault = None
        if state is CloudState.BROKEN:
            state, fault = self._look_closer(machine)
        return CloudNode(
            cloud_id=machine["id"],
            name=machine["name"],
            instance_type=(properties.get("hardwareProfile") or {}).get("vmSize", ""),
            state=state,
            tags=dict(machine.get("tags") or {}),
            created_at=parse_time(created) if created else None,
            addresses=addresses,
            fault=fault,
        )

    def _look_closer(self, machine: Mapping[str, Any]) -> tuple[CloudState, CloudError | None]:
        """A machine counts as failed after its creation failed, and also when a change of it did, while it runs."""
        try:
            with self.talking(f"looking at {machine['name']}"):
                view = self._request("GET", f"{machine['id']}/instanceView")
        except CloudError:
            return CloudState.UNKNOWN, None
        statuses = view.get("statuses") or ()
        if any(status.get("code") == "PowerState/running" for status in statuses):
            return CloudState.RUNNING, None
        words = "; ".join(
            f"[{status['code']}] {status.get('message', '')}"
            for status in statuses
            if str(status.get("code")).startswith("ProvisioningState/failed")
        )
        where = f"{self.name}: {machine['name']} failed"
        said = Exception(words or "Azure does not say why")
        return CloudState.BROKEN, sort_error(said, self.error_table, where, self.clock.wall())

    def _sweep(self, interfaces: Sequence[Mapping[str, Any]]) -> None:
        """Delete interfaces of ours that have had no machine for long."""
        alone = [i["id"] for i in interfaces if self.is_ours(i) and machine_of(i) is None]
        for path in self._orphans.due(alone, self.clock.elapsed())[:ORPHANS_AT_ONCE]:
            self._delete_interface(path)

    def _delete_interface(self, path: str) -> None:
        """As well as may be: what is left is tried again by a later listing."""
        name = path.rpartition("/")[2]
        try:
            with self.talking(f"deleting the network interface {name}"):
                self._request("DELETE", path)
        except Gone:
            return
        except CloudError as error:
            log.warning("%s; it is tried again later", error, extra={"action": "nic_left"})
        else:
            log.info(
                "azure: deleted the network interface %s", name, extra={"action": "nic_deleted"}
            )

    def _temporary_disk(self, size: NodeSize) -> int:
        """The bytes of the disk that such machines have of their own; 0 for a type that Azure does not list."""
        if size.resources.scratch_bytes and not self._temporary:
            self._temporary = {s.id: int(s.disk * 10**9) for s in self.driver.list_sizes()}
        return self._temporary.get(size.cloud_name, 0)

    def _plan(self, region: str) -> Plan:
        options, key_file = self.options, self.options.get("ssh_key")
        network_group = options.get("ex_network_resource_group", self.group)
        network = self._path(
            "Microsoft.Network/virtualNetworks", options["ex_network"], network_group
        )
        return Plan(
            location=region.lower().replace(" ", ""),
            subnet_id=f"{network}/subnets/{options.get('ex_subnet', 'default')}",
            image=options["image"],
            user_name=options.get("ex_user_name", "azureuser"),
            ssh_key=public_key(key_file) if key_file else "",
            # Azure wants one of the two; a capital, a digit and a sign are in it for certain.
            password=f"A1-{secrets.token_urlsafe(32)}",
            disk_type=options.get("ex_storage_account_type", "Standard_LRS"),
            os_disk_gb=options.get("ex_disk_size"),
            spot_max_price=options.get("ex_spot_max_price"),
        )

    def _look_at_subnet(self) -> str:
        self._request("GET", self.plan.subnet_id)
        return self.plan.subnet_id

    def _look_at_image(self) -> str:
        image = self.plan.image
        if image.startswith("/"):
            gallery = "/galleries/" in image.lower()
            self._request("GET", image, params=GALLERY if gallery else None)
            return image
        publisher, offer, sku, version = image.split(":")
        there = self.driver.ex_list_image_versions(
            f"/subscriptions/{self.subscription}/providers/Microsoft.Compute/locations/"
            f"{self.plan.location}/publishers/{publisher}/artifacttypes/vmimage/offers/{offer}/skus/{sku}"
        )
        if not there or version not in ("latest", *(name for _, name in there)):
            raise Denied(f"{self.name}: [{CREATE}] image: {self.plan.location} has no {image}")
        return image

    def _path(self, kind: str, name: str = "", group: str = "") -> str:
        """The path of a resource, or of all of that kind, in our resource group or another."""
        path = f"/subscriptions/{self.subscription}/resourceGroups/{group or self.group}/providers/{kind}"
        return f"{path}/{name}" if name else path

    def _pages(self, path: str) -> Iterator[Mapping[str, Any]]:
        """Everything below `path`, page by page. An incomplete listing is an error: what is not listed is gone."""
        params: dict[str, str] = {}
        for _ in range(PAGES):
            page = self._request("GET", path, params=params)
            yield from page["value"]
            if not page.get("nextLink"):
                return
            link = urllib.parse.urlsplit(page["nextLink"])
            path, params = link.path, dict(urllib.parse.parse_qsl(link.query))
        raise CloudError(f"{self.name}: listing {path}: more than {PAGES} pages")

    def _request(
        self, method: str, path: str, data: object = None, params: Mapping[str, str] | None = None
    ) -> Any:
        provider = path.rpartition("/providers/")[2].partition("/")[0]
        versioned = {"api-version": API_VERSIONS[provider], **(params or {})}
        return self.driver.connection.request(path, versioned, data, method=method).object


_USELESS = dict.fromkeys(("host", "port", "secure"), "say cloud_environment instead")
_CREDENTIALS = {
    "tenant_id": "the directory (tenant) of the application",
    "subscription_id": "the subscription that is billed",
    "key": "the application (client) id",
    "secret": "a client secret of the application",
    "region": "the location, such as East US or eastus",
}
_CREATE = {
    "image": "Publisher:Offer:Sku:Version, or the id of an image, /subscriptions/...",
    "ex_network": "the virtual network of our machines",
}
