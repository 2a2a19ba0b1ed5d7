"""Which containers a scheduler accepts, where there are several: the `accept` of a `[Scheduler NAME]`.

Values only. `nodemanager.config.accept` reads and writes them as an operator does, `nodemanager.fit` holds a
container against them and says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

RESOURCES = ("cores", "ram_bytes", "scratch_bytes", "gpus")
"""The names of `Resources`, each of which a rule can bound."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `least` to `most`, both included; `most` None is without end."""

    least: int = 0
    most: int | None = None

    def __contains__(self, amount: int) -> bool:
        return self.least <= amount and (self.most is None or amount <= self.most)


ANY = Span()


@dataclass(frozen=True, slots=True)
class Rule:
    """All of it has to hold. The empty rule accepts everything."""

    partitions: tuple[str, ...] = ()
    """The container asks for one of these. Empty: whatever it asks for, or for none."""
    preemptible: bool | None = None
    """Whether the container bears nodes that can be taken away; None: either."""
    cores: Span = ANY
    ram_bytes: Span = ANY
    scratch_bytes: Span = ANY
    gpus: Span = ANY
    properties: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """By key: the container's property of that key has one of these values."""

    def spans(self) -> Iterator[tuple[str, Span]]:
        """The bounds on resources, by the names of `Resources`; only those that bound anything."""
        for name in RESOURCES:
            span: Span = getattr(self, name)
            if span != ANY:
                yield name, span

    def as_dict(self) -> dict[str, Any]:
        """The form in a dispatcher's capabilities; only what says something."""
        value: dict[str, Any] = {}
        if self.partitions:
            value["partitions"] = list(self.partitions)
        if self.preemptible is not None:
            value["preemptible"] = self.preemptible
        for name, span in self.spans():
            value[name] = [span.least, span.most]
        if self.properties:
            value["properties"] = {key: list(values) for key, values in self.properties}
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Rule:
        """The inverse of `as_dict`; `ValueError` with a sentence for what is none."""
        unknown = sorted(set(value) - {"partitions", "preemptible", "properties", *RESOURCES})
        if unknown:
            raise ValueError(f"{unknown[0]}: unknown condition")
        preemptible = value.get("preemptible")
        if preemptible is not None and not isinstance(preemptible, bool):
            raise ValueError("preemptible: must be true or false")
        properties = value.get("properties", {})
        if not isinstance(properties, Mapping):
            raise ValueError("properties: must be an object")  # noqa: TRY004 (it came as data)
        return cls(
            partitions=_words("partitions", value.get("partitions", [])),
            preemptible=preemptible,
            **{name: _span(name, value[name]) for name in RESOURCES if name in value},
            properties=tuple(
                (key, _words(f"properties.{key}", values)) for key, values in properties.items()
            ),
        )


def _words(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{name}: must be an array of strings")
    return tuple(value)


def _span(name: str, value: Any) -> Span:
    match value:
        case [int(least), int() | None as most] if not {type(least), type(most)} & {bool}:
            return Span(least, most)
        case _:
            raise ValueError(f"{name}: must be an array of two: the least, and the most or null")
