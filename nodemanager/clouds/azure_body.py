"""What Azure is asked to create, as pure functions of the options and the order."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodemanager.clouds.base import NodeOrder
from nodemanager.clouds.errors import Denied
from nodemanager.clouds.options import CREATION
from nodemanager.config.kinds import Bool, Float, Integer, Kind, Pattern

OPTIONS: Mapping[str, Kind] = {
    **CREATION,
    "image": Pattern(
        r"[^:/]+(:[^:/]+){3}|/subscriptions/.+",
        "Publisher:Offer:Sku:Version, or the id of an image, /subscriptions/...",
    ),
    "ex_user_name": Kind(),
    "ex_network": Kind(),
    "ex_network_resource_group": Kind(),
    "ex_subnet": Kind(),
    "ex_disk_size": Integer(1, 4095),
    "ex_storage_account_type": Kind(),
    "ex_use_managed_disks": Bool(),
    "ex_storage_account": Kind(),
    "ex_spot_max_price": Float(0.00001),
}
"""`[Cloud Create]`."""

LARGEST_DISK_GB = 32767
CUSTOM_DATA_BYTES = 65535


@dataclass(frozen=True, slots=True)
class Plan:
    """What all machines have in common."""

    location: str
    subnet_id: str
    image: str
    """`Publisher:Offer:Sku:Version`, or an id."""
    user_name: str
    ssh_key: str = ""
    """The public key; empty: a password that nobody knows."""
    password: str = field(default="", repr=False)
    disk_type: str = "Standard_LRS"
    os_disk_gb: int | None = None
    """None: as large as the image."""
    spot_max_price: float | None = None
    """Per hour; None: up to the price of an ordinary machine."""


def nic_body(tags: Mapping[str, str], plan: Plan) -> dict[str, Any]:
    """The body of the creation of a network interface."""
    address = {"subnet": {"id": plan.subnet_id}, "privateIPAllocationMethod": "Dynamic"}
    return {
        "location": plan.location,
        "tags": dict(tags),
        "properties": {"ipConfigurations": [{"name": "ip1", "properties": address}]},
    }


def machine_body(
    order: NodeOrder, tags: Mapping[str, str], plan: Plan, nic_id: str, temporary_disk_bytes: int
) -> dict[str, Any]:
    """The body of the creation of a machine, with which its interface and disks are deleted again.

    `temporary_disk_bytes` is what the machine type has of its own. Raises `Denied` for an order that Azure could
    not fill.
    """
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": order.size.cloud_name},
        "storageProfile": _storage(order, plan, temporary_disk_bytes),
        "osProfile": _system(order, plan),
        "networkProfile": {
            "networkInterfaces": [
                {"id": nic_id, "properties": {"primary": True, "deleteOption": "Delete"}}
            ]
        },
    }
    if order.size.preemptible:
        most = -1 if plan.spot_max_price is None else plan.spot_max_price
        properties |= {
            "priority": "Spot",
            "evictionPolicy": "Delete",
            "billingProfile": {"maxPrice": most},
        }
    return {"location": plan.location, "tags": dict(tags), "properties": properties}


def _storage(order: NodeOrder, plan: Plan, temporary_disk_bytes: int) -> dict[str, Any]:
    """The system's disk; and one for all the scratch where the machine type's own disk is too small."""
    managed = {"storageAccountType": plan.disk_type}
    if plan.image.startswith("/"):
        image = {"id": plan.image}
    else:
        words = ("publisher", "offer", "sku", "version")
        image = dict(zip(words, plan.image.split(":"), strict=True))
    system: dict[str, Any] = {
        "osType": "Linux",
        "caching": "ReadWrite",
        "createOption": "FromImage",
        "deleteOption": "Delete",
        "managedDisk": managed,
    }
    if plan.os_disk_gb is not None:
        system["diskSizeGB"] = plan.os_disk_gb
    made: dict[str, Any] = {"imageReference": image, "osDisk": system}
    scratch_bytes = order.size.resources.scratch_bytes
    if scratch_bytes <= temporary_disk_bytes:
        return made
    scratch_gb = -(-scratch_bytes // 10**9)
    if scratch_gb > LARGEST_DISK_GB:
        raise Denied(
            f"azure: size {order.size.name} takes a disk of {scratch_gb} GB for its scratch; Azure makes none"
            f" above {LARGEST_DISK_GB} GB: lower the scratch"
        )
    scratch = {
        "lun": 0,
        "createOption": "Empty",
        "deleteOption": "Delete",
        "diskSizeGB": scratch_gb,
        "managedDisk": managed,
    }
    return {**made, "dataDisks": [scratch]}


def _system(order: NodeOrder, plan: Plan) -> dict[str, Any]:
    data = order.user_data.encode()
    if len(data) > CUSTOM_DATA_BYTES:
        raise Denied(f"azure: creating {order.name}: the boot script is longer than 64 KiB")
    made: dict[str, Any] = {"computerName": order.name, "adminUsername": plan.user_name}
    if data:
        made["customData"] = base64.b64encode(data).decode()
    if plan.ssh_key:
        home = f"/home/{plan.user_name}/.ssh/authorized_keys"
        made["linuxConfiguration"] = {
            "disablePasswordAuthentication": True,
            "ssh": {"publicKeys": [{"path": home, "keyData": plan.ssh_key}]},
        }
    else:
        made["adminPassword"] = plan.password
    return made
