"""Which options are taken up while the daemon runs, and what a file that was read again changes.

The table `LIVE` is the only place that says it: the reload follows it, the reference page is marked by it, and a test
lets each of its options take effect.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nodemanager.config.checks import contradictions
from nodemanager.config.option import Option, Section, kind_of
from nodemanager.config.tree import SECTIONS, Config
from nodemanager.errors import ConfigError

_PACE = frozenset({"poll_time", "max_poll_time", "commands_per_second", "submit_batch"})

LIVE: Mapping[str, frozenset[str] | None] = MappingProxyType(
    {
        "Dispatch": frozenset({"ping_interval", "max_claimed", "poll_time", "full_list_interval"}),
        "Scheduler": _PACE,
        "Scheduler NAME": _PACE,
        # For containers that are claimed from then on.
        "Runner": frozenset(
            {
                *("command", "container_engine", "scratch", "keep_scratch", "tempfail_exits"),
                *("heartbeat", "fenced_after", "kill_grace", "max_log_bytes"),
            }
        ),
        "Daemon": frozenset(
            {
                *("watchdog", "min_nodes", "max_nodes", "max_total_price"),
                *("poll_time", "max_poll_time"),
                *("cloudlist_poll_time", "nodelist_poll_time", "wishlist_poll_time"),
                *("poll_stale_after", "boot_fail_after", "consecutive_idle_count"),
            }
        ),
        "Logging": None,
        "Manage": None,
        "Cloud": frozenset(
            {
                *(
                    "shutdown_windows",
                    "max_price_factor",
                    "boots_per_turn",
                    "turn_time",
                    "idle_time",
                ),
                *("max_boot_failures", "brake_time", "quota_pause"),
                *("capacity_pause", "capacity_pause_max", "operations_per_second"),
            }
        ),
    }
)
"""By section, as it is spoken of: the options that are taken up, by key; None: all of them."""


def is_live(part: Section, made: Option) -> bool:
    """Whether the option `made` of the section `part` is taken up while the daemon runs."""
    keys = LIVE.get(part.title, frozenset())
    return not made.unused and (keys is None or made.key in keys)


@dataclass(frozen=True, slots=True)
class Change:
    """One option that the file says otherwise than before. Secrets are ``***``."""

    section: str
    option: str
    before: str
    """As it would be written in the file; empty where there was none."""
    after: str
    is_live: bool
    """It can be taken up while the daemon runs."""

    def __str__(self) -> str:
        """For people and logs."""
        before, after = (text or "nothing" for text in (self.before, self.after))
        if before == after:
            # Two secrets.
            return f"[{self.section}] {self.option}: another one"
        return f"[{self.section}] {self.option}: {before} -> {after}"


def changes(running: Config, read: Config) -> list[Change]:
    """What is different in `read`, in the order of the sections."""
    found: list[Change] = []
    for part in SECTIONS:
        before, after = getattr(running, part.attribute), getattr(read, part.attribute)
        if not part.many:
            found += _changes(part, part.name, before, after)
            continue
        for name in dict.fromkeys((*before, *after)):
            section = f"{part.name} {name}"
            if name in before and name in after:
                found += _changes(part, section, before[name], after[name])
            else:
                was, is_now = ("there", "") if name in before else ("", "there")
                found.append(Change(section, "the section", was, is_now, is_live=False))
    return found


def _changes(part: Section, section: str, before: Any, after: Any) -> Iterator[Change]:
    for made in (*part.options(), *filter(None, (part.free(),))):
        old, new = getattr(before, made.attribute), getattr(after, made.attribute)
        if old == new:
            continue
        live = is_live(part, made)
        if not made.free:
            texts = _shown(made, made.key, old), _shown(made, made.key, new)
            yield Change(section, made.name, *texts, live)
            continue
        for key in dict.fromkeys((*old, *new)):
            if old.get(key) != new.get(key):
                texts = _shown(made, key, old.get(key)), _shown(made, key, new.get(key))
                yield Change(section, key, *texts, live)


def _shown(made: Option, key: str, value: Any) -> str:
    kind = kind_of(made, key)
    text = "" if value is None else kind.show(value).replace("\n", " ")
    return "***" if kind.is_secret and text else text


def merge(running: Config, read: Config) -> Config:
    """The running configuration with whatever of `read` can be taken up.

    Raises `ConfigError` when the two cannot go together.
    """
    sections: dict[str, Any] = {}
    for part in SECTIONS:
        before, after = getattr(running, part.attribute), getattr(read, part.attribute)
        if part.many:
            sections[part.attribute] = MappingProxyType(
                {n: _merge(part, each, after.get(n, each)) for n, each in before.items()}
            )
        else:
            sections[part.attribute] = _merge(part, before, after)
    merged = dataclasses.replace(running, **sections, origins=read.origins, warnings=read.warnings)
    problems = [
        f"{read.path}: [{section}] {option}: {sentence}: restart the daemon to change both"
        for (section, option), sentence in contradictions(merged)
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return merged


def _merge(part: Section, before: Any, after: Any) -> Any:
    made = (*part.options(), *filter(None, (part.free(),)))
    taken = {o.attribute: getattr(after, o.attribute) for o in made if is_live(part, o)}
    return dataclasses.replace(before, **taken)
