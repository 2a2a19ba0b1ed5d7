"""Sections of the old node manager's config file: accepted and checked, so that an old file still loads.

They keep their meaning from there (its release 1.4.3) and are read by nobody yet; a warning says so.
"""

# ruff: noqa: RUF009 -- `option` makes a dataclass field

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nodemanager.config.composite import ListOf
from nodemanager.config.kinds import Bool, Float, Integer, Kind, Pattern, Secret, SecretText
from nodemanager.config.option import free_options, option, optional, required

ARBITER = "not used yet: read by the node-size arbiter"
STATUS = "not used yet: read by the management server"
GONE = "without effect: containers are the only kind of work"
REPLACED = "replaced by [Dispatch] scheduler"

_WHOLE = Integer(0)


@dataclass(frozen=True, kw_only=True)
class Manage:
    """The server for status and metrics."""

    address: str = option(
        Pattern(r"[A-Za-z0-9.:-]+", "an IP address or host name"),
        "127.0.0.1",
        "The address to listen on.",
        unused=STATUS,
    )
    port: int = option(
        Integer(-1, 65535), "-1", "The port to listen on; -1 switches it off.", unused=STATUS
    )
    management_token: Secret = option(
        SecretText(),
        "",
        "The token for health checks; empty switches them off.",
        name="ManagementToken",
        unused=STATUS,
    )


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Where nodes come from."""

    provider: str = option(
        Pattern(r"[A-Za-z0-9_.:-]*", "the name of a cloud driver"),
        "",
        "The cloud driver, such as ec2, gce or azure.",
        unused=ARBITER,
    )
    driver_class: str = option(
        Pattern(r"[A-Za-z0-9_.:]*", "a dotted path"),
        "",
        "Another libcloud class to use instead of the driver's own, as a dotted path.",
        unused=ARBITER,
    )
    shutdown_windows: tuple[float, ...] = option(
        ListOf(Float(0.0), minimum=2),
        "20, 999999",
        "Minutes from boot in which a node may not, may, may not, ... be shut down, over and over.",
        unused=ARBITER,
    )


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
    """One node size. The section's name is that of the cloud's size, unless instance_type says otherwise."""

    cores: int = required(Integer(1, 100_000), "The cores of such a node.", "4")
    price: float | None = optional(Float(0.0), "What it costs per hour.", "0.192")
    ram: int | None = optional(
        Integer(1), "RAM in MiB; the cloud's own figure unless given.", "16384"
    )
    disk: int | None = optional(_WHOLE, "Disk in GB; the cloud's own figure unless given.", "80")
    scratch: int | None = optional(_WHOLE, "Scratch space in MB; the disk's unless given.", "80000")
    bandwidth: int | None = optional(_WHOLE, "Bandwidth, as the cloud counts it.", "1000")
    instance_type: str | None = optional(
        Kind(),
        "The cloud's name for the size, so that several sections may mean the same.",
        "m5.xlarge",
    )
    preemptible: bool = option(Bool(), "no", "Boot these nodes as spot instances.")
    id: str | None = optional(Kind(), "The cloud's identifier of the size.", "m5.xlarge")
    name: str | None = optional(Kind(), "The cloud's display name of the size.", "General Purpose")
    extra: str | None = optional(Kind(), "Anything else the driver keeps about the size.", "none")
