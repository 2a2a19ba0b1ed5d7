"""The whole configuration as one frozen value, and the listing of it that `--check` prints."""

# ruff: noqa: RUF009 -- `section` makes a dataclass field

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from nodemanager.config.nodes import Cloud, CloudCreate, CloudCredentials, CloudList, Size
from nodemanager.config.option import Option, kind_of, options_of, section, sections_of
from nodemanager.config.sections import (
    EMBEDDED,
    Api,
    Arvados,
    Daemon,
    Dispatch,
    Logging,
    Manage,
    NamedScheduler,
    Runner,
    Scheduler,
)

DEFAULT = "default"
"""The origin of a value that nobody gave."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every option's value. Durations are seconds (float), sizes bytes (int), paths absolute."""

    path: Path
    """The file it was loaded from."""
    arvados: Arvados = section("Arvados", Arvados)
    api: Api = section("Api", Api)
    dispatch: Dispatch = section("Dispatch", Dispatch)
    scheduler: Scheduler = section("Scheduler", Scheduler)
    schedulers: Mapping[str, NamedScheduler] = section("Scheduler", NamedScheduler, many=True)
    runner: Runner = section("Runner", Runner)
    daemon: Daemon = section("Daemon", Daemon)
    logging: Logging = section("Logging", Logging)
    manage: Manage = section("Manage", Manage)
    cloud: Cloud = section("Cloud", Cloud)
    cloud_credentials: CloudCredentials = section("Cloud Credentials", CloudCredentials)
    cloud_list: CloudList = section("Cloud List", CloudList)
    cloud_create: CloudCreate = section("Cloud Create", CloudCreate)
    sizes: Mapping[str, Size] = section("Size", Size, many=True)
    origins: Mapping[tuple[str, str], str]
    """Where each given value came from, by section and option in lower case; see `origin`."""
    warnings: tuple[str, ...] = ()
    """What the operator should know although the file is valid, one sentence each."""

    @property
    def is_embedded(self) -> bool:
        """Whether the daemon starts its own API server."""
        return self.arvados.host == EMBEDDED

    def origin(self, section_name: str, option_name: str) -> str:
        """Where a value came from: `default`, FILE:LINE, an environment variable, or a file."""
        return self.origins.get((section_name, option_name.lower()), DEFAULT)


SECTIONS = tuple(sections_of(Config))
"""All sections, in the order of the example file."""


class Shown(NamedTuple):
    """One line of the listing. A secret's value is `***`, an absent one's the empty text."""

    section: str
    option: str
    value: str
    origin: str


def describe(config: Config) -> list[Shown]:
    """The effective configuration, secrets masked.

    Options without effect (those of the old node manager) are listed when they were given.
    """
    lines: list[Shown] = []
    for part in SECTIONS:
        value = getattr(config, part.attribute)
        if part.many:
            for name, one in value.items():
                lines += _describe_section(config, f"{part.name} {name}", one)
        else:
            lines += _describe_section(config, part.name, value)
    return lines


def secrets_of(config: Config) -> frozenset[str]:
    """The plain text of every secret that the configuration holds, the password in the database's URL included."""
    found = {
        str(value)
        for section_value in _sections(config)
        for made, key, value in _items(section_value)
        if kind_of(made, key).is_secret and value
    }
    return frozenset(found | _passwords(str(config.api.database)))


def _passwords(url: str) -> set[str]:
    """The password in a URL, as it is written and as it is meant."""
    try:
        password = urlsplit(url).password
    except ValueError:  # no URL at all, which others will say
        return set()
    return {password, unquote(password)} if password else set()


def _sections(config: Config) -> Iterator[object]:
    for part in SECTIONS:
        value = getattr(config, part.attribute)
        yield from value.values() if part.many else (value,)


def _describe_section(config: Config, name: str, values: object) -> Iterator[Shown]:
    for made, key, value in _items(values):
        origin = config.origin(name, key)
        given = origin != DEFAULT
        if (made.unused and not given) or (value is None and made.optional):
            continue
        kind = kind_of(made, key)
        text = kind.show(value).replace("\n", " ")
        yield Shown(name, key, "***" if kind.is_secret and text else text, origin)


def _items(values: Any) -> Iterator[tuple[Option, str, Any]]:
    """Every option of one section with its name in the file and its value."""
    for made in options_of(type(values)):
        value = getattr(values, made.attribute)
        if made.free:
            yield from ((made, key, item) for key, item in value.items())
        else:
            yield made, made.name, value
