"""What OpenStack is asked to create, as pure functions of the options, the flavor and the order."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from nodemanager.clouds.base import NodeOrder
from nodemanager.clouds.errors import Denied
from nodemanager.clouds.options import CREATION
from nodemanager.config.composite import ListOf
from nodemanager.config.kinds import Bool, Integer, Kind

OPTIONS: Mapping[str, Kind] = {
    **CREATION,
    "image": Kind(),
    "networks": ListOf(),
    "security_groups": ListOf(),
    "ex_keyname": Kind(),
    "ex_config_drive": Bool(),
    "ex_availability_zone": Kind(),
    "boot_volume_size": Integer(1, 65536),
}
"""`[Cloud Create]`."""

SYSTEM_GB = 10
"""What of the disk that a server boots from is not counted as scratch."""

USER_DATA_CHARS = 65535
"""The most that OpenStack takes, of base64."""


def room_bytes(flavor: Any, boot_volume_gb: int | None) -> int:
    """The scratch that a server of this flavor (as libcloud has it) finds on its disks."""
    boot_gb = (flavor.disk or 0) if boot_volume_gb is None else boot_volume_gb
    room_gb = max(0, boot_gb - SYSTEM_GB) + (flavor.ephemeral_disk or 0)
    return int(room_gb) * 10**9


def server_body(
    order: NodeOrder,
    flavor: Any,
    parts: Mapping[str, Any],
    tags: Mapping[str, str],
    boot_volume_gb: int | None,
) -> dict[str, Any]:
    """The server to create. Raises `Denied` for an order that OpenStack could not fill.

    `parts` is what all servers have in common, with the id of the image as `imageRef`. The server boots from a
    new volume of `boot_volume_gb`; from the flavor's own disk if that is None.
    """
    user_data = base64.b64encode(order.user_data.encode()).decode()
    if len(user_data) > USER_DATA_CHARS:
        raise Denied(f"openstack: creating {order.name}: the boot script is longer than 48 KiB")
    server = {
        **parts,
        "name": order.name,
        "flavorRef": str(flavor.id),
        "metadata": dict(tags),
    }
    if user_data:
        server["user_data"] = user_data
    image = parts["imageRef"]
    disks = []
    if boot_volume_gb is not None:
        del server["imageRef"]
        disks.append(_disk("image", "volume", 0, uuid=image, volume_size=boot_volume_gb))
    scratch_bytes = order.size.resources.scratch_bytes
    if scratch_bytes > room_bytes(flavor, boot_volume_gb):
        # Whoever names one disk has to name that of the system too.
        disks = disks or [_disk("image", "local", 0, uuid=image)]
        disks.append(_disk("blank", "volume", -1, volume_size=-(-scratch_bytes // 10**9)))
    if disks:
        server["block_device_mapping_v2"] = disks
    return server


def _disk(source: str, destination: str, boot_index: int, **further: Any) -> dict[str, Any]:
    """One disk; whatever is made for it goes with the server."""
    return {
        "source_type": source,
        "destination_type": destination,
        "boot_index": boot_index,
        "delete_on_termination": True,
        **further,
    }
