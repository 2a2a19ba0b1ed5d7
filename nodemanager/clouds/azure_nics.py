"""Azure's network interfaces: which machine has one, under which address, and which have been left alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

ORPHAN_SECONDS = 300.0
"""An interface that had no machine for so long may go: longer than a creation may take, and than Azure reserves an
interface for a machine that failed (180 s)."""


def machine_of(interface: Mapping[str, Any]) -> str | None:
    """The id of the machine that has the interface, as Azure describes it."""
    machine: str | None = (interface["properties"].get("virtualMachine") or {}).get("id")
    return machine


def private_addresses(interface: Mapping[str, Any]) -> Iterator[str]:
    """The interface's private addresses."""
    for configuration in interface["properties"].get("ipConfigurations") or ():
        address = (configuration.get("properties") or {}).get("privateIPAddress")
        if address:
            yield address


def addresses_by_machine(interfaces: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The private addresses of machines, by their ids in lower case (Azure's own spelling varies)."""
    found: dict[str, tuple[str, ...]] = {}
    for interface in interfaces:
        machine = (machine_of(interface) or "").lower()
        found[machine] = (*found.get(machine, ()), *private_addresses(interface))
    return found


class Orphans:
    """Interfaces that were seen without a machine, and since when."""

    def __init__(self) -> None:
        self._since: Mapping[str, float] = {}

    def due(self, alone: Iterable[str], now: float) -> Sequence[str]:
        """Those that may go at `now`, of the ids that have no machine now; any other id is forgotten."""
        self._since = {path: self._since.get(path, now) for path in alone}
        return [path for path, since in self._since.items() if now - since >= ORPHAN_SECONDS]
