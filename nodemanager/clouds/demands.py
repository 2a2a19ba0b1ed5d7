"""What cloud drivers demand before they work: options that are needed, a key that can be read, a cloud that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodemanager.clouds.errors import Denied, Gone
from nodemanager.clouds.libcloud import CREATE
from nodemanager.errors import ConfigError, NodeManagerError
from nodemanager.model import Finding


def demand(section: str, driver: str, values: Mapping[str, Any], needed: Mapping[str, str]) -> None:
    """Raise `ConfigError` for the first option of `needed` that has no value.

    `needed` says by name what each is, for the message; `driver` is the driver's name.
    """
    for name, what in needed.items():
        if not values.get(name):
            raise ConfigError(f"[{section}] {name}: the {driver} driver needs it: {what}")


def refuse(
    section: str, driver: str, values: Mapping[str, Any], useless: Mapping[str, str]
) -> None:
    """Raise `ConfigError` for the first option of `useless` that is given; it says by name why it is of no use."""
    for name, why in useless.items():
        if name in values:
            raise ConfigError(f"[{section}] {name}: of no use to the {driver} driver: {why}")


def public_key(path: Path | None) -> str:
    """The line in the file that `[Cloud Create] ssh_key` names; empty when the option is not given."""
    if path is None:
        return ""
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"[{CREATE}] ssh_key: {path} cannot be read: {error}; name the file of a public key"
        ) from error
    if "PRIVATE KEY" in key or len(key.splitlines()) != 1:
        raise ConfigError(
            f"[{CREATE}] ssh_key: {path} is no public key of one line; name the file that ends in .pub"
        )
    return key


@contextmanager
def all_there() -> Iterator[None]:
    """Around calls that are about no node that exists: what is not there was named by the configuration."""
    try:
        yield
    except Gone as error:
        raise Denied(str(error)) from error


def findings(looks: Mapping[str, Callable[[], str]]) -> Iterator[Finding]:
    """One finding for each: what the look returned, or its error as the problem."""
    for subject, look in looks.items():
        try:
            yield Finding(subject, look())
        except NodeManagerError as error:
            yield Finding(subject, problem=str(error))
