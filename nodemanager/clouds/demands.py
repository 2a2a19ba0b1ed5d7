"""What cloud drivers demand before they ask the cloud: options that are needed, and that are of use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nodemanager.clouds.errors import Denied, Gone
from nodemanager.errors import ConfigError


def demand(section: str, values: Mapping[str, Any], needed: Mapping[str, str]) -> None:
    """Raise `ConfigError` for the first option of `needed` that has no value; it says by name what each is."""
    for name, what in needed.items():
        if not values.get(name):
            raise ConfigError(f"[{section}] {name} is missing: {what}")


def refuse(section: str, values: Mapping[str, Any], useless: Mapping[str, str]) -> None:
    """Raise `ConfigError` for the first option of `useless` that is given; it says by name why not."""
    for name, why in useless.items():
        if name in values:
            raise ConfigError(f"[{section}] {name}: leave it out: {why}")


@contextmanager
def all_there() -> Iterator[None]:
    """Around calls that are about no node that exists: what is not there was named by the configuration."""
    try:
        yield
    except Gone as error:
        raise Denied(str(error)) from error
