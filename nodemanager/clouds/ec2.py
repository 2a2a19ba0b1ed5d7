"""Amazon EC2.

A node is one instance: its name is in the tag `Name`, and its tags are on its volumes too. Subnets stand for
availability zones: when EC2 has no room in one, the next is tried. A client token made of the node's name and
the subnet lets EC2 itself see to it that the same creation, asked for twice, makes one instance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from nodemanager.clouds.base import (
    CLUSTER_TAG,
    CloudContext,
    CloudNode,
    CloudState,
    NodeOrder,
)
from nodemanager.clouds.ec2_errors import ERRORS, KeyThere, SubnetFull, TokenUsed
from nodemanager.clouds.ec2_options import Ec2Options, is_group_id
from nodemanager.clouds.errors import CloudError, Denied, NoCapacity, QuotaExceeded, RateLimited
from nodemanager.clouds.libcloud import LibcloudCloud
from nodemanager.clouds.options import CREATE
from nodemanager.clouds.subnets import Subnets
from nodemanager.model import Finding, NodeSize

NAME_TAG = "Name"

ALIVE = ["pending", "running", "shutting-down", "stopping", "stopped"]
"""States that are listed: all but terminated."""

STATES: Mapping[str, CloudState | None] = {
    "pending": CloudState.PENDING,
    "running": CloudState.RUNNING,
    "shutting-down": CloudState.STOPPING,
    # It shut itself down, and what shuts itself down has to be terminated all the same.
    "stopping": CloudState.BROKEN,
    "stopped": CloudState.BROKEN,
    "terminated": None,
}

USER_DATA_BYTES = 16 << 10
VOLUME_GB = 16384
"""The largest gp2 or gp3 volume. (Its GB are GiB, ours are 10**9: the rest is for the file system.)"""


class Ec2(LibcloudCloud):
    """Instances of one account in one region."""

    name = "ec2"
    libcloud_class = "nodemanager.clouds.ec2_driver:Ec2NodeDriver"
    error_table = ERRORS
    late_seconds = 300.0

    def __init__(self, context: CloudContext) -> None:
        """Read the options. Nothing is called yet."""
        super().__init__(context)
        self.options = Ec2Options.of(context, self.owner, self.driver_type.create_node)
        self._subnets = Subnets(self.options.subnets)
        self._groups: Sequence[str] | None = None
        self._key_name = self.options.key_name
        self._types: Mapping[str, Any] = {}

    def check(self) -> Sequence[Finding]:
        """Look at image, subnets, security groups and key."""
        return [
            self.finding(f"image {self.options.image_id}", self._look_at_image),
            *(
                self.finding(f"subnet {subnet}", partial(self._look_at_subnet, subnet))
                for subnet in self.options.subnets
            ),
            self.finding("security groups", self._look_at_groups),
            *self.options.unused,
        ]

    def create(self, order: NodeOrder) -> CloudNode:
        """Create an instance in the first subnet that has room.

        Asked for again after a doubtful failure, the same driver object begins in the same subnet, and EC2
        answers with the instance it made, if it made one.
        """
        volumes = self._volumes(order.size)
        if len(order.user_data.encode()) > USER_DATA_BYTES:
            raise Denied(f"ec2: creating {order.name}: the boot script is longer than 16 KiB")
        kind = f"{order.size.cloud_name} {order.size.preemptible}"
        full: list[CloudError] = []
        for subnet in self._subnets.to_try(order.name, kind):
            try:
                with self.talking(f"creating {order.name} in {subnet or 'the default subnet'}"):
                    made = self.driver.create_node(
                        **self._arguments(order, subnet), ex_blockdevicemappings=volumes
                    )
            except (NoCapacity, SubnetFull) as error:
                self._subnets.refused(order.name, subnet)
                full.append(error)
            except TokenUsed:
                return self._found(order)
            except (Denied, QuotaExceeded, RateLimited):
                raise  # whatever an earlier try did
            except CloudError:
                self._subnets.doubted(order.name, subnet)
                raise
            else:
                self._subnets.worked(order.name, kind, subnet)
                return self.remember(made)
        raise full[-1]

    def set_tags(self, node: CloudNode, tags: Mapping[str, str]) -> None:
        """Set these tags and leave the others."""
        with self.about(node, "tagging"):
            self.driver.ex_create_tags(self.libcloud_node(node), dict(tags))

    def constructor_arguments(self) -> dict[str, Any]:
        """With the newer signature, which EC2 accepts in every region."""
        return {"signature_version": "4", **super().constructor_arguments()}

    def list_arguments(self) -> dict[str, Any]:
        """Let EC2 pick our instances, in every state but terminated."""
        ours = {f"tag:{CLUSTER_TAG}": self.context.cluster_id, "instance-state-name": ALIVE}
        return {"ex_filters": {**self.options.filters, **ours}}

    def tags_of(self, node: Any) -> Mapping[str, str]:
        """All tags but the name."""
        return {key: value for key, value in super().tags_of(node).items() if key != NAME_TAG}

    def state_of(self, node: Any) -> CloudState | None:
        """By EC2's own word, of which libcloud keeps less."""
        word = node.extra.get("status")
        return STATES.get(word, CloudState.UNKNOWN) if word else super().state_of(node)

    def instance_type_of(self, node: Any) -> str:
        """Such as m5.large."""
        return str(node.extra.get("instance_type") or "") or super().instance_type_of(node)

    def cores_of(self, size: Any) -> int | None:
        """What EC2 calls vCPU."""
        return _number(size, "vcpu")

    def gpus_of(self, size: Any) -> int:
        """Those of the instance type."""
        return _number(size, "gpu") or 0

    def _arguments(self, order: NodeOrder, subnet: str) -> dict[str, Any]:
        """For create_node. Some have to be looked up at EC2, once."""
        from libcloud.compute.base import NodeImage  # noqa: PLC0415 (slow to import)
        from libcloud.compute.drivers.ec2 import EC2NetworkSubnet  # noqa: PLC0415

        options = self.options
        arguments = {
            **options.passed,
            "name": order.name,
            "size": self._type(order.size.cloud_name),
            "image": NodeImage(options.image_id, options.image_id, self.driver),
            "ex_metadata": {**options.tags, **order.tags},
            "ex_clienttoken": hashlib.sha256(f"{order.name} {subnet}".encode()).hexdigest(),
            "ex_userdata": order.user_data or None,
            "ex_keyname": self._key(),
        }
        if order.size.preemptible:
            arguments |= {"ex_spot": True, "ex_spot_max_price": options.spot_max_price}
        if subnet:
            network = EC2NetworkSubnet(subnet, subnet, "")
            groups = list(self._group_ids())
            return {**arguments, "ex_subnet": network, "ex_security_group_ids": groups}
        return {**arguments, "ex_security_groups": list(options.security_groups)}

    def _type(self, name: str) -> Any:
        """Libcloud's size of that name; one made of the name alone if it is newer than libcloud."""
        if not self._types:
            self._types = {size.id: size for size in self.driver.list_sizes()}
        if name in self._types:
            return self._types[name]
        from libcloud.compute.base import NodeSize as Size  # noqa: PLC0415 (slow to import)

        return Size(name, name, ram=0, disk=0, bandwidth=None, price=0.0, driver=self.driver)

    def _volumes(self, size: NodeSize) -> list[dict[str, Any]]:
        """The volume that makes up for scratch the instance type does not have."""
        with self.talking("listing sizes"):
            has_bytes = int(self._type(size.cloud_name).disk or 0) * 10**9
        missing = -(-(size.resources.scratch_bytes - has_bytes) // 10**9)
        if missing <= 0:
            return []
        if missing > VOLUME_GB:
            raise Denied(
                f"ec2: size {size.name}: scratch needs a volume of {missing} GB, and EC2 makes none "
                f"above {VOLUME_GB} GB; give [Size {size.name}] less scratch or another instance_type"
            )
        volume = {
            "VolumeSize": missing,
            "VolumeType": self.options.volume_type,
            "DeleteOnTermination": "true",
        }
        return [{"DeviceName": self.options.volume_device, "Ebs": volume}]

    def _group_ids(self) -> Sequence[str]:
        """The security groups; names are looked up in the network of the subnets."""
        names = [group for group in self.options.security_groups if not is_group_id(group)]
        if self._groups is None and names:
            first = self.options.subnets[0]
            network = self.driver.ex_list_subnets(subnet_ids=[first])[0].extra["vpc_id"]
            filters = {"group-name": names, "vpc-id": network}
            found = self.driver.ex_get_security_groups(filters=filters)
            by_name = {group.name: group.id for group in found}
            if missing := [name for name in names if name not in by_name]:
                raise Denied(
                    f"ec2: [{CREATE}] security_groups: {network}, the network of {first}, has no "
                    f"{', '.join(missing)}"
                )
            self._groups = [by_name.get(group, group) for group in self.options.security_groups]
        return self.options.security_groups if self._groups is None else self._groups

    def _key(self) -> str:
        """The key pair: named in the config file, or made of `ssh_key` under a name that tells the key."""
        if not self._key_name and self.options.ssh_key:
            digest = hashlib.sha256(self.options.ssh_key.encode()).hexdigest()
            name = f"arvados-{digest[:16]}"
            try:
                with self.talking(f"importing ssh_key as {name}"):
                    self.driver.import_key_pair_from_string(name, self.options.ssh_key)
            except KeyThere:
                pass
            self._key_name = name
        return self._key_name

    def _found(self, order: NodeOrder) -> CloudNode:
        """The instance that was created under this name before."""
        doing = f"creating {order.name} again"
        filters = {f"tag:{NAME_TAG}": order.name, **self.list_arguments()["ex_filters"]}
        with self.talking(doing):
            nodes = self.driver.list_nodes(ex_filters=filters)
        if not nodes:
            raise CloudError(f"ec2: {doing}: EC2 made one before that does not show (yet)")
        return self.remember(nodes[0])

    def _look_at_image(self) -> str:
        images = self.driver.list_images(ex_image_ids=[self.options.image_id])
        if not images:
            raise Denied(f"ec2: [{CREATE}] image_id: there is no {self.options.image_id} here")
        disks = [disk for disk in images[0].extra["block_device_mapping"] if disk.get("ebs")]
        stay = [disk["device_name"] for disk in disks if disk["ebs"]["delete"] == "false"]
        warning = f"; its {', '.join(stay)} stays when a node is destroyed" if stay else ""
        return f"{images[0].name}{warning}"

    def _look_at_subnet(self, subnet: str) -> str:
        extra = self.driver.ex_list_subnets(subnet_ids=[subnet])[0].extra
        return f"{extra['zone']}, {extra['available_ips']} free addresses"

    def _look_at_groups(self) -> str:
        if self.options.subnets:
            ids = list(self._group_ids())
            groups = self.driver.ex_get_security_groups(group_ids=ids) if ids else []
        else:
            names = list(self.options.security_groups)
            groups = self.driver.ex_get_security_groups(group_names=names) if names else []
        return ", ".join(f"{group.name} ({group.id})" for group in groups) or "the default"


def _number(size: Any, name: str) -> int | None:
    text = str(size.extra.get(name) or "")
    return int(text) if text.isdecimal() else None
