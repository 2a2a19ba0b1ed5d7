"""What Google is asked to create, as a pure function of the options and the order."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nodemanager.clouds.base import NodeOrder
from nodemanager.clouds.errors import Denied
from nodemanager.clouds.options import CREATE, CREATION
from nodemanager.config.composite import ListOf
from nodemanager.config.kinds import Choice, Integer, Kind

SCRIPT, KEYS = "startup-script", "ssh-keys"
"""Items of metadata that are no tags of ours."""

SCOPE = "https://www.googleapis.com/auth/"
"""What stands before the short name of a scope."""

LOCAL_SSD_BYTES = 375 * 10**9
LOCAL_SSD_COUNTS = (1, 2, 4, 8, 16, 24)
"""What every machine type takes that takes local SSDs by number."""

SYSTEM_GB = 10
"""What of a boot disk of `ex_disk_size` is not counted as scratch."""


class ServiceAccounts(Kind):
    """A JSON list of objects with `email` and `scopes`."""

    @property
    def word(self) -> str:
        """The type's name."""
        return "JSON list of service accounts"

    def parse(self, text: str) -> list[dict[str, Any]]:
        """The list, or `ValueError`."""
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ValueError(f"expected a JSON list: {error}") from error
        if not isinstance(value, list) or not all(_is_account(account) for account in value):
            raise ValueError(
                'expected a JSON list such as [{"email": "a@b", "scopes": ["compute"]}]'
            )
        return value


OPTIONS: Mapping[str, Kind] = {
    **CREATION,
    "image": Kind(),
    "network": Kind(),
    "subnetwork": Kind(),
    "external_ip": Choice(("ephemeral", "none")),
    "service_accounts": ServiceAccounts(),
    "tags": ListOf(),
    "ex_disk_size": Integer(1, 65536),
    "ex_disk_type": Kind(),
    "ex_accelerator_type": Kind(),
}
"""`[Cloud Create]`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all machines have in common."""

    zone: str
    image: str
    """Its path."""
    options: Mapping[str, Any]
    """`[Cloud Create]`, read."""
    network_tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Items that every machine gets."""
    scopes: Mapping[str, str] = field(default_factory=dict)
    """The API's names of scopes by those that gcloud gives them."""


def instance_body(order: NodeOrder, plan: Plan) -> dict[str, Any]:
    """The body of ``instances.insert``. Raises `Denied` for an order that Google could not fill."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", order.name):
        raise Denied(
            f"gce: {order.name!r} is no name for a machine: lower case, digits and dashes, a letter first,"
            " 63 at most"
        )
    metadata = {**plan.metadata, **order.tags}
    if order.user_data:
        metadata[SCRIPT] = order.user_data
    ssds = local_ssds(order, plan.options.get("ex_disk_size", 0))
    body: dict[str, Any] = {
        "name": order.name,
        "machineType": f"zones/{plan.zone}/machineTypes/{order.size.cloud_name}",
        "disks": [_boot_disk(plan), *[_local_ssd(plan.zone)] * ssds],
        "networkInterfaces": [_network(plan)],
        "serviceAccounts": _service_accounts(plan),
        "tags": {"items": list(plan.network_tags)},
        "metadata": {"items": metadata_items(metadata)},
        "scheduling": _scheduling(order),
    }
    accelerator = plan.options.get("ex_accelerator_type")
    if accelerator and order.size.resources.gpus:
        body["guestAccelerators"] = [
            {
                "acceleratorType": f"zones/{plan.zone}/acceleratorTypes/{accelerator}",
                "acceleratorCount": order.size.resources.gpus,
            }
        ]
    return body


def local_ssds(order: NodeOrder, boot_disk_gb: int) -> int:
    """How many local SSDs the size's scratch takes beyond the boot disk; 0 where Google adds them by itself."""
    missing = order.size.resources.scratch_bytes - max(0, boot_disk_gb - SYSTEM_GB) * 10**9
    if missing <= 0 or re.search(r"-lssd$|^(a2-ultragpu|a3|a4|a4x|z3)-", order.size.cloud_name):
        return 0
    wanted = -(-missing // LOCAL_SSD_BYTES)
    fitting = [count for count in LOCAL_SSD_COUNTS if count >= wanted]
    if not fitting:
        raise Denied(
            f"gce: size {order.size.name} takes {wanted} local SSDs of 375 GB for its scratch; a machine has"
            f" {LOCAL_SSD_COUNTS[-1]} at most: lower the scratch, or set [{CREATE}] ex_disk_size"
        )
    return fitting[0]


def metadata_items(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    """Metadata as the API wants it."""
    return [{"key": key, "value": value} for key, value in metadata.items()]


def _boot_disk(plan: Plan) -> dict[str, Any]:
    disk_type = plan.options.get("ex_disk_type", "pd-standard")
    made = {"sourceImage": plan.image, "diskType": f"zones/{plan.zone}/diskTypes/{disk_type}"}
    if "ex_disk_size" in plan.options:
        made["diskSizeGb"] = str(plan.options["ex_disk_size"])
    return {"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": made}


def _local_ssd(zone: str) -> dict[str, Any]:
    return {
        "autoDelete": True,
        "type": "SCRATCH",
        "interface": "NVME",
        "initializeParams": {"diskType": f"zones/{zone}/diskTypes/local-ssd"},
    }


def _network(plan: Plan) -> dict[str, Any]:
    network, subnetwork = plan.options.get("network"), plan.options.get("subnetwork")
    made: dict[str, Any] = {}
    if network or not subnetwork:
        made["network"] = _within("global/networks", network or "default")
    if subnetwork:
        region = plan.zone.rpartition("-")[0]
        made["subnetwork"] = _within(f"regions/{region}/subnetworks", subnetwork)
    if plan.options.get("external_ip") != "none":
        made["accessConfigs"] = [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]
    return made


def _service_accounts(plan: Plan) -> list[dict[str, Any]]:
    """Without the option one that may read storage, as libcloud and the old node manager had it."""
    accounts: Sequence[Mapping[str, Any]] = plan.options.get(
        "service_accounts", [{"scopes": ["devstorage.read_only"]}]
    )
    return [
        {
            "email": account.get("email", "default"),
            "scopes": [
                scope if "/" in scope else SCOPE + plan.scopes.get(scope, scope)
                for scope in account.get("scopes", ())
            ],
        }
        for account in accounts
    ]


def _scheduling(order: NodeOrder) -> dict[str, Any]:
    """A Spot machine that is taken away is deleted; one with GPUs cannot be moved to another host."""
    if order.size.preemptible:
        return {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
        }
    return {"onHostMaintenance": "TERMINATE"} if order.size.resources.gpus else {}


def _within(folder: str, name: str) -> str:
    """A path is taken as it is, a bare name is one in `folder`."""
    return name if "/" in name else f"{folder}/{name}"


def _is_account(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= {"email", "scopes"}
        and isinstance(value.get("email", ""), str)
        and isinstance(value.get("scopes", []), list)
        and all(isinstance(scope, str) for scope in value.get("scopes", ()))
    )
