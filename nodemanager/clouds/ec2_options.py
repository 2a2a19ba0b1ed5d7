"""The options of the EC2 driver, under the names of the old node manager (1.4.3), and a few new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodemanager.clouds.base import CloudContext
from nodemanager.clouds.options import CREATE, CREATION, LIST, public_key, read_given
from nodemanager.config.composite import ListOf
from nodemanager.config.kinds import Choice, Float, Kind, Pattern
from nodemanager.errors import ConfigError
from nodemanager.model import Finding

LIST_OPTIONS: Mapping[str, Kind] = dict.fromkeys(
    (
        "instance-state-name",
        "availability-zone",
        "image-id",
        "instance-type",
        "instance.group-id",
        "instance.group-name",
        "key-name",
        "owner-id",
        "placement-group-name",
        "subnet-id",
        "tag-key",
        "vpc-id",
    ),
    Kind(),
)
"""Filters of DescribeInstances that make sense here; all instances of ours should pass them."""

CREATE_OPTIONS: Mapping[str, Kind] = {
    **CREATION,
    "image_id": Pattern(r"ami-[0-9a-z]+", "the id of an image, such as ami-0123456789abcdef0"),
    "subnet_id": ListOf(
        Pattern(r"subnet-[0-9a-z]+", "the id of a subnet, such as subnet-0123abcd")
    ),
    "security_groups": ListOf(),
    "ex_spot_max_price": Float(0.0001),
    "volume_type": Choice(("gp2", "gp3")),
    "volume_device": Pattern(r"/dev/[a-z0-9]+", "a device such as /dev/xvdt"),
}

OURS = [
    "ex_userdata",
    "ex_metadata",
    "ex_mincount",
    "ex_maxcount",
    "ex_clienttoken",
    "ex_blockdevicemappings",
    "ex_subnet",
    "ex_security_groups",
    "ex_securitygroup",
    "ex_security_group_ids",
    "ex_spot",
]
"""Arguments of libcloud's create_node that are made of the order and of our own options."""


@dataclass(frozen=True, slots=True)
class Ec2Options:
    """`[Cloud Create]` and `[Cloud List]`."""

    image_id: str
    subnets: tuple[str, ...]
    """Ids, best first; empty: the default subnet."""
    security_groups: tuple[str, ...]
    """Ids or names; without subnets only names."""
    key_name: str
    ssh_key: str
    """A public key, if there is no `key_name`."""
    spot_max_price: float | None
    """Per hour; None: the price of an ordinary instance."""
    volume_type: str
    volume_device: str
    filters: Mapping[str, str]
    """For listing, besides our own."""
    tags: Mapping[str, str]
    """For every node; those of `[Cloud List]` are filters too."""
    passed: Mapping[str, Any]
    """Further arguments of create_node."""
    unused: tuple[Finding, ...]
    """What is written in old files and has no effect."""

    @classmethod
    def of(
        cls, context: CloudContext, owner: str, create_node: Callable[..., object]
    ) -> Ec2Options:
        """Read the options; `ConfigError` names the one that is wrong, unknown or missing."""
        create = read_given(
            CREATE, owner, context.create_options, CREATE_OPTIONS, passed_to=create_node, ours=OURS
        )
        listed = read_given(LIST, owner, context.list_options, LIST_OPTIONS)
        named = dict(create.named)
        if "image_id" not in named:
            raise ConfigError(f"[{CREATE}] image_id is missing: the id of the image to boot")
        unused = []
        if "instance-state-name" in listed.named:
            # Old files name one state, but what is not listed would count as gone.
            effect = "has no effect: nodes are listed in every state"
            unused.append(Finding(f"[{LIST}] instance-state-name", effect))
        passed = {"ex_terminate_on_shutdown": True, **create.passed}
        key_name = passed.pop("ex_keyname", "")
        ssh_key: Path | None = named.get("ssh_key")
        if ssh_key and key_name:
            effect = f"has no effect beside ex_keyname = {key_name}"
            unused.append(Finding(f"[{CREATE}] ssh_key", effect))
        options = cls(
            image_id=named["image_id"],
            subnets=named.get("subnet_id", ()),
            security_groups=named.get("security_groups", ()),
            key_name=key_name,
            ssh_key="" if ssh_key is None or key_name else public_key(ssh_key),
            spot_max_price=named.get("ex_spot_max_price"),
            volume_type=named.get("volume_type", "gp3"),
            volume_device=named.get("volume_device", "/dev/xvdt"),
            filters={k: v for k, v in listed.named.items() if k != "instance-state-name"}
            | {f"tag:{name}": value for name, value in listed.tags.items()},
            tags={**create.tags, **listed.tags},
            passed=passed,
            unused=tuple(unused),
        )
        if not options.subnets and any(map(is_group_id, options.security_groups)):
            raise ConfigError(f"[{CREATE}] security_groups: ids need a subnet_id as well")
        return options


def is_group_id(group: str) -> bool:
    """Whether a security group is written as its id, not as its name."""
    return group.startswith("sg-")
