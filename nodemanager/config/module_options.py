"""Options whose keys a module declares: a scheduler's in `[Scheduler]`, a cloud driver's in `[Cloud Create]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodemanager.config.kinds import Kind, nearest
from nodemanager.errors import ConfigError


def read_options(
    section: str, owner: str, given: Mapping[str, str], known: Mapping[str, Kind]
) -> dict[str, Any]:
    """The values of the given options, under their names in `known`; upper and lower case are the same.

    `section` is the section's name; `owner` says whose options they are: ``the local scheduler``. Raises
    `ConfigError` for an option that is not known, naming the nearest, and for a value that is wrong.
    """
    names = {name.lower(): name for name in known}
    values = {}
    for key, text in given.items():
        name = names.get(key.lower())
        if name is None:
            raise ConfigError(
                f"[{section}] {key}: {owner} has no such option{nearest(key, known)} "
                f"(it knows {', '.join(known)})"
            )
        try:
            values[name] = known[name].parse(text)
        except ValueError as error:
            raise ConfigError(f"[{section}] {key}: {error}") from error
    return values
