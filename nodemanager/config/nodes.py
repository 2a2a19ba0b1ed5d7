"""The sections about nodes on demand: the cloud they come from, how they are made, and their sizes.

The names are those of the old node manager where it had the option, and mean what they meant there.
"""

# ruff: noqa: RUF009 -- `option` makes a dataclass field

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodemanager.config.composite import ListOf, PathKind, TagList
from nodemanager.config.kinds import Bool, Choice, Float, Integer, Kind, Pattern, Seconds
from nodemanager.config.option import free_options, option, optional

CARRIED = "without effect: no decision looks at it"
"""Why the options of `[Size NAME]` that only described a size to the old node manager do nothing."""

PACKED = "packed"
ONE = "one"
"""The words of `[Cloud] containers_per_node`."""

_POSITIVE = Seconds(0.1)
_COUNT = Integer(1)
_WHOLE = Integer(0)
_MAYBE_PATH = PathKind(may_be_empty=True)


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Where nodes come from, and how carefully they are asked for. Without a provider no node is booted, and
    nothing else here, in the other `[Cloud ...]` sections and in `[Size NAME]` has an effect."""

    provider: str = option(
        Pattern(r"[A-Za-z0-9_.:-]*", "the name of a cloud driver"),
        "",
        "The cloud driver: the name of an installed one, such as ec2, gce or azure, or a class of your own"
        " as package.module:Class. Empty means that no nodes are booted.",
    )
    scheduler: str = option(
        Pattern(r"[A-Za-z0-9_-]*", "the name of a scheduler"),
        "",
        "Which of several schedulers the nodes join, by its name in [Dispatch] schedulers. Empty: the first.",
    )
    driver_class: str = option(
        Pattern(r"[A-Za-z0-9_.:]*", "a dotted path"),
        "",
        "Another libcloud class to use instead of the driver's own, as a dotted path.",
    )
    shutdown_windows: tuple[float, ...] = option(
        ListOf(Float(0.0), minimum=2),
        "20, 999999",
        "Minutes from boot in which a node may not, may, may not, ... be shut down, over and over.",
    )
    boot_script: Path | None = option(
        _MAYBE_PATH,
        "",
        "The template of the script that a new node runs when it boots; empty means the one of this package.",
    )
    join_command: str = option(
        Kind(),
        "",
        "What the boot script runs, as lines of its shell, to make the node join the scheduler.",
    )
    tags: tuple[tuple[str, str], ...] = option(
        TagList(), "", "Tags to put on every node, besides those by which it is known."
    )
    cluster_config: Path | None = option(
        _MAYBE_PATH,
        "",
        "A config.yml of Arvados, such as /etc/arvados/config.yml. Its InstanceTypes are sizes;"
        " [Size NAME] sections add to them, or change the one of that name.",
    )
    containers_per_node: str = option(
        Choice((PACKED, ONE)),
        PACKED,
        "Whether several containers share a node where that is cheaper, or each has one to itself.",
    )
    max_price_factor: float = option(
        Float(1.0),
        "1.5",
        "A node may cost at most so many times what its containers would cost each on the cheapest size"
        " that fits it. Unless given here, MaximumPriceFactor of cluster_config is used.",
    )
    boots_per_turn: int = option(_COUNT, "10", "The most nodes that one decision boots.")
    turn_time: float = option(
        _POSITIVE, "1 s", "The shortest time between two decisions about nodes."
    )
    idle_time: float = option(
        Seconds(),
        "0 s",
        "How long a node must be idle at least before it is shut down, besides [Daemon]"
        " consecutive_idle_count.",
    )
    max_boot_failures: int = option(
        _COUNT, "5", "So many boots in a row that fail put on the brake: no more is booted."
    )
    brake_time: float = option(
        _POSITIVE, "10 min", "While the brake is on, one more boot is tried so often."
    )
    capacity_pause: float = option(
        _POSITIVE,
        "1 min",
        "For how long a size that could not be had is not asked for; doubles each time in a row.",
    )
    capacity_pause_max: float = option(
        _POSITIVE, "30 min", "The longest such pause, however often the size could not be had."
    )
    quota_pause: float = option(
        _POSITIVE,
        "1 min",
        "How long after a refusal for the account's quota one node more than that is asked for.",
    )
    operations_per_second: float = option(
        Float(0.01, 10000.0), "2", "The most calls of the cloud per second, over a longer while."
    )
    concurrent_operations: int = option(
        Integer(1, 1000), "4", "How many calls of the cloud are under way at once."
    )
    operation_timeout: float = option(_POSITIVE, "60 s", "How long one call of the cloud may take.")


@dataclass(frozen=True, kw_only=True)
class CloudCredentials:
    """What the libcloud driver needs to log in."""

    options: Mapping[str, str] = free_options(
        Kind(), "An argument of the libcloud driver.", "region = us-east-1"
    )


@dataclass(frozen=True, kw_only=True)
class CloudList:
    """Which cloud nodes are ours."""

    options: Mapping[str, str] = free_options(
        Kind(), "An argument of the driver's `list_nodes`.", "instance-state-name = running"
    )


@dataclass(frozen=True, kw_only=True)
class CloudCreate:
    """How cloud nodes are created."""

    options: Mapping[str, str] = free_options(
        Kind(), "An argument of the driver's `create_node`.", "image_id = ami-012345"
    )


@dataclass(frozen=True, kw_only=True)
class Size:
    """One node size. The section's name is that of the cloud's size, unless instance_type says otherwise. What
    is not given is taken from the entry of that name in cluster_config, or else from the cloud's own list."""

    cores: int | None = optional(
        Integer(1, 100_000), "The cores of such a node; needed where the cloud does not tell.", "4"
    )
    price: float | None = optional(
        Float(0.0), "What it costs per hour; needed where the cloud does not tell.", "0.192"
    )
    ram: int | None = optional(
        Integer(1),
        "RAM in MiB that containers can have; the cloud's own figure, times node_mem_scaling, unless given.",
        "16384",
    )
    disk: int | None = optional(_WHOLE, "Disk in GB; the cloud's own figure unless given.", "80")
    scratch: int | None = optional(_WHOLE, "Scratch space in MB; the disk's unless given.", "80000")
    gpus: int | None = optional(
        _WHOLE, "The GPUs of such a node; those the cloud tells of unless given.", "0"
    )
    instance_type: str | None = optional(
        Kind(),
        "The cloud's name for the size, so that several sections may mean the same.",
        "m5.xlarge",
    )
    preemptible: bool | None = optional(
        Bool(), "Boot these nodes as spot instances; no unless cluster_config says so.", "no"
    )
    partitions: tuple[str, ...] = option(
        ListOf(),
        "",
        "Partitions of the scheduler that such a node joins; empty means that they are not used.",
    )
    bandwidth: int | None = optional(
        _WHOLE, "Bandwidth, as the cloud counts it.", "1000", unused=CARRIED
    )
    id: str | None = optional(
        Kind(), "The cloud's identifier of the size.", "m5.xlarge", unused=CARRIED
    )
    name: str | None = optional(
        Kind(), "The cloud's display name of the size.", "General Purpose", unused=CARRIED
    )
    extra: str | None = optional(
        Kind(), "Anything else the driver keeps about the size.", "none", unused=CARRIED
    )
