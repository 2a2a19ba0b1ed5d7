"""The options of a libcloud driver: `[Cloud Credentials]`, `[Cloud List]` and `[Cloud Create]`.

Their names are those of the old node manager (1.4.3). What a driver knows it names; what the libcloud method
takes besides is found in its signature and passed on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodemanager.config.composite import PathKind
from nodemanager.config.kinds import Bool, Float, Host, Integer, Kind, Seconds, SecretText
from nodemanager.config.module_options import read_options
from nodemanager.config.option import looks_secret
from nodemanager.errors import ConfigError

CREDENTIALS = "Cloud Credentials"
LIST = "Cloud List"
CREATE = "Cloud Create"

TAG_PREFIX = "tag_"
"""`tag_x = y` is a tag x, as in the old node manager."""

CONNECTION: Mapping[str, Kind] = {
    "timeout": Seconds(1),
    "host": Kind(),
    "port": Integer(1, 65535),
    "secure": Bool(),
    "proxy_url": Kind(),
}
"""`[Cloud Credentials]` that every libcloud driver takes."""

CREATION: Mapping[str, Kind] = {"ping_host": Host(), "ssh_key": PathKind()}
"""`[Cloud Create]` that means the same for every driver: where a node pings, read by whoever makes the boot
script, and a file with the public key that may log in (see `public_key`)."""


@dataclass(frozen=True, slots=True)
class Given:
    """One section, read."""

    named: Mapping[str, Any] = field(default_factory=dict)
    """The options that the driver knows, parsed."""
    passed: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the libcloud method, to be handed to it as they are."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What was written as `tag_x = y`, by x."""


def read_given(
    section: str,
    owner: str,
    given: Mapping[str, str],
    known: Mapping[str, Kind],
    *,
    passed_to: Callable[..., object] | None = None,
    prefix: str = "ex_",
    ours: Collection[str] = (),
) -> Given:
    """Read one section. `known` are the driver's own options; `owner` says whose: ``the ec2 driver``.

    Arguments of the libcloud class or method `passed_to` whose names begin with `prefix` are allowed too,
    except `ours`, which the driver sets itself; their kind is that of their default. `ConfigError` for
    anything else.
    """
    tagged = {key for key in given if key.lower().startswith(TAG_PREFIX)}
    further = {} if passed_to is None else _arguments(passed_to, prefix, ours)
    values = read_options(
        section,
        owner,
        {key: text for key, text in given.items() if key not in tagged},
        {**further, **known},
    )
    return Given(
        named={name: value for name, value in values.items() if name in known},
        passed={name: value for name, value in values.items() if name not in known},
        tags={key[len(TAG_PREFIX) :]: given[key] for key in given if key in tagged},
    )


def public_key(path: Path) -> str:
    """The text of the file that `ssh_key` names; `ConfigError` when it holds no public key."""
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"[{CREATE}] ssh_key: {path} cannot be read: {error}") from error
    if len(text.splitlines()) != 1 or len(text.split()) < 2 or "PRIVATE" in text:
        raise ConfigError(
            f"[{CREATE}] ssh_key: {path} must hold one public key: ssh-ed25519 AAAA... name"
        )
    return text


def _arguments(
    method: Callable[..., object], prefix: str, ours: Collection[str]
) -> dict[str, Kind]:
    """What may be passed to `method` by name, with the kind of its default."""
    return {
        name: _kind(name, parameter.default)
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name.startswith(prefix)
        and name not in ours
    }


def _kind(name: str, default: object) -> Kind:
    if looks_secret(name):
        return SecretText()
    if isinstance(default, bool):
        return Bool()
    if isinstance(default, int):
        return Integer()
    return Float() if isinstance(default, float) else Kind()
