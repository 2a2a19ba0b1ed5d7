"""The `[Cloud Create]` options of the loopback cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nodemanager.clouds.base import CloudContext
from nodemanager.clouds.loopback_process import StartCommand
from nodemanager.config.composite import ListOf
from nodemanager.config.kinds import Bytes, Float, Integer, Kind, Seconds
from nodemanager.config.module_options import read_options

_SHARE = Float(0.0, 1.0)

OPTIONS: Mapping[str, Kind] = {
    "cores": Integer(1),
    "ram": Bytes(1),
    "start": StartCommand(),
    "boot_time": Seconds(0),
    "fail_create": _SHARE,
    "never_join": _SHARE,
    "break_after": Seconds(0),
    "break_share": _SHARE,
    "quota": Integer(0),
    "no_capacity": ListOf(),
    "seed": Kind(),
}


@dataclass(frozen=True, slots=True)
class LoopbackOptions:
    """The `[Cloud Create]` options of this driver."""

    cores: int | None
    """How many there are to give to machines; default: those this process may run on."""
    ram: int | None
    """Bytes; default: what the local scheduler takes by default."""
    start: tuple[str, ...]
    """The command that a machine runs, with placeholders. Default: none, the local scheduler sees the share."""
    boot_time: float
    """Seconds from the creation of a machine until it joins the scheduler, or runs its command. Default 2 s."""
    fail_create: float
    """The share of creates that fail, and create nothing. Default 0."""
    never_join: float
    """The share of machines that never join. Default 0."""
    break_after: float | None
    """Seconds after joining at which a machine goes down for good. Default: none does."""
    break_share: float
    """The share of machines that do. Default 1."""
    quota: int | None
    """The most machines at a time. Default: as many as the machine has room for."""
    no_capacity: tuple[str, ...]
    """Names of sizes that cannot be had."""
    seed: str
    """From which, with its name, the fate of each machine is drawn."""

    @classmethod
    def of(cls, context: CloudContext) -> LoopbackOptions:
        """Read the options; `ConfigError` names the one that is wrong or unknown."""
        owner = "the loopback cloud"
        read_options("Cloud Credentials", owner, context.credentials, {})
        read_options("Cloud List", owner, context.list_options, {})
        values = read_options("Cloud Create", owner, context.create_options, OPTIONS)
        return cls(
            cores=values.get("cores"),
            ram=values.get("ram"),
            start=values.get("start", ()),
            boot_time=values.get("boot_time", 2.0),
            fail_create=values.get("fail_create", 0.0),
            never_join=values.get("never_join", 0.0),
            break_after=values.get("break_after"),
            break_share=values.get("break_share", 1.0),
            quota=values.get("quota"),
            no_capacity=values.get("no_capacity", ()),
            seed=values.get("seed", ""),
        )
