"""How times, amounts and counts are said on a screen."""

from __future__ import annotations

from collections.abc import Mapping

from nodemanager.model import format_bytes

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def age(seconds: float) -> str:
    """A span in at most two units: ``45 s``, ``12 min``, ``2 h 5 min``, ``3 d 4 h``. Never negative."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 100 * _MINUTE:
        return f"{whole // _MINUTE} min"
    if whole < 2 * _DAY:
        return _pair(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "min")
    return _pair(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def _pair(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large} {unit} {small} {small_unit}" if small else f"{large} {unit}"


def ago(then: float | None, now: float) -> str:
    """How long ago, or in how long; empty when there is no such time."""
    if then is None:
        return ""
    return f"in {age(then - now)}" if then > now else f"{age(now - then)} ago"


def waited(since: float, now: float) -> str:
    """How long it has waited; empty when its time has not come."""
    return age(now - since) if since <= now else ""


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 node``, ``2,300 nodes``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def amount(resource: str, value: object) -> str:
    """A reason's fact, as people say it: bytes where the name says bytes, seconds likewise; several in a row."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {amount(str(name), each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(amount(resource, each) for each in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if resource.endswith("_bytes"):
        return format_bytes(int(value))
    if resource.endswith("_seconds"):
        return age(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def resource_name(resource: str) -> str:
    """``ram_bytes`` is RAM."""
    plain = resource.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ")
    return plain.upper() if plain in ("ram", "gpus") else plain
